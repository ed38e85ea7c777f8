"""A worker's heart: beside the work it keeps leases alive, and gives up what is stuck."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ..job.failures import FailureKind
from ..queue import HEARTBEAT_SECONDS
from .making import Attempt, Patience

log = logging.getLogger("sweep.worker")

SHORTEST_BEAT_SECONDS = 0.05


class Heart:
    """A thread that beats until it is stopped.

    Args:
        pulse: the file whose time tells the slot's supervisor that this process is alive.
        held: the attempts that this worker has in hand.
        renew: extends an attempt's lease; False where the claim is another's.
        report: says that the worker is alive.
        give_up: ends an attempt and this process; it does not return.
    """

    def __init__(
        self,
        *,
        pulse: Path,
        patience: Patience,
        held: Callable[[], list[Attempt]],
        renew: Callable[[Attempt], bool],
        report: Callable[[], None],
        give_up: Callable[[Attempt, FailureKind, str], None],
    ) -> None:
        self._pulse = pulse
        self._patience = patience
        self._held = held
        self._renew = renew
        self._report = report
        self._give_up = give_up
        shortest = min(patience.step, patience.job or patience.step)
        self._looks_every = max(SHORTEST_BEAT_SECONDS, min(HEARTBEAT_SECONDS, shortest / 4))

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), daemon=True, name="heart")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, ended: threading.Event) -> None:
        since = 0.0
        while not ended.wait(self._looks_every):
            since += self._looks_every
            try:
                self._look()
                if since >= HEARTBEAT_SECONDS:
                    since = 0.0
                    self._keep_alive()
            except Exception:
                # The lease bounds the harm: without a heartbeat the job goes to another worker.
                log.exception("heartbeat failed")

    def _look(self) -> None:
        for attempt in self._held():
            overdue = attempt.overdue(self._patience)
            if overdue is not None:
                # Where every thread stands is what one wants to know of a stuck process.
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                self._give_up(attempt, *overdue)

    def _keep_alive(self) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._pulse)
        # First: a report that fails must not cost a job.
        for attempt in self._held():
            renewed = self._renew(attempt)
            attempt.is_lost = not renewed and attempt in self._held()
        self._report()
