"""This process in UTF-8 mode, whatever the locale is: names, files and pipes are UTF-8 everywhere.

Python takes the encoding of names and texts from the locale, once, as it starts. In a locale such
as zh_CN.GBK it would take good UTF-8 names for others, or for none. So a command that finds itself
in one becomes itself anew, in Python's UTF-8 mode (PEP 540).
"""

from __future__ import annotations

import codecs
import locale
import os
import sys
from pathlib import Path
from typing import TextIO

VARIABLE = "PYTHONUTF8"
COMMAND_LINE = Path("/proc/self/cmdline")


def ensure_utf8() -> None:
    """Return in a process whose texts are UTF-8; called first of all, where a process begins.

    Where that cannot be had, a line on standard error says what helps.
    """
    if is_utf8():
        return
    if sys.executable and os.environ.get(VARIABLE) != "1":
        words = COMMAND_LINE.read_bytes().split(b"\0")[:-1]
        words = [os.fsencode(sys.executable), *map(as_utf8, words[1:])]
        os.execve(words[0], words, {**os.environb, VARIABLE.encode(): b"1"})
    sys.stderr.write(
        f"sweep: names and files are UTF-8, this locale is {codeset()}; set LC_ALL=C.UTF-8\n"
    )


def is_utf8() -> bool:
    names = (sys.getfilesystemencoding(), locale.getpreferredencoding(False))
    return all(codecs.lookup(name).name == "utf-8" for name in names)


def codeset() -> str:
    """What the locale says that terminals show, also in UTF-8 mode."""
    return locale.nl_langinfo(locale.CODESET)


def as_utf8(word: bytes) -> bytes:
    """A word of the command line as UTF-8, where it was typed in the locale's encoding and is no
    file's name as it is."""
    try:
        word.decode()
    except UnicodeDecodeError:
        if not os.path.lexists(word):
            try:
                return word.decode(codeset()).encode()
            except (UnicodeDecodeError, LookupError):
                return word
    return word


def show_as_terminal_does(stream: TextIO) -> None:
    """Have a terminal of another encoding be written to in it; pipes and files stay UTF-8. What
    cannot be written is shown as an escape."""
    encoding = None
    # What tmux shows is UTF-8 everywhere; where the locale is C, terminals are in these days.
    if stream.isatty() and "TMUX" not in os.environ and codeset().upper() not in NO_ENCODING:
        encoding = codeset()
    try:
        stream.reconfigure(encoding=encoding, errors="backslashreplace")  # type: ignore[attr-defined]
    except LookupError:
        stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]


NO_ENCODING = frozenset({"", "ANSI_X3.4-1968", "US-ASCII", "646"})
