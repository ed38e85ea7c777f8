"""Which job a worker takes next, so that prepared references are used up and no GPU waits.

Jobs of the foremost priority come first, and among them those that have not been tried: one
job that kills its workers cannot keep the others of its priority from being made. Of these a
worker goes on with its own group; then takes a whole group of its home categories; then a
whole group of the category with most work left per worker; and when only started groups are
left, joins them.

Each step is a look-up in an index, so that a claim costs the same whatever the sweep's size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from .job import JobState
from .queue_tables import (
    claimable,
    claimable_categories,
    claimable_groups,
    jobs,
    whole_jobs,
)


@dataclass(frozen=True)
class Taste:
    """What a worker would rather claim: its last group, then its home categories.

    With `static` it claims nothing outside its home categories.
    """

    group: str | None = None
    home: tuple[str, ...] = ()
    static: bool = False


def choose(connection: sa.Connection, taste: Taste) -> Any:
    """The row (of `whole_jobs`) that such a worker should take next, or None."""
    level = _level(connection, taste)
    if level is None:
        return None
    if taste.group is not None:
        row = _first_job(connection, level, taste.group, taste)
        if row is not None:
            return row
    group = _choose_group(connection, level, taste)
    return None if group is None else _first_job(connection, level, group, taste)


def _own(taste: Taste, category: sa.Column[str]) -> sa.ColumnElement[bool]:
    """What a worker of such taste may claim at all."""
    return category.in_(taste.home) if taste.static and taste.home else sa.true()


def _level(connection: sa.Connection, taste: Taste) -> Any:
    """The foremost (priority, tried) at which there is anything to claim, or None."""
    table = claimable_categories.c
    return connection.execute(
        sa.select(table.priority, table.tried)
        .where(_own(taste, table.category))
        .order_by(table.priority, table.tried)
        .limit(1)
    ).one_or_none()


def _first_job(connection: sa.Connection, level: Any, group: str, taste: Taste) -> Any:
    tried = jobs.c.tries > 0 if level.tried else jobs.c.tries == 0
    return connection.execute(
        whole_jobs.where(
            claimable,
            jobs.c.group_key == group,
            jobs.c.priority == level.priority,
            tried,
            _own(taste, jobs.c.category),
        )
        .order_by(jobs.c.tries, jobs.c.position)
        .limit(1)
    ).one_or_none()


def _choose_group(connection: sa.Connection, level: Any, taste: Taste) -> str | None:
    table = claimable_categories.c
    left: dict[str, int] = {
        category: number
        for category, number in connection.execute(
            sa.select(table.category, table.left).where(
                table.priority == level.priority,
                table.tried == level.tried,
                _own(taste, table.category),
            )
        )
    }
    running = connection.execute(
        sa.select(jobs.c.group_key, jobs.c.category).where(jobs.c.state == JobState.RUNNING.value)
    ).all()
    started = sorted({row.group_key for row in running})
    order = list(_categories_in_order(left, Counter(row.category for row in running), taste.home))
    for condition in (
        claimable_groups.c.group_key.not_in(started),
        claimable_groups.c.group_key.in_(started),
    ):
        for tied in order:
            found = (_first_group(connection, level, category, condition) for category in tied)
            groups = [group for group in found if group is not None]
            if groups:
                key: str = min(groups, key=lambda group: group.position).group_key
                return key
    return None


def _categories_in_order(
    left: dict[str, int], workers: Counter[str], home: tuple[str, ...]
) -> Iterator[list[str]]:
    """Home categories in their order, then the others by work left; equal ones together.

    Work left is per worker, were this one to join those that work on the category now.
    """
    yield from ([category] for category in home if category in left)
    share = {c: left[c] / (1 + workers[c]) for c in left if c not in home}
    for _, tied in groupby(sorted(share, key=lambda c: -share[c]), key=lambda c: share[c]):
        yield list(tied)


def _first_group(
    connection: sa.Connection, level: Any, category: str, condition: sa.ColumnElement[bool]
) -> Any:
    table = claimable_groups.c
    return connection.execute(
        sa.select(table.group_key, table.position)
        .where(
            table.priority == level.priority,
            table.tried == level.tried,
            table.category == category,
            condition,
        )
        .order_by(table.position)
        .limit(1)
    ).one_or_none()
