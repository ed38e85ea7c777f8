"""Stopping a sweep's workers on this host."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence

from .errors import UserError
from .failures import is_disk_full, may_be_disk_full
from .placement import Slot
from .queue import Queue
from .run_folder import RunFolder
from .runs import live_slots
from .slot import supervisor

POLL_SECONDS = 0.1


def stop_workers(run: RunFolder, *, now: bool, gpus: Sequence[int] | None = None) -> list[Slot]:
    """Ask every live slot to end: after its job, or `now`, giving its job back.

    Args:
        gpus: only the slots of these GPUs; the others go on.

    Raises:
        UserError: a slot's supervisor cannot be reached from here.
        Exception: the disk is full, and the workers are not to end at once.
    """
    slots = [slot for slot in live_slots(run) if gpus is None or slot.gpu in gpus]
    try:
        if run.queue.exists():
            Queue(run.queue).drain(True, gpus)
    except Exception as error:
        # Those who are to end at once are told by a signal, too.
        if not now or not (is_disk_full(error) or may_be_disk_full(error)):
            raise
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


def wait_until_ended(run: RunFolder, slots: Sequence[Slot]) -> bool:
    """Wait until none of these slots is alive."""
    while set(slots) & set(live_slots(run)):
        time.sleep(POLL_SECONDS)
    return True
