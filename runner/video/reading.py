"""What of its reference clip a job reads: from where on, and what becomes of another shape.

Both stand in `Series.parameters`, and so in fingerprint and sidecar, only where they are not the
default, under the names that the experiment has for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ..job import Series
from ..job.axes import VIDEO
from . import ClipStart, Fit, read_clip

if TYPE_CHECKING:
    from . import Frames

KEYS = ("start", "fit")
"""In the experiment's `dataset` section, and columns of a list of jobs."""

PARAMETERS = tuple(f"dataset.{key}" for key in KEYS)


@dataclass(frozen=True)
class Reading:
    """How a reference clip is read.

    Args:
        start: seconds after its first shown frame, or `middle`.
        fit: `crop` cuts off its rims where it has another shape than the job, `pad` adds black
            ones.
    """

    start: ClipStart = 0.0
    fit: Fit = "crop"

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Reading:
        """That of a job with these parameters."""
        default = cls()
        return cls(
            parameters.get("dataset.start", default.start),
            parameters.get("dataset.fit", default.fit),
        )

    def parameters(self) -> dict[str, Any]:
        """What it adds to a job's parameters: what is not the default."""
        default = Reading()
        return {
            f"dataset.{key}": getattr(self, key)
            for key in KEYS
            if getattr(self, key) != getattr(default, key)
        }


def difference(reading: Reading, usual: Reading) -> dict[str, Any]:
    """In which parameters a job's own reading differs from the experiment's of its clip."""
    return {
        name: getattr(reading, key)
        for key, name in zip(KEYS, PARAMETERS, strict=True)
        if getattr(reading, key) != getattr(usual, key)
    }


def checked_start(value: object) -> ClipStart:
    """A start as a person writes it, in a table as text.

    Raises:
        ValueError: it is none.
    """
    if value == "middle":
        return "middle"
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise ValueError("must be seconds from 0, or middle")
    return float(value)


def checked_fit(value: object) -> Fit:
    """A fit as a person writes it.

    Raises:
        ValueError: it is none.
    """
    if value not in get_args(Fit):
        raise ValueError(f"must be one of {', '.join(get_args(Fit))}")
    return "pad" if value == "pad" else "crop"


def own_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The backend's own of a job's parameters."""
    return {name: value for name, value in parameters.items() if name not in PARAMETERS}


def deciding_frames(series: Series) -> dict[str, Any]:
    """What decides the frames that jobs read of their clip, beside its content."""
    own = series.parameters
    reading = {name: own[name] for name in PARAMETERS if name in own}
    return {"shape": series.shape.to_json(), **reading}


def read_reference(series: Series, size: tuple[int, int] | None = None) -> Frames:
    """The frames of their reference clip that the jobs of a series read.

    Args:
        series: with absolute paths.
        size: width and height of the frames, where they are not to be the jobs'.

    Raises:
        BrokenVideo, OSError: as `read_clip`.
    """
    reading = Reading.of(series.parameters)
    shape = series.shape if size is None else series.shape.sized(*size)
    path = Path(series.file(VIDEO.role).path)
    return read_clip(path, shape, start=reading.start, fit=reading.fit)
