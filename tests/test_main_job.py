"""The main job on real processes: plan, launch, progress, interrupt, resume, verify.

The fake backend makes real videos; tmux runs on a private socket.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import TWO, Project, needs_tmux, wait_for, write_clip

from runner.disk.attempts import read_attempts
from runner.disk.publish import read_sidecar
from runner.disk.run_folder import locked
from runner.experiment.loading import load_experiment
from runner.job.slot_names import Slot
from runner.launchers import NAMES
from runner.machine.processes import ProcessId
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.runs.runs import live_slots
from runner.slots.launch import prioritise
from runner.slots.lock import supervisor

ALL = 6


def videos(project: Project) -> dict[str, tuple[int, int]]:
    """Every published video with its inode and change time: remaking one changes both."""
    folder = project.run_folder.path
    # What workers make at this moment comes and goes in the others.
    categories = [path for path in folder.iterdir() if path.name not in ("work", "superseded")]
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for category in categories
        for path in category.rglob("*.mp4")
        if ".tmp" not in path.name
    }


def jobs(project: Project) -> list[dict[str, Any]]:
    lines = project.run_folder.manifest.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def sessions(project: Project) -> list[str]:
    result = subprocess.run(
        ["tmux", "-L", project.environment["SWEEP_TMUX_SOCKET"], "list-sessions", "-F", "#S"],
        capture_output=True,
        text=True,
        check=False,
    )
    return sorted(result.stdout.split())


def assert_finished(project: Project) -> None:
    answer = project.progress()
    assert (answer["total"], answer["done"], answer["eta_seconds"]) == (ALL, ALL, 0)
    assert len(videos(project)) == ALL
    verified = project.call("verify", "x", "--json")
    assert verified.status == 0, verified.out
    assert json.loads(verified.out)["good"] == ALL
    leftovers = [path for path in project.run_folder.path.rglob("*") if ".tmp" in path.name]
    assert leftovers == []
    assert [path.name for path in (project.run_folder.path / "work").iterdir()] == ["locks"]


@pytest.mark.parametrize(
    "launcher", [pytest.param(name, marks=needs_tmux if name == "tmux" else ()) for name in NAMES]
)
def test_launch_makes_every_video_and_again_makes_none(project: Project, launcher: str) -> None:
    """One contract for every launcher: the first launch makes all, the second nothing."""
    project.write(placement=TWO)
    first = project.sweep("launch", "experiments/x.yaml", "--on", launcher, "--wait")
    assert first.status == 0, first.err
    assert_finished(project)
    made = videos(project)
    again = project.sweep("launch", "experiments/x.yaml", "--on", launcher, "--wait")
    assert again.status == 0
    assert "nothing to do" in again.err
    resumed = project.sweep("resume", "x", "--on", launcher, "--wait")
    assert resumed.status == 0
    assert videos(project) == made
    assert len(read_attempts(project.run_folder.attempts)) == ALL


def test_every_video_has_a_sidecar_that_vouches_for_it(project: Project) -> None:
    project.finish()
    for job in jobs(project):
        path = project.run_folder.path / job["output"]
        sidecar = read_sidecar(path.with_suffix(".json"))
        assert sidecar is not None
        assert sidecar["schema"] == 2
        assert sidecar["fingerprint"] == job["fingerprint"]
        assert sidecar["video"]["size"] == path.stat().st_size
        assert sidecar["inputs"] == job["inputs"]
        assert sidecar["video"]["num_frames"] == 9


@needs_tmux
def test_tmux_has_a_session_per_process_and_one_for_the_view(project: Project) -> None:
    """`<name>_gpu0_proc0` and so on, and `<name>_main`, which shows the sweep."""
    project.write(placement=TWO, model={"seconds": 3})
    assert project.sweep("launch", "experiments/x.yaml").status == 0
    assert sessions(project) == ["x_gpu0_proc0", "x_gpu0_proc1", "x_main"]
    socket = project.environment["SWEEP_TMUX_SOCKET"]

    def screen(session: str) -> str:
        command = ["tmux", "-L", socket, "capture-pane", "-p", "-t", f"={session}:"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    wait_for(lambda: "camera_motion" in screen("x_main") and "gpu0_process1" in screen("x_main"))
    wait_for(lambda: "claimed" in screen("x_gpu0_proc0"))
    # A bar for the video in its worker's own session.
    bar = re.compile(r"seed_1_prompt_\d: .*\| [1-5]/5 \[")
    wait_for(lambda: bar.search(screen("x_gpu0_proc0")) is not None)
    again = project.sweep("launch", "experiments/x.yaml")
    assert "2 of its slots are running already" in again.err
    assert project.call("stop", "x", "--now").status == 0
    wait_for(lambda: sessions(project) == [])


def test_progress_counts_jobs_and_names_workers(project: Project) -> None:
    """The JSON contract, asked while workers run, from any folder."""
    project.write(placement=TWO, model={"seconds": 1.5})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    folder = str(project.run_folder.path)

    def answer() -> dict[str, Any]:
        result: dict[str, Any] = json.loads(
            project.call("progress", folder, "--json", cwd=Path("/")).out
        )
        return result

    wait_for(lambda: answer()["done"] >= 2)
    found = project.progress()
    keys = {"sweep", "total", "done", "running", "pending", "failed", "eta_seconds"}
    assert keys | {"categories", "workers"} <= set(found)
    assert found["done"] + found["running"] + found["pending"] == ALL
    assert 0 < found["eta_seconds"] < 20
    for category in found["categories"].values():
        assert {"total", "done", "running", "pending", "failed"} <= set(category)
    assert [worker["name"] for worker in found["workers"]] == ["gpu0_process0", "gpu0_process1"]
    worker = found["workers"][0]
    assert {"name", "gpu", "process", "pid", "state", "job", "step"} <= set(worker)
    assert worker["state"] == "working"
    os.kill(worker["pid"], 0)


def test_progress_says_how_busy_each_gpu_was(project: Project) -> None:
    """Busy share per GPU, and the makespan against work that is spread evenly."""
    project.write(model={"seconds": 0.4}, placement={"gpus": [0, 1], "processes_per_gpu": 1})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait").status == 0
    answer = project.progress()
    assert set(answer["busy"]) == {"0", "1"}
    assert all(0.3 < share <= 1 for share in answer["busy"].values())
    assert answer["makespan"]["ideal_seconds"] > 1.2
    assert 1 <= answer["makespan"]["ratio"] < 3
    assert "GPUs busy 0: " in project.sweep("progress", "x").out


def test_kill_9_of_a_worker_in_the_middle_of_a_job(project: Project) -> None:
    """The supervisor starts another worker, and the sweep ends whole."""
    project.write(model={"seconds": 0.8})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: project.progress()["done"] >= 1 and project.progress()["running"] >= 1)
    before = videos(project)
    os.kill(project.progress()["workers"][0]["pid"], signal.SIGKILL)
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait").status == 0
    assert_finished(project)
    assert before.items() <= videos(project).items()
    outcomes = [attempt["outcome"] for attempt in read_attempts(project.run_folder.attempts)]
    # The job that was generated and, at most, the one that was being encoded.
    assert outcomes.count("died") in (1, 2)
    assert outcomes.count("done") in (ALL - 1, ALL)
    log = project.run_folder.log(Slot.of(0, 0)).read_text(encoding="utf-8")
    assert "killed by SIGKILL" in log


def test_kill_9_of_the_supervisor_takes_the_worker_with_it(project: Project) -> None:
    """No worker outlives its supervisor; resume makes what is missing."""
    project.write(model={"seconds": 0.8})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: project.progress()["running"] == 1)
    worker = ProcessId.of(project.progress()["workers"][0]["pid"])
    process = supervisor(project.run_folder.lock(Slot.of(0, 0)))
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not live_slots(project.run_folder))
    assert worker.is_gone()
    assert project.progress()["workers"][0]["state"] == "gone"
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0
    assert_finished(project)


@needs_tmux
def test_killing_the_whole_tmux_server_breaks_nothing(project: Project) -> None:
    """What is counted as done is whole, and resume makes exactly what is missing."""
    project.write(placement=TWO, model={"seconds": 0.8})
    assert project.sweep("launch", "experiments/x.yaml").status == 0
    wait_for(lambda: len(videos(project)) >= 2)
    subprocess.run(
        ["tmux", "-L", project.environment["SWEEP_TMUX_SOCKET"], "kill-server"], check=True
    )
    wait_for(lambda: not live_slots(project.run_folder))
    before = videos(project)
    done = project.progress()["done"]
    assert 0 < done < ALL
    assert done == sum(
        read_sidecar((project.run_folder.path / name).with_suffix(".json")) is not None
        for name in before
    )
    assert project.call("verify", "x").status == 0
    assert project.sweep("resume", "x", "--wait").status == 0
    assert_finished(project)
    assert before.items() <= videos(project).items()


def test_sigterm_gives_the_job_back_cleanly(project: Project) -> None:
    project.write(model={"seconds": 5})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: project.progress()["running"] == 1)
    assert project.call("stop", "x", "--now").status == 0
    answer = project.progress()
    assert (answer["running"], answer["pending"]) == (0, ALL)
    assert [a["outcome"] for a in read_attempts(project.run_folder.attempts)] == ["interrupted"]


def test_stop_lets_jobs_finish(project: Project) -> None:
    project.write(placement=TWO, model={"seconds": 3})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: project.progress()["running"] == 2)
    stopped = project.call("stop", "x", "--wait", "--json")
    assert json.loads(stopped.out)["ended"] is True
    answer = project.progress()
    assert (answer["done"], answer["running"], answer["pending"]) == (2, 0, 4)
    assert project.call("plan", "experiments/x.yaml", "model.seconds=0.1").status == 0
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0
    assert_finished(project)


@pytest.mark.parametrize("words", [["launch", "x", "--wait"], ["progress", "x", "--watch"]])
def test_ctrl_c_ends_a_view_and_no_worker(project: Project, words: list[str]) -> None:
    """Exit status 130, and the workers go on."""
    project.write(placement=TWO, model={"seconds": 2})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    process = subprocess.Popen(
        project.command(*words, *(["--on", "local"] if words[0] == "launch" else [])),
        cwd=project.root,
        env={**os.environ, **project.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Under a script's `&` this process may have inherited SIGINT as ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    assert "x: " in process.stderr.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert len(live_slots(project.run_folder)) == 2


def test_a_failed_job_is_a_record_and_the_sweep_goes_on(project: Project) -> None:
    """Exit status 1 with the reason in log and queue; resume gives the job another chance."""
    project.write(
        model={"seconds": 0.05, "faults": [{"kind": "fail", "video": "-dash"}]},
        retries={"backoff_seconds": 0},
    )
    finished = project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert finished.status == 1
    assert "1 job failed" in finished.err
    answer = project.progress()
    assert (answer["done"], answer["failed"]) == (ALL - 1, 1)
    assert "RuntimeError: asked to fail" in project.call("logs", "x", "-n", "200").out
    assert project.call("plan", "experiments/x.yaml", "model.faults=[]").status == 0
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0
    assert_finished(project)


def test_two_test_videos_before_the_big_night_count(project: Project) -> None:
    """--sample and --only run a part of the same manifest; what they made stays done."""
    words = ["launch", "experiments/x.yaml", "--on", "local", "--wait"]
    assert project.sweep(*words, "--sample", "1").status == 0
    answer = project.progress()
    assert (answer["done"], answer["pending"], answer["held"]) == (2, 4, 4)
    made = videos(project)
    assert project.sweep(*words, "--only", "video=ref 🎬 b", "prompt=2").status == 0
    assert project.progress()["done"] == 3
    assert project.sweep(*words).status == 0
    assert_finished(project)
    assert made.items() <= videos(project).items()


def test_existence_alone_proves_nothing(project: Project) -> None:
    """Truncated, altered, emptied, missing and stray files are named, and made again."""
    project.finish()
    paths = [project.run_folder.path / job["output"] for job in jobs(project)]
    whole = videos(project)
    paths[0].write_bytes(paths[0].read_bytes()[:-100])
    altered = bytearray(paths[1].read_bytes())
    altered[len(altered) // 2] ^= 0xFF
    paths[1].write_bytes(altered)
    paths[2].unlink()
    paths[3].with_suffix(".json").unlink()
    paths[4].with_suffix(".json").write_text("{}")
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait").status == 0
    assert_finished(project)
    name = str(paths[5].relative_to(project.run_folder.path))
    assert videos(project)[name] == whole[name]
    assert len(list((project.run_folder.path / "superseded").rglob("*.mp4"))) == 4


def test_verify_names_what_is_broken_and_resume_makes_it_again(project: Project) -> None:
    """Also a flipped byte whose file time tells nothing."""
    project.finish()
    paths = [project.run_folder.path / job["output"] for job in jobs(project)]
    status = paths[0].stat()
    altered = bytearray(paths[0].read_bytes())
    altered[-50] ^= 1
    paths[0].write_bytes(altered)
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    paths[1].unlink()
    finished = project.call("verify", "x", "--json")
    assert finished.status == 1
    broken = {entry["video"]: entry["problem"] for entry in json.loads(finished.out)["broken"]}
    assert set(broken) == {jobs(project)[0]["output"], jobs(project)[1]["output"]}
    assert "sha256" in broken[jobs(project)[0]["output"]]
    assert "missing" in broken[jobs(project)[1]["output"]]
    assert project.progress()["pending"] == 2
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0
    assert_finished(project)


def test_changed_inputs_make_a_video_stale_and_keep_it(project: Project) -> None:
    """plan says so, nothing is deleted; resume --stale remakes it and sets the former aside."""
    project.finish()
    made = videos(project)
    text = (project.root / "prompts.json").read_text(encoding="utf-8")
    (project.root / "prompts.json").write_text(text.replace("a red ball", "a blue ball"))
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert answer["changes"] == {"added": 0, "kept": ALL, "changed": 1, "retired": 0}
    assert project.progress()["stale"] == 1
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0
    assert videos(project) == made
    assert project.sweep("resume", "x", "--stale", "--on", "local", "--wait").status == 0
    assert_finished(project)
    assert len(made.items() - videos(project).items()) == 1
    superseded = list((project.run_folder.path / "superseded").rglob("*.mp4"))
    assert len(superseded) == 1


def test_plan_while_workers_run(project: Project) -> None:
    """Workers with the former settings make way for new ones: nothing is made with settings
    that its fingerprint does not name, and new jobs are picked up."""
    project.write(placement=TWO, model={"seconds": 1})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: project.progress()["running"] == 2)
    project.write(model={"seconds": 0.1}, seeds=[1, 2], output={"quality": 8})
    assert project.call("plan", "experiments/x.yaml").status == 0
    project.sweep("launch", "x", "--on", "local", "--wait")
    assert project.sweep("resume", "x", "--stale", "--on", "local", "--wait").status == 0
    answer = project.progress()
    assert (answer["total"], answer["done"]) == (2 * ALL, 2 * ALL)
    for path in project.run_folder.path.glob("*/*/*.json"):
        sidecar = read_sidecar(path)
        assert sidecar is not None
        assert sidecar["quality"] == 8


def test_a_clip_that_changed_after_planning_is_not_used(project: Project) -> None:
    """Its jobs fail with the reason, instead of being made from another clip than planned."""
    assert project.call("plan", "experiments/x.yaml").status == 0
    write_clip(project.root / "videos" / "camera_motion" / "-dash.mp4", seed=99)
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 1
    answer = project.progress()
    assert (answer["done"], answer["failed"]) == (ALL - 1, 1)
    assert "-dash.mp4 has changed; run `sweep plan`" in project.call("logs", "x", "-n", "99").out


@needs_tmux
def test_a_sweep_of_the_same_name_elsewhere_is_left_alone(project: Project) -> None:
    """tmux sessions are called after sweeps; another project's are not killed."""
    project.write(placement=TWO, model={"seconds": 2})
    assert project.sweep("launch", "experiments/x.yaml").status == 0
    other = Project(project.root.parent / "other", project.environment)
    shutil.copytree(project.root, other.root, ignore=shutil.ignore_patterns("results"))
    refused = other.sweep("launch", "experiments/x.yaml")
    assert refused.status == 2
    assert "x_gpu0_proc0" in refused.err
    assert str(project.run_folder.path) in refused.err
    assert len(live_slots(project.run_folder)) == 2


def test_launch_after_a_stop_or_a_part_has_running_workers_go_on(project: Project) -> None:
    """Nobody has to wait for slots to be free before saying that the sweep shall go on."""
    # Slow enough for the other commands to find it at work, on a machine with much to do.
    slow = [{"kind": "slow", "video": "-dash"}]
    model = {"seconds": 0.2, "slow_factor": 40, "faults": slow}
    project.write(model=model)
    words = ("launch", "experiments/x.yaml", "--on", "local")
    assert project.sweep(*words, "--only", "prompt=0").status == 0
    wait_for(lambda: project.progress()["running"] == 1)
    assert project.call("stop", "x").status == 0
    assert "running already" in project.sweep(*words, "--wait").err
    assert_finished(project)


def test_a_worker_that_is_about_to_go_is_waited_for(project: Project) -> None:
    """It has said goodbye and takes no further job, while its slot is there for a moment more."""
    project.write()
    words = ("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert project.sweep(*words, "--only", "prompt=0").status == 0
    leaving = ExitStack()
    leaving.enter_context(locked(project.run_folder.lock(Slot.of(0, 0))))
    threading.Timer(3, leaving.close).start()
    launched = project.sweep(*words)
    assert "1 worker started" in launched.err
    assert_finished(project)


def test_gpus_come_and_go_while_the_sweep_runs(project: Project) -> None:
    """`launch --gpus` adds workers, `stop --gpus` gives one GPU back, and the rest go on."""
    # So long that all three are at work at once even where each begins seconds after the other.
    project.write(model={"seconds": 4})
    words = ("launch", "experiments/x.yaml", "--on", "local")
    assert project.sweep(*words).status == 0
    assert project.sweep("launch", "x", "--on", "local", "--gpus", "4,5").status == 0
    assert live_slots(project.run_folder) == [Slot.of(0, 0), Slot.of(4, 0), Slot.of(5, 0)]
    wait_for(lambda: project.progress()["running"] >= 3)
    assert project.call("stop", "x", "--gpus", "0", "--wait").status == 0
    assert Slot.of(0, 0) not in live_slots(project.run_folder)
    assert project.sweep(*words, "--gpus", "5", "--wait").status == 0
    assert_finished(project)


def test_priority_finishes_one_seed_before_the_next(project: Project) -> None:
    """A half-finished sweep is useful already: all of the first seed is there."""
    project.write(seeds=[7, 3], model={"seconds": 0.05})
    words = ("launch", "experiments/x.yaml", "--on", "local", "--wait", "--priority", "seed")
    assert project.sweep(*words).status == 0
    seed_of = {job["id"]: int(job["seed"]) for job in jobs(project)}
    done = [seed_of[a["job"]] for a in read_attempts(project.run_folder.attempts)]
    assert done == [7] * ALL + [3] * ALL


def test_the_first_prompts_may_come_first(project: Project) -> None:
    """`--priority prompt`: a look at every clip before its other prompts are made."""
    project.write()
    assert project.call("plan", "experiments/x.yaml").status == 0
    queue = Queue(project.run_folder.queue)
    prioritise(load_experiment(project.run_folder.experiment), queue, "prompt")
    taste, claimed = Taste(), []
    while (claim := queue.claim(Slot.of(0, 0), ProcessId.own(), taste)) is not None:
        claimed.append(claim.job.on("prompt"))
    queue.close()
    assert claimed == sorted(claimed)
    assert len(claimed) == ALL


def test_static_without_its_gpu_is_an_error_and_not_a_wait(project: Project) -> None:
    project.write(
        placement={"gpus": [0, 1], "balance": "static", "assign": {"camera_motion": [1]}},
    )
    assert project.call("plan", "experiments/x.yaml").status == 0
    refused = project.sweep("launch", "x", "--on", "local", "--gpus", "0")
    assert refused.status == 2
    assert "camera_motion belongs to GPU 1" in refused.err
    assert project.sweep("launch", "x", "--on", "local", "--wait").status == 0
    assert_finished(project)


def test_a_run_behind_a_symbolic_link(project: Project) -> None:
    """`results` on another disk, and a command given inside it."""
    disk = project.root.parent / "disk" / "deep"
    disk.mkdir(parents=True)
    (project.root / "results").symlink_to(disk)
    assert project.call("plan", "experiments/x.yaml").status == 0
    inside = project.root / "results" / "x"
    assert project.sweep("resume", ".", "--on", "local", "--wait", cwd=inside).status == 0
    assert_finished(project)


def test_verify_tells_one_job_from_another(project: Project) -> None:
    """A whole video in the wrong place is not that job's video."""
    project.finish()
    one, two = (project.run_folder.path / job["output"] for job in jobs(project)[-2:])
    shutil.copy(one, two)
    shutil.copy(one.with_suffix(".json"), two.with_suffix(".json"))
    finished = project.call("verify", "x", "--json")
    assert finished.status == 1
    (broken,) = json.loads(finished.out)["broken"]
    assert "another job" in broken["problem"]


def test_a_run_folder_goes_on_elsewhere(project: Project) -> None:
    """Nothing in it holds an absolute path: the whole project can move."""
    words = ["launch", "experiments/x.yaml", "--on", "local", "--wait"]
    assert project.sweep(*words, "--sample", "1").status == 0
    for path in project.run_folder.path.rglob("*"):
        if path.is_file() and path.suffix in (".yaml", ".jsonl", ".json"):
            assert str(project.root) not in path.read_text(encoding="utf-8")
    moved = Project(project.root.parent / "moved", project.environment)
    shutil.move(project.root, moved.root)
    assert moved.sweep("resume", str(moved.run_folder.path), "--on", "local", "--wait").status == 0
    assert_finished(moved)


def test_clips_that_are_gone_fail_their_jobs(project: Project) -> None:
    """Every job fails, is recorded, and the command says where to look."""
    assert project.call("plan", "experiments/x.yaml").status == 0
    for clip in (project.root / "videos").rglob("*.mp4"):
        clip.unlink()
    finished = project.sweep("resume", "x", "--on", "local", "--wait")
    assert finished.status == 1
    assert f"{ALL} jobs failed" in finished.err


def test_logs_show_the_last_lines_of_a_worker(project: Project) -> None:
    project.finish()
    lines = project.call("logs", "x", "gpu0_process0", "-n", "3").out.splitlines()
    assert len(lines) == 3
    assert "supervisor ended with status 0" in lines[-1]
    text = project.run_folder.log(Slot.of(0, 0)).read_text(encoding="utf-8")
    for words in ("model loaded in", "claimed", "step 1 of 5", "generate", "done ("):
        assert words in text
    assert "\r" not in text
    assert project.call("logs", "x", "gpu9_process0").status == 2
