"""A person's script at work: its process, what it is told, and the video that it has written."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...job import CATEGORY, Job, Series
from ...job.axes import PROMPT, VIDEO
from ...job.failures import FailureKind, ForeignError, kind_of
from ...text.errors import UserError
from ...video import probe
from ...video.reading import Reading, own_parameters
from .. import Engine, GpuMemory, Machine, OnStep

if TYPE_CHECKING:
    from ..foreign.child import Child
    from .planner import ScriptPlanner

WRITTEN = "video.mp4"


@dataclass(frozen=True)
class PendingFile:
    """A video that the script has written, in the job's scratch."""

    file: Path


class ScriptEngine(Engine):
    """A script's process."""

    def __init__(self, planner: ScriptPlanner) -> None:
        self._script = planner.script()
        self._child: Child | None = None
        self._axes = planner.axes
        self._is_prepared = False

    def load(self, machine: Machine) -> None:
        """Start the script's process, and have it load its model."""
        self._child = self._script.start()
        try:
            self._child.call("load", settings=self._script.load_settings(machine.device))
        except BaseException as error:
            # Its memory is free again before another worker loads it.
            self._child.end()
            if isinstance(error, ForeignError) and kind_of(error) is FailureKind.BAD_INPUT:
                raise UserError(f"model.file: load(settings): {error}") from error
            raise

    def prepare(self, series: Series) -> None:
        self._is_prepared = False
        shared = (CATEGORY, *(axis.name for axis in self._axes.grouping))
        told = {name: series.point[name] for name in shared}
        told |= told_reference(series)
        self._call("prepare", group={**told, "parameters": own_parameters(series.parameters)})
        self._is_prepared = True

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> PendingFile:
        assert self._is_prepared, "`prepare` comes first"
        path = (scratch / WRITTEN).absolute()
        # What an earlier attempt left there is not this one's.
        path.unlink(missing_ok=True)
        self._call(
            "generate",
            on_step,
            path=str(path),
            job={
                "id": job.id,
                **job.series.point,
                **told_reference(job.series),
                "prompt": job.series.text(PROMPT.role),
                "prompt_number": job.on(PROMPT.name),
                "seed": job.seed,
                "parameters": own_parameters(job.parameters),
            },
        )
        if not path.is_file():
            raise FileNotFoundError("generate(job, path) has returned and written nothing to path")
        return PendingFile(path)

    def finish(self, pending: PendingFile, path: Path, quality: float) -> None:
        """Take the script's file as it is. The one in the scratch stays, for another attempt."""
        try:
            os.link(pending.file, path)
        except OSError:
            # Another file system, or one that has no hard links.
            shutil.copyfile(pending.file, path)

    def is_broken(self) -> str | None:
        if self._child is not None and self._child.is_gone:
            return "the script's process is gone"
        return None

    def memory(self, *, anew: bool = False) -> GpuMemory:
        return GpuMemory() if self._child is None else self._child.memory(anew=anew)

    def processes(self) -> tuple[int, ...]:
        return () if self._child is None or self._child.is_gone else (self._child.pid,)

    def close(self) -> None:
        if self._child is not None:
            self._child.close()

    def _call(self, name: str, on_step: OnStep | None = None, **values: Any) -> None:
        assert self._child is not None
        try:
            self._child.call(name, on_step, **values)
        except ForeignError as error:
            kind = kind_of(error)
            if kind is FailureKind.OUT_OF_GPU_MEMORY and self._child.memory().held is None:
                # It does not tell what it holds, which would look like somebody else's.
                self._child.end()
            raise


def told_reference(series: Series) -> dict[str, Any]:
    """What a script is told of its reference: where it lies, at which second of it to begin, and
    what to do with another shape.

    Raises:
        BrokenVideo: a clip of which the middle is wanted cannot be read.
    """
    reading, shape = Reading.of(series.parameters), series.shape
    path, start = series.file(VIDEO.role).path, reading.start
    if start == "middle":
        timing = probe(Path(path)).timing
        start = float(timing.start_seconds(shape.most_frames, shape.fps, start))
    return {
        "reference": path,
        "reference_start": start,
        "reference_fit": reading.fit,
    }
