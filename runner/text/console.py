"""A rich console on which names and texts are nothing but text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from .plain_text import printable


class PlainConsole(Console):
    """It reads no markup, and lets no character through that a terminal would obey.

    A text that shall keep to its line and its column is made with `plain` all the same.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                # A line end is a segment's own; whatever else is there came with a text.
                lines = map(printable, segment.text.split("\n"))
                yield Segment("\n".join(lines), segment.style)


def plain(text: str, style: str = "") -> Text:
    """A text on one line, with nothing in it that a terminal would obey."""
    return Text(printable(text), style=style)
