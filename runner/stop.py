"""Stopping a sweep's workers on this host."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .errors import UserError
from .placement import Slot
from .queue import Queue
from .run_folder import RunFolder
from .slot import supervisor
from .sweep import live_slots

POLL_SECONDS = 0.1


def stop_workers(run: RunFolder, *, now: bool) -> list[Slot]:
    """Ask every live slot to end: after its job, or `now`, giving its job back.

    Raises:
        UserError: a slot's supervisor cannot be reached from here.
    """
    slots = live_slots(run)
    if run.queue.exists():
        Queue(run.queue).drain(True)
    if now:
        for slot in slots:
            process = supervisor(run.lock(slot))
            if process is None or not process.is_here:
                raise UserError(
                    f"{slot.name}: runs in another container or host; stop it there, or "
                    "without --now"
                )
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
    return slots


def wait_until_ended(run: RunFolder) -> bool:
    """Wait until no slot is alive."""
    while live_slots(run):
        time.sleep(POLL_SECONDS)
    return True
