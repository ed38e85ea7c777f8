"""What a claim is, and the statements that take, extend and end one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..failures import MOST_BACKOFF_SECONDS, FailureKind
from ..job import Job, JobState
from ..processes import ProcessId
from .failing import Verdict
from .prepared import Prepared
from .tables import NO_CLAIM, claimable, job_of, jobs, whole_jobs


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
CLAIM = Prepared(
    sa.update(jobs).where(
        claimable,
        jobs.c.id == sa.bindparam("of"),
        jobs.c.priority == sa.bindparam("at"),
        jobs.c.tries == sa.bindparam("after"),
        jobs.c.fingerprint == sa.bindparam("planned"),
    ),
    ("state", *NO_CLAIM),
)
"""Takes a job if it still is as it was read."""
GLANCE = Prepared(sa.select(jobs.c.fingerprint, jobs.c.lease_until).where(_IS_CLAIM))
FINISH = Prepared(
    sa.update(jobs)
    .where(_IS_CLAIM)
    .values({"kind": sa.null(), "error": sa.null(), **dict.fromkeys(NO_CLAIM, sa.null())}),
    ("state", "finished_at", "files", "seconds"),
)
_CLAIMED, _UPDATE_CLAIMED = sa.select(jobs).where(_IS_CLAIM), sa.update(jobs).where(_IS_CLAIM)
RUNNING = whole_jobs.where(jobs.c.state == JobState.RUNNING.value)
LEASES = Prepared(
    sa.select(
        jobs.c.host,
        jobs.c.pid,
        jobs.c.pid_started,
        sa.func.min(jobs.c.lease_until).label("lease_until"),
    )
    .where(jobs.c.state == JobState.RUNNING.value)
    .group_by(jobs.c.host, jobs.c.pid, jobs.c.pid_started)
)
"""Every process that holds a job, with the end of its first lease."""
DUE = Prepared(
    sa.select(jobs.c.id).where(
        (jobs.c.retry_at <= sa.bindparam("now"))
        # The clock was set back since, or was wrong.
        | (jobs.c.retry_at > sa.bindparam("now") + MOST_BACKOFF_SECONDS)
    )
)


def is_lost(row: Any, now: float) -> bool:
    """Whether the worker that holds a claim is gone, or its lease has ended."""
    process = ProcessId(row.host, row.pid, row.pid_started)
    return process.is_gone() if process.is_here else row.lease_until < now


def claim_of(row: Any) -> Claim:
    """The claim that a row of a running job has."""
    return Claim(job_of(row), row.token, row.worker, row.tries + 1, row.claimed_at)


def as_read(row: Any) -> dict[str, Any]:
    """What must still hold of a row chosen earlier."""
    return {"of": row.id, "at": row.priority, "after": row.tries, "planned": row.fingerprint}


def claimed(connection: sa.Connection, claim: Claim) -> Any:
    """The row of a job if it is still claimed so, or None."""
    return connection.execute(_CLAIMED, {"of": claim.job.id, "by": claim.token}).one_or_none()


def update_claimed(connection: sa.Connection, claim: Claim, values: dict[str, Any]) -> bool:
    of = {"of": claim.job.id, "by": claim.token}
    return bool(connection.execute(_UPDATE_CLAIMED, {**of, **values}).rowcount)
