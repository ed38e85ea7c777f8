"""Calibrations: how fast a kind of GPU makes an experiment's videos, as measured, on disk.

They lie in `<results>/.calibrations/`, one file for each GPU, backend, model, video size and number
of steps measured, so that every plan whose results go there finds them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..backends.video_parameters import is_guided
from ..disk.run_folder import write_atomically
from ..experiment.experiment import Experiment
from ..job.record import SHAPE
from ..job.shape import Shape
from ..plan.fingerprint import MethodIdentity
from ..text.canonical import sha256_of
from ..text.forms import (
    Form,
    anything,
    checked,
    is_amount,
    is_count,
    is_moment,
    is_size,
    is_text,
    is_truth,
    mapping_of,
    or_none,
)
from ..text.input_file import read_json

SCHEMA = 1
_DEFAULTS: dict[str, Any] = {"fps": 1.0, "sound": False}
"""What a file does not say of a subject's shape."""
_FORM: Form = {
    "schema": is_count,
    "subject": lambda value: bool(checked({**_DEFAULTS, **value}, _SUBJECT)),
    "gpu": is_text,
    "at": is_moment,
    "steps": is_size,
    "rows": lambda rows: isinstance(rows, list) and bool(rows) and all(map(_is_row, rows)),
    "full": or_none(is_count),
}
_SUBJECT: Form = {
    "backend": is_text,
    "identity": mapping_of(anything),
    "settings": mapping_of(anything),
    **SHAPE,
    "guided": is_truth,
}
_ROW: Form = {
    "processes": is_size,
    **dict.fromkeys(("load", "prepare", "step", "rest", "finish"), is_amount),
    "peak_gib": or_none(is_amount),
}


def _is_row(row: Any) -> bool:
    """Whether it has what `CalibrationRow` has, and tells how long a video takes."""
    return bool(checked(row, _ROW)) and max(row["step"] + row["rest"], row["finish"]) > 0


PATHS = frozenset({"checkpoint", "identity", "file", "files", "interpreter"})
"""Settings of a model that name it: its identity by content is what counts."""


@dataclass(frozen=True)
class Subject:
    """What was measured: videos of one shape from one model with one backend's settings.

    Attributes:
        shape: without its rate, for what a video takes goes by its frames.
        guided: see `is_guided`.
    """

    backend: str
    identity: Mapping[str, Any]
    settings: Mapping[str, Any]
    shape: Shape
    guided: bool

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        identity: MethodIdentity,
        parameters: Mapping[str, Any],
        shape: Shape,
    ) -> Subject:
        """What videos of this shape, made with these parameters (as in `Job.parameters`), are;
        `identity` is their method's."""
        settings = experiment.method_of(parameters).model.model_dump(mode="json")
        return cls(
            backend=identity.backend,
            identity=dict(identity.model),
            settings={key: value for key, value in settings.items() if key not in PATHS},
            shape=shape.without_rate,
            guided=is_guided(parameters),
        )

    def to_json(self) -> dict[str, Any]:
        """Of its shape, only what differs from the defaults: rate and sound mostly do not."""
        shape = self.shape.to_json().items()
        own = {key: value for key, value in vars(self).items() if key != "shape"}
        return own | {key: value for key, value in shape if _DEFAULTS.get(key) != value}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Subject:
        """The subject of what `to_json` gave."""
        own = {key: value for key, value in record.items() if key not in SHAPE}
        return cls(shape=Shape.from_json({**_DEFAULTS, **record}), **own)


@dataclass(frozen=True)
class CalibrationRow:
    """What processes do that share one GPU, in seconds a video for each of them.

    Attributes:
        processes: the number of them.
        load: until the model is loaded.
        prepare: taking in a reference video, once a group.
        step: one denoising step.
        rest: of generating, beyond the steps.
        finish: encoding and checking, beside the next video's steps.
        peak_gib: most GPU memory of one process; None without a GPU.
    """

    processes: int
    load: float
    prepare: float
    step: float
    rest: float
    finish: float
    peak_gib: float | None

    def seconds(self, steps: int, jobs_per_group: float) -> float:
        """Seconds from one video to the next of one process."""
        at_work = self.prepare / max(jobs_per_group, 1.0) + self.step * steps + self.rest
        return max(at_work, self.finish)

    def videos_per_hour(self, steps: int, jobs_per_group: float) -> float:
        """Of all processes on the GPU."""
        return 3600 * self.processes / self.seconds(steps, jobs_per_group)


@dataclass(frozen=True)
class Calibration:
    """Measured rows, fewest processes first.

    `gpu` is the name of the GPU, or of the processor. `full` is the number of processes that did
    not fit the GPU's memory any more; None where no such number was met.
    """

    subject: Subject
    gpu: str
    at: float
    steps: int
    rows: tuple[CalibrationRow, ...]
    full: int | None = None

    def row(self, processes: int) -> CalibrationRow | None:
        return next((row for row in self.rows if row.processes == processes), None)

    def tells(self, steps: int) -> bool:
        """Whether it tells what a video with this number of steps takes."""
        return steps == self.steps or any(row.step for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "subject": self.subject.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Calibration:
        """The calibration of what `to_json` gave.

        Raises:
            ValueError: it is none.
        """
        checked(values, _FORM)
        return cls(
            subject=Subject.from_json(values["subject"]),
            gpu=values["gpu"],
            at=values["at"],
            steps=values["steps"],
            rows=tuple(CalibrationRow(**row) for row in values["rows"]),
            full=values["full"],
        )


@dataclass(frozen=True)
class Share:
    """One kind of a sweep's videos: how they were measured, how they are made, how many."""

    calibration: Calibration
    steps: int
    jobs_per_group: float
    videos: int

    def gpu_seconds(self, processes: int) -> float | None:
        """The GPU seconds of one video; None where this number of processes was not measured."""
        row = self.calibration.row(processes)
        return None if row is None else 3600 / row.videos_per_hour(self.steps, self.jobs_per_group)


@dataclass(frozen=True)
class Mix:
    """All kinds of a sweep's videos, each with its calibration; one at least."""

    shares: tuple[Share, ...]

    @property
    def processes(self) -> list[int]:
        """The numbers of processes that were measured for every kind."""
        first = self.shares[0].calibration.rows
        return [
            row.processes
            for row in first
            if all(share.calibration.row(row.processes) for share in self.shares)
        ]

    @property
    def full(self) -> int | None:
        """The least number of processes that did not fit, for any of the kinds."""
        met = [share.calibration.full for share in self.shares]
        return min((full for full in met if full is not None), default=None)

    @property
    def gpu(self) -> str:
        return self.shares[0].calibration.gpu

    def videos_per_hour(self, processes: int) -> float:
        """The videos an hour of a GPU with this number of processes. Each kind counts by its number
        of videos."""
        seconds = [(share.gpu_seconds(processes) or 0.0, share.videos) for share in self.shares]
        number = sum(videos for _, videos in seconds)
        return 3600 * number / sum(each * videos for each, videos in seconds)

    @property
    def best(self) -> int | None:
        """The number of processes with most videos an hour."""
        return max(self.processes, key=self.videos_per_hour, default=None)


def folder_of(experiment: Experiment) -> Path:
    """Where an experiment's calibrations lie."""
    return experiment.run_folder.path.parent / ".calibrations"


def save(folder: Path, calibration: Calibration) -> Path:
    """Write a calibration in place of a former one of the same subject, GPU and steps. The former
    one's rows of other numbers of processes are kept."""
    key = {
        "subject": calibration.subject.to_json(),
        "gpu": calibration.gpu,
        "steps": calibration.steps,
    }
    path = folder / f"{sha256_of(key)[:16]}.json"
    folder.mkdir(parents=True, exist_ok=True)
    if (former := _read(path)) is not None:
        rows = {row.processes: row for row in (*former.rows, *calibration.rows)}
        full = calibration.full or max(rows) + 1
        kept = tuple(rows[number] for number in sorted(rows) if number < full)
        calibration = replace(calibration, rows=kept)
    text = json.dumps(calibration.to_json(), ensure_ascii=False, indent=1) + "\n"
    write_atomically(path, text.encode())
    return path


def find(folder: Path, subject: Subject) -> list[Calibration]:
    """The calibrations of a subject, newest first. Files that cannot be read are left out: they
    can be measured again."""
    found = [one for path in folder.glob("*.json") if (one := _read(path)) is not None]
    return sorted((one for one in found if one.subject == subject), key=lambda one: -one.at)


def _read(path: Path) -> Calibration | None:
    try:
        values = read_json(path)
        return Calibration.from_json(values) if values["schema"] == SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
