"""A slot's log file: what its supervisor says, and what its worker prints, line by line."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import time
from pathlib import Path
from typing import IO

from ..disk.run_folder import open_own
from ..job.failures import is_disk_full
from ..text.log_lines import Passing, kept_line, new_prefix
from ..text.plain_text import printable

READ_BYTES = 1 << 16

LONGEST_LINE_BYTES = 1 << 20
"""What a worker prints without an end is cut here."""


class SlotLog:
    """The slot's log file, with a copy to the terminal where there is one.

    `prefix` is what a worker puts before its own log's lines.
    """

    def __init__(self, path: Path, *, echo: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab", 0)
        self._echo = echo
        self.prefix = new_prefix()
        if echo:
            ignore_stop_key()

    def say(self, text: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        line = f"{stamp},{int(now % 1 * 1000):03d} SLOT    {printable(text)}\n".encode()
        self._write(line)
        self.show(line)

    def show(self, data: bytes) -> None:
        """Pass to the terminal alone; one that has gone away is no error."""
        if self._echo:
            with contextlib.suppress(OSError):
                os.write(sys.stdout.fileno(), data)

    def copy(self, stream: IO[bytes]) -> None:
        """Copy a worker's output until it ends: all of it to the terminal, and to the file
        each line as it finally stood, without the progress bars that it overwrote."""
        rest, passing = b"", Passing()
        while data := os.read(stream.fileno(), READ_BYTES):
            self.show(passing.through(data))
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._write_line(line)
            if len(rest) > READ_BYTES:
                rest = rest.rpartition(b"\r")[2]
            if len(rest) > LONGEST_LINE_BYTES:
                self._write_line(rest)
                rest = b""
        if rest:
            self._write_line(rest)

    def _write_line(self, line: bytes) -> None:
        final = line.rstrip(b"\r").rpartition(b"\r")[2]
        if final.strip():
            self._write(f"{kept_line(final, self.prefix)}\n".encode())

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
        except OSError as error:
            # The worker waits for room; its log has a gap until then.
            if not is_disk_full(error):
                raise


def ignore_stop_key() -> None:
    """Have Ctrl-S no longer stop this terminal: it would stop the worker's output, and with
    it the worker."""
    with contextlib.suppress(termios.error, OSError):
        attributes = termios.tcgetattr(sys.stdout.fileno())
        attributes[0] &= ~termios.IXON
        termios.tcsetattr(sys.stdout.fileno(), termios.TCSANOW, attributes)
