"""Stopping a sweep's workers on this host."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .placement import Slot
from .queue import Queue
from .run_folder import RunFolder
from .slot import supervisor_pid
from .sweep import live_slots, take_back

POLL_SECONDS = 0.1


def stop_workers(run: RunFolder, queue: Queue, *, now: bool) -> list[Slot]:
    """Ask every live slot to end: after its job, or `now`, giving its job back."""
    slots = live_slots(run)
    queue.drain(True)
    if now:
        for slot in slots:
            pid = supervisor_pid(run.lock(slot))
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
    take_back(run, queue)
    return slots


def wait_until_ended(run: RunFolder) -> bool:
    """Wait until no slot is alive."""
    while live_slots(run):
        time.sleep(POLL_SECONDS)
    return True
