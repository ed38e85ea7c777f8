"""What can be said of a script and its files without running it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...text.errors import UserError
from .. import FileState
from ..foreign.child import Child
from ..foreign.interpreter import InterpreterAnswer, ask, find_interpreter
from ..model_file import contents, digest
from .settings import ScriptSettings

SERVICE = Path(__file__).with_name("service.py")
"""What runs in the script's own interpreter."""

NEEDED = {"load": ("settings",), "generate": ("job", "path")}
OPTIONAL = {"prepare": ("group",), "close": ()}
FUNCTIONS: dict[str, tuple[str, ...]] = {**NEEDED, **OPTIONAL}
"""The functions of a script that are called, with what they are given."""


@dataclass(frozen=True)
class ScriptSource:
    """A script as it stands on disk."""

    path: Path
    content: bytes
    key: str

    @classmethod
    def read(cls, path: Path, key: str = "model.file") -> ScriptSource:
        """Read a script.

        Args:
            key: the experiment's, for an error.

        Raises:
            UserError: it is not there, or cannot be read.
        """
        try:
            return cls(path, path.read_bytes(), key)
        except FileNotFoundError:
            raise UserError(f"{key}: no such script: {path}") from None
        except OSError as error:
            raise UserError(f"{key}: {path}: cannot be read: {error.strerror}") from None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def check(self) -> None:
        """Raise `UserError` where it does not parse, or lacks a function that it must have."""
        try:
            tree = ast.parse(self.content, str(self.path))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            raise UserError(f"model.file: {self.path}: is not Python: {what}{where}") from None
        found = dict(_defined(tree.body))
        for name, given in NEEDED.items():
            if name not in found and "*" not in found:
                call = f"{name}({', '.join(given)})"
                raise UserError(f"model.file: {self.path}: defines no function {call}; add it")
        for name, given in FUNCTIONS.items():
            function = found.get(name)
            if isinstance(function, ast.AsyncFunctionDef):
                raise UserError(f"model.file: {self.path}: {name} must be a plain def, not async")
            if isinstance(function, ast.FunctionDef) and not takes(function.args, len(given)):
                raise UserError(
                    f"model.file: {self.path}:{function.lineno}: {name} is called as "
                    f"{name}({', '.join(given)}), which it does not take"
                )


def _defined(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """The names that a module defines, in branches too; `*` where it imports all of another."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name, statement
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            for alias in statement.names:
                yield alias.asname or alias.name.partition(".")[0], statement
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id, statement
        else:
            for field in ("body", "orelse", "finalbody"):
                yield from _defined(getattr(statement, field, ()))
            for handler in getattr(statement, "handlers", ()):
                yield from _defined(handler.body)


def takes(arguments: ast.arguments, given: int) -> bool:
    """Whether a function can be called with so many positional arguments, and no more."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    keywords = [default for default in arguments.kw_defaults if default is None]
    return needed <= given and (given <= positional or bool(arguments.vararg)) and not keywords


@dataclass(frozen=True)
class Script:
    """A script as the experiment describes it, and what is on this machine of it."""

    settings: ScriptSettings
    root: Path

    @property
    def path(self) -> Path:
        return self._path(self.settings.file)

    def source(self) -> ScriptSource:
        return ScriptSource.read(self.path)

    def files(self) -> dict[str, Path]:
        """The files by their names.

        Raises:
            UserError: one of them is not there.
        """
        paths = {name: self._path(written) for name, written in self.settings.files.items()}
        for name, path in paths.items():
            if not path.exists():
                raise UserError(f"model.files.{name}: no such file or folder: {path}")
        return paths

    def identity(self) -> dict[str, Any]:
        """What of it decides a video."""
        source = self.source()
        source.check()
        return {
            "file": source.sha256,
            "files": {name: digest(path) for name, path in self.files().items()},
            "settings": self.settings.settings,
        }

    def model_files(self) -> list[dict[str, Any]]:
        """Its records for `Planner.model_files`; [] where it is not on this machine."""
        if not self.path.is_file():
            return []
        (record,) = contents(self.path)
        records = [{**record, "key": "file", "file": self.path.name}]
        for name, path in self.files().items():
            for record in contents(path):
                inside = f"{name}/{record['file']}" if record["file"] else name
                records.append({**record, "key": f"files.{name}", "file": inside})
        return records

    def check(self) -> None:
        """Raise `UserError` where this machine cannot run it."""
        self.identity()
        answer = self.ask()
        if answer.problem is not None:
            raise UserError(
                f"model.file: {self.path}: Python {answer.versions['python']} of "
                f"model.interpreter cannot read it: {answer.problem}"
            )

    def look(self) -> Iterator[FileState]:
        """The script and its files as they lie here, without running anything of them."""
        try:
            self.source().check()
            answer = self.ask()
        except UserError as error:
            yield FileState(
                self.settings.file, problem=str(error), remedy="docs/your_own_method.md"
            )
        else:
            said = f"Python {answer.versions['python']}"
            yield FileState(
                self.settings.file,
                self.path.stat().st_size,
                answer.problem and f"{said} of model.interpreter cannot read it: {answer.problem}",
                "mend it, or name a newer Python" if answer.problem else "",
                f"read by {said}",
            )
        for name, written in self.settings.files.items():
            path = self._path(written)
            key = f"model.files.{name}"
            try:
                sizes = [record["size"] for record in contents(path)] if path.exists() else None
            except OSError as error:
                problem = f"{key}: cannot be read: {error.strerror}"
                yield FileState(written, problem=problem, remedy="mend its owner and mode")
                continue
            if sizes is None:
                problem = f"{key}: no such file or folder: {path}"
                yield FileState(written, problem=problem, remedy=f"put it there, or mend {key}")
            else:
                yield FileState(written, sum(sizes), note="readable")

    def ask(self) -> InterpreterAnswer:
        """What its interpreter says of itself and of it."""
        return ask(self._interpreter(), self.path, "model.interpreter")

    def start(self) -> Child:
        """Its process, with nothing loaded yet."""
        source = self.source()
        return Child(
            self._interpreter(),
            SERVICE,
            [str(source.path), source.sha256],
            self.root,
            self.settings.environment,
            name="script",
        )

    def load_settings(self, device: str) -> dict[str, Any]:
        """What its `load` is given."""
        files = {name: str(path) for name, path in self.files().items()}
        return {**self.settings.settings, **files, "device": device}

    def _interpreter(self) -> Path:
        return find_interpreter(self.settings.interpreter, self.root, "model.interpreter")

    def _path(self, written: str) -> Path:
        return (self.root / Path(written).expanduser()).absolute()
