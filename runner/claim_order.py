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


_groups, _categories = claimable_groups.c, claimable_categories.c

# Statements are made once: making them costs more than running them.
_LEVEL = (
    sa.select(_categories.priority, _categories.tried)
    .order_by(_categories.priority, _categories.tried)
    .limit(1)
)
_OWN_LEVEL = _LEVEL.where(_categories.category.in_(sa.bindparam("home", expanding=True)))
_FIRST_JOB = (
    whole_jobs.where(
        claimable,
        jobs.c.group_key == sa.bindparam("group"),
        jobs.c.priority == sa.bindparam("priority"),
    )
    .order_by(jobs.c.tries, jobs.c.position)
    .limit(1)
)
_FIRST_FRESH, _FIRST_TRIED = _FIRST_JOB.where(jobs.c.tries == 0), _FIRST_JOB.where(jobs.c.tries > 0)
_LEFT = sa.select(_categories.category, _categories.left).where(
    _categories.priority == sa.bindparam("priority"), _categories.tried == sa.bindparam("tried")
)
_RUNNING = sa.select(jobs.c.group_key, jobs.c.category).where(
    jobs.c.state == JobState.RUNNING.value
)
_FIRST_GROUP = (
    sa.select(_groups.group_key, _groups.position)
    .where(
        _groups.priority == sa.bindparam("priority"),
        _groups.tried == sa.bindparam("tried"),
        _groups.category == sa.bindparam("category"),
    )
    .order_by(_groups.position)
    .limit(1)
)
_started: sa.BindParameter[str] = sa.bindparam("started", expanding=True)
_FIRST_UNSTARTED = _FIRST_GROUP.where(_groups.group_key.not_in(_started))
_FIRST_STARTED = _FIRST_GROUP.where(_groups.group_key.in_(_started))


def choose(connection: sa.Connection, taste: Taste) -> Any:
    """The row (of `whole_jobs`) that such a worker should take next, or None."""
    kept_in = taste.home if taste.static else ()
    row = connection.execute(
        _OWN_LEVEL if kept_in else _LEVEL, {"home": kept_in} if kept_in else {}
    ).one_or_none()
    if row is None:
        return None
    level = {"priority": row.priority, "tried": row.tried}
    first = _FIRST_TRIED if row.tried else _FIRST_FRESH
    if taste.group is not None:
        row = connection.execute(first, {**level, "group": taste.group}).one_or_none()
        if row is not None and (not kept_in or row.category in kept_in):
            return row
    group = _choose_group(connection, level, taste.home, kept_in)
    if group is None:
        return None
    return connection.execute(first, {**level, "group": group}).one_or_none()


def _choose_group(
    connection: sa.Connection,
    level: dict[str, Any],
    home: tuple[str, ...],
    kept_in: tuple[str, ...],
) -> str | None:
    left: dict[str, int] = {
        category: number
        for category, number in connection.execute(_LEFT, level)
        if not kept_in or category in kept_in
    }
    running = connection.execute(_RUNNING).all()
    started = sorted({row.group_key for row in running})
    order = list(_categories_in_order(left, Counter(row.category for row in running), home))
    for first in (_FIRST_UNSTARTED, _FIRST_STARTED):
        for tied in order:
            found = (
                connection.execute(
                    first, {**level, "category": category, "started": started}
                ).one_or_none()
                for category in tied
            )
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
