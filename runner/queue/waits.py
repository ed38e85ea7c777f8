"""Jobs that wait for their next attempt, and the end of that."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from ..job import JobState
from ..job.failures import MOST_BACKOFF_SECONDS
from .changes import by_event
from .claim_counts import count, counted
from .prepared import PreparedQuery
from .rows import IdRow
from .states import Event, is_claimable, sources
from .tables import jobs

WAITS = sa.and_(
    jobs.c.retry_at.is_not(None),
    # Said of the other states: those that wait are few and have an index of their own, but asked
    # for the jobs of one state a database would look through the index of that.
    *(jobs.c.state != state.value for state in JobState if state not in sources(Event.WAIT_ENDED)),
)
"""Whether a job waits for its next attempt."""

_NOW: sa.BindParameter[float] = sa.bindparam("now")
DUE = PreparedQuery(
    IdRow,
    sa.select(jobs.c.id).where(
        WAITS,
        (jobs.c.retry_at <= _NOW)
        # The clock was set back since, or was wrong.
        | (jobs.c.retry_at > _NOW + MOST_BACKOFF_SECONDS),
    ),
)
"""The jobs whose time of waiting is over at that time."""
WAITING = PreparedQuery(IdRow, sa.select(jobs.c.id).where(WAITS))
_END = by_event(Event.WAIT_ENDED, WAITS, jobs.c.id == sa.bindparam("of"))


def end_waits(connection: sa.Connection, ids: Iterable[str]) -> None:
    """Let those of these jobs that still wait be claimed again, within a transaction."""
    for job_id in ids:
        if connection.execute(_END, {"of": job_id}).rowcount:
            (row,) = counted(connection, jobs.c.id == job_id)
            if is_claimable(JobState(row.state), held=row.held, retry_at=row.retry_at):
                count(connection, row, added=True)
