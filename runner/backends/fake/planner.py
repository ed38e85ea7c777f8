"""What a sweep of the fake backend is: how long its jobs take, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ...job import Job
from ...job.shape import Shape
from .. import READING_CHANGE, Planner, Section
from ..section import Loss, key
from ..video_parameters import AXES, VideoGeneration, shape_of

if TYPE_CHECKING:
    from .engine import FakeEngine


class Fault(Section):
    """What goes wrong, and where: with every job that matches all that is given."""

    kind: Literal[
        "fail",
        "bad_input",
        "slow",
        "hang",
        "out_of_gpu_memory",
        "out_of_host_memory",
        "gpu_error",
        "exit",
        "kill",
        "truncate",
        "fill_disk",
    ] = Field(description="what happens, in the middle of a job")
    category: str | None = Field(None, description="only jobs of this category")
    video: str | None = Field(None, description="only jobs of this video")
    prompt: int | None = Field(None, description="only jobs of this prompt number")
    seed: int | None = Field(None, description="only jobs of this seed")
    gpu: int | None = Field(None, description="only on this GPU")
    times: int | None = Field(None, ge=1, description="so often with each job; default always")

    def matches(self, job: Job, gpu: int) -> bool:
        wanted: dict[str, Any] = {"category": self.category, "video": self.video}
        wanted |= {"prompt": self.prompt, "seed": self.seed}
        fits = all(value in (None, job.on(name)) for name, value in wanted.items())
        return fits and self.gpu in (None, gpu)


class FakeSettings(Section):
    """The `model` section of a fake experiment."""

    seconds: float = key(0.2, ge=0, description="how long a job takes its worker", loss=Loss.EXACT)
    spread: float = key(
        0.0, ge=0, le=1, description="durations differ by up to this share", loss=Loss.EXACT
    )
    load_seconds: float = key(
        0.0, ge=0, description="how long loading the model takes", loss=Loss.EXACT
    )
    faults: list[Fault] = key(
        default_factory=list, description="what goes wrong, and where", loss=Loss.EXACT
    )
    keep_every: int = key(
        0,
        ge=0,
        description="steps after which a job's progress is kept for another attempt",
        loss=Loss.EXACT,
    )
    slow_factor: float = key(
        10.0, ge=1, description="how much longer a slow job takes", loss=Loss.EXACT
    )


class FakePlanner(Planner[FakeSettings, VideoGeneration]):
    """No model: nothing but the job decides its video."""

    settings_type = FakeSettings
    generation_type = VideoGeneration
    axes = AXES
    recipe = 2
    recipe_change = READING_CHANGE

    def identity(self) -> dict[str, Any]:
        return {}

    def shape(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> Shape:
        return shape_of(parameters)

    def engine(self) -> FakeEngine:
        from .engine import FakeEngine

        return FakeEngine(self)
