"""Jobs, their states and their outcomes: plain data that knows nothing of files or queues."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from ..text.canonical import canonical_json
from .shape import Shape

CATEGORY, SEED = "category", "seed"
"""The axes of every grid; its backend declares the others, and an experiment may add parameters."""

METHOD = "method"
"""The name of the parameter that says which of an experiment's methods makes a video. It is None or
absent for the method that `backend` and `model` are."""


class JobState(str, Enum):
    """Where a job stands. Only `done` jobs have a proven video under their fingerprint."""

    PENDING = "pending"
    AWAITING = "awaiting"
    """Pending, but a video of another run that it is made from is not there yet."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STALE = "stale"
    """Its video is on disk, but was made from inputs that have changed since."""
    RETIRED = "retired"
    """Taken out of the experiment: kept on disk, not counted."""

    @property
    def counts_as(self) -> JobState:
        """The state as which it is counted and shown."""
        return JobState.PENDING if self is JobState.AWAITING else self


UNMADE = frozenset({JobState.PENDING, JobState.AWAITING})
"""The states of jobs that are still to be made and that no worker is making."""


class Outcome(str, Enum):
    """How one attempt of a job ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The worker was asked to stop; the job went back unharmed."""
    DIED = "died"
    """The worker was killed or crashed; this does not use up the job's retries."""
    LOST_CLAIM = "lost_claim"
    """The claim was no longer the worker's own, so nothing was published."""


@dataclass(frozen=True, slots=True)
class FileInput:
    """A file that a video is made from: its path, relative to the folder of the data, and the hex
    sha256 of its content."""

    path: str
    sha256: str

    @property
    def identity(self) -> str:
        """What of it decides a video."""
        return self.sha256

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class TextInput:
    """A text that a video is made from."""

    text: str

    @property
    def identity(self) -> str:
        """What of it decides a video."""
        return self.text

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class MadeInput:
    """A video that another run makes: a job there, and what decides that job's video.

    Args:
        run: the name of its run folder, which lies beside the folder of the run that needs the
            video.
        id, fingerprint, output: see `Job`.
    """

    run: str
    id: str
    fingerprint: str
    output: str

    @property
    def identity(self) -> str:
        """What of it decides a video."""
        return self.fingerprint

    @property
    def path(self) -> str:
        """Where it lies below the folder of both runs."""
        return f"{self.run}/{self.output}"

    def to_json(self) -> dict[str, Any]:
        record = {"run": self.run, "job": self.id, "fingerprint": self.fingerprint}
        return {**record, "output": self.output}


Input = FileInput | TextInput | MadeInput


def input_of(record: Mapping[str, Any]) -> Input:
    """Read what `to_json` has written.

    Raises:
        KeyError, ValueError: it is no input.
    """
    if "text" in record:
        return TextInput(record["text"])
    if "run" in record:
        check_run_name(record["run"])
        check_id_and_output(record["job"], record["output"])
        return MadeInput(record["run"], record["job"], record["fingerprint"], record["output"])
    return FileInput(record["path"], record["sha256"])


def changed_roles(before: Mapping[str, Input], after: Mapping[str, Input]) -> list[str]:
    """The roles whose inputs differ between two jobs."""
    then = {role: one.identity for role, one in before.items()}
    now = {role: one.identity for role, one in after.items()}
    return [role for role in {**now, **then} if now.get(role) != then.get(role)]


@dataclass(frozen=True, slots=True)
class Series:
    """What jobs that differ only in the seed have in common. Many jobs share a series, and series
    share parameters and inputs: nobody changes them.

    Args:
        point: axis -> value, without the seed: names of files, numbers of texts.
        group: the key of the jobs that share what is costly to prepare.
        inputs: what the point's values stand for, by role: `reference`, `prompt`, ...
        parameters: the experiment's `generation` section as the backend resolved it, with these
            jobs' values of the parameter axes.
        shape: what their videos must be.
    """

    point: Mapping[str, str | int]
    group: str
    inputs: Mapping[str, Input]
    parameters: Mapping[str, Any]
    shape: Shape

    @property
    def category(self) -> str:
        return str(self.point[CATEGORY])

    @property
    def method(self) -> str | None:
        """The name of the method that makes its videos: see `METHOD`."""
        name: str | None = self.parameters.get(METHOD)
        return name

    def on(self, axis: str) -> Any:
        """The value on an axis other than the seed, or of a parameter; None without such an
        axis."""
        return self.point[axis] if axis in self.point else self.parameters.get(axis)

    def file(self, role: str) -> FileInput:
        """The input of that role, which is a file."""
        own = self.inputs[role]
        assert isinstance(own, FileInput), role
        return own

    def text(self, role: str) -> str:
        """The input of that role, which is a text; "" where there is none."""
        own = self.inputs.get(role)
        return own.text if isinstance(own, TextInput) else ""

    @property
    def made(self) -> dict[str, MadeInput]:
        """Its inputs that other runs make, by role."""
        return {role: one for role, one in self.inputs.items() if isinstance(one, MadeInput)}

    def resolved(self, data: Path) -> Series:
        """This series with absolute paths of its files.

        Args:
            data: the folder at which relative ones start.
        """
        inputs = {
            role: replace(one, path=str(data / one.path)) if isinstance(one, FileInput) else one
            for role, one in self.inputs.items()
        }
        return replace(self, inputs=inputs)


@dataclass(frozen=True, slots=True)
class Alike:
    """A number of jobs with the same parameters and shape, whose videos therefore cost the same."""

    parameters: Mapping[str, Any]
    shape: Shape
    number: int


class PlannedVideo(Protocol):
    """A video: its path in a run folder, and what it must have been made from."""

    @property
    def id(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def output(self) -> str: ...


class InGrid:
    """What stands at a point of the grid."""

    __slots__ = ()

    id: str
    series: Series
    seed: int

    @property
    def point(self) -> dict[str, str | int]:
        """Its point in the grid: axis -> value, names and numbers only."""
        return {**self.series.point, SEED: self.seed}

    @property
    def category(self) -> str:
        return self.series.category

    @property
    def method(self) -> str | None:
        return self.series.method

    @property
    def group(self) -> str:
        return self.series.group

    @property
    def inputs(self) -> Mapping[str, Input]:
        return self.series.inputs

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self.series.parameters

    @property
    def shape(self) -> Shape:
        return self.series.shape

    def on(self, axis: str) -> Any:
        """Its value on an axis of the grid, or of a parameter; None without such an axis."""
        return self.seed if axis == SEED else self.series.on(axis)


@dataclass(frozen=True, slots=True)
class Job(InGrid):
    """One video to be made: immutable.

    `output` is its path relative to the run folder, with forward slashes.
    """

    id: str
    series: Series
    seed: int
    fingerprint: str
    output: str


_ID = re.compile(r"[0-9a-f]{16}")
RUN_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$"
"""What a run may be called: tmux sessions bear its name, and take no dots or colons."""


def check_run_name(name: Any) -> None:
    """Raise ValueError where no run can be called so."""
    if not isinstance(name, str) or not re.fullmatch(RUN_NAME, name):
        raise ValueError(f"{name!r:.60} is no run's name")


def check_id_and_output(job_id: Any, output: Any) -> None:
    """Raise ValueError for an id that no job can have, or a path of no video below the run folder.

    What a manifest or a queue says is input like any other: folders are named after the id, and
    files are written and moved at the path.
    """
    if not isinstance(job_id, str) or not _ID.fullmatch(job_id):
        raise ValueError(f"{job_id!r:.60} is no job's id")
    parts = output.split("/") if isinstance(output, str) else []
    if len(parts) < 2 or "\0" in output or not output.endswith(".mp4"):
        raise ValueError(f"{output!r:.60} is no video's path")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{output!r:.60} leads out of the run folder")


Unsaid = Mapping[str | None, Mapping[str, Any]]
"""By method, the parameters that its jobs have without saying so: later keys at their default."""

NOTHING_UNSAID: Unsaid = MappingProxyType({})


def value_on(job: Series | InGrid, axis: str, unsaid: Unsaid) -> Any:
    """The value on an axis, also where it goes without saying; None where there is none."""
    value = job.on(axis)
    return unsaid.get(job.method, {}).get(axis) if value is None else value


def is_on(
    series: Series, axis: str, texts: Collection[str], unsaid: Unsaid = NOTHING_UNSAID
) -> bool:
    """Whether a series has one of these values, as text, on an axis other than the seed."""
    value = value_on(series, axis, unsaid)
    return value is not None and any(is_said(value, text) for text in texts)


def is_said(value: Any, text: str) -> bool:
    """Whether a word of the command line means this value: `5`, `5.0` and `5.00` mean 5.0."""
    if text in (str(value), canonical_json(value)):
        return True
    if isinstance(value, str):
        return False
    try:
        said = json.loads(text)
    except ValueError:
        try:
            said = float(text)
        except ValueError:
            return False
    return isinstance(said, bool) == isinstance(value, bool) and bool(said == value)
