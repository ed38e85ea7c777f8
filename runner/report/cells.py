"""A run folder as plain data: every job with its state, its reason, its record and its attempts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..disk.attempts import read_attempts
from ..disk.publish import read_sidecar
from ..disk.run_folder import RunFolder
from ..disk.upstream import Upstream
from ..experiment.loading import load_experiment
from ..job import FileInput, Job, JobState, MadeInput, TextInput, Unsaid, value_on
from ..job.axes import Axes, InputKind
from ..job.shape import Shape
from ..queue.questions import JobRow
from ..runs.drift import changed_inputs
from ..runs.runs import open_queue, take_back
from ..watch.progress import Snapshot, take_snapshot


@dataclass(frozen=True)
class Cell:
    """One job as a person looks at it.

    `reason` says why there is no video, or why a stale one is stale; `record` is the sidecar of
    the video that is there; `attempts` are its lines of `attempts.jsonl`, oldest first; `clip` is
    what it is made from, where the leading axis has clips.
    """

    job: Job
    state: JobState
    reason: str | None
    record: dict[str, Any] | None
    attempts: tuple[dict[str, Any], ...]
    row: JobRow
    clip: FileInput | None = None

    @property
    def text(self) -> str:
        """The texts that it is made from, mostly one; "" where there are none."""
        texts = (one.text for one in self.job.inputs.values() if isinstance(one, TextInput))
        return " · ".join(texts)

    @property
    def video_sha256(self) -> str | None:
        """Hex sha256 of the video that is there, as its sidecar says."""
        return None if self.record is None else str(self.record["video"].get("sha256"))

    @property
    def shape(self) -> Shape:
        """Of the video that is there, else what it must be."""
        try:
            return self.job.shape if self.record is None else Shape.from_json(self.record["video"])
        except KeyError:
            return self.job.shape


class Sidecars:
    """Sidecars as they were read, by file, size and time: what reads a run again and again
    reads only those that are new."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[tuple[int, int], dict[str, Any] | None]] = {}

    def read(self, path: Path) -> dict[str, Any] | None:
        try:
            status = path.stat()
        except OSError:
            return None
        stamp = (status.st_size, status.st_mtime_ns)
        former = self._kept.get(path)
        if former is None or former[0] != stamp:
            former = self._kept[path] = (stamp, read_sidecar(path))
        return former[1]


@dataclass(frozen=True)
class Run:
    """One run folder, read once.

    `root` is where the paths of its jobs' inputs start; `axes` are those that its backend
    declares, and `parameter_axes` those that its experiment names, in its order; `unsaid` are the
    parameters that its jobs have without saying so.
    """

    folder: RunFolder
    name: str
    root: Path
    cells: tuple[Cell, ...]
    attempts: tuple[dict[str, Any], ...]
    snapshot: Snapshot
    axes: Axes
    parameter_axes: tuple[str, ...] = ()
    unsaid: Unsaid = field(default_factory=dict)

    def value_on(self, job: Job, axis: str) -> Any:
        """A job's value on an axis, a parameter too; None where it has no such one."""
        return value_on(job, axis, self.unsaid)

    @cached_property
    def parameters(self) -> tuple[Mapping[str, Any], ...]:
        """The parameters of its jobs. Jobs share theirs, so there are few, however many jobs
        there are."""
        shared = {id(cell.job.parameters): cell.job.parameters for cell in self.cells}
        return tuple(shared.values())


def read_run(folder: RunFolder, sidecars: Sidecars | None = None) -> Run:
    """Read a run folder. Nothing is changed but the queue, which is brought in line with the
    files.

    Args:
        sidecars: those read before, where the run is read again.

    Raises:
        UserError: it was never planned.
    """
    queue = open_queue(folder, look_at_disk=True)
    try:
        take_back(folder, queue)
        rows = [row for row in queue.rows() if row.state is not JobState.RETIRED]
        snapshot = take_snapshot(folder.name, queue)
    finally:
        queue.close()
    attempts = tuple(read_attempts(folder.attempts))
    by_job: dict[str, list[dict[str, Any]]] = {}
    for attempt in attempts:
        by_job.setdefault(str(attempt.get("job")), []).append(attempt)
    experiment = load_experiment(folder.experiment)
    known = Sidecars() if sidecars is None else sidecars
    axes, upstream = experiment.input_axes, Upstream.of(folder)
    cells = tuple(
        _cell(
            folder, row, tuple(by_job.get(row.job.id, ())), known, upstream, experiment.data, axes
        )
        for row in rows
    )
    return Run(
        folder=folder,
        name=folder.name,
        root=experiment.data,
        cells=cells,
        attempts=attempts,
        snapshot=snapshot,
        axes=axes,
        parameter_axes=tuple(experiment.axes),
        unsaid=experiment.unsaid,
    )


def _cell(
    folder: RunFolder,
    row: JobRow,
    attempts: tuple[dict[str, Any], ...],
    sidecars: Sidecars,
    upstream: Upstream,
    root: Path,
    axes: Axes,
) -> Cell:
    record = None
    if row.state in (JobState.DONE, JobState.STALE):
        record = sidecars.read(folder.sidecar(row.job))
    state = row.state.counts_as
    if record is None and state in (JobState.DONE, JobState.STALE):
        # Taken away since the queue was asked.
        state = JobState.PENDING
    clip = row.job.inputs.get(axes.leading.role) if axes.leading.kind is InputKind.CLIP else None
    if isinstance(clip, MadeInput):
        clip = upstream.file(clip, root)
    shown = clip if isinstance(clip, FileInput) else None
    return Cell(row.job, state, _reason(state, row, record, attempts), record, attempts, row, shown)


def _reason(
    state: JobState,
    row: JobRow,
    record: dict[str, Any] | None,
    attempts: Iterable[dict[str, Any]],
) -> str | None:
    errors = [str(one["error"]) for one in attempts if one.get("error")]
    last = row.error or (errors[-1] if errors else None)
    if state is JobState.DONE:
        return None
    if state is JobState.STALE:
        changed = ", ".join(differences(row.job, record or {})) or "model or backend"
        return f"made from other inputs; changed since: {changed}"
    if state is JobState.FAILED:
        return last or "failed; no reason was recorded"
    if state is JobState.RUNNING:
        return f"being made by {row.worker}" if row.worker else "being made"
    if row.held:
        return "not made yet: outside the part of the sweep that is being run"
    return f"not made yet; last attempt: {last}" if last else "not made yet"


def differences(job: Job, record: Mapping[str, Any]) -> list[str]:
    """The inputs in which a job differs from what its sidecar says the video was made from."""
    found = changed_inputs(record, job)
    then = record.get("parameters") or {}
    names = dict.fromkeys([*job.parameters, *then])
    found += [name for name in names if then.get(name) != job.parameters.get(name)]
    return found
