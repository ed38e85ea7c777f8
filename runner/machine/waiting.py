"""Waiting for a lock that another process holds: never without end, and never without a word."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..text.errors import UserError
from .lock_holders import holder_of

log = logging.getLogger("sweep.waiting")

FIRST_LOOK_SECONDS = 5.0
"""Before, nobody needs to know who holds it."""

PAUSE_SECONDS = 0.05
SLICE_SECONDS = 0.5
"""Between looks at who holds it, and whether to wait no longer."""


class Busy(UserError):
    """Another process holds what is needed, and the time for waiting is over."""


@dataclass(frozen=True)
class Waiting:
    """How long to wait.

    Attributes:
        seconds: the most to wait for a holder that is at work; None waits for ever.
        still_seconds: the most to wait for a holder that stands still; None waits for ever. A
            frozen worker is continued or killed sooner.
        is_over: asked meanwhile, with the seconds waited, whether to wait no longer.
    """

    seconds: float | None = 120.0
    still_seconds: float | None = 20.0
    is_over: Callable[[float], bool] = lambda _: False

    @classmethod
    def at_most(cls, seconds: float) -> Waiting:
        return cls(seconds, seconds)


PATIENT = Waiting()
"""How a command waits."""


def wait_for(
    attempt: Callable[[float], bool], waiting: Waiting, what: Path, files: Sequence[Path]
) -> None:
    """Call `attempt` until it succeeds, and say who stands in the way where that takes long.

    Args:
        attempt: given the most seconds that it may take.
        what: the file that is waited for, as a person knows it.
        files: those whose locks tell who holds it.

    Raises:
        Busy: it is held for too long.
    """
    if attempt(0):
        return
    if waiting.seconds == 0:
        # Whoever does not wait at all does not want to know.
        raise Busy(f"{what}: another process has it")
    begun = time.monotonic()
    limit = waiting.seconds
    tell_after = FIRST_LOOK_SECONDS
    while not attempt(SLICE_SECONDS if limit is None else min(SLICE_SECONDS, limit)):
        waited = time.monotonic() - begun
        if waited >= FIRST_LOOK_SECONDS:
            holder = holder_of(files)
            is_still = holder is not None and holder.stands_still
            limit = waiting.still_seconds if is_still else waiting.seconds
            if waited >= tell_after:
                tell_after = waited * 2
                log.warning("%s", _told(what, files, waited))
        if (limit is not None and waited >= limit) or waiting.is_over(waited):
            raise Busy(_told(what, files, waited))


def repeat(attempt: Callable[[], bool], seconds: float) -> bool:
    """Call it again and again, for at most these seconds."""
    ends = time.monotonic() + seconds
    while not attempt():
        if time.monotonic() >= ends:
            return False
        time.sleep(min(PAUSE_SECONDS, seconds))
    return True


def _told(what: Path, files: Sequence[Path], waited: float) -> str:
    told = f"{what}: waited {waited:.0f} s for "
    holder = holder_of(files)
    if holder is None:
        return f"{told}a process that cannot be seen from here"
    return f"{told}{holder}; {holder.remedy}"
