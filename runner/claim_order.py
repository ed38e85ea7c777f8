"""Which job a worker takes next, so that prepared references are used up and no GPU waits.

A worker goes on with its own group; then takes a whole group of its home categories; then a
whole group of the category with most work left per worker; and when only started groups are
left, joins them. Jobs that have ended badly before come after all others, so that one job that
kills its workers cannot keep the rest from being made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .job import JobState
from .queue_tables import jobs


@dataclass(frozen=True)
class Taste:
    """What a worker would rather claim: its last group, then its home categories.

    With `static` it claims nothing outside its home categories.
    """

    group: str | None = None
    home: tuple[str, ...] = ()
    static: bool = False


def choose(connection: sa.Connection, taste: Taste) -> Any:
    """The row of the pending job that such a worker should take next, or None."""
    pending = (jobs.c.state == JobState.PENDING.value) & ~jobs.c.held
    if taste.static and taste.home:
        pending &= jobs.c.category.in_(taste.home)
    tries = jobs.c.failures + jobs.c.deaths
    fresh = _choose(connection, taste, pending & (tries == 0))
    return fresh or _choose(connection, taste, pending)


def _choose(connection: sa.Connection, taste: Taste, claimable: sa.ColumnElement[bool]) -> Any:
    tries = jobs.c.failures + jobs.c.deaths
    first = sa.select(jobs).where(claimable).order_by(tries, jobs.c.position).limit(1)
    if taste.group is not None:
        row = connection.execute(first.where(jobs.c.group_key == taste.group)).one_or_none()
        if row is not None:
            return row
    groups = connection.execute(
        sa.select(
            jobs.c.group_key,
            jobs.c.category,
            sa.func.count().label("left"),
            sa.func.min(jobs.c.position).label("position"),
        )
        .where(claimable)
        .group_by(jobs.c.group_key, jobs.c.category)
    ).all()
    if not groups:
        return None
    running = connection.execute(
        sa.select(jobs.c.group_key, jobs.c.category).where(jobs.c.state == JobState.RUNNING.value)
    ).all()
    started = {row.group_key for row in running}
    left: dict[str, float] = {}
    for group in groups:
        left[group.category] = left.get(group.category, 0) + group.left
    # Work left per worker, were this one to join those that work on the category now.
    for category in left:
        left[category] /= 1 + sum(row.category == category for row in running)

    def rank(group: Any) -> tuple[bool, int, float, int]:
        home = group.category in taste.home
        return (
            group.group_key in started,
            taste.home.index(group.category) if home else len(taste.home),
            0 if home else -left[group.category],
            group.position,
        )

    best = min(groups, key=rank)
    return connection.execute(first.where(jobs.c.group_key == best.group_key)).one()
