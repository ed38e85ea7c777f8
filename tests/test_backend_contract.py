"""The contract of `runner.backends`: every promise of a planner and an engine, for every backend.

Another backend joins by a line in `BACKENDS`.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import a_job, but
from wan_jobs import moving_square

from runner.backends import Engine, GpuMemory, Interrupted, Machine, Planner
from runner.backends.registry import planner_class
from runner.backends.section import Loss, defaults
from runner.backends.settings import settings_set
from runner.disk.run_folder import sha256_file
from runner.job import FileInput, Job
from runner.machine.processes import ProcessId
from runner.text.canonical import canonical_json
from runner.video import check_video

SHAPE = {"width": 112, "height": 64, "num_frames": 9, "fps": 8}
"""The reference clip's, too, so that a script may copy it."""

COPYING = """
import shutil

def load(settings): pass

def generate(job, path):
    for step in range(job.parameters["num_inference_steps"]):
        job.step(step + 1, job.parameters["num_inference_steps"])
    shutil.copyfile(job.reference, path)
"""


@dataclass(frozen=True)
class Case:
    """A backend under test: its settings as an experiment would have them, and a small video.

    Args:
        files: what lies in the project's folder, by name.
        packages: what must be installed for its engine to be tried.
    """

    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(
        default_factory=lambda: {**SHAPE, "num_inference_steps": 3}
    )
    files: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    def planner(self, root: Path) -> Planner[Any, Any]:
        for name, text in self.files.items():
            (root / name).write_text(text, encoding="utf-8")
        cls = planner_class(self.name)
        return cls(cls.settings_type.model_validate(dict(self.model)), root)


BACKENDS = [
    Case("wan", {"keep_latents_every": 1}, packages=("torch", "modelscope")),
    Case("script", {"file": "method.py"}, files={"method.py": COPYING}),
    Case("fake", {"seconds": 0.03, "keep_every": 1}),
]


@dataclass
class Bench:
    """A loaded engine with a group prepared, and what made it."""

    case: Case
    planner: Planner[Any, Any]
    engine: Engine
    clip: Path
    cache: Path

    @property
    def parameters(self) -> dict[str, Any]:
        generation = self.planner.generation_type.model_validate(dict(self.case.generation))
        return generation.to_parameters()

    @property
    def job(self) -> Job:
        return a_job(
            "c",
            "square",
            seed=42,
            prompt_text="一只猫, a cat 🙂",
            reference=FileInput(str(self.clip), sha256_file(self.clip)),
            parameters=self.parameters,
            fingerprint="f" * 64,
        )

    def file(self, scratch: Path, steps: list[tuple[int, int]] | None = None) -> bytes:
        """The finished video of its job; appends the steps that were reported."""

        def on_step(done: int, total: int) -> None:
            if total and steps is not None:
                steps.append((done, total))

        path = scratch / "finished.mp4"
        self.engine.finish(self.engine.generate(self.job, scratch, on_step), path, 5)
        check_video(path, self.job.shape)
        content = path.read_bytes()
        path.unlink()
        return content


def parametrized(cases: list[Case]) -> Any:
    return [pytest.param(case, id=case.name) for case in cases]


@pytest.fixture(scope="module", params=parametrized(BACKENDS))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def planner(case: Case, tmp_path: Path) -> Planner[Any, Any]:
    return case.planner(tmp_path)


@pytest.fixture(scope="module")
def loaded(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    for package in case.packages:
        pytest.importorskip(package)
    root = tmp_path_factory.mktemp("项目")
    planner = case.planner(root)
    engine = planner.engine()
    bench = Bench(case, planner, engine, moving_square(root / "square.mp4", 6), root / "cache")
    engine.load(Machine("cpu", bench.cache, jobs=lambda: [bench.job]))
    yield bench
    engine.close()


@pytest.fixture
def bench(loaded: Bench) -> Bench:
    """Whatever a test before prepared."""
    loaded.engine.prepare(loaded.job.series)
    return loaded


# The planner.


def test_a_planner_needs_no_torch(case: Case, tmp_path: Path) -> None:
    """All its questions are answered where torch cannot be imported."""
    case.planner(tmp_path)
    code = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
from runner.backends.registry import planner_class
cls = planner_class({case.name!r})
planner = cls(cls.settings_type.model_validate({dict(case.model)!r}), Path.cwd())
generation = cls.generation_type.model_validate({dict(case.generation)!r})
planner.model_files(), planner.examine(), planner.versions(), planner.steps_are_alike()
planner.peak_memory(generation), planner.flops(generation)
assert sys.modules["torch"] is None
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_identity_is_the_same_again_and_json(
    case: Case, tmp_path: Path, planner: Planner[Any, Any]
) -> None:
    """Wherever the project lies."""
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    identity = planner.identity()
    assert identity == planner.identity() == case.planner(moved).identity()
    assert json.loads(canonical_json(identity)) == identity


def test_what_is_declared_can_be_used(planner: Planner[Any, Any]) -> None:
    """Recipe, losses, defaults and descriptions; any later key is left out while it is its own."""
    assert planner.recipe >= 1
    assert planner.recipe_change
    assert all(isinstance(leaf.loss, Loss) for leaf in defaults(planner.settings_type).values())
    for schema in (planner.settings_type, planner.generation_type):
        assert [name for name, key in schema.model_fields.items() if not key.description] == []
    generation = planner.generation_type()
    own = defaults(planner.generation_type)
    assert set(own) == set(generation.parameter_names())
    assert set(generation.to_parameters()) == {n for n, leaf in own.items() if not leaf.is_later}


def test_parameters_round_trip(case: Case, planner: Planner[Any, Any]) -> None:
    generation = planner.generation_type.model_validate(dict(case.generation))
    parameters = generation.to_parameters()
    assert planner.generation_type.from_parameters(parameters) == generation
    assert planner.generation_type.from_parameters(generation.complete()) == generation
    reading = {"dataset.start": 1.0, "dataset.fit": "pad"}
    assert planner.generation_type.from_parameters({**parameters, **reading}) == generation
    assert json.loads(json.dumps(parameters)) == parameters


def test_the_settings_that_are_set_are_named(case: Case, planner: Planner[Any, Any]) -> None:
    assert {setting.name for setting in settings_set(planner.settings)} == set(case.model)


def test_a_model_that_is_there_can_be_launched(planner: Planner[Any, Any]) -> None:
    planner.check_launch("cpu", explicit=True)
    found = planner.examine()
    assert found.problems == []
    assert found.tokenizer is None or found.tokenizer.is_file()
    assert found.what is None or str(planner.root) not in found.what
    for record in planner.model_files():
        assert record["size"] >= 0
        assert isinstance(record["file"], str)


# The engine.


def test_a_job_gives_a_video_of_its_shape(bench: Bench, tmp_path: Path) -> None:
    """Every step is reported, in order and to the last; the same job gives the same bytes."""
    steps: list[tuple[int, int]] = []
    first = bench.file(tmp_path, steps)
    total = steps[-1][1]
    assert steps == [(number, total) for number in range(1, total + 1)]
    (tmp_path / "again").mkdir()
    assert bench.file(tmp_path / "again") == first


def test_a_pending_video_can_be_finished_again(bench: Bench, tmp_path: Path) -> None:
    """As where the disk was full."""
    pending = bench.engine.generate(bench.job, tmp_path, lambda *_: None)
    for name in ("one.mp4", "two.mp4"):
        bench.engine.finish(pending, tmp_path / name, 5)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


class Mine(BaseException):
    """No Exception, as a stop is none."""


@pytest.mark.parametrize("error", [Interrupted, Mine, RuntimeError])
def test_what_on_step_raises_passes_through(
    bench: Bench, tmp_path: Path, error: type[BaseException]
) -> None:
    """And the engine is fit for the next job."""

    def on_step(_done: int, total: int) -> None:
        if total:
            raise error

    undisturbed = bench.file(tmp_path)
    (tmp_path / "ended").mkdir()
    with pytest.raises(error):
        bench.engine.generate(bench.job, tmp_path / "ended", on_step)
    assert bench.engine.is_broken() is None
    (tmp_path / "next").mkdir()
    assert bench.file(tmp_path / "next") == undisturbed


def test_an_interrupted_job_goes_on_from_the_steps_that_were_kept(
    bench: Bench, tmp_path: Path
) -> None:
    """No more than were done; and nothing of another fingerprint's is taken."""

    def on_step(done: int, total: int) -> None:
        if total and done == 2:
            raise Interrupted

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert bench.engine.steps_kept(bench.job, scratch) == 0
    with pytest.raises(Interrupted):
        bench.engine.generate(bench.job, scratch, on_step)
    kept = bench.engine.steps_kept(bench.job, scratch)
    assert 0 <= kept <= 2
    assert bench.engine.steps_kept(replace(bench.job, fingerprint="e" * 64), scratch) == 0
    steps: list[tuple[int, int]] = []
    gone_on = bench.file(scratch, steps)
    assert steps[0][0] == kept + 1
    assert gone_on == bench.file(tmp_path)


def test_looking_ahead_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    """Whether the group that was announced comes, or the one before it."""
    expected = bench.file(tmp_path)
    other = moving_square(tmp_path / "other.mp4", 2)
    clip = FileInput(str(other), sha256_file(other))
    announced = but(bench.job, reference=clip).series
    for comes in (bench.job.series, announced, bench.job.series):
        bench.engine.look_ahead(announced)
        bench.engine.prepare(comes)
    assert bench.file(tmp_path) == expected


def test_what_an_engine_says_of_itself(bench: Bench) -> None:
    memory = bench.engine.memory(anew=True)
    assert isinstance(memory, GpuMemory)
    assert memory.held is None or memory.held >= 0
    assert all(not ProcessId.of(pid).is_gone() for pid in bench.engine.processes())
    kernels = bench.engine.kernels(bench.job)
    assert kernels is None or re.fullmatch(r"[0-9a-f]{16,}", kernels)


def test_a_reconstructed_reference_has_the_shape_of_a_video(bench: Bench) -> None:
    frames = bench.engine.reconstruct(bench.job.series)
    if frames is not None:
        assert frames.shape == (SHAPE["num_frames"], SHAPE["height"], SHAPE["width"], 3)
        assert frames.dtype == np.uint8


def test_an_engine_may_be_closed_twice_or_unused(bench: Bench, tmp_path: Path) -> None:
    """What it started is gone then."""
    unused = bench.planner.engine()
    unused.close()
    engine = bench.planner.engine()
    engine.load(Machine("cpu", bench.cache, jobs=lambda: [bench.job]))
    processes = [ProcessId.of(pid) for pid in engine.processes()]
    engine.close()
    engine.close()
    assert engine.processes() == ()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            assert process.is_gone()
