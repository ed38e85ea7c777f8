"""Stopping a sweep's workers on this host."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence

from ..disk.run_folder import RunFolder
from ..job.failures import is_disk_full, may_be_disk_full
from ..job.slot_names import Devices, Slot
from ..machine.processes import AFTER_JOB_SIGNAL, send
from ..machine.waiting import Busy, Waiting
from ..queue import Queue
from ..queue.damaged import DamagedQueue
from ..runs.runs import live_slots
from ..text.errors import UserError
from .lock import supervisor

log = logging.getLogger("sweep.stop")

POLL_SECONDS = 0.1

WAIT_SECONDS, WAIT_NOW_SECONDS = 15.0, 2.0
"""Seconds to wait for the queue, before the workers are told without it."""


def stop_workers(run: RunFolder, *, now: bool, gpus: Sequence[int] | None = None) -> list[Slot]:
    """Ask every live slot to end: after its job, or `now`, giving its job back.

    Args:
        gpus: only the slots of these GPUs; the others go on.

    Raises:
        UserError: a slot's supervisor cannot be reached from here.
        Exception: the disk is full, and the workers are not to end at once.
    """
    which = None if gpus is None else [Devices.of(gpu) for gpu in gpus]
    slots = [slot for slot in live_slots(run) if which is None or slot.devices in which]
    by_signal = signal.SIGTERM if now else None
    try:
        if os.path.lexists(run.queue):
            Queue(run.queue).drain(
                True, which, Waiting.at_most(WAIT_NOW_SECONDS if now else WAIT_SECONDS)
            )
    except Busy as error:
        log.warning("%s; the workers are told by a signal", error)
        by_signal = by_signal or AFTER_JOB_SIGNAL
    except Exception as error:
        # Those who are to end at once are told by a signal, too.
        is_told_so = is_disk_full(error) or may_be_disk_full(error)
        if not now or not (is_told_so or isinstance(error, DamagedQueue)):
            raise
    if by_signal is not None:
        for slot in slots:
            signal_slot(run, slot, by_signal)
    return slots


def signal_slot(run: RunFolder, slot: Slot, number: signal.Signals) -> None:
    """Send a signal to the supervisor of a slot.

    Raises:
        UserError: it cannot be reached from here.
    """
    process = supervisor(run.lock(slot))
    if process is None or not process.is_here:
        raise UserError(
            f"{slot.name}: runs in another container or host; stop it there, or without --now"
        )
    try:
        send(process, number)
    except PermissionError:
        raise UserError(f"{slot.name}: pid {process.pid} belongs to another user") from None


def wait_until_ended(run: RunFolder, slots: Sequence[Slot]) -> bool:
    """Wait until none of these slots is alive."""
    while set(slots) & set(live_slots(run)):
        time.sleep(POLL_SECONDS)
    return True
