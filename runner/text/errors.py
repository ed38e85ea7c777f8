"""The one exception for a person's mistake, as opposed to a failed generation."""

from __future__ import annotations

from .plain_text import printable


class UserError(Exception):
    """The command, the experiment or the machine is not as it must be.

    The message names what is wrong, where, and what to do next, in a line or two. The
    command line prints it on standard error and exits with status 2, before any GPU starts.

    Args:
        lines: each is one line, whatever names are in it: a line end there is shown as an escape.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*map(printable, lines))

    @property
    def lines(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        """All of it on one line."""
        return "; ".join(self.args)
