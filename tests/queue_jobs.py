"""Jobs of a small grid for tests of the queue, and how they are claimed and asked for."""

from __future__ import annotations

from hand_made import a_job

from runner.failures import Policy
from runner.job import Job, JobState
from runner.processes import ProcessId
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.queue.claims import Claim
from runner.slot_names import Slot

JOBS = [a_job(c, f"v{v}", p, s) for c in "ab" for v in range(2) for p in range(2) for s in (1, 2)]
SLOT = Slot.of(0, 0)
OTHER_HOST = ProcessId("another host", 1, 0)
POLICY = Policy(failures=1, deaths=10, backoff_seconds=0)


def pending(_job: Job) -> JobState:
    return JobState.PENDING


def claim(queue: Queue, taste: Taste | None = None, *, process: ProcessId | None = None) -> Claim:
    taken = queue.claim(SLOT, process or ProcessId.own(), taste or Taste())
    assert taken is not None
    return taken


def states(queue: Queue) -> dict[str, JobState]:
    return {row.job.id: row.state for row in queue.rows()}
