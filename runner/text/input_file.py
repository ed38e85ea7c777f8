"""Opening files that somebody else may have put there: a regular file of a bounded size, before a
byte is read. A pipe, a device or a file without end would hold a command up for ever."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MIB = 1 << 20
MOST_TEXT_BYTES = 256 * MIB
"""A text file that a person wrote: prompts of millions of videos."""
MOST_RECORDS_BYTES = 1024 * MIB
"""A file of ours that grows by lines: some millions of attempts."""
MOST_MANIFEST_BYTES = 2 * MOST_RECORDS_BYTES
"""Some millions of jobs."""
MOST_LOG_BYTES = 256 * MIB
"""The end of a log, in which a job is looked for."""
MOST_LINE_BYTES = 16 * MIB
"""One line that is kept in memory."""
MOST_STATE_BYTES = 16 * MIB
"""A small file of ours: a sidecar, a lock, a calibration."""


class NotAnInput(OSError):
    """What lies there is no regular file, or too large for what it should be."""


def open_input(path: Path, most: int | None = None) -> BinaryIO:
    """Open a file for reading.

    Args:
        most: bytes that it may have.

    Raises:
        NotAnInput: it is a pipe, a socket, a device, or larger.
        OSError: it cannot be opened.
    """
    # Without waiting for somebody to write into a pipe.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        # A socket, or a terminal or another device that is not there.
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise NotAnInput(error.errno, "it is no regular file", str(path)) from None
        raise
    try:
        _refuse_other(path, os.fstat(descriptor), most)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _refuse_other(path: Path, status: os.stat_result, most: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise NotAnInput(errno.EINVAL, "it is no regular file", str(path))
    if most is not None and status.st_size > most:
        raise NotAnInput(errno.EFBIG, f"it is larger than {most // MIB} MiB", str(path))


def read_input(path: Path, most: int = MOST_STATE_BYTES) -> bytes:
    """A file's content. Raises as `open_input` does."""
    with open_input(path, most) as file:
        return file.read(most + 1)


def lines_in(file: BinaryIO, most: int = MOST_LINE_BYTES) -> Iterator[bytes]:
    """The lines of a file, each with its end; a longer line is cut at `most` bytes."""
    while line := file.readline(most):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(most)


def read_json(path: Path, most: int = MOST_STATE_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
        OSError: as `open_input`.
    """
    return parse_json(read_input(path, most))


def parse_json(text: bytes | str) -> Any:
    """What a text of JSON holds.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
