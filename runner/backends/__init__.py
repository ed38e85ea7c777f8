"""The backend contract: what turns a job into a video, in two halves.

A `Planner` says what a sweep of this backend is and takes. It needs neither torch nor a GPU, so
that a sweep can be planned on a laptop. Its `engine()` makes the videos, in a worker:

    load                      once per worker and method
      prepare                 once per group of jobs that share what is costly to prepare
        look_ahead            once it is known which group comes next
        generate -> finish    once per job
    close                     once, before another method is loaded or the worker ends

`registry` finds planners by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ..job import Job, Series
from ..job.axes import Axes
from ..job.shape import Shape
from .section import Generation, Section, defaults
from .settings import without_loss

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
class GpuMemory:
    """GPU memory of an engine's processes, in GiB; None without a GPU, or where it cannot be told.

    `held` is what they hold now, `peak` the most that they held: see `Engine.memory`.
    """

    held: float | None = None
    peak: float | None = None


@dataclass(frozen=True)
class FileState:
    """A model file as it lies there: `size` in bytes; `problem` and `remedy` where it cannot be
    loaded as it is, `note` what was looked at where it can."""

    file: str
    size: int = 0
    problem: str | None = None
    remedy: str = ""
    note: str = "its header is whole"


@dataclass(frozen=True)
class Examined:
    """A model as it lies on this machine, as far as that shows without loading it.

    Args:
        what: what it is in a few words, without paths: for a person, and no part of any
            fingerprint. None where nothing tells, or it is not what it should be.
        files: every file that a worker loads; () where there are none.
        tokenizer: the text encoder's `tokenizer.json`, where prompts are cut at `prompt_tokens`.
    """

    what: str | None = None
    files: tuple[FileState, ...] = ()
    tokenizer: Path | None = None

    @property
    def problems(self) -> list[FileState]:
        """The files that cannot be loaded as they are."""
        return [state for state in self.files if state.problem is not None]


SettingsT = TypeVar("SettingsT", bound=Section)
GenerationT = TypeVar("GenerationT", bound=Generation)


class Planner(ABC, Generic[SettingsT, GenerationT]):
    """What a sweep of this backend is and takes. It is made anew for each command, reads model
    files as they then are, and imports no torch.

    Args:
        settings: the experiment's `model` section, as this backend's `settings_type`.
        root: the project root, where relative paths of `settings` start.
    """

    settings_type: ClassVar[type[Section]]
    """The `model` section: each key declares by `section.key` what is lost by it."""
    generation_type: ClassVar[type[Generation]]
    """The `generation` section: each key has a default, and may be an axis."""
    axes: ClassVar[Axes]
    """The input axes of its grids."""
    recipe: ClassVar[int]
    """Part of every fingerprint; raised when this backend's preparation or output changes."""
    recipe_change: ClassVar[str]
    """What has changed with the present `recipe`, for people who have videos of the one before."""
    imports: ClassVar[tuple[str, ...]] = ()
    """Top-level packages that a worker of this backend needs beyond the core's."""
    prompt_tokens: ClassVar[int | None] = None
    """The number of tokens of a prompt that are read, the end token among them; None where all
    are."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = cls.__dict__.get("settings_type")
        if own is not None and (silent := without_loss(own)):
            raise TypeError(f"{own.__name__}: {', '.join(silent)}: declare the loss of each key")
        if "generation_type" in cls.__dict__:
            # Raises TypeError where its parameters cannot be told.
            defaults(cls.generation_type)

    def __init__(self, settings: SettingsT, root: Path) -> None:
        self.settings = settings
        self.root = root

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides the output apart from job and recipe: model files by content and those
        settings that change pixels (`settings.deciding_settings`). JSON-able, the same on every
        machine; part of every fingerprint.

        Raises:
            UserError: the model is not on this machine and its identity is not given.
        """

    @abstractmethod
    def shape(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> Shape:
        """What a job's video must be.

        Args:
            facts: what was read of the job's files, by the inputs' roles.
        """

    def model_files(self) -> list[dict[str, Any]]:
        """The files behind `identity()`, for the record of a video and to say which of them has
        changed: each with its `file`, `size` and hashes. [] where there are none, or none on
        this machine. It takes about as long as `identity`."""
        return []

    def examine(self) -> Examined:
        """The model as it lies on this machine, by names and headers. Raises nothing for what is
        missing or broken: that is what it is asked for."""
        return Examined()

    def versions(self) -> dict[str, str]:
        """Versions of what touches a video outside this interpreter, for its record."""
        return {}

    def peak_memory(self, generation: GenerationT) -> PeakMemory | None:
        """Peak GPU memory of one worker; None where it is not known, or no GPU is used."""
        return None

    def flops(self, generation: GenerationT) -> float | None:
        """Floating-point operations of one video; None where they are not known."""
        return None

    def steps_are_alike(self) -> bool | None:
        """Whether a video with twice the `num_inference_steps` takes twice as long for these; None
        where only what videos tell of their steps can say so. Of a backend without that parameter
        it is not asked."""
        return True

    def check_launch(self, device: str, *, explicit: bool) -> None:
        """Raise `UserError` where this machine cannot run the backend on `device`.

        `explicit` says that the experiment asked for that device (`placement.device`), so
        that a full-size model is not started on a CPU by accident.
        """

    @abstractmethod
    def engine(self) -> Engine:
        """The half that makes the videos, with nothing loaded. Its module is imported here."""


class Engine(ABC):
    """What makes the videos, in a worker. Calls come from one thread, but for `finish` and
    `memory`."""

    @abstractmethod
    def load(self, machine: Machine) -> None:
        """Load the model, once, before the first job. The worker has no other one loaded then."""

    @abstractmethod
    def prepare(self, series: Series) -> None:
        """Prepare what a group of jobs shares; `series` is one of the group, and the `generate`
        calls that follow are for its jobs. Paths of inputs are absolute, here and below."""

    def look_ahead(self, series: Series) -> None:  # noqa: B027 - not everyone has what to begin
        """Begin what `prepare` of this series, likely the next group's, needs no device for: on
        another thread, and so that nothing is lost where another one comes."""

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

    @abstractmethod
    def finish(self, pending: Any, path: Path, quality: float) -> None:
        """Encode a pending video into a new file `path` (`quality` is imageio's).

        It runs on another thread, beside the next job's `generate`, and again with the same
        `pending` where the disk was full.
        """

    def kernels(self, job: Job) -> str | None:
        """A hash of the compiled kernels with which a job of the prepared group is made; they
        decide its last bits. None where nothing is compiled on the machine."""
        return None

    def reconstruct(self, series: Series) -> Any:
        """The reference of a series after encoding and decoding, uint8 RGB frames of its shape:
        the best that a video can look. None where a backend encodes nothing."""
        return None

    def memory(self, *, anew: bool = False) -> GpuMemory:
        """GPU memory of this process and of `processes`, the peak since `load` or since it was
        last asked for `anew`."""
        return GpuMemory()

    def processes(self) -> tuple[int, ...]:
        """The pids of this backend's own processes beside the worker's, whose memory counts as
        the worker's does."""
        return ()

    def is_broken(self) -> str | None:
        """Why this backend can do no further job, or None: then the worker fails, and its slot
        starts another."""
        return None

    def close(self) -> None:  # noqa: B027 - not everyone has what to free
        """Free what `load` took. Called once more, or without `load`, it does nothing."""


__all__ = [
    "READING_CHANGE",
    "Engine",
    "Examined",
    "FileState",
    "Generation",
    "GpuMemory",
    "Interrupted",
    "Machine",
    "OnStep",
    "PeakMemory",
    "Planner",
    "Section",
]
