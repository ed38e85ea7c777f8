"""Going on in the middle of a video: what is left of a killed attempt gives the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from wan_jobs import group_of, job_of, load, moving_square, silent

from runner.attempts import read_attempts
from runner.backends import Interrupted
from runner.backends.wan import WanBackend
from runner.job import Job
from runner.run_folder import sha256_file

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


def prepared(cache: Path, job: Job, **changes: Any) -> WanBackend:
    backend = load(DEVICE, cache, [job], **changes)
    backend.prepare(group_of(job))
    return backend


@pytest.fixture(scope="module")
def backend(cache: Path, job: Job) -> WanBackend:
    return prepared(cache, job, keep_latents_every=2)


@pytest.fixture(scope="module")
def undisturbed(cache: Path, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The job's latents as one attempt makes them that keeps nothing."""
    never = prepared(cache, job, keep_latents_every=0)
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


@settings(max_examples=10, deadline=None)
@given(
    every=st.integers(1, STEPS + 1),
    ends=st.lists(
        st.tuples(st.integers(1, STEPS), st.sampled_from([Interrupted, Ended])), max_size=3
    ),
)
def test_whatever_ends_attempts_the_latents_are_the_same(
    every: int,
    ends: list[tuple[int, type[BaseException]]],
    backend: WanBackend,
    job: Job,
    undisturbed: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """At most `keep_latents_every` steps are done again, and none after a stop that was asked
    for."""
    scratch = tmp_path_factory.mktemp("scratch")
    backend.settings = backend.settings.model_copy(update={"keep_latents_every": every})
    reached = 0
    for step, error in ends:
        kept = backend.steps_kept(job, scratch)
        assert reached - kept < every
        if step <= kept:
            continue
        with pytest.raises(error):
            backend.latents(job, scratch, end_at(step, error))
        reached = step
        if error is Interrupted:
            assert backend.steps_kept(job, scratch) == step
    steps: list[int] = []
    latents = backend.latents(job, scratch, lambda done, total: steps.append(done))
    assert steps == list(range(STEPS - len(steps) + 1, STEPS + 1))
    assert torch.equal(latents.cpu(), undisturbed)
    assert backend.steps_kept(job, scratch) == STEPS


def test_stale_and_foreign_latents_are_not_taken(
    backend: WanBackend, cache: Path, job: Job, undisturbed: Any, tmp_path: Path
) -> None:
    """Of another fingerprint, recipe or device; and damaged ones."""

    class NextRecipe(WanBackend):
        recipe = WanBackend.recipe + 1

    backend.settings = backend.settings.model_copy(update={"keep_latents_every": 2})
    with pytest.raises(Ended):
        backend.latents(job, tmp_path, end_at(3, Ended))
    assert backend.steps_kept(job, tmp_path) == 2
    assert backend.steps_kept(replace(job, fingerprint="e" * 64), tmp_path) == 0
    assert backend.steps_kept(replace(job, fingerprint=""), tmp_path) == 0
    elsewhere = WanBackend(backend.settings, cache)
    elsewhere._surroundings = {**backend._surroundings, "device": "another GPU"}
    assert elsewhere.steps_kept(job, tmp_path) == 0
    later = NextRecipe(backend.settings, cache)
    later._surroundings = backend._surroundings
    assert later.steps_kept(job, tmp_path) == 0
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert backend.steps_kept(job, tmp_path) == 0
    assert torch.equal(backend.latents(job, tmp_path, silent).cpu(), undisturbed)


KILLED = """
import os, signal, sys
from pathlib import Path
from wan_jobs import group_of, load
from runner.job import Job
import json
job = Job.from_json(json.loads(sys.argv[1]))
backend = load("cpu", Path(sys.argv[2]), [job], keep_latents_every=2)
backend.prepare(group_of(job))
backend.latents(job, Path(sys.argv[3]), lambda done, _: done == 3 and os.kill(0, signal.SIGKILL))
"""


@pytest.mark.skipif(DEVICE != "cpu", reason="the killed process works on the CPU")
def test_another_process_goes_on_after_kill_9(
    backend: WanBackend, cache: Path, job: Job, undisturbed: Any, tmp_path: Path
) -> None:
    backend.settings = backend.settings.model_copy(update={"keep_latents_every": 2})
    arguments = [json.dumps(job.to_json()), str(cache), str(tmp_path)]
    own = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    path = os.pathsep.join([*own, os.environ.get("PYTHONPATH", "")])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert backend.steps_kept(job, tmp_path) == 2
    steps: list[int] = []
    latents = backend.latents(job, tmp_path, lambda done, _: steps.append(done))
    assert steps == [3, 4, 5]
    assert torch.equal(latents.cpu(), undisturbed)


def write_wan(project: Project, results: str) -> Project:
    """The project's experiment on the tiny checkpoint, one job of 40 steps."""
    project.write(
        backend="wan",
        model={"keep_latents_every": 3},
        dataset={"videos": "videos", "prompts": "prompts.json", "categories": ["camera_motion"]},
        generation={"width": 112, "height": 64, "num_frames": 9, "num_inference_steps": 40},
        placement={"gpus": [0], "processes_per_gpu": 1},
        results=results,
    )
    return project


@pytest.mark.parametrize("end", ["kill -9", "stop --now"])
def test_a_worker_goes_on_where_another_was_ended(project: Project, end: str) -> None:
    """The video is byte for byte that of an undisturbed run, the attempt says from which step it
    went on, and nothing is left of the latents."""
    write_wan(project, "undisturbed")
    only = ("--only", "video=-dash")
    whole = project.sweep("launch", str(project.file), "--on", "local", "--wait", *only)
    assert whole.status == 0, whole.err
    write_wan(project, "results")
    run = project.run_folder
    started = project.sweep("launch", str(project.file), "--on", "local", *only)
    assert started.status == 0, started.err

    def step() -> int:
        workers = project.progress()["workers"]
        return int(workers[0]["step"] or 0) if workers else 0

    wait_for(lambda: step() >= 10, seconds=90)
    reached = step()
    if end == "kill -9":
        os.kill(project.progress()["workers"][0]["pid"], signal.SIGKILL)
    else:
        project.sweep("stop", "x", "--now")
        assert [path.name for path in run.path.glob("work/*/latents.safetensors")]
        project.sweep("resume", "x", "--on", "local")
    wait_for(lambda: project.progress()["done"] == 1, seconds=90)
    (done,) = [one for one in read_attempts(run.attempts) if one["outcome"] == "done"]
    assert done["from_step"] > reached - 3
    (video,) = (project.root / "undisturbed").glob("x/camera_motion/*/*.mp4")
    again = run.path / video.relative_to(project.root / "undisturbed" / "x")
    assert sha256_file(again) == sha256_file(video)
    sidecar = json.loads(again.with_suffix(".json").read_text())
    assert sidecar["from_step"] == done["from_step"]
    assert yaml.safe_load(run.experiment.read_text())["model"]["keep_latents_every"] == 3
    wait_for(lambda: not list(run.path.glob("work/*/latents.safetensors")))
