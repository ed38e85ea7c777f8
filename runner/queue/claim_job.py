"""Claiming one job by its id, for whoever brings its video along instead of generating it."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa

from ..job import UNMADE, JobState
from ..processes import ProcessId
from . import LEASE_SECONDS, Queue
from .claim_counts import count
from .claims import Claim
from .tables import job_of, jobs, whole_jobs, write

OPEN = tuple(state.value for state in (*UNMADE, JobState.FAILED))


def claim_job(queue: Queue, job_id: str, holder: str) -> Claim | None:
    """Claim a job that is to be made or has failed, held or not; None where it is in another state.

    It is a lease like a worker's: no worker can have the job meanwhile, and it goes back when
    this process ends without `Queue.finish` or `Queue.give_back`.

    Args:
        holder: stands where a worker's name does.
    """
    token = uuid.uuid4().hex
    process = ProcessId.own()
    query = whole_jobs.where(jobs.c.id == job_id, jobs.c.state.in_(OPEN))
    with write(queue._engine) as connection:
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        now = queue.clock()
        values: dict[str, Any] = {"state": JobState.RUNNING.value, "token": token, "worker": holder}
        values |= {"host": process.host, "pid": process.pid, "pid_started": process.started}
        values |= {"claimed_at": now, "lease_until": now + LEASE_SECONDS, "retry_at": None}
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(values))
        if row.state == JobState.PENDING.value and not row.held and row.retry_at is None:
            count(connection, row, added=False)
        return Claim(job_of(row), token, holder, row.tries + 1, now)
