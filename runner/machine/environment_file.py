"""The launching shell's environment, handed to what another program starts: a tmux server has one
of its own, however old, and an argument list can be read by everybody on the machine.

A file holds it as `/proc/<pid>/environ` does: `NAME=value` in bytes, each ended by a NUL, so that
values may be of any length, hold newlines and be no text at all. It is its owner's alone, lies
where temporary files lie, never in a run folder, and is read once.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

FOLDERS = (
    *(b"HF_HOME", b"HF_HUB_CACHE", b"HUGGINGFACE_HUB_CACHE", b"TRANSFORMERS_CACHE"),
    *(b"MODELSCOPE_CACHE", b"MS_CACHE_HOME", b"XDG_CACHE_HOME", b"XDG_CONFIG_HOME"),
    *(b"SWEEP_MACHINE", b"TMPDIR"),
)
"""Variables by which weights, settings and temporary files are found."""


def launch_environment() -> dict[bytes, bytes]:
    """The environment of a slot, whoever starts it: this process's own, in UTF-8 mode.

    A slot does not stand where this process does: folders that variables name from here are named
    in full, and where this process found the package only because of the folder that it stands
    in, PYTHONPATH says so.
    """
    environment = dict(os.environb)
    environment[b"PYTHONUTF8"] = b"1"
    for name in FOLDERS:
        if (value := environment.get(name)) and value[:1] not in (b"/", b"~", b"$"):
            environment[name] = os.path.abspath(value)  # noqa: PTH100 - bytes
    paths = [
        path if path[:1] in (b"/", b"") else os.path.abspath(path)  # noqa: PTH100 - bytes
        for path in _import_paths(environment)
    ]
    if not is_found_everywhere():
        paths.insert(0, os.fsencode(PACKAGE.parent))
    if paths:
        environment[b"PYTHONPATH"] = os.pathsep.encode().join(paths)
    return environment


def _import_paths(environment: Mapping[bytes, bytes]) -> list[bytes]:
    value = environment.get(b"PYTHONPATH")
    return value.split(os.pathsep.encode()) if value else []


def is_found_everywhere() -> bool:
    """Whether Python finds this package from any folder: it is installed, or PYTHONPATH names its
    folder in full."""
    named = [place for place in map(os.fsdecode, _import_paths(os.environb)) if place[:1] == "/"]
    places = [*named, *(place for place in sys.path[1:] if place not in ("", str(Path.cwd())))]
    if importlib.machinery.PathFinder.find_spec(PACKAGE.name, places) is not None:
        return True
    # What an editable install finds by a finder of its own.
    others = (one for one in sys.meta_path if one is not importlib.machinery.PathFinder)
    return any(
        finder.find_spec(PACKAGE.name, None) is not None
        for finder in others
        if hasattr(finder, "find_spec")
    )


def write_environment(environment: Mapping[bytes, bytes], *, outside: Path) -> Path:
    """Write an environment into a new file that nobody else can read; returns its path.

    Args:
        outside: a folder in which it must not lie.

    Raises:
        OSError: there is no room for it anywhere.
    """
    content = b"".join(name + b"=" + value + b"\0" for name, value in environment.items())
    refused: OSError | None = None
    for folder in _folders():
        if folder.resolve().is_relative_to(outside.resolve()):
            continue
        try:
            return _write_new(folder, content)
        except OSError as error:
            refused = error
    raise refused or FileNotFoundError(2, "no folder for temporary files", tempfile.gettempdir())


def _write_new(folder: Path, content: bytes) -> Path:
    # Made with mode 0600, under a name that was not there.
    descriptor, name = tempfile.mkstemp(prefix="sweep-environment-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)


def _folders() -> Iterator[Path]:
    """Where such a file may lie: in this user's runtime folder, which is in memory and gone at
    logout, else where temporary files lie."""
    if (runtime := os.environ.get("XDG_RUNTIME_DIR")) and is_private(Path(runtime)):
        yield Path(runtime)
    with contextlib.suppress(FileNotFoundError):
        yield Path(tempfile.gettempdir())
    yield Path("/tmp")


def is_private(folder: Path) -> bool:
    """Whether a folder is this user's and nobody else's, as the XDG Base Directory Specification
    has it of XDG_RUNTIME_DIR."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_own = status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode)
    return folder.is_absolute() and is_own and stat.S_IMODE(status.st_mode) == 0o700
