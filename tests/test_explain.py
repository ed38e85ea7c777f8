"""`sweep explain` tells a job's whole story, whatever a person has of it and whatever its state."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, wait_for, write_clip

from runner.disk.logs import attempt_lines
from runner.disk.manifest import read_manifest
from runner.queue import Queue
from runner.queue.claim_job import claim_job
from runner.runs.lookup import output_of
from runner.runs.runs import live_slots

LAUNCH = ("--on", "local", "--wait")
RED = "camera_motion/ref_镜头仰角/seed_1_prompt_0.mp4"


def story(project: Project, *words: str, cwd: Path | None = None) -> dict[str, Any]:
    ended = project.call("explain", *words, "--json", cwd=cwd)
    assert ended.status == 0, ended.err
    answer: dict[str, Any] = json.loads(ended.out)
    return answer


def test_a_job_is_found_by_whatever_a_person_has_of_it(project: Project) -> None:
    """Id, its beginning, video, sidecar, point in the grid; from any folder where it can be."""
    project.finish()
    folder = project.run_folder.path
    job = next(job for job in read_manifest(project.run_folder.manifest).jobs if job.output == RED)
    for words, cwd in [
        (("x", job.id), None),
        (("x", job.id[:6]), None),
        ((job.id[:8],), None),
        ((str(folder / RED),), Path("/")),
        ((f"results/x/{RED}",), None),
        ((f"results/x/{RED}".replace(".mp4", ".json"),), None),
        (("seed_1_prompt_0.mp4",), (folder / RED).parent),
        (("x", RED), None),
        (("x", RED.removesuffix(".mp4")), None),
        (("x", f"results/x/{RED}"), None),
        (("x", "camera_motion/ref_镜头仰角", "prompt=0"), None),
        (("x", "ref_镜头仰角", "prompt=0", "seed=1"), None),
        (("x", "video=ref_镜头仰角", "prompt=0"), None),
    ]:
        assert story(project, *words, cwd=cwd)["id"] == job.id, words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x"], "which job"),
        (["x", "nothing"], "no job is called 'nothing'"),
        (["x", "prompt=0"], "names 3 jobs"),
        (["x", "seed=abc"], "no job"),
        (["nowhere", "abcd"], "no such run"),
        (["ffff00001111"], "no job"),
        (["videos/camera_motion/-dash.mp4"], "no run folder"),
        (["x", "'; drop table jobs; --"], "no job"),
        (["x", "%"], "no job"),
    ],
)
def test_what_names_no_job_or_several_is_refused(
    project: Project, words: list[str], says: str
) -> None:
    assert project.call("plan", "experiments/x.yaml").status == 0
    ended = project.call("explain", "--", *words)
    assert ended.status == 2
    assert says in ended.err
    assert 1 <= len(ended.err.splitlines()) <= 2
    assert ended.out == ""


def test_a_done_job_is_proven_anew(project: Project) -> None:
    """Done is what decodes now; a video that was damaged since says so, and what to do."""
    project.finish()
    answer = story(project, "x", RED)
    assert answer["state"] == "done"
    assert "decoded just now" in " ".join(answer["why"])
    assert answer["sidecar"]["video"]["codec"] == "h264"
    (attempt,) = answer["attempts"]
    assert attempt["outcome"] == "done"
    assert {"claim", "generate", "finish", "check"} <= set(attempt["seconds"])
    video = project.run_folder.path / RED
    video.write_bytes(video.read_bytes()[:-7])
    answer = story(project, "x", RED)
    assert "not good" in answer["why"][0]
    assert answer["next"] == ["sweep verify x", "sweep resume x"]
    for command in answer["next"]:
        words = command.split()[1:]
        project.sweep(*words, *(LAUNCH if "resume" in words else ()))
    answer = story(project, "x", RED)
    assert "decoded just now" in " ".join(answer["why"])
    assert len(answer["superseded"]) == 1
    assert story(project, f"results/x/{answer['superseded'][0]}")["id"] == answer["id"]


def test_a_failed_job_shows_every_attempt_with_its_log(project: Project) -> None:
    """Error, worker and the last log lines of each attempt, and what to do next."""
    assert project.call("plan", "experiments/x.yaml").status == 0
    write_clip(project.root / "videos" / "camera_motion" / "-dash.mp4", seed=77)
    assert project.sweep("resume", "x", *LAUNCH).status == 1
    answer = story(project, "x", "video=-dash")
    assert answer["state"] == "failed"
    assert "-dash.mp4 has changed" in answer["why"][0]
    assert answer["next"][-1] == "sweep resume x"
    assert answer["attempts"]
    for attempt in answer["attempts"]:
        assert attempt["outcome"] == "failed"
        assert any("-dash.mp4 has changed" in line for line in attempt["log_lines"])
        assert attempt["log"].startswith("logs/gpu0_process")
    text = project.call("explain", "x", "video=-dash").out
    assert "state: failed" in text
    assert "-dash.mp4 has changed; run `sweep plan` again" in text
    assert "prompt 0: a 'quote\"" in text


def test_a_killed_worker_is_in_the_story(project: Project) -> None:
    """The attempt that died is there with what its slot said, and so is the one that made it."""
    project.write(model={"seconds": 2})
    part = ("--only", "video=-dash")
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local", *part).status == 0

    workers: list[dict[str, Any]] = []

    def is_working() -> bool:
        workers[:] = [w for w in project.progress()["workers"] if w["job"] and w["step"]]
        return bool(workers)

    wait_for(is_working)
    worker = workers[0]
    answer = story(project, "x", worker["job"])
    assert answer["state"] == "running"
    assert f"pid {worker['pid']}" in answer["why"][0]
    os.kill(worker["pid"], signal.SIGKILL)
    wait_for(lambda: story(project, "x", worker["job"])["attempts"] != [])
    wait_for(lambda: len(story(project, "x", worker["job"])["attempts"]) == 2, seconds=120)
    answer = story(project, "x", worker["job"])
    assert answer["state"] == "done"
    assert [a["outcome"] for a in answer["attempts"]] == ["died", "done"]
    assert any("killed by SIGKILL" in line for line in answer["attempts"][0]["log_lines"])


def test_a_pending_job_says_what_it_waits_for(project: Project) -> None:
    assert project.call("plan", "experiments/x.yaml").status == 0
    answer = story(project, "x", RED)
    assert (answer["state"], answer["why"]) == ("pending", ["no worker is running"])
    assert answer["next"] == ["sweep resume x"]
    part = ("--only", "video=-dash")
    assert project.sweep("launch", "x", *part, *LAUNCH).status == 0
    answer = story(project, "x", RED)
    assert "outside the part" in answer["why"][0]
    video = project.run_folder.path / RED
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(b"half a video")
    why = " ".join(story(project, "x", RED)["why"])
    assert "does not count: the sidecar is missing" in why


def test_a_pending_job_says_what_its_workers_wait_for(project: Project) -> None:
    """A disk that is full, a deadline; and a job that is being given a video has no worker."""
    project.write(limits={"max_disk_gb": 0.0001})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: any(worker["note"] for worker in project.progress()["workers"]))
    told = " ".join(story(project, "x", RED)["why"])
    assert "waits for room" in told
    assert "limits.max_disk_gb is 0.0001" in told
    queue = Queue(project.run_folder.queue)
    queue.stop_at(time.time() - 60)
    wait_for(lambda: not live_slots(project.run_folder))
    assert "(--stop-at)" in " ".join(story(project, "x", RED)["why"])
    job = story(project, "x", RED)["id"]
    assert claim_job(queue, job, "adopt") is not None
    answer = story(project, "x", RED)
    assert (answer["state"], answer["next"]) == ("running", ["wait for that"])
    queue.close()


def test_stale_and_retired_jobs_say_what_changed(project: Project) -> None:
    project.finish()
    prompts = project.root / "prompts.json"
    text = prompts.read_text(encoding="utf-8")
    prompts.write_text(text.replace("a red ball", "a blue ball"), "utf-8")
    assert project.call("plan", "experiments/x.yaml").status == 0
    answer = story(project, "x", RED)
    assert answer["state"] == "stale"
    assert "'a red ball' -> 'a blue ball'" in answer["why"][0]
    assert answer["changes"][0]["input"] == "prompt"
    assert answer["next"] == ["sweep resume x --stale"]
    dropped = json.loads(text)
    dropped["camera_motion"]["ref_镜头仰角"] = ["一只红色的球"]
    prompts.write_text(json.dumps(dropped, ensure_ascii=False), "utf-8")
    assert project.call("plan", "experiments/x.yaml").status == 0
    answer = story(project, "x", RED)
    assert answer["state"] == "retired"
    assert (project.run_folder.path / RED).exists()


def test_a_terminal_is_safe_from_what_files_say(project: Project) -> None:
    """A prompt or a log line with control characters moves no cursor."""
    clips = {"two words": {"ref 🎬 b": ["red\x1b[2Jball\nsecond line"]}}
    project.write(dataset={"videos": "videos", "prompts": "p.json", "categories": ["two words"]})
    (project.root / "p.json").write_text(json.dumps(clips), encoding="utf-8")
    assert project.call("plan", "experiments/x.yaml").status == 0
    text = project.call("explain", "x", "prompt=0").out
    assert "\x1b" not in text
    assert r"red\x1b[2Jball\nsecond line" in text


def test_damaged_attempts_do_not_hide_the_others(project: Project) -> None:
    project.finish()
    job = story(project, "x", RED)["id"]
    with project.run_folder.attempts.open("ab") as file:
        file.write(f'{{"job":"{job}"}}\n[1, "{job}"]\n{{"job":"{job}", "outco'.encode())
    answer = story(project, "x", RED)
    assert [a.get("outcome") for a in answer["attempts"]] == ["done"]
    assert project.call("explain", "x", RED).status == 0


def test_log_lines_are_those_of_the_attempt(tmp_path: Path) -> None:
    """Of two attempts of one job beside other jobs, each has its own lines, tracebacks too."""
    job, other = "a" * 16, "b" * 16
    log = tmp_path / "gpu0_process0.log"
    log.write_text(
        f"2026-01-02 03:04:05,000 INFO    {job}: claimed (c/v, attempt 1)\n"
        f"2026-01-02 03:04:06,000 INFO    {other}: claimed (c/w, attempt 1)\n"
        f"2026-01-02 03:04:07,000 ERROR   {job}: failed, now pending\n"
        "Traceback (most recent call last):\nRuntimeError: first\n"
        f"2026-01-02 03:04:08,000 ERROR   {other}: failed, now pending\n"
        "RuntimeError: the other's\n"
        f"2026-01-02 03:05:05,000 INFO    {job}: claimed (c/v, attempt 2)\n"
        "2026-01-02 03:05:06,000 SLOT    the worker was killed by SIGKILL\n"
        f"2026-01-02 03:05:07,000 INFO    {other}: claimed (c/w, attempt 2)\n"
        "2026-01-02 03:05:08,000 SLOT    the worker ended with status 0\n",
        encoding="utf-8",
    )
    first = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    lines = attempt_lines(log, job, first + 0.3, 10)
    assert [line for line in lines if "other" in line or "SLOT" in line] == []
    assert lines[-1] == "RuntimeError: first"
    again = attempt_lines(log, job, first + 60, 10)
    assert [line for line in again if "SLOT" in line] == [
        "2026-01-02 03:05:06,000 SLOT    the worker was killed by SIGKILL"
    ]
    assert attempt_lines(log, "c" * 16, first, 10) == []
    assert attempt_lines(tmp_path / "none.log", job, first, 10) == []


def test_the_output_of_a_path() -> None:
    for path in ("c/v/s.mp4", "c/v/s.json", "c/v/s", "superseded/c/v/s.20260102-030405-1.mp4"):
        assert output_of(Path(path)) == "c/v/s.mp4"
