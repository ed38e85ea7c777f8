"""What a claim is, and the statements that take, extend and end one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..job import Job, JobState
from ..job.failures import FailureKind
from ..machine.processes import ProcessId
from .changes import prepared
from .judgement import Verdict
from .prepared import PreparedQuery
from .rows import ChosenRow, GlanceRow, LeaseRow, OfLease, RunningRow
from .states import Event
from .tables import columns_of, is_free, job_of, jobs

LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class Claim:
    """A job that a worker holds. `attempt` counts this one, from 1."""

    job: Job
    token: str
    worker: str
    attempt: int
    claimed_at: float


@dataclass(frozen=True)
class Lost:
    """A claim that was taken back from a lost worker, and what became of its job."""

    claim: Claim
    kind: FailureKind
    error: str
    verdict: Verdict


_IS_CLAIM = (jobs.c.id == sa.bindparam("of")) & (jobs.c.token == sa.bindparam("by"))
CLAIM = prepared(
    Event.CLAIMED,
    is_free,
    jobs.c.id == sa.bindparam("of"),
    jobs.c.priority == sa.bindparam("at"),
    jobs.c.tries == sa.bindparam("after"),
    jobs.c.fingerprint == sa.bindparam("planned"),
)
"""Takes a job if it still is as it was read."""
GLANCE = PreparedQuery(
    GlanceRow, sa.select(jobs.c.fingerprint, jobs.c.lease_until).where(_IS_CLAIM)
)
OF_CLAIM = {
    event: prepared(event, _IS_CLAIM)
    for event in (
        *(Event.RENEWED, Event.MADE, Event.MADE_OUTDATED, Event.FAILED, Event.FAILED_FOR_GOOD),
        *(Event.RETURNED, Event.RETURNED_TO_AWAIT),
    )
}
"""What happens to a job by its worker, or to the one of a lost worker; where the claim is no
longer that one, nothing does."""
_RUNNING = columns_of(RunningRow).where(jobs.c.state == JobState.RUNNING.value)
RUNNING = PreparedQuery(RunningRow, _RUNNING)
_CLAIMED = PreparedQuery(RunningRow, _RUNNING.where(_IS_CLAIM))
LEASES = PreparedQuery(
    LeaseRow,
    sa.select(
        jobs.c.host,
        jobs.c.pid,
        jobs.c.pid_started,
        sa.func.min(jobs.c.lease_until).label("lease_until"),
    )
    .where(jobs.c.state == JobState.RUNNING.value)
    .group_by(jobs.c.host, jobs.c.pid, jobs.c.pid_started),
)
"""Every process that holds a job, with the end of its first lease."""


def is_lost(row: OfLease, now: float) -> bool:
    """Whether the worker that holds a claim is gone, or its lease has ended."""
    process = ProcessId(row.host, row.pid, row.pid_started)
    return process.is_gone() if process.is_here else row.lease_until < now


def claim_of(row: RunningRow) -> Claim:
    """The claim of a running job."""
    return Claim(job_of(row), row.token, row.worker, row.tries + 1, row.claimed_at)


def as_read(row: ChosenRow) -> dict[str, Any]:
    """What must still hold of a row chosen earlier."""
    return {"of": row.id, "at": row.priority, "after": row.tries, "planned": row.fingerprint}


def of_claim(claim: Claim) -> dict[str, Any]:
    """The parameters by which a statement finds the job of a claim."""
    return {"of": claim.job.id, "by": claim.token}


def taken(process: ProcessId, worker: str, token: str, now: float) -> dict[str, Any]:
    """The columns of a claim that a process takes now, with a lease of `LEASE_SECONDS`."""
    return {
        **{"token": token, "worker": worker, "oom_kills": None},
        **{"host": process.host, "pid": process.pid, "pid_started": process.started},
        **{"claimed_at": now, "lease_until": now + LEASE_SECONDS},
    }


def claimed(connection: sa.Connection, claim: Claim) -> RunningRow | None:
    """The row of a job if it is still claimed so, or None."""
    return _CLAIMED.first(connection, of_claim(claim))
