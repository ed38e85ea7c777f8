"""Text from outside, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text whose control characters cannot move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
