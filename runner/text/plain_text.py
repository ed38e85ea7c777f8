"""Texts and numbers as a terminal shows them."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

JOINERS = "\u200c\u200d"
"""Persian, the scripts of India and many emoji are not written without them."""

CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]")
"""What programs colour their words and move the cursor with (ECMA-48, section 5.4)."""


def printable(text: str) -> str:
    """A text on one line that does nothing to a terminal but stand there.

    Line ends, control characters, what turns the direction of writing or is not seen at all,
    and halves of surrogate pairs are written as escapes. Letters of every script, spaces of every
    width and joined emoji stay.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_plain(c) else repr(c)[1:-1] for c in text)


def _is_plain(character: str) -> bool:
    return (
        character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"
    )


def plain_line(text: str) -> str:
    """A line of another program's output, as `printable`, without its colours."""
    return printable(CONTROL_SEQUENCE.sub("", text).expandtabs())


def json_text(value: Any) -> str:
    """A value as indented JSON, with escapes of JSON's own for what a terminal would obey."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    if text.isascii() and "\x7f" not in text:
        return text
    return "\n".join(
        line if line.isprintable() else "".join(map(_json_escaped, line))
        for line in text.split("\n")
    )


def _json_escaped(character: str) -> str:
    if _is_plain(character):
        return character
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def tail(text: str, cells: int) -> str:
    """The end of a text that fits this number of terminal cells; a Chinese character takes two."""
    from rich.cells import cell_len

    if cell_len(text) <= cells:
        return text
    while cell_len(text) > cells - 1:
        text = text[1:]
    return f"…{text}"


def size(number: int) -> str:
    """Bytes as a person reads them."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def plural(number: int, noun: str) -> str:
    """A number of things: `1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
