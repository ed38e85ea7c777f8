"""A clock for a queue, which stands still until it is set."""

from __future__ import annotations


class Clock:
    """Tells `now`, in Unix seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
