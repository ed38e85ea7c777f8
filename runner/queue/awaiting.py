"""Jobs made from videos of other runs: they await these, and are pending once all are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from ..job import JobState, MadeInput, input_of
from ..waiting import Waiting
from . import Queue
from .claim_counts import count, recount
from .tables import jobs, read, shared, write

FEW = 200
"""So many jobs are counted one by one; for more, all are counted anew."""

Made = Callable[[Iterable[MadeInput]], set[MadeInput]]
"""Tells which of these videos are there."""

_ANY = sa.select(jobs.c.id).where(jobs.c.state == JobState.AWAITING.value).limit(1)


@dataclass(frozen=True)
class Followed:
    """What is still awaited in the part that is being run, and how many jobs no longer await
    anything."""

    awaited: tuple[MadeInput, ...]
    released: int


def follow_upstream(
    queue: Queue,
    made: Made,
    states: Collection[JobState] = (JobState.AWAITING,),
    waiting: Waiting | None = None,
) -> Followed:
    """Have those jobs of these states be pending whose inputs are all there, and the others await
    theirs.

    Args:
        waiting: for other writers.

    The disk is looked at before the transaction, so that workers do not wait for it.
    """
    with read(queue._engine) as connection:
        if JobState.PENDING not in states and connection.execute(_ANY).first() is None:
            return Followed((), 0)
        series = (
            sa.select(jobs.c.series, sa.func.min(jobs.c.held).label("are_held"))
            .where(jobs.c.state.in_([state.value for state in states]))
            .group_by(jobs.c.series)
            .subquery()
        )
        query = sa.select(shared.c.key, shared.c.value, series.c.are_held).join(
            series, series.c.series == shared.c.key
        )
        wanted, held = {}, set()
        for row in connection.execute(query):
            wanted[row.key] = _made_inputs(row.value)
            if row.are_held:
                held.add(row.key)
    there = made(one for own in wanted.values() for one in own)
    missing = {key: [one for one in own if one not in there] for key, own in wanted.items()}
    ready = [key for key, own in missing.items() if not own]
    unready = [key for key, own in missing.items() if own]
    released = _move(queue, ready, JobState.AWAITING, JobState.PENDING, waiting)
    if JobState.PENDING in states:
        _move(queue, unready, JobState.PENDING, JobState.AWAITING, waiting)
    asked = (own for key, own in missing.items() if key not in held)
    awaited = dict.fromkeys(one for own in asked for one in own)
    return Followed(tuple(awaited), released)


def _made_inputs(text: str) -> list[MadeInput]:
    """The videos of other runs among the inputs of what stands in `shared` of a series."""
    records = json.loads(text)["inputs"].values()
    inputs = (input_of(record) for record in records if "run" in record)
    return [one for one in inputs if isinstance(one, MadeInput)]


def _move(
    queue: Queue,
    series: Collection[int],
    before: JobState,
    after: JobState,
    waiting: Waiting | None,
) -> int:
    """Move the jobs of these series from one state to another; returns how many."""
    if not series:
        return 0
    keys = sa.func.json_each(json.dumps(sorted(series))).table_valued("value")
    moving = sa.and_(jobs.c.state == before.value, jobs.c.series.in_(sa.select(keys.c.value)))
    with read(queue._engine) as connection:
        if connection.execute(sa.select(jobs.c.id).where(moving).limit(1)).first() is None:
            return 0
    with write(queue._engine, waiting=waiting) as connection:
        rows = connection.execute(sa.select(jobs).where(moving)).all()
        # A time to wait is over once it is pending again.
        values = {"state": after.value, "retry_at": None}
        connection.execute(sa.update(jobs).where(moving).values(values))
        if len(rows) > FEW:
            recount(connection)
            return len(rows)
        for row in rows:
            was = before is JobState.PENDING and row.retry_at is None
            if not row.held and (was or after is JobState.PENDING):
                count(connection, row, added=after is JobState.PENDING)
    return len(rows)
