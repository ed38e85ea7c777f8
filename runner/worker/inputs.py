"""A job's inputs as an engine is given them: present, unchanged, with absolute paths, prepared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backends import Engine
from ..disk.run_folder import sha256_file
from ..disk.upstream import Unmade, Upstream, lineage
from ..job import FileInput, Job, Series
from ..job.axes import Axes, InputAxis
from ..job.failures import BadInput
from ..text.canonical import canonical_json
from ..video import BrokenVideo
from ..video.reading import deciding_frames
from .making import Attempt


class Inputs:
    """Hands jobs over to an engine, and has it prepare what their groups share.

    Args:
        axes: of the engine's backend.
        data: the folder in which the paths of inputs start.
        upstream: has the videos of other runs.
    """

    def __init__(self, engine: Engine, axes: Axes, data: Path, upstream: Upstream) -> None:
        self._engine = engine
        self._axes = axes
        self._data = data
        self._upstream = upstream
        self._prepared: tuple[str, str] | None = None
        self._planned: Series | None = None
        self._handed: Series | None = None

    def hand_over(self, attempt: Attempt) -> Job:
        """Check a job's files and prepare its group; return the job with absolute paths.

        Raises:
            BadInput: a file has changed since the job was planned, or cannot be read.
            Unmade: a video of another run, from which it is made, is not there.
        """
        job = attempt.job
        series = self._resolved(job.series)
        attempt.lineage = lineage(job.series, series)
        shared = self._axes.grouping
        wanted = (series.group, canonical_json(self._deciding(series)))
        if wanted != self._prepared:
            self._prepared = None
            with attempt.stage("prepare"):
                self._check(series, shared)
                try:
                    self._engine.prepare(series)
                except (FileNotFoundError, BrokenVideo) as error:
                    files = (series.inputs.get(axis.role) for axis in shared)
                    names = [file.path for file in files if isinstance(file, FileInput)]
                    raise BadInput(f"{', '.join(names)} cannot be read: {error}") from error
            self._prepared = wanted
        self._check(series, [axis for axis in self._axes.files if axis not in shared])
        return replace(job, series=series)

    def look_ahead(self, job: Job) -> None:
        """Tell the engine of a job that will likely be the next."""
        with contextlib.suppress(Unmade):
            series = self._upstream.resolved(job.series)
            self._engine.look_ahead(series.resolved(self._data))

    def _deciding(self, series: Series) -> dict[str, Any]:
        """What decides the preparation of a series: the inputs that its group shares, and how
        frames are read of them."""
        axes = [axis for axis in self._axes.grouping if axis.role in series.inputs]
        shared = {axis.role: series.inputs[axis.role].identity for axis in axes}
        are_read = any(axis.gives_frames for axis in axes)
        return {**shared, **(deciding_frames(series) if are_read else {})}

    def _check(self, series: Series, axes: Iterable[InputAxis]) -> None:
        for axis in axes:
            file = series.inputs.get(axis.role)
            if not isinstance(file, FileInput):
                continue
            try:
                is_same = sha256_file(Path(file.path)) == file.sha256
            except FileNotFoundError as error:
                raise BadInput(f"{file.path} cannot be read: {error}") from error
            if not is_same:
                raise BadInput(f"{file.path} has changed; run `sweep plan` again")

    def _resolved(self, series: Series) -> Series:
        """The series with absolute paths, as the engine is given it. The same series gives the same
        object."""
        # What another run makes may be made anew at any time.
        if self._planned is not series or self._handed is None or series.made:
            handed = self._upstream.resolved(series).resolved(self._data)
            self._planned, self._handed = series, handed
        return self._handed
