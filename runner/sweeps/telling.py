"""What a verb tells while it is at work: lines for a person, and how far it is."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], object]
"""Told one line for a person."""

TrackNumber = Callable[[int], Callable[[], object]]
"""Told how many things will be done; what it returns is called after each."""


def silent(_line: str) -> None:
    """Say nothing."""


def untracked(_number: int) -> Callable[[], None]:
    """Show nothing of how far it is."""
    return lambda: None
