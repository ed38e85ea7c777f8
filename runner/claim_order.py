"""Which job a worker takes next: its own group, then home, then where most is left."""

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
    """The pending job that such a worker should take next, or None."""
    pending = (jobs.c.state == JobState.PENDING.value) & ~jobs.c.held
    first = sa.select(jobs).where(pending).order_by(jobs.c.failures, jobs.c.position).limit(1)
    if taste.group is not None:
        row = connection.execute(first.where(jobs.c.group_key == taste.group)).one_or_none()
        if row is not None:
            return row
    is_pending = sa.func.sum(sa.case((jobs.c.state == JobState.PENDING.value, 1), else_=0))
    groups = connection.execute(
        sa.select(
            jobs.c.group_key,
            jobs.c.category,
            is_pending.label("pending"),
            (sa.func.count() - is_pending).label("running"),
            sa.func.min(jobs.c.position).label("position"),
        )
        .where(jobs.c.state.in_([JobState.PENDING.value, JobState.RUNNING.value]), ~jobs.c.held)
        .group_by(jobs.c.group_key, jobs.c.category)
    ).all()
    groups = [group for group in groups if group.pending]
    if taste.static and taste.home:
        groups = [group for group in groups if group.category in taste.home]
    if not groups:
        return None
    left: dict[str, int] = {}
    for group in groups:
        left[group.category] = left.get(group.category, 0) + group.pending

    def rank(group: Any) -> tuple[bool, int, int, int]:
        home = group.category in taste.home
        return (
            group.running > 0,
            taste.home.index(group.category) if home else len(taste.home),
            0 if home else -left[group.category],
            group.position,
        )

    best = min(groups, key=rank)
    return connection.execute(first.where(jobs.c.group_key == best.group_key)).one()
