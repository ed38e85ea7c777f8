"""What can be said of a script and its files without running it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...job import sha256_of
from ..model_file import content_of

NEEDED = {"load": ("settings",), "generate": ("job", "path")}
OPTIONAL = {"prepare": ("group",), "close": ()}
FUNCTIONS: dict[str, tuple[str, ...]] = {**NEEDED, **OPTIONAL}
"""The functions of a script that are called, with what they are given."""


@dataclass(frozen=True)
class Source:
    """A script as it stands on disk."""

    path: Path
    content: bytes

    @classmethod
    def read(cls, path: Path) -> Source:
        """Read a script.

        Raises:
            UserError: it is not there, or cannot be read.
        """
        try:
            return cls(path, path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"model.file: no such script: {path}") from None
        except OSError as error:
            raise UserError(f"model.file: {path}: cannot be read: {error.strerror}") from None

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


def contents(path: Path) -> list[dict[str, Any]]:
    """A file's record, or those of all files in a folder, by their paths in it.

    Each has `file`, `size`, `header` and `blocks`: see `content_of`. What begins with a dot, and
    compiled Python, does not count.
    """
    if path.is_file():
        return [{"file": "", **content_of(path)}]
    return [
        {"file": file.relative_to(path).as_posix(), **content_of(file)}
        for file in sorted(path.rglob("*"))
        if file.is_file() and _counts(file.relative_to(path))
    ]


def _counts(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def digest(path: Path) -> str:
    """Hex digest of a file's or a folder's contents, the same wherever it lies."""
    return sha256_of({record.pop("file"): record for record in contents(path)})
