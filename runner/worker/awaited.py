"""The videos of other runs that a worker's jobs await, and whether they may still come."""

from __future__ import annotations

import logging
import time

from ..disk.upstream import Upstream
from ..queue import Queue
from ..queue.awaiting import follow_upstream
from ..runs.runs import live_slots

log = logging.getLogger("sweep.worker")

LOOK_SECONDS = 5.0
"""Between looks for awaited videos, at least, while there are other jobs."""
LOOKING_SHARE = 0.1
"""The most of a worker's time that looking for awaited videos takes."""
LONELY_SECONDS = 60.0
"""Workers that wait for another run's videos end when no worker of that run has lived for this
long: one may be about to be started, or to be started again."""


class Awaited:
    """The videos of other runs that jobs of this one await."""

    def __init__(self, queue: Queue, upstream: Upstream) -> None:
        self._queue = queue
        self._upstream = upstream
        self._runs: list[str] = []
        self._look_at = 0.0
        self._regular_at = 0.0
        self._lonely_since: float | None = None

    def look_now_and_then(self) -> None:
        """Do what `look` does, from time to time, beside other work."""
        if time.monotonic() >= self._regular_at:
            self.look()

    def look(self) -> bool:
        """Let jobs be claimed whose inputs have come; return whether there were any."""
        start = time.monotonic()
        if start < self._look_at:
            return False
        followed = follow_upstream(self._queue, self._upstream.made)
        self._runs = list(dict.fromkeys(one.run for one in followed.awaited))
        now = time.monotonic()
        self._look_at = now + (now - start) / LOOKING_SHARE
        self._regular_at = max(self._look_at, now + LOOK_SECONDS)
        return followed.released > 0

    def may_come(self) -> bool:
        """Whether something is awaited that may still come: workers make it, or may be about to."""
        if self.look():
            return True
        if not self._runs or any(live_slots(self._upstream.run(run)) for run in self._runs):
            self._lonely_since = None
            return bool(self._runs)
        now = time.monotonic()
        if self._lonely_since is None:
            self._lonely_since = now
        if now - self._lonely_since < LONELY_SECONDS:
            return True
        for run in self._runs:
            log.info("videos of %s are awaited, which no worker makes: `sweep resume %s`", run, run)
        return False

    @property
    def note(self) -> str | None:
        """What the worker waits for, in words for a person."""
        return f"waits for videos of {', '.join(self._runs)}" if self._runs else None
