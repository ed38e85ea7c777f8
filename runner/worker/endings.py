"""How attempts end: done, failed, given back or lost, in the queue and in `attempts.jsonl`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from ..disk.attempts import AttemptRecord, record_attempt
from ..disk.publish import files_of
from ..disk.run_folder import RunFolder
from ..job import JobState, Outcome
from ..job.failures import FailureKind
from ..job.slot_names import Slot
from ..machine.processes import Stop
from ..machine.waiting import Busy
from ..queue import Queue
from ..queue.claims import Claim
from .making import Attempt

log = logging.getLogger("sweep.worker")

RETRY_SECONDS = 1.0

T = TypeVar("T")


class Endings:
    """Records the ends of one worker's attempts, however long the disk stays full.

    Args:
        is_refusal: whether an error says that there is no room.
    """

    def __init__(
        self,
        run: RunFolder,
        queue: Queue,
        slot: Slot,
        stop: Stop,
        is_refusal: Callable[[BaseException], bool],
    ) -> None:
        self._is_refusal = is_refusal
        self._run = run
        self._queue = queue
        self._slot = slot
        self._stop = stop

    def done(self, attempt: Attempt, seconds: float) -> None:
        """A video was published; `seconds` is what it cost this worker."""
        job = attempt.job
        busy = sum(attempt.stages.seconds.get(stage, 0.0) for stage in ("prepare", "generate"))
        files = files_of(str(self._run.video(job)))
        state = self._insist(
            lambda: self._queue.finish(
                attempt.claim, seconds=seconds, busy_seconds=busy, files=files
            )
        )
        self._record(attempt, Outcome.DONE)
        log.info("%s: %s (%s)", job.id, state.value if state else "published", attempt.stages)

    def found(self, claim: Claim) -> None:
        """The job's video is there already: its worker was killed before it could say so."""
        files = files_of(str(self._run.video(claim.job)))
        self._insist(lambda: self._queue.finish(claim, files=files))
        log.info("%s: is on disk already", claim.job.id)

    def failed(self, attempt: Attempt, kind: FailureKind, error: str) -> None:
        verdict = self._insist(lambda: self._queue.fail(attempt.claim, error, kind))
        self._record(attempt, Outcome.FAILED, error, kind)
        state = verdict.state.value if verdict else "not ours"
        log.error("%s: %s, now %s", attempt.job.id, kind.value, state)
        for note in verdict.notes if verdict else ():
            log.warning(note)

    def put_off(self, attempt: Attempt, why: str) -> None:
        """The job went back to await its inputs, and no attempt was counted."""
        self._insist(lambda: self._queue.give_back(attempt.claim, JobState.AWAITING))
        self._record(attempt, Outcome.INTERRUPTED, why)
        log.info("%s: put off: %s", attempt.job.id, why)

    def given_back(self, attempt: Attempt, why: str, kind: FailureKind | None = None) -> None:
        """The job went back, and no attempt was counted."""
        self._insist(lambda: self._queue.give_back(attempt.claim))
        self._record(attempt, Outcome.INTERRUPTED, why if kind else None, kind)
        log.info("%s: given back: %s", attempt.job.id, why)

    def lost(self, attempt: Attempt) -> None:
        self._record(attempt, Outcome.LOST_CLAIM)
        log.warning("%s: the claim was lost; nothing was published", attempt.job.id)

    def _record(
        self,
        attempt: Attempt,
        outcome: Outcome,
        error: str | None = None,
        kind: FailureKind | None = None,
    ) -> None:
        record = AttemptRecord(
            job=attempt.job.id,
            worker=self._slot.name,
            outcome=outcome,
            started_at=attempt.claim.claimed_at,
            ended_at=self._queue.clock(),
            attempt=attempt.claim.attempt,
            kind=kind,
            error=error,
            seconds=attempt.stages.seconds,
            from_step=attempt.from_step,
        )
        self._insist(lambda: record_attempt(self._run.attempts, record))

    def _is_to_end(self) -> bool:
        if self._stop.is_asked:
            return True
        return self._queue.refusal(self._slot) is not None

    def _insist(self, call: Callable[[], T]) -> T | None:
        while True:
            try:
                return call()
            except Busy as error:
                # Asked to end, and the queue is held: the next look at the disk, or at who is
                # gone, tells it.
                log.warning("%s; leaving it untold", error)
                return None
            except Exception as error:
                if not self._is_refusal(error) or self._is_to_end():
                    raise
                log.warning("%s; trying again", error)
                self._stop.wait(RETRY_SECONDS)
