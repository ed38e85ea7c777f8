"""Jobs of a small grid for tests of the queue, how they are claimed and asked for, and whether what
became of them is what the table of states says."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from hand_made import a_job

from runner.job import Job, JobState
from runner.job.failures import Policy
from runner.job.slot_names import Slot
from runner.machine.processes import ProcessId
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.queue.claims import Claim
from runner.queue.driver import Driver
from runner.queue.sqlite import Sqlite
from runner.queue.states import COUNTERS, GOVERNED, Event, Transition, fixed, given, transition
from runner.queue.tables import jobs

DRIVERS: tuple[type[Driver], ...] = (Sqlite,)
"""Every database that the queue can lie in."""

JOBS = [a_job(c, f"v{v}", p, s) for c in "ab" for v in range(2) for p in range(2) for s in (1, 2)]
SLOT = Slot.of(0, 0)
OTHER_HOST = ProcessId("another host", 1, 0)
POLICY = Policy(failures=1, deaths=10, backoff_seconds=0)

Rows = dict[str, dict[str, Any]]
"""By a job's id, the columns of its row that events govern."""

NO_ROW: dict[str, Any] = {**dict.fromkeys(GOVERNED), **dict.fromkeys(COUNTERS, 0)}


def pending(_job: Job) -> JobState:
    return JobState.PENDING


def claim(queue: Queue, taste: Taste | None = None, *, process: ProcessId | None = None) -> Claim:
    taken = queue.claim(SLOT, process or ProcessId.own(), taste or Taste())
    assert taken is not None
    return taken


def states(queue: Queue) -> dict[str, JobState]:
    return {row.job.id: row.state for row in queue.rows()}


def raw(queue: Queue, query: str) -> list[tuple[Any, ...]]:
    """The rows of any query."""
    with queue.driver.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def governed(queue: Queue) -> Rows:
    query = sa.select(jobs.c.id, *(jobs.c[name] for name in GOVERNED))
    with queue.driver.read() as connection:
        rows = connection.execute(query).all()
    return {job_id: dict(zip(GOVERNED, values, strict=True)) for job_id, *values in rows}


@contextmanager
def only(queue: Queue, *events: Event) -> Iterator[None]:
    """Within this, nothing but these events happens to jobs, and each does what the table says."""
    before = governed(queue)
    yield
    after = governed(queue)
    assert not before.keys() - after.keys()
    for job_id, row in after.items():
        check(before.get(job_id), row, events)


def check(before: dict[str, Any] | None, after: dict[str, Any], events: Collection[Event]) -> None:
    """Raise AssertionError where a row is another one than before, and no one of these events makes
    that of it."""
    state = None if before is None else JobState(before["state"])
    steps = [step for event in events if (step := transition(state, event)) is not None]
    assert before == after or any(_explains(step, before or NO_ROW, after) for step in steps), (
        f"{before} became {after}, by none of {[event.value for event in events]}"
    )


def _explains(step: Transition, before: dict[str, Any], after: dict[str, Any]) -> bool:
    expected = {**before, **fixed(step.event), "state": step.to.value}
    return all(after[name] == expected[name] for name in GOVERNED if name not in given(step.event))
