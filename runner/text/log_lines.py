"""The lines of a slot's log: what sweep itself says, and what else its worker's process prints.

A line that begins with a time stamp was written by sweep, on one line, and belongs to no name or
text in it. Everything else is indented where it looks like one: a prompt that a script prints
cannot claim a job.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
import sys
import traceback
from types import TracebackType

from .plain_text import CONTROL_SEQUENCE, plain_line, printable

STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ")
INDENT = "    "
FORMAT = "%(asctime)s %(levelname)-7s %(message)s"

_BEGUN_SEQUENCE = re.compile(r"\x1b(\[[0-?]{0,64}[ -/]{0,8})?\Z")
_SHOWN = re.compile(r"[^\r\n\t]+")


class LineFormatter(logging.Formatter):
    """A record as one line, whatever is in it, and a traceback as indented lines below it.

    Args:
        prefix: put before the line, for `kept_line` to tell it by.
    """

    def __init__(self, form: str = FORMAT, prefix: str = "") -> None:
        super().__init__(form)
        self._prefix = prefix

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return self._prefix + super().formatMessage(record)

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(stack_info)


def _indented(text: str) -> str:
    return "\n".join(INDENT + plain_line(line) for line in text.split("\n"))


def print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """As Python's own `sys.excepthook`, with nothing in it that a terminal would obey."""
    for part in traceback.format_exception(kind, error, trace):
        for line in part.rstrip("\n").split("\n"):
            print(plain_line(line), file=sys.stderr)


def new_prefix() -> str:
    """What one supervisor and its workers tell their own lines by.

    It has the form of a control sequence, so that a terminal is never shown it.
    """
    return f"\x1b[>{int.from_bytes(os.urandom(8), 'big')}z"


def kept_line(line: bytes, prefix: str) -> str:
    """A line of a worker's output as its log keeps it.

    Args:
        line: as it finally stood, without the progress bars that it overwrote.
    """
    text = line.decode("utf-8", "backslashreplace")
    if text.startswith(prefix):
        return plain_line(text)
    text = plain_line(text)
    return INDENT + text if STAMP.match(text) else text


class Passing:
    """Another program's output on its way to a terminal, as it comes, in pieces.

    Line ends, tabs and the carriage returns of a progress bar pass; colours and moves of the
    cursor are left out, and other control characters are shown as escapes.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._begun = ""

    def through(self, data: bytes) -> bytes:
        """What of it may be shown now."""
        text = self._begun + self._decoder.decode(data)
        begun = _BEGUN_SEQUENCE.search(text)
        self._begun = begun[0] if begun else ""
        text = CONTROL_SEQUENCE.sub("", text[: len(text) - len(self._begun)])
        return _SHOWN.sub(lambda part: printable(part[0]), text).encode()
