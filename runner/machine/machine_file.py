"""`machine.yaml`: what is particular to this machine, and wins over what an experiment says.

A run folder moves to another machine as it is; where weights, data and results lie there, and
which GPUs there are, belongs to the machine. The file is `$SWEEP_MACHINE`, or `machine.yaml` in
the project root, or `~/.config/sweep/machine.yaml`; the first of them that is there counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from ..job.slot_names import MOST_PROCESSES_PER_GPU
from ..text.errors import UserError
from ..text.input_file import read_input
from ..text.yaml_file import parse_yaml

NAME = "machine.yaml"
VARIABLE = "SWEEP_MACHINE"


class MachineFile(BaseModel):
    """The keys of a machine file; relative paths start at the file's own folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoints: list[str] = Field(
        default_factory=list, description="folders in which model.checkpoint is looked up by name"
    )
    data: str | None = Field(None, description="where the data set's relative paths start")
    results: str | None = Field(None, description="where run folders go")
    gpus: Literal["auto"] | list[int] | None = Field(None, description="for placement.gpus")
    processes_per_gpu: int | None = Field(None, ge=1, le=MOST_PROCESSES_PER_GPU)

    _file: Path | None = PrivateAttr(None)

    @property
    def file(self) -> Path | None:
        """The file it was read from; None where there is none."""
        return self._file

    def path(self, text: str) -> Path:
        """A path as the file means it."""
        folder = Path() if self._file is None else self._file.parent
        return (folder / Path(text).expanduser()).absolute()

    @property
    def placement(self) -> dict[str, Any]:
        """What it settles of an experiment's `placement`."""
        values = {"gpus": self.gpus, "processes_per_gpu": self.processes_per_gpu}
        return {key: value for key, value in values.items() if value is not None}

    def refuse(self, overrides: Sequence[str]) -> None:
        """Raise `UserError` where an override is about what this file settles."""
        settled = {f"placement.{key}": key for key in self.placement}
        if self.results is not None:
            settled["results"] = "results"
        for override in overrides:
            key, _, value = override.partition("=")
            if key in settled and value:
                raise UserError(
                    f"{override!r}: {self.file} settles {settled[key]} on this machine; change it "
                    "there" + (", or name GPUs with --gpus" if settled[key] == "gpus" else "")
                )


def read_machine(root: Path, environment: Mapping[str, str] = os.environ) -> MachineFile:
    """What holds on this machine for a project.

    Args:
        root: the project root.

    Raises:
        UserError: the file is wrong, or `$SWEEP_MACHINE` names one that is not there.
    """
    named = environment.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UserError(f"{named}: no such machine file (from ${VARIABLE})")
        return _read(Path(named))
    home = environment.get("XDG_CONFIG_HOME") or "~/.config"
    for path in (root / NAME, Path(home).expanduser() / "sweep" / NAME):
        if path.is_file():
            return _read(path)
    return MachineFile()


def keep(root: Path, words: Sequence[str]) -> Path:
    """Put `KEY=VALUE` words into the machine file that counts for a project, or into a new one in
    its root; what else is in it stays. Relative paths start where the shell stands.

    Raises:
        UserError: a word that is none, or a value that the key does not take.
    """
    machine = read_machine(root)
    path = machine.file or root / NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if machine.file else []
        for word in words:
            key, equals, text = word.partition("=")
            if not equals or key not in MachineFile.model_fields:
                keys = ", ".join(MachineFile.model_fields)
                raise UserError(f"--here {word!r}: must be KEY=VALUE (keys: {keys})")
            value = _absolute(key, yaml.safe_load(text))
            lines = [*_without(lines, key), f"{key}: {json.dumps(value, ensure_ascii=False)}"]
        content = "\n".join(lines) + "\n"
        _parse(path, content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"--here {' '.join(words)}: is not YAML: {said}") from None
    path.write_text(content, encoding="utf-8")
    return path


def _absolute(key: str, value: Any) -> Any:
    if key in ("data", "results") and isinstance(value, str):
        path = Path(value).expanduser()
        return str(path.resolve() if ".." in path.parts else path.absolute())
    if key == "checkpoints" and isinstance(value, (str, list)):
        folders = [value] if isinstance(value, str) else value
        return [_absolute("data", folder) for folder in folders]
    return value


def _without(lines: Sequence[str], key: str) -> list[str]:
    """The lines of a mapping without those of a key."""
    kept, inside = [], False
    for line in lines:
        if line[:1].strip() and not line.startswith(("#", "- ")):
            inside = line.partition(":")[0].strip(" '\"") == key
        if not inside or line.startswith("#"):
            kept.append(line)
    return kept


def _read(path: Path) -> MachineFile:
    try:
        text = read_input(path).decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return _parse(path, text)


def _parse(path: Path, text: str) -> MachineFile:
    values = parse_yaml(path, text) or {}
    valid = ", ".join(MachineFile.model_fields)
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of keys (valid: {valid})")
    try:
        machine = MachineFile.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UserError(f"{path}: {key}: no such key (valid: {valid})") from None
        raise UserError(f"{path}: {key}: {first['msg']}") from None
    machine._file = path.absolute()
    return machine
