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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...failures import FailureKind, ForeignError, kind_of
from ...job import Job
from .. import Backend, Generation, Group, Machine, OnStep, PeakMemory
from .child import Child
from .interpreter import ask, find_interpreter
from .settings import ScriptGeneration, ScriptSettings
from .source import Source, contents, digest

VIDEO = "video.mp4"


@dataclass(frozen=True)
class Pending:
    """A video that the script has written, in the job's scratch."""

    file: Path


class ScriptBackend(Backend[ScriptSettings]):
    """A script of a person's own."""

    settings_type = ScriptSettings
    generation_type = ScriptGeneration
    recipe = 1

    def __init__(self, settings: ScriptSettings, root: Path) -> None:
        super().__init__(settings, root)
        self._child: Child | None = None
        self._gpu_gib: float | None = None
        self._peak_gib: float | None = None

    def identity(self) -> dict[str, Any]:
        """The script and its files by content, and its settings."""
        source = self._source()
        source.check()
        return {
            "file": source.sha256,
            "files": {name: digest(path) for name, path in self._files().items()},
            "settings": self.settings.settings,
        }

    def model_files(self) -> list[dict[str, Any]]:
        """The script, by its name, and every file of `model.files`, by its path under its name
        there; `key` is the experiment's."""
        script = self._path(self.settings.file)
        if not script.is_file():
            return []
        records = [{**record, "key": "file", "file": script.name} for record in contents(script)]
        for name, path in self._files().items():
            for record in contents(path):
                inside = f"{name}/{record['file']}" if record["file"] else name
                records.append({**record, "key": f"files.{name}", "file": inside})
        return records

    def versions(self) -> dict[str, str]:
        """Of the script's Python and of the packages there that touch a video."""
        told_there = ask(self._interpreter(), self._path(self.settings.file))
        return {f"script.{name}": version for name, version in told_there.versions.items()}

    def peak_memory(self, generation: Generation) -> PeakMemory | None:
        if self.settings.peak_memory_gb is None:
            return None
        return PeakMemory(self.settings.peak_memory_gb, "model.peak_memory_gb")

    def check_launch(self, device: str, *, explicit: bool) -> None:
        """Raise `UserError` where the script, its files or its interpreter are not as needed."""
        self.identity()
        script = self._path(self.settings.file)
        told_there = ask(self._interpreter(), script)
        if told_there.problem is not None:
            raise UserError(
                f"model.file: {script}: Python {told_there.versions['python']} of "
                f"model.interpreter cannot read it: {told_there.problem}"
            )

    def load(self, machine: Machine) -> None:
        source = self._source()
        files = {name: str(path) for name, path in self._files().items()}
        settings = {**self.settings.settings, **files, "device": machine.device}
        self._child = Child(
            self._interpreter(),
            source.path,
            source.sha256,
            self.root,
            self.settings.environment,
        )
        try:
            self._note(self._child.call("load", settings=settings))
        except BaseException as error:
            # Its memory is free again before another worker tries.
            self._child.end()
            if isinstance(error, ForeignError) and kind_of(error) is FailureKind.BAD_INPUT:
                raise UserError(f"model.file: {source.path}: load(settings): {error}") from error
            raise

    def prepare(self, group: Group) -> None:
        category, _, video = group.key.partition("/")
        told_group = {"category": category, "video": video, "reference": str(group.reference)}
        self._call("prepare", group={**told_group, "parameters": group.parameters})

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> Pending:
        path = (scratch / VIDEO).absolute()
        # What an earlier attempt left there is not this one's.
        path.unlink(missing_ok=True)
        self._call(
            "generate",
            on_step,
            path=str(path),
            job={
                "id": job.id,
                "category": job.category,
                "video": job.video,
                "reference": str((self.root / job.reference.path).absolute()),
                "prompt": job.prompt_text,
                "prompt_number": job.prompt,
                "seed": job.seed,
                "parameters": job.parameters,
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

    def _note(self, told_memory: dict[str, Any]) -> None:
        """Keep what the script's process says of its GPU memory."""
        self._gpu_gib = told_memory.get("gpu_gib", self._gpu_gib)
        peaks = [self._peak_gib, told_memory.get("peak_gpu_gib")]
        self._peak_gib = max((peak for peak in peaks if peak is not None), default=None)

    def _source(self) -> Source:
        return Source.read(self._path(self.settings.file))

    def _path(self, written: str) -> Path:
        return (self.root / Path(written).expanduser()).absolute()

    def _files(self) -> dict[str, Path]:
        paths = {name: self._path(written) for name, written in self.settings.files.items()}
        for name, path in paths.items():
            if not path.exists():
                raise UserError(f"model.files.{name}: no such file or folder: {path}")
        return paths

    def _interpreter(self) -> Path:
        return find_interpreter(self.settings.interpreter, self.root)


BACKEND = ScriptBackend
