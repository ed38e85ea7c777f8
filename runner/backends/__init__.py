"""The backend contract: what turns a job into a video, and how a backend is found by name.

A backend has two halves. Planning (`settings_type`, `generation_type`, `identity`, `peak_memory`,
`check_launch`) needs neither torch nor a GPU, so that a sweep can be planned on a laptop.
Working (`load`, `prepare`, `generate`, `finish`, `close`) happens in a worker, in this order:

    load                      once per worker
      prepare                 once per group of jobs that share a reference video
        look_ahead            once it is known which group comes next
        generate -> finish    once per job
    close                     once per worker
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ..axes import PROMPT, VIDEO, Axes
from ..errors import UserError
from ..job import Job, Series
from ..shape import Shape

NAMES = ("fake", "script", "wan")

READING_CHANGE = (
    "clips are read by the times of their frames, as a player shows them, and videos are BT.709"
)
"""What the recipes of all backends were raised for."""

OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all) after every step; may raise to end the job.

Called with (0, 0) it only asks whether the job shall end, and is no sign of life: for a backend
that waits for another process."""


class Interrupted(BaseException):
    """Raised by `on_step`: the worker was asked to stop, and its job goes back unharmed.

    Not an Exception, so that a backend that catches its own errors does not catch it.
    """


def _kinds(annotation: Any) -> set[Any]:
    """What an annotation is made of: `float | None` of float and None."""
    parts = get_args(annotation)
    return set().union(*map(_kinds, parts)) if parts else {annotation}


class Section(BaseModel):
    """A section of the experiment file: unknown keys are errors, values never change."""

    # Defaults are validated too: a 5 that stands for 5.0 would have another fingerprint.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """`tea_cache: true` would be 1.0."""
        if isinstance(value, bool) and info.field_name in cls.model_fields:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if kinds & {int, float} and not kinds & {bool, Any}:
                raise ValueError("must be a number")
        return value


class Generation(Section):
    """The `generation` section that every backend has; a backend may add keys of its own."""

    width: int = Field(832, gt=0, multiple_of=2, description="pixels")
    height: int = Field(480, gt=0, multiple_of=2, description="pixels")
    num_frames: int = Field(81, gt=0, description="of the video, and read of its reference")
    fps: float = Field(15, ge=0.01, le=240, description="frames per second of video and reference")
    num_inference_steps: int = Field(50, gt=0, description="denoising steps")
    cfg_scale: float = Field(5.0, description="classifier-free guidance")
    denoising_strength: float = Field(
        0.8, gt=0, le=1, description="1 ignores the reference, less follows it more closely"
    )
    negative_prompt: str = Field("", description="what guidance leads away from")

    def parameter_names(self) -> list[str]:
        """Every key there is, a person's own included, where a backend takes such."""
        return [*type(self).model_fields, *(self.model_extra or {})]


@dataclass(frozen=True)
class Machine:
    """Where a worker runs: `device` is "cuda" or "cpu"; a worker sees only its own GPU.

    `cache` is the run folder's cache: files by hash, shared by workers, safe to delete. `gpu`
    is the slot's GPU number, which is not CUDA's. `jobs` gives the sweep's jobs as they are now
    planned, so that a backend can prepare for more than the job in hand.
    """

    device: str
    cache: Path
    gpu: int = 0
    jobs: Callable[[], Iterable[Job]] = tuple


@dataclass(frozen=True)
class PeakMemory:
    """GPU memory that one worker needs at its peak, and where the number comes from."""

    gib: float
    source: str


@dataclass(frozen=True)
class FileState:
    """A model file as it lies there: `size` in bytes; `problem` and `remedy` where it cannot be
    loaded as it is, `note` what was looked at where it can."""

    file: str
    size: int = 0
    problem: str | None = None
    remedy: str = ""
    note: str = "its header is whole"


SettingsT = TypeVar("SettingsT", bound=Section)


class Backend(ABC, Generic[SettingsT]):
    """What turns jobs into videos.

    Args:
        settings: the experiment's `model` section, as this backend's `settings_type`.
        root: the project root, where relative paths of `settings` start.
    """

    settings_type: ClassVar[type[Section]]
    generation_type: ClassVar[type[Generation]] = Generation
    axes: ClassVar[Axes] = Axes((VIDEO, PROMPT))
    """The input axes of its grids."""
    recipe: ClassVar[int]
    """Part of every fingerprint; raised when this backend's preparation or output changes."""
    recipe_change: ClassVar[str]
    """What has changed with the present `recipe`, for whoever has videos of the one before."""
    costly_axis: ClassVar[str | None] = None
    """The parameter at whose change a worker loads another model: its values are made one after
    the other."""
    imports: ClassVar[tuple[str, ...]] = ()
    """Top-level packages that a worker of this backend needs beyond the core's."""
    prompt_tokens: ClassVar[int | None] = None
    """So many tokens of a prompt are read, the end mark among them; None where all are."""

    def __init__(self, settings: SettingsT, root: Path) -> None:
        self.settings = settings
        self.root = root

    # Planning: no torch, no GPU.

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides the output apart from job and recipe: model files by content and those
        settings that change pixels. JSON-able; part of every fingerprint.

        Raises:
            UserError: the model is not on this machine and its identity is not given.
        """

    @classmethod
    def deciding(
        cls,
        identity: Mapping[str, Any],
        parameters: Mapping[str, Any],  # noqa: ARG003 - for backends with several models
    ) -> Mapping[str, Any]:
        """What of `identity()` decides a job of these parameters: all of it, unless a backend
        has several models.

        Raises:
            UserError: the parameters ask for a model that there is not.
        """
        return identity

    def shape(
        self,
        parameters: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> Shape:
        """What a job's video must be.

        Args:
            facts: what was read of its files, by the inputs' roles.
        """
        return Shape(
            parameters["width"],
            parameters["height"],
            parameters["num_frames"],
            parameters["fps"],
        )

    def settings_of(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The settings, as JSON has them, that hold for a job of these parameters: all of them,
        unless a backend has several models."""
        return self.settings.model_dump(mode="json")

    def steps_are_alike(self) -> bool | None:
        """Whether a video with twice the `num_inference_steps` takes twice as long for these; None
        where only what videos tell of their steps can say so."""
        return True

    def model_files(self) -> list[dict[str, Any]]:
        """The files behind `identity()["weights"]`, for the record of a video and to say which
        of them has changed: each with its `file`, `size` and hashes. [] where there are none,
        or none on this machine. It takes about as long as `identity`."""
        return []

    def model_is(self) -> str | None:
        """What the model is in a few words, as its files' headers tell, without paths: for a
        person, and no part of any fingerprint. None where nothing tells."""
        return None

    def versions(self) -> dict[str, str]:
        """Versions of what touches a video outside this interpreter, for its record."""
        return {}

    def look_at_files(self) -> list[FileState]:
        """Every file that a worker loads: whether it is there and can be read, as far as that
        shows without loading it. [] where there are none."""
        return []

    def tokenizer_file(self) -> Path | None:
        """The text encoder's `tokenizer.json`, or None where it is not here."""
        return None

    def peak_memory(self, generation: Generation) -> PeakMemory | None:
        """Peak GPU memory of one worker, or None where it is not known or none is used."""
        return None

    def flops(self, generation: Generation) -> float | None:
        """Floating-point operations of making one video, or None where they are not known."""
        return None

    def check_launch(self, device: str, *, explicit: bool) -> None:
        """Raise `UserError` where this machine cannot run the backend on `device`.

        `explicit` says that the experiment asked for that device (`placement.device`), so
        that a full-size model is not started on a CPU by accident.
        """

    # Working.

    @abstractmethod
    def load(self, machine: Machine) -> None:
        """Load the model, once, before the first job."""

    @abstractmethod
    def prepare(self, series: Series) -> None:
        """Take in what a group of jobs shares, of which this is a series; the following
        `generate` calls are of this group. Paths of inputs are absolute, here and below."""

    @abstractmethod
    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> Any:
        """Do all that a job needs of the device; returns what `finish` needs: the pending video.

        `scratch` is the job's own folder for files in the making. It outlasts an attempt that
        was killed or given back: what is in it may be of any earlier attempt, of a job with
        another fingerprint too, and a backend goes on only from what it knows to be right.
        `on_step` is called after every step; what it raises must pass through, with the
        backend fit for the next job.
        """

    def steps_kept(self, job: Job, scratch: Path) -> int:
        """How many of a job's steps `generate` would find done in `scratch`."""
        return 0

    def kernels(self, job: Job) -> str | None:
        """A hash of the compiled kernels that a job of the prepared group is made with, which
        decide its last bits; None where nothing is compiled on the machine."""
        return None

    def look_ahead(self, series: Series) -> None:
        """Begin what `prepare` of this series, likely the next group's, needs no device for: on
        another thread, and so that nothing is lost where another one comes."""

    @abstractmethod
    def finish(self, pending: Any, path: Path, quality: float) -> None:
        """Encode a pending video into a new file `path` (`quality` is imageio's).

        It runs on another thread, beside the next job's `generate`, and again with the same
        `pending` where the disk was full.
        """

    def reconstruct(self, series: Series) -> Any:
        """The reference of a series after encoding and decoding, uint8 RGB frames of its shape:
        the best that a video can look. None where a backend encodes nothing."""
        return None

    def is_broken(self) -> str | None:
        """Why this backend can do no further job, or None: then the worker fails, and its slot
        starts another."""
        return None

    def peak_gpu_memory_gib(self) -> float | None:
        """Peak GPU memory since `load` or the last call, in GiB; None where there is no GPU."""
        return None

    def gpu_memory_gib(self) -> float | None:
        """GPU memory that this process holds now, in GiB; None where there is no GPU."""
        return None

    def processes(self) -> tuple[int, ...]:
        """The pids of this backend's own processes beside the worker's, whose memory counts as
        the worker's does."""
        return ()

    def close(self) -> None:
        """Free what `load` took."""


def backend_class(name: str) -> type[Backend[Any]]:
    """The backend class of that name.

    Raises:
        UserError: there is no such backend; the message lists the ones there are.
    """
    if name not in NAMES:
        raise UserError(f"backend: no backend is called {name!r} (valid: {', '.join(NAMES)})")
    backend: type[Backend[Any]] = importlib.import_module(f"{__name__}.{name}").BACKEND
    return backend
