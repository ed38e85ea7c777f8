"""The sections of the experiment file: data set, placement, output, retries, limits."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, create_model, field_validator

from ..backends import Section
from ..disk.run_folder import RESERVED, RESERVED_LATER
from ..job import RUN_NAME
from ..job.axes import Axes, InputAxis, InputKind
from ..job.failures import failures_allowed
from ..job.slot_names import MOST_PROCESSES_PER_GPU, is_number
from ..text.text_file import nfc
from ..video import CLIP_SUFFIXES, ClipStart, Fit
from ..video.reading import Reading, checked_start
from .mistakes import describe


class ClipReading(Section):
    """How one clip is read, where it is not as the others are."""

    start: ClipStart | None = Field(None, description="seconds after its first frame, or middle")
    fit: Fit | None = Field(None, description="crop or pad")

    @field_validator("start", mode="before")
    @classmethod
    def _start(cls, value: object) -> object:
        return value if value is None else checked_start(value)


def _prompt_files(value: object) -> object:
    if value is None:
        return value
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ValueError("must be a file or a list of files")
    return value


class RunVideos(Section):
    """The videos of another run, in the place of a folder of files."""

    run: str = Field(pattern=RUN_NAME, description="the name of a sweep in the same `results`")
    only: dict[str, Any] = Field(
        default_factory=dict,
        description="axis -> value, or values: a part of them, such as {seed: 42}",
    )


def _clip_source(value: object) -> object:
    if not isinstance(value, dict):
        if value is not None and not isinstance(value, str):
            raise ValueError("must be a folder, or {run: NAME} for another run's videos")
        return value
    try:
        return RunVideos.model_validate(value)
    except ValidationError as error:
        raise ValueError("; ".join(describe(error, RunVideos))) from None


class Dataset(Section):
    """What every data set has; `dataset_type` adds a key for each input axis of a backend."""

    categories: list[str] | None = Field(None, description="a subset, or a name for flat files")

    @field_validator("categories")
    @classmethod
    def _names(cls, value: list[str] | None) -> list[str] | None:
        if value is not None:
            if not value:
                raise ValueError("must name at least one category")
            refuse_repeats(value)
            for name in value:
                check_category(name, had=RESERVED_LATER)
        return value

    def source(self, axis: InputAxis) -> str | None:
        """The folder in which the values of a file axis lie; None where the axis is left out, or
        its values are videos of another run."""
        given: str | RunVideos | None = getattr(self, axis.key)
        return given if isinstance(given, str) else None

    def run_videos(self, axis: InputAxis) -> RunVideos | None:
        """The videos of another run that are the values of an axis; None where the values are
        files."""
        given: str | RunVideos | None = getattr(self, axis.key)
        return given if isinstance(given, RunVideos) else None

    def has(self, axis: InputAxis) -> bool:
        """Whether a file axis is not left out."""
        return getattr(self, axis.key) is not None

    def text_files(self, axis: InputAxis) -> list[str]:
        """The files that hold the values of a text axis."""
        given: str | list[str] | None = getattr(self, axis.key)
        return [given] if isinstance(given, str) else list(given or ())

    @property
    def reading(self) -> Reading:
        """How files are read that have no reading of their own."""
        return Reading()

    def own_reading(self, name: str) -> ClipReading:
        """What is particular to one file, `<category>/<name>`."""
        return ClipReading()


class ClipDataset(Dataset):
    """A data set with clips."""

    fit: Fit = Field(
        "crop",
        description="what becomes of clips of another shape: crop cuts off their rims, pad adds "
        "black ones",
    )
    start: ClipStart = Field(
        0.0, description="where in a clip to begin: seconds after its first frame, or middle"
    )
    clips: dict[str, ClipReading] = Field(
        default_factory=dict,
        description="<category>/<video> -> its own start and fit: {a/b: {start: 2.5, fit: pad}}",
    )

    @field_validator("start", mode="before")
    @classmethod
    def _start(cls, value: object) -> object:
        return checked_start(value)

    @field_validator("clips", mode="before")
    @classmethod
    def _clip_names(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {clip_name(name): own for name, own in value.items()}

    @property
    def reading(self) -> Reading:
        return Reading(self.start, self.fit)

    def own_reading(self, name: str) -> ClipReading:
        return self.clips.get(name, ClipReading())


PromptFiles = Annotated[str | list[str] | None, BeforeValidator(_prompt_files)]

_KEYS = {
    InputKind.CLIP: "folder of <category>/<{name}>.mp4, or of <{name}>.mp4",
    InputKind.AUDIO: "folder of <{name}>.wav for every category, or of <category>/<{name}>.wav",
}


@cache
def dataset_type(axes: Axes) -> type[Dataset]:
    """The `dataset` section of a backend with these input axes."""
    has_clips = any(axis.kind is InputKind.CLIP for axis in axes.inputs)
    keys: dict[str, Any] = {}
    for axis in axes.files:
        about = _KEYS[axis.kind].format(name=axis.name)
        given: Any = str
        if axis.kind is InputKind.CLIP:
            given = Annotated[str | RunVideos, BeforeValidator(_clip_source)]
            about = f"{about}; or {{run: NAME, only: {{axis: value}}}}: that sweep's videos"
        if axis.is_optional:
            about = f"{about}; may be left out"
            keys[axis.key] = (given | None, Field(None, description=about))
        else:
            keys[axis.key] = (given, Field(description=about))
    for axis in axes.texts:
        about = (
            "JSON or YAML of {category: {video: [prompt, ...]}}, CSV, TSV, or text files; "
            "needed unless `jobs` is given"
        )
        keys[axis.key] = (PromptFiles, Field(None, description=about))
    name = "".join(axis.name.title() for axis in axes.inputs)
    own = create_model(f"{name}Keys", __base__=Section, **keys)
    # Its own keys come first.
    make: Any = create_model
    found: type[Dataset] = make(
        f"{name}Dataset", __base__=(ClipDataset if has_clips else Dataset, own)
    )
    return found


class Placement(Section):
    gpus: Literal["auto"] | list[int] = Field("auto", description="auto, or GPU numbers")
    processes_per_gpu: int = Field(
        1, ge=1, le=MOST_PROCESSES_PER_GPU, description="workers, each with a model"
    )
    assign: dict[str, list[int]] = Field(
        default_factory=dict, description="category -> GPUs to start it on; default by load"
    )
    balance: Literal["steal", "static"] = Field(
        "steal", description="static: a category never leaves its GPUs"
    )
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto", description="auto: the GPU where there is one"
    )

    @field_validator("gpus", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        if value != "auto":
            if not isinstance(value, list) or not value or not all(map(is_number, value)):
                raise ValueError("must be auto or a list of GPU numbers such as [0, 1]")
            refuse_repeats(value)
        return value

    @field_validator("assign", mode="before")
    @classmethod
    def _assigned(cls, value: object) -> object:
        if isinstance(value, dict):
            for category, gpus in value.items():
                if not isinstance(gpus, list) or not gpus or not all(map(is_number, gpus)):
                    raise ValueError(f"{category} must have a list of GPU numbers such as [0, 1]")
                refuse_repeats(gpus)
        return value


class Output(Section):
    quality: float = Field(5, ge=0, le=10, description="imageio's video quality")


class Retries(Section):
    failures: int = Field(1, ge=0, description="further attempts of a job that has failed")
    deaths: int = Field(10, ge=1, description="workers that may die on one job")
    backoff_seconds: float = Field(
        10, ge=0, description="before the next attempt; doubled each time, 10 minutes at most"
    )


class Limits(Section):
    stuck_minutes: float = Field(15, gt=0, description="a job without a step for so long is stuck")
    job_minutes: float | None = Field(None, gt=0, description="a job may last no longer")
    gpu_errors: int = Field(3, ge=1, description="so many in a row set a GPU aside")
    max_failures: int | float | str | None = Field(
        None, description="so many failed jobs, or such a share (5% or 0.05), stop the sweep"
    )
    max_disk_gb: float | None = Field(None, gt=0, description="the run folder grows no larger")
    recycle_after_jobs: int | None = Field(None, ge=1, description="then a new worker goes on")
    recycle_growth_gb: float | None = Field(
        8,
        gt=0,
        description="a worker whose host memory has grown by so much makes room for another",
    )

    @field_validator("max_failures")
    @classmethod
    def _max_failures(cls, value: float | str | None) -> float | str | None:
        failures_allowed(value)
        return value


def clip_name(text: object) -> str:
    """`<category>/<video>` as one form of it: a person may well write the file's name."""
    if not isinstance(text, str) or text.count("/") != 1:
        raise ValueError(f"{text!r} must be <category>/<video>")
    stem, dot, suffix = text.rpartition(".")
    return nfc(stem if f"{dot}{suffix}".lower() in CLIP_SUFFIXES else text)


def refuse_repeats(values: Sequence[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{value!r} is there twice; name each once")
        seen.add(value)


def check_category(name: str, *, had: Container[str] = ()) -> None:
    """Raise ValueError where a category cannot be a folder of the run folder.

    Args:
        had: categories that the run folder has.
    """
    if name in RESERVED or (name in RESERVED_LATER and name not in had):
        raise ValueError(f"{name!r} is a folder of the run folder itself; rename the category")
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"{name!r} cannot be a category: it must be a plain folder name")
