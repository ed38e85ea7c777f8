"""Claiming one job by its id, for whoever brings its video along instead of generating it."""

from __future__ import annotations

import uuid

from ..job import JobState
from ..machine.processes import ProcessId
from . import Queue
from .changes import by_event, can_happen
from .claim_counts import count
from .claims import Claim, taken
from .states import Event, is_claimable
from .tables import job_of, jobs, whole, whole_jobs

_BROUGHT = whole_jobs.where(can_happen(Event.BROUGHT))


def claim_job(queue: Queue, job_id: str, holder: str) -> Claim | None:
    """Claim a job that is to be made or has failed, held or not; None where it is in another state.

    It is a lease like a worker's: no worker can have the job meanwhile, and it goes back when
    this process ends without `Queue.finish` or `Queue.give_back`.

    Args:
        holder: stands where a worker's name does.
    """
    token = uuid.uuid4().hex
    with queue.driver.write() as connection:
        row = next(whole(connection, _BROUGHT.where(jobs.c.id == job_id)), None)
        if row is None:
            return None
        now = queue.clock()
        values = taken(ProcessId.own(), holder, token, now)
        connection.execute(by_event(Event.BROUGHT, jobs.c.id == job_id), values)
        if is_claimable(JobState(row.state), held=row.held, retry_at=row.retry_at):
            count(connection, row, added=False)
        return Claim(job_of(row), token, holder, row.tries + 1, now)
