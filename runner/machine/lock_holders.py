"""Who holds the locks of a file: Linux's `/proc/locks` (proc_locks(5))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..text.plain_text import printable
from .processes import ProcessState, state_of

COMMAND_CHARACTERS = 80


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock."""

    pid: int
    command: str
    state: ProcessState | None

    def __str__(self) -> str:
        told = f"pid {self.pid} ({self.command})" if self.command else f"pid {self.pid}"
        return told if self.state is None else f"{told}, which {self.state.told}"

    @property
    def stands_still(self) -> bool:
        return self.state is not None and self.state.stands_still

    @property
    def remedy(self) -> str:
        if self.state is ProcessState.STOPPED:
            return f"`kill -CONT {self.pid}` lets it go on"
        return "end it, or wait for it"


def writers(paths: Iterable[Path]) -> list[int]:
    """The pids of the processes that hold a write lock of any of these files, other than this
    one; a process that cannot be seen from here is left out."""
    wanted = set()
    for path in paths:
        with contextlib.suppress(OSError):
            wanted.add(path.stat().st_ino)
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            # "1: FLOCK  ADVISORY  WRITE 4711 fe:01:131073 0 EOF"; those who wait have "->".
            _, kind, *rest = line.split()
            if kind == "->" or rest[1] != "WRITE":
                continue
            pid, inode = int(rest[2]), int(rest[3].rpartition(":")[2])
            if inode in wanted and pid > 0 and pid != os.getpid():
                found.append(pid)
    return list(dict.fromkeys(found))


def holder_of(paths: Iterable[Path]) -> Holder | None:
    """The process that holds a write lock on any of these files; of several, one that stands
    still."""
    holders = [Holder(pid, _command_of(pid), state_of(pid)) for pid in writers(paths)]
    return min(holders, key=lambda holder: not holder.stands_still, default=None)


def _command_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    text = printable(b" ".join(words).decode("utf-8", "backslashreplace"))
    return text if len(text) <= COMMAND_CHARACTERS else f"{text[: COMMAND_CHARACTERS - 1]}…"
