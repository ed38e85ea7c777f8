"""Chains: a sweep is made from the videos of another one, which may run at the same time."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, wait_for

from runner.calibrate.calibration_sweep import Shortfall, part_to_make
from runner.disk.attempts import read_attempts
from runner.disk.manifest import read_manifest
from runner.disk.publish import read_sidecar
from runner.disk.run_folder import RunFolder, sha256_file
from runner.disk.upstream import Upstream
from runner.job import JobState, MadeInput, Outcome
from runner.queue import Queue
from runner.runs.runs import open_queue
from runner.worker import awaited
from runner.worker.awaited import Awaited

FIRST, SECOND = "experiments/dub.yaml", "experiments/talk.yaml"
SLOW = "model.seconds=0.6"


@pytest.fixture
def chain(project: Project) -> Project:
    """`dub` has 12 videos of three clips, `talk` two of each of them."""
    project.write(name="dub", seeds=[1, 2], model={"seconds": 0.05})
    project.file.rename(project.root / FIRST)
    (project.root / "说.txt").write_text("she talks\n他说话\n", encoding="utf-8")
    dataset = {"videos": {"run": "dub"}, "prompts": "说.txt"}
    project.write(name="talk", seeds=[7], model={"seconds": 0.05}, dataset=dataset)
    project.file.rename(project.root / SECOND)
    return project


def run_of(project: Project, name: str) -> RunFolder:
    return RunFolder(project.root / "results" / name)


def plan(project: Project, file: str, *overrides: str) -> dict[str, Any]:
    planned = project.call("plan", file, "--json", *overrides)
    assert planned.status == 0, planned.err
    answer: dict[str, Any] = json.loads(planned.out)
    return answer


def progress(project: Project, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(project.call("progress", name, "--json").out)
    return answer


def launch(project: Project, name: str, *words: str) -> None:
    launched = project.sweep("resume", name, "--on", "local", *words, timeout=240)
    assert launched.status == 0, launched.err


def stop_all(project: Project) -> None:
    for name in ("dub", "talk"):
        project.call("stop", name, "--now")


def upstream_of(run: RunFolder) -> list[tuple[RunFolder, dict[str, Any], dict[str, Any]]]:
    """Of each video its own sidecar, and that of the video that it was made from."""
    found = []
    for job in read_manifest(run.manifest).jobs:
        sidecar = read_sidecar(run.sidecar(job))
        assert sidecar is not None
        given = job.inputs["reference"]
        assert isinstance(given, MadeInput)
        above = Upstream.of(run)
        other = read_sidecar(above.run(given.run).sidecar(given))
        assert other is not None
        found.append((above.run(given.run), sidecar, other))
    return found


def test_two_sweeps_run_at_once_and_are_killed_between(chain: Project) -> None:
    """Each on its own slots of the same GPU; nothing is lost, and nothing is made before what it
    is made from."""
    plan(chain, FIRST, SLOW)
    planned = plan(chain, SECOND)
    assert (planned["total"], planned["awaiting"]) == (24, 24)
    now = progress(chain, "talk")
    assert (now["total"], now["pending"], now["awaiting"], now["done"]) == (24, 24, 24, 0)
    try:
        launch(chain, "dub")
        launch(chain, "talk")
        wait_for(lambda: progress(chain, "talk")["done"] >= 2, 90)
        assert progress(chain, "dub")["done"] < 12
        for name in ("dub", "talk"):
            for worker in progress(chain, name)["workers"]:
                os.kill(worker["pid"], signal.SIGKILL)
        wait_for(lambda: progress(chain, "talk")["done"] >= 4, 90)
        stop_all(chain)
        half = progress(chain, "talk")
        assert 0 < half["awaiting"] < 24
        launch(chain, "talk")
        plan(chain, FIRST, "model.seconds=0.05")
        launch(chain, "dub", "--wait")
        launch(chain, "talk", "--wait")
    finally:
        stop_all(chain)
    assert progress(chain, "talk")["done"] == 24
    run = run_of(chain, "talk")
    for other, sidecar, above in upstream_of(run):
        lineage = sidecar["inputs"]["reference"]
        assert (lineage["run"], lineage["job"]) == ("dub", above["job"])
        assert lineage["fingerprint"] == above["fingerprint"]
        assert lineage["sha256"] == above["video"]["sha256"]
        assert sha256_file(other.path / lineage["output"]) == lineage["sha256"]
        assert above["finished_at"] <= sidecar["claimed_at"]
    assert not [one for one in read_attempts(run.attempts) if one["outcome"] == Outcome.FAILED]
    verified = json.loads(chain.call("verify", "talk", "--json").out)
    assert (verified["good"], verified["broken"]) == (24, [])


def test_staleness_flows_downstream(chain: Project) -> None:
    """A change above makes stale what was made of it, and no more."""
    plan(chain, FIRST)
    plan(chain, SECOND)
    launch(chain, "dub", "--wait")
    launch(chain, "talk", "--wait")
    before = {p: p.read_bytes() for p in run_of(chain, "talk").path.glob("*/*/*.json")}
    assert len(before) == 24

    text = json.loads((chain.root / "prompts.json").read_text(encoding="utf-8"))
    text["camera_motion"]["-dash"] = ["another quote"]
    (chain.root / "prompts.json").write_text(json.dumps(text), encoding="utf-8")
    assert plan(chain, FIRST)["made_stale"] == 2
    assert plan(chain, SECOND)["made_stale"] == 4
    stale = progress(chain, "talk")
    assert (stale["stale"], stale["done"]) == (4, 20)
    told = chain.call("explain", "talk", "camera_motion/-dash_seed_1_prompt_0", "prompt=0")
    told_of = "reference: dub/camera_motion/-dash/seed_1_prompt_0.mp4 is of other inputs there"
    assert f"changed since its video was made: {told_of}" in told.out

    # What is made from other inputs than those wanted does not count as made.
    launch(chain, "talk", "--stale", "--dry-run")
    try:
        launch(chain, "talk", "--stale")
        wait_for(lambda: progress(chain, "talk")["awaiting"] == 4, 60)
        launch(chain, "dub", "--stale", "--wait")
        launch(chain, "talk", "--wait")
    finally:
        stop_all(chain)
    assert progress(chain, "talk")["done"] == 24
    after = {p: p.read_bytes() for p in run_of(chain, "talk").path.glob("*/*/*.json")}
    changed = [path for path in before if before[path] != after[path]]
    assert len(changed) == 4
    assert {path.parent.name.partition("_")[0] for path in changed} == {"-dash"}


def test_a_video_that_is_gone_is_awaited_again(chain: Project) -> None:
    """No attempt fails, and no video is made from anything else."""
    plan(chain, FIRST)
    plan(chain, SECOND)
    launch(chain, "dub", "--wait")
    run, above = run_of(chain, "talk"), run_of(chain, "dub")
    open_queue(run, look_at_disk=True).close()
    assert progress(chain, "talk")["awaiting"] == 0
    gone = sorted(above.path.glob("two words/*/*.mp4"))
    for video in gone:
        video.rename(video.with_suffix(".away"))
    try:
        launch(chain, "talk")
        wait_for(lambda: progress(chain, "talk")["done"] == 24 - 2 * len(gone), 90)
        wait_for(lambda: progress(chain, "talk")["awaiting"] == 2 * len(gone), 30)
        for video in gone:
            video.with_suffix(".away").rename(video)
        launch(chain, "talk", "--wait")
    finally:
        stop_all(chain)
    ended = progress(chain, "talk")
    assert (ended["done"], ended["failed"]) == (24, 0)


def test_who_awaits_is_told_what(chain: Project) -> None:
    plan(chain, FIRST)
    plan(chain, SECOND)
    job = read_manifest(run_of(chain, "talk").manifest).jobs[0]
    story = json.loads(chain.call("explain", "talk", job.id, "--json").out)
    given = job.inputs["reference"]
    assert isinstance(given, MadeInput)
    assert story["state"] == "awaiting"
    assert story["why"][0] == f"it awaits {given.path}, which is not made yet"
    assert story["next"] == [f"sweep explain dub {given.id}", "sweep resume dub"]
    assert isinstance(part_to_make(run_of(chain, "talk"), 1), Shortfall)
    examined = chain.call("doctor", SECOND, "--json")
    findings = [one["what"] for one in json.loads(examined.out)["findings"]]
    assert "videos of the sweep dub: 0 of 12 are made" in findings


def test_the_page_shows_what_a_video_was_made_from(chain: Project) -> None:
    plan(chain, FIRST)
    plan(chain, SECOND, "dataset.videos.only={seed: 2, video: -dash}")
    launch(chain, "dub", "--wait")
    launch(chain, "talk", "--wait")
    assert progress(chain, "talk")["total"] == 2
    assert chain.call("report", "talk").status == 0
    report = run_of(chain, "talk").path / "report"
    assert len(list((report / "references").glob("*.mp4"))) == 1
    page = (report / "index.html").read_text("utf-8")
    assert "results/dub/camera_motion/-dash/seed_2_prompt_0.mp4" in page
    assert str(chain.root) not in page
    table = chain.call("export", "talk", "--csv").out
    assert "dub/camera_motion/-dash/seed_2_prompt_0.mp4" in table


@pytest.mark.parametrize(
    ("videos", "told"),
    [
        ({"run": "nothing"}, "no sweep called nothing is planned"),
        ({"run": "talk"}, "a sweep cannot be made from its own videos"),
        ({"run": "../dub"}, "dataset.videos: run: '../dub'"),
        ({"run": "dub", "onyl": {}}, "unknown key; did you mean only?"),
        ({"run": "dub", "only": {"sed": 1}}, "did you mean seed?"),
        ({"run": "dub", "only": {"seed": 9}}, "no video of dub is so"),
        (7, "must be a folder, or {run: NAME}"),
    ],
)
def test_a_wrong_chain_is_refused(chain: Project, videos: object, told: str) -> None:
    plan(chain, FIRST)
    chain.write(name="talk", dataset={"videos": videos, "prompts": "说.txt"})
    refused = chain.call("plan", "experiments/x.yaml")
    assert refused.status == 2
    assert told in refused.err
    assert "Traceback" not in refused.err
    assert len(refused.err.splitlines()) <= 2


def test_prompts_may_call_a_video_as_what_it_is_a_version_of(chain: Project) -> None:
    plan(chain, FIRST)
    chain.write(name="talk", dataset={"videos": {"run": "dub"}, "prompts": "prompts.json"})
    assert plan(chain, "experiments/x.yaml")["total"] == 2 * 2 * 2 + 2 * 1 + 3 * 2 * 3


def test_workers_wait_while_what_they_await_may_come(
    chain: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for ever: whoever waits for the end of a sweep is told."""
    monkeypatch.setattr(awaited, "LONELY_SECONDS", 0.3)
    plan(chain, FIRST)
    plan(chain, SECOND)
    run = run_of(chain, "talk")
    queue = open_queue(run)
    try:
        waiting = Awaited(queue, Upstream.of(run))
        assert waiting.may_come()
        assert waiting.note == "waits for videos of dub"
        ended = threading.Event()
        while waiting.may_come():
            assert not ended.wait(0.05)
        # Those outside the part that is being run keep nobody waiting.
        queue.hold_all_but([])
        assert not Awaited(queue, Upstream.of(run)).may_come()
    finally:
        queue.close()


def test_the_queue_made_anew_knows_who_awaits(chain: Project) -> None:
    plan(chain, FIRST)
    plan(chain, SECOND)
    launch(chain, "dub", "--only", "seed=1", "--wait")
    run = run_of(chain, "talk")
    open_queue(run, look_at_disk=True).close()
    # What is measured is measured on what is there.
    part = part_to_make(run, 1)
    assert not isinstance(part, Shortfall)
    assert "seed_1" in str(part)
    states = _states(run)
    assert sorted(states.values()).count(JobState.AWAITING) == 12
    for file in run.path.glob("sweep.db*"):
        file.unlink()
    open_queue(run).close()
    assert _states(run) == states


def _states(run: RunFolder) -> dict[str, JobState]:
    queue = Queue(run.queue)
    try:
        return {row.job.id: row.state for row in queue.rows()}
    finally:
        queue.close()


def test_links_do_not_lead_out_of_another_run(chain: Project, tmp_path: Path) -> None:
    """What lies outside of the other run's folder is no video of it."""
    plan(chain, FIRST)
    plan(chain, SECOND)
    launch(chain, "dub", "--wait")
    above = run_of(chain, "dub")
    (above.path / "two words").rename(tmp_path / "elsewhere")
    (above.path / "two words").symlink_to(tmp_path / "elsewhere")
    run = run_of(chain, "talk")
    open_queue(run, look_at_disk=True).close()
    assert sorted(_states(run).values()).count(JobState.AWAITING) == 12
