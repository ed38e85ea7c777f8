"""From a pending video to a published one: finish -> check -> publish, beside the next job."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from ..backends import Interrupted
from ..disk.publish import inputs_of, publish
from ..disk.run_folder import RunFolder
from ..job.failures import is_disk_full
from ..machine.processes import give_way, peak_resident_gib
from ..queue import Queue
from ..video import check_video
from .loaded import Loaded
from .making import Attempt, LostClaim
from .surroundings import Surroundings

log = logging.getLogger("sweep.worker")


class Finisher:
    """Finishes one video at a time on a thread of its own.

    Args:
        leave_if_astray: ends this process where the run folder is no longer there.
        end: told how an attempt ended: None, or what was raised.
    """

    def __init__(
        self,
        *,
        run: RunFolder,
        queue: Queue,
        surroundings: Surroundings,
        leave_if_astray: Callable[[], None],
        end: Callable[[Attempt, BaseException | None], None],
    ) -> None:
        self._run = run
        self._queue = queue
        self._surroundings = surroundings
        self._leave_if_astray = leave_if_astray
        self._end = end
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="finish")
        # Of its own, for the queue's lock is better not held by a thread that gives way.
        self._encoder = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="encode", initializer=give_way
        )
        self._finishing: Future[None] | None = None
        self._begun = threading.Event()

    @property
    def is_busy(self) -> bool:
        return self._finishing is not None

    def take(self, attempt: Attempt, pending: Any, loaded: Loaded) -> None:
        """Take a pending video, to be finished after the one before it. No more than two are in
        memory.

        `begin` or `settle` begins to finish it.
        """
        with attempt.waiting():
            self.settle()
        self._begun.clear()
        self._finishing = self._pool.submit(self._finish, attempt, pending, loaded)

    def begin(self) -> None:
        """Begin to finish the video that was taken: the worker's next job is claimed, or there is
        none.

        Claiming takes a millisecond, and several where it shares the interpreter with encoding.
        """
        self._begun.set()

    def settle(self, timeout: float | None = None) -> None:
        """Wait until the video that is being finished is published, or its attempt has ended
        otherwise.

        Args:
            timeout: the most seconds to wait; None waits for as long as it takes.
        """
        self.begin()
        if self._finishing is not None and timeout is not None:
            wait([self._finishing], timeout)
        elif self._finishing is not None:
            finishing, self._finishing = self._finishing, None
            finishing.result()

    def close(self) -> None:
        self.settle()
        self._pool.shutdown()
        self._encoder.shutdown()

    def _finish(self, attempt: Attempt, pending: Any, loaded: Loaded) -> None:
        self._begun.wait()
        try:
            while not self._publish(attempt, pending, loaded):
                # The GPU's work is in `pending`: it is kept until there is room for it.
                with attempt.waiting():
                    self._surroundings.wait_for_room("there is no room for a finished video")
        except (Interrupted, LostClaim, Exception) as error:
            self._end(attempt, error)
        else:
            self._end(attempt, None)

    def _publish(self, attempt: Attempt, pending: Any, loaded: Loaded) -> bool:
        """Encode, check and publish a video; return False where the disk has no room for it."""
        job = attempt.job
        temporary = self._run.temporary(job)
        try:
            with attempt.stage("finish"):
                encode, quality = loaded.engine.finish, loaded.identity.quality
                self._encoder.submit(encode, pending, temporary, quality).result()
            with attempt.stage("check"):
                found = self._encoder.submit(check_video, temporary, job.shape).result()
            self._surroundings.room.saw_video(temporary.stat().st_size)
            if attempt.is_lost or not self._queue.renew(attempt.claim):
                raise LostClaim  # noqa: TRY301
            sidecar = self._sidecar(attempt, loaded, found.to_json())
            self._leave_if_astray()
            with attempt.stage("publish"):
                publish(self._run, job, temporary, sidecar)
        except Exception as error:
            # An encoder whose disk is full says so in its own words, or just writes less.
            if is_disk_full(error) or self._surroundings.is_full():
                log.warning("%s: %s: %s", job.id, type(error).__name__, error)
                self._surroundings.refuse()
                return False
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _sidecar(self, attempt: Attempt, loaded: Loaded, video: dict[str, Any]) -> dict[str, Any]:
        job, claim = attempt.job, attempt.claim
        peak = loaded.engine.memory(anew=True).peak
        if peak is not None:
            log.info("%s: peak GPU memory %.1f GiB", job.id, peak)
        a_step = attempt.seconds_per_step
        return {
            **inputs_of(job, attempt.lineage),
            "quality": loaded.identity.quality,
            "video": video,
            "worker": claim.worker,
            "attempt": claim.attempt,
            "from_step": attempt.from_step,
            "kernels": attempt.kernels,
            "claimed_at": claim.claimed_at,
            "finished_at": self._queue.clock(),
            "seconds": attempt.stages.seconds,
            "seconds_per_step": None if a_step is None else round(a_step, 5),
            "peak_gpu_memory_gib": None if peak is None else round(peak, 2),
            "peak_host_memory_gib": peak_resident_gib(loaded.engine.processes()),
            **loaded.record,
            "model_identity": dict(loaded.identity.model),
        }
