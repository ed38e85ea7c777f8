"""Ctrl-Z waits while this process holds what others wait for.

A process that is suspended inside a transaction would hold the queue's lock until somebody
continues it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

# A list, for its `append` and `pop` are atomic: a signal's handler may come between any two steps.
_holding: list[None] = []
_is_wanted = False


def install() -> None:
    """Have this process suspend itself on SIGTSTP, once nothing is held; in the main thread."""
    signal.signal(signal.SIGTSTP, _handle)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within this, in whatever thread, the process is not suspended."""
    _holding.append(None)
    try:
        yield
    finally:
        _holding.pop()
        if _is_wanted:
            _suspend_unless_holding()


def _handle(_number: int, _frame: FrameType | None) -> None:
    global _is_wanted
    _is_wanted = True
    _suspend_unless_holding()


def _suspend_unless_holding() -> None:
    global _is_wanted
    if not _holding:
        _is_wanted = False
        os.kill(os.getpid(), signal.SIGSTOP)
