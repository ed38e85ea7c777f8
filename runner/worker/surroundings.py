"""What a worker depends on beside its jobs: room on the disk, its GPU, its own memory."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from ..backends import Interrupted
from ..job.failures import is_disk_full, may_be_disk_full
from ..job.slot_names import Slot
from ..machine.processes import Stop, resident_gib
from ..machine.waiting import Busy, Waiting
from ..queue import Queue
from ..queue.worker_table import WorkerState
from .disk_room import DiskRoom
from .gpu_watch import GpuWatch

log = logging.getLogger("sweep.worker")

WAIT_SECONDS = 1.0
HEALTH_SECONDS = 30.0
REPORT_SECONDS = 2.0
"""How long a report waits for others that write to the queue."""


def report(queue: Queue, slot: Slot, seconds: float, **values: object) -> None:
    """Say in the queue what a slot's worker does. Nothing depends on it: where the disk is full or
    another process holds the queue, it stays unsaid.

    Args:
        seconds: the most to wait for others that write.
    """
    try:
        queue.workers.report(slot, Waiting.at_most(seconds), **values)
    except Busy:
        return
    except Exception as error:
        if not (is_disk_full(error) or may_be_disk_full(error)):
            raise


@dataclass(frozen=True)
class Recycling:
    """When a worker ends for a new one: after a number of jobs, or once its memory in RAM has grown
    by a number of GiB since its first job."""

    after_jobs: int | None = None
    growth_gib: float | None = None


class Surroundings:
    """Watches what a worker depends on, and waits until it is well."""

    def __init__(
        self,
        *,
        queue: Queue,
        slot: Slot,
        stop: Stop,
        room: DiskRoom,
        watch: GpuWatch,
        recycling: Recycling,
    ) -> None:
        self.room = room
        self._queue = queue
        self._slot = slot
        self._stop = stop
        self._watch = watch
        self._recycling = recycling
        self._is_refused = False
        self._first_resident_gib: float | None = None
        self._others: tuple[int, ...] = ()
        self._next_health = 0.0

    # Room on the disk.

    def refuse(self) -> None:
        """Note that the disk has refused a write: there is no room until a write succeeds."""
        self._is_refused = True

    def shortage(self) -> str | None:
        """Why there is no room for another video; None where there is room."""
        if self._is_refused:
            return "the disk, or a quota, takes no more"
        rows = self._queue.workers.rows
        return self.room.shortage(lambda: sum(row.jobs_done for row in rows()))

    def is_full(self) -> bool:
        """Whether there is no room; where that is not known, by writing a file."""
        if self.shortage() is None and self.room.is_refused():
            self.refuse()
        return self.shortage() is not None

    def is_refusal(self, error: BaseException) -> bool:
        """Whether an error says that there is no room; where it leaves that open, by writing a
        file."""
        if is_disk_full(error):
            self.refuse()
            return True
        return may_be_disk_full(error) and self.is_full()

    def wait_for_room(self, why: str) -> None:
        """Wait until there is room on the disk.

        Raises:
            Interrupted: meanwhile a stop was asked for, or the time of `--stop-at` has come.
        """
        log.warning("%s; waiting for room", why)
        self._report(note=f"waits for room: {why}")
        try:
            while self.shortage() is not None:
                self._stop.wait(WAIT_SECONDS)
                refusal = self._queue.refusal(self._slot)
                if self._stop.is_asked or refusal is not None:
                    log.info("no longer waiting for room: %s", refusal or "asked to stop")
                    raise Interrupted
                self._is_refused = self.room.is_refused()
        finally:
            self._report(note=None)
        log.info("there is room again")

    # The GPU.

    def foreign_gib(self) -> float:
        """GPU memory that other people hold, in GiB; 0 where it is too little to tell."""
        return self._watch.foreign_gib(self._queue.workers.rows())

    def wait_for_gpu(self) -> bool:
        """Wait while other people hold as much memory on this GPU as now; return False where nobody
        does."""
        first = foreign = self.foreign_gib()
        if not first:
            return False
        why = f"someone else uses {first:.1f} GiB of GPU {self._slot.devices.gpu}"
        log.warning("%s; waiting", why)
        self._report(state=WorkerState.WAITING, job=None, note=f"waits: {why}")
        while foreign >= first and not self._stop.is_asked:
            if self._queue.refusal(self._slot) is not None:
                break
            self._stop.wait(WAIT_SECONDS)
            foreign = self.foreign_gib()
        self._report(note=None)
        return True

    def check_health(self) -> None:
        """Set the GPU aside where NVML says that it is sick."""
        now = time.monotonic()
        if now >= self._next_health:
            self._next_health = now + HEALTH_SECONDS
            problem = self._watch.problem()
            if problem is not None:
                devices = self._slot.devices
                self._queue.set_aside(devices, problem)
                log.error("%s is set aside: %s", devices.name, problem)

    def _report(self, **values: object) -> None:
        report(self._queue, self._slot, REPORT_SECONDS, **values)

    # The process itself.

    def begin_anew(self) -> None:
        """Note that another model is loaded: growth of this process's memory counts from here."""
        self._first_resident_gib = None

    def recycle(self, jobs_done: int, others: tuple[int, ...] = ()) -> str | None:
        """Why this worker should end for a new one after its jobs so far; None where it should not.

        Args:
            others: pids of the backend's own processes. With other pids than before, the count of
                growth starts anew.
        """
        if not jobs_done:
            return None
        if self._first_resident_gib is None or others != self._others:
            self._first_resident_gib, self._others = resident_gib(others), others
        after, growth = self._recycling.after_jobs, self._recycling.growth_gib
        if after is not None and jobs_done >= after:
            return f"{jobs_done} jobs done (limits.recycle_after_jobs)"
        grown = resident_gib(others) - self._first_resident_gib
        if growth is not None and grown > growth:
            return f"its memory has grown by {grown:.1f} GiB (limits.recycle_growth_gb)"
        return None
