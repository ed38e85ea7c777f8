"""Going on in the middle of a video: what is left of a killed attempt gives the same bytes."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from wan_jobs import job_of, moving_square, prepared, silent

from runner.backends import Interrupted
from runner.backends.wan.engine import WanEngine
from runner.backends.wan.planner import WanPlanner
from runner.disk.attempts import read_attempts
from runner.disk.run_folder import sha256_file
from runner.job import Job
from runner.queue import Queue
from runner.queue.worker_table import WorkerRow

torch = pytest.importorskip("torch")
pytest.importorskip("modelscope")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STEPS = 5


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    clip = moving_square(tmp_path_factory.mktemp("clips") / "square.mp4", 6)
    return job_of(clip, fingerprint="f" * 64, num_inference_steps=STEPS)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def engine(cache: Path, job: Job) -> WanEngine:
    return prepared(DEVICE, cache, job, keep_latents_every=2)


@pytest.fixture(scope="module")
def undisturbed(cache: Path, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The job's latents as one attempt makes them that keeps nothing."""
    never = prepared(DEVICE, cache, job, keep_latents_every=0)
    scratch = tmp_path_factory.mktemp("never")
    latents = never.latents(job, scratch, silent)
    assert not list(scratch.iterdir())
    return latents.cpu()


class Ended(Exception):
    """What ends an attempt here, as an error of any kind would."""


def end_at(step: int, error: type[BaseException]) -> Any:
    def on_step(done: int, _total: int) -> None:
        if done == step:
            raise error

    return on_step


@settings(max_examples=10)
@given(
    every=st.integers(1, STEPS + 1),
    ends=st.lists(
        st.tuples(st.integers(1, STEPS), st.sampled_from([Interrupted, Ended])), max_size=3
    ),
)
def test_whatever_ends_attempts_the_latents_are_the_same(
    every: int,
    ends: list[tuple[int, type[BaseException]]],
    engine: WanEngine,
    job: Job,
    undisturbed: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """At most `keep_latents_every` steps are done again, and none after a stop that was asked
    for."""
    scratch = tmp_path_factory.mktemp("scratch")
    engine.settings = engine.settings.model_copy(update={"keep_latents_every": every})
    reached = 0
    for step, error in ends:
        kept = engine.steps_kept(job, scratch)
        assert reached - kept < every
        if step <= kept:
            continue
        with pytest.raises(error):
            engine.latents(job, scratch, end_at(step, error))
        reached = step
        if error is Interrupted:
            assert engine.steps_kept(job, scratch) == step
    steps: list[int] = []
    latents = engine.latents(job, scratch, lambda done, total: steps.append(done))
    assert steps == list(range(STEPS - len(steps) + 1, STEPS + 1))
    assert torch.equal(latents.cpu(), undisturbed)
    assert engine.steps_kept(job, scratch) == STEPS


def test_stale_and_foreign_latents_are_not_taken(
    engine: WanEngine, cache: Path, job: Job, undisturbed: Any, tmp_path: Path
) -> None:
    """Of another fingerprint, recipe or device; and damaged ones."""

    class NextRecipe(WanPlanner):
        recipe = WanPlanner.recipe + 1

    engine.settings = engine.settings.model_copy(update={"keep_latents_every": 2})
    with pytest.raises(Ended):
        engine.latents(job, tmp_path, end_at(3, Ended))
    assert engine.steps_kept(job, tmp_path) == 2
    assert engine.steps_kept(replace(job, fingerprint="e" * 64), tmp_path) == 0
    assert engine.steps_kept(replace(job, fingerprint=""), tmp_path) == 0
    elsewhere = WanPlanner(engine.settings, cache).engine()
    elsewhere._surroundings = {**engine._surroundings, "device": "another GPU"}
    assert elsewhere.steps_kept(job, tmp_path) == 0
    later = NextRecipe(engine.settings, cache).engine()
    later._surroundings = engine._surroundings
    assert later.steps_kept(job, tmp_path) == 0
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert engine.steps_kept(job, tmp_path) == 0
    assert torch.equal(engine.latents(job, tmp_path, silent).cpu(), undisturbed)


STEPS_OF_A_SWEEP = 20
KEPT_EVERY = 3


def write_wan(project: Project, results: str) -> None:
    """The project's experiment on the tiny checkpoint, with one worker."""
    project.write(
        backend="wan",
        model={"keep_latents_every": KEPT_EVERY},
        dataset={"videos": "videos", "prompts": "prompts.json", "categories": ["camera_motion"]},
        generation={
            "width": 112,
            "height": 64,
            "num_frames": 9,
            "num_inference_steps": STEPS_OF_A_SWEEP,
        },
        results=results,
    )


def test_a_worker_goes_on_where_another_was_ended(project: Project) -> None:
    """After `kill -9` and after `sweep stop --now`: the video is byte for byte that of an
    undisturbed run, attempts say from which step they went on, and no latents are left."""
    only = ("--only", "video=-dash")
    words = ("launch", str(project.file), "--on", "local", *only)
    write_wan(project, "undisturbed")
    whole = project.sweep(*words, "--wait")
    assert whole.status == 0, whole.err
    write_wan(project, "results")
    run = project.run_folder
    started = project.sweep(*words)
    assert started.status == 0, started.err
    queue = Queue(run.queue)

    def worker_at(step: int, other_than: int = 0) -> WorkerRow | None:
        rows = [row for row in queue.workers.rows() if row.process.pid != other_than]
        return next((row for row in rows if row.step >= step), None)

    wait_for(lambda: worker_at(4) is not None, seconds=120)
    killed = worker_at(4)
    assert killed is not None
    os.kill(killed.process.pid, signal.SIGKILL)
    wait_for(lambda: worker_at(8, killed.process.pid) is not None, seconds=120)
    stopped = worker_at(8, killed.process.pid)
    assert stopped is not None
    assert project.call("stop", "x", "--now").status == 0
    assert len(list(run.path.glob("work/*/latents.safetensors"))) == 1
    resumed = project.sweep("resume", "x", "--on", "local", "--wait", *only)
    assert resumed.status == 0, resumed.err
    queue.close()

    job = killed.job
    first, last = (
        [
            one
            for one in read_attempts(run.attempts)
            if (one["job"], one["outcome"]) == (job, outcome)
        ]
        for outcome in ("interrupted", "done")
    )
    assert [one["from_step"] > killed.step - KEPT_EVERY for one in first] == [True]
    assert [one["from_step"] >= stopped.step for one in last] == [True]
    (video,) = (project.root / "undisturbed").glob("x/camera_motion/*/*.mp4")
    again = run.path / video.relative_to(project.root / "undisturbed" / "x")
    assert sha256_file(again) == sha256_file(video)
    sidecar = json.loads(again.with_suffix(".json").read_text())
    assert sidecar["from_step"] == last[0]["from_step"]
    assert not list(run.path.glob("work/*/latents.safetensors"))
