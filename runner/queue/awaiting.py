"""Jobs made from videos of other runs: they await these, and are pending once all are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from ..job import JobState, MadeInput, input_of
from ..machine.waiting import Waiting
from . import Queue
from .changes import by_event, can_happen, is_in
from .claim_counts import count, counted, recount
from .states import Event, is_claimable, target
from .tables import jobs, shared

JOBS_COUNTED_ONE_BY_ONE = 200
"""At most; where more change at once, all are counted anew."""

Made = Callable[[Iterable[MadeInput]], set[MadeInput]]
"""Tells which of these videos are there."""

_ANY = sa.select(jobs.c.id).where(can_happen(Event.INPUTS_MADE)).limit(1)


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
    with queue.driver.read() as connection:
        if JobState.PENDING not in states and connection.execute(_ANY).first() is None:
            return Followed((), 0)
        series = (
            sa.select(jobs.c.series, sa.func.min(jobs.c.held).label("are_held"))
            .where(is_in(states))
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
    released = _tell(queue, ready, Event.INPUTS_MADE, waiting)
    if JobState.PENDING in states:
        _tell(queue, unready, Event.INPUTS_MISSING, waiting)
    asked = (own for key, own in missing.items() if key not in held)
    awaited = dict.fromkeys(one for own in asked for one in own)
    return Followed(tuple(awaited), released)


def _made_inputs(text: str) -> list[MadeInput]:
    """The videos of other runs among the inputs of what stands in `shared` of a series."""
    records = json.loads(text)["inputs"].values()
    inputs = (input_of(record) for record in records if "run" in record)
    return [one for one in inputs if isinstance(one, MadeInput)]


def _tell(queue: Queue, series: Collection[int], event: Event, waiting: Waiting | None) -> int:
    """Have an event happen to the jobs of these series to which it can; returns how many."""
    if not series:
        return 0
    concerned = sa.and_(can_happen(event), jobs.c.series.in_(queue.driver.listed(sorted(series))))
    with queue.driver.read() as connection:
        if connection.execute(sa.select(jobs.c.id).where(concerned).limit(1)).first() is None:
            return 0
    with queue.driver.write(waiting=waiting) as connection:
        rows = counted(connection, concerned)
        connection.execute(by_event(event, concerned))
        if len(rows) > JOBS_COUNTED_ONE_BY_ONE:
            recount(connection)
            return len(rows)
        for row in rows:
            was = is_claimable(JobState(row.state), held=row.held, retry_at=row.retry_at)
            # Of these events, each ends a time of waiting.
            now = is_claimable(target(event), held=row.held, retry_at=None)
            if was != now:
                count(connection, row, added=now)
    return len(rows)
