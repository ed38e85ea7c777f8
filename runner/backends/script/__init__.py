"""The `script` backend: a person's own method, resident in an interpreter of its own.

The script is a file with functions, and needs nothing of ours where it runs:

    load(settings)         once: a dict of `model.settings`, `model.files` and "device"
    prepare(group)         optional, once per group: `group.reference`, `group.parameters`
    generate(job, path)    write the video of `job` to `path`; `job.step(n, total)` as it goes
    close()                optional, at the end

`server.py` runs there, `child.py` speaks with it; docs/your_own_method.md tells it to a person.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...axes import PROMPT, VIDEO
from ...errors import UserError
from ...failures import FailureKind, ForeignError, kind_of
from ...job import CATEGORY, Job, Series
from ...reading import Reading, own_parameters
from ...video import probe
from .. import READING_CHANGE, Backend, FileState, Generation, Machine, OnStep, PeakMemory
from .child import Child
from .settings import Method, ScriptGeneration, ScriptSettings
from .source import Script

WRITTEN = "video.mp4"


@dataclass(frozen=True)
class Pending:
    """A video that the script has written, in the job's scratch."""

    file: Path


class ScriptBackend(Backend[ScriptSettings]):
    """A script of a person's own."""

    settings_type = ScriptSettings
    generation_type = ScriptGeneration
    costly_axis = "method"
    recipe = 2
    recipe_change = READING_CHANGE

    def __init__(self, settings: ScriptSettings, root: Path) -> None:
        super().__init__(settings, root)
        self._device = "cpu"
        self._child: Child | None = None
        self._method: str | None = None
        self._series: Series | None = None
        self._gpu_gib: float | None = None
        self._peak_gib: float | None = None

    def steps_are_alike(self) -> None:
        """What a script does with its steps is its own."""

    def identity(self) -> dict[str, Any]:
        """The script and its files by content, and its settings; of each method, where there are
        several."""
        own = {script.name: script.identity() for script in self._scripts()}
        return {"methods": own} if self.settings.methods else own[None]

    @classmethod
    def deciding(
        cls, identity: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """What `identity` has of the job's own method."""
        name, methods = parameters.get("method"), identity.get("methods")
        if methods is None:
            if name is not None:
                raise UserError(f"generation.method: {name!r}: there are no model.methods")
            return identity
        if name not in methods:
            raise UserError(
                f"generation.method: {name!r} is none of model.methods ({', '.join(methods)}); "
                f"make it one of them, or an axis: `axes: {{method: [{', '.join(methods)}]}}`"
            )
        own: Mapping[str, Any] = methods[name]
        return own

    def settings_of(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        own = self.settings.methods.get(str(parameters.get("method")), self.settings)
        return Method.model_dump(own, mode="json", include=set(Method.model_fields))

    def model_files(self) -> list[dict[str, Any]]:
        """The script, by its name, and every file of `model.files`, by its path under its name
        there; `key` is the experiment's, and `method` whose it is, where there are several."""
        return [record for script in self._scripts() for record in script.model_files()]

    def look_at_files(self) -> list[FileState]:
        """Each script, read by its own interpreter, and what lies at each of its `files`."""
        return [state for script in self._scripts() for state in script.look()]

    def versions(self) -> dict[str, str]:
        """Of each script's Python and of the packages there that touch a video."""
        return {
            f"script.{'' if script.name is None else f'{script.name}.'}{package}": version
            for script in self._scripts()
            for package, version in script.ask().versions.items()
        }

    def peak_memory(self, generation: Generation) -> PeakMemory | None:
        """What the experiment says; of several methods the costliest's."""
        given = [script.method.peak_memory_gb for script in self._scripts()]
        known = [gib for gib in given if gib is not None]
        return PeakMemory(max(known), "model.peak_memory_gb") if known else None

    def check_launch(self, device: str, *, explicit: bool) -> None:
        """Raise `UserError` where a script, its files or its interpreter are not as needed."""
        for script in self._scripts():
            script.check()

    def load(self, machine: Machine) -> None:
        """Load the script; of several, each at its first job."""
        self._device = machine.device
        if not self.settings.methods:
            self._load(None)

    def prepare(self, series: Series) -> None:
        self._switch(series.parameters)
        self._series = None
        self._prepare(series)
        self._series = series

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> Pending:
        assert self._series is not None, "`prepare` comes first"
        if self._switch(job.parameters):
            self._prepare(job.series)
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
        return Pending(path)

    def finish(self, pending: Pending, path: Path, quality: float) -> None:
        """Take the script's file as it is. The one in the scratch stays, for another try."""
        try:
            os.link(pending.file, path)
        except OSError:
            # Another file system, or one that has no hard links.
            shutil.copyfile(pending.file, path)

    def is_broken(self) -> str | None:
        if self._child is not None and self._child.is_gone:
            return "the script's process is gone"
        return None

    def peak_gpu_memory_gib(self) -> float | None:
        peak, self._peak_gib = self._peak_gib, None
        return peak

    def gpu_memory_gib(self) -> float | None:
        return self._gpu_gib

    def processes(self) -> tuple[int, ...]:
        return () if self._child is None or self._child.is_gone else (self._child.pid,)

    def close(self) -> None:
        if self._child is not None:
            self._child.close()

    def _call(self, name: str, on_step: OnStep | None = None, **values: Any) -> None:
        assert self._child is not None
        try:
            self._note(self._child.call(name, on_step, **values))
        except ForeignError as error:
            kind = kind_of(error)
            if kind is FailureKind.OUT_OF_GPU_MEMORY and self._gpu_gib is None:
                # It does not tell what it holds, which would look like somebody else's.
                self._child.end()
            raise

    def _prepare(self, series: Series) -> None:
        shared = (CATEGORY, *(axis.name for axis in self.axes.grouping))
        told = {name: series.point[name] for name in shared}
        told |= told_reference(series)
        self._call("prepare", group={**told, "parameters": own_parameters(series.parameters)})

    def _switch(self, parameters: Mapping[str, Any]) -> bool:
        """Have the process be of the job's method; whether it is another one than before."""
        wanted = parameters.get("method")
        if self._child is not None and (not self.settings.methods or wanted == self._method):
            return False
        if self._child is not None:
            # Two models side by side may not fit the GPU.
            self._child.close()
        self._load(wanted)
        return True

    def _load(self, name: str | None) -> None:
        """Start the process of a method, and have the script load its model."""
        script = next(script for script in self._scripts() if script.name == name)
        self._gpu_gib = None
        self._child, self._method = script.start(), name
        try:
            self._note(self._child.call("load", settings=script.load_settings(self._device)))
        except BaseException as error:
            # Its memory is free again before another worker tries.
            self._child.end()
            if isinstance(error, ForeignError) and kind_of(error) is FailureKind.BAD_INPUT:
                raise UserError(f"{script.key}file: load(settings): {error}") from error
            raise

    def _note(self, told_memory: dict[str, Any]) -> None:
        """Keep what the script's process says of its GPU memory."""
        self._gpu_gib = told_memory.get("gpu_gib", self._gpu_gib)
        peaks = [self._peak_gib, told_memory.get("peak_gpu_gib")]
        self._peak_gib = max((peak for peak in peaks if peak is not None), default=None)

    def _scripts(self) -> list[Script]:
        """The script, or one for each method."""
        if not self.settings.methods:
            return [Script(self.settings, self.root)]
        return [Script(own, self.root, name) for name, own in self.settings.methods.items()]


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


BACKEND = ScriptBackend
