"""Which job a worker takes next, so that prepared references are used up and no GPU waits.

Jobs of the foremost priority come first, and among them those that have not been tried: one
job that kills its workers cannot keep the others of its priority from being made. Of these a
worker takes, with "left" for the number of claimable ones and "per worker" for a share of them,
were this worker to join those that hold jobs there now:

1. the next of its own group, whose reference it has prepared;
2. a whole group (one of which nothing runs) of its home categories, in their order;
3. a whole group of the category with most left per worker, by position where two are equal;
4. where only started groups are left, one of the group with most left per worker, home
   categories first and then by position where two are equal. It has to prepare the reference
   in any case; there it has most use of it, and the groups end at about the same time.

With `static` all of this is within the home categories.

A claim costs the same whatever the number of jobs: each step is a look-up in an index, or goes
through the categories or the started groups, which are no more than the jobs that run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from ..job import JobState
from .prepared import Prepared
from .tables import (
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

_LEVEL = (
    sa.select(_categories.priority, _categories.tried)
    .order_by(_categories.priority, _categories.tried)
    .limit(1)
)
_OWN_LEVEL = _LEVEL.where(_categories.category.in_(sa.bindparam("home", expanding=True)))
_ANY_LEVEL = Prepared(_LEVEL)
_FIRST_JOB = (
    whole_jobs.where(
        claimable,
        jobs.c.group_key == sa.bindparam("group"),
        jobs.c.priority == sa.bindparam("priority"),
    )
    .order_by(jobs.c.tries, jobs.c.position)
    .limit(1)
)
_FIRST_FRESH = Prepared(_FIRST_JOB.where(jobs.c.tries == 0))
_FIRST_TRIED = Prepared(_FIRST_JOB.where(jobs.c.tries > 0))
_LEFT = Prepared(
    sa.select(_categories.category, _categories.left).where(
        _categories.priority == sa.bindparam("priority"), _categories.tried == sa.bindparam("tried")
    )
)
# A worker may hold two jobs of a group: the one it generates and the one being encoded.
_AT_WORK = Prepared(
    sa.select(jobs.c.worker, jobs.c.group_key, jobs.c.category)
    .where(jobs.c.state == JobState.RUNNING.value)
    .distinct()
)
_started: sa.BindParameter[str] = sa.bindparam("started", expanding=True)
_FIRST_UNSTARTED = (
    sa.select(_groups.group_key, _groups.position)
    .where(
        _groups.priority == sa.bindparam("priority"),
        _groups.tried == sa.bindparam("tried"),
        _groups.category == sa.bindparam("category"),
        _groups.group_key.not_in(_started),
    )
    .order_by(_groups.position)
    .limit(1)
)
_STARTED = sa.select(_groups.group_key, _groups.category, _groups.position, _groups.left).where(
    _groups.priority == sa.bindparam("priority"),
    _groups.tried == sa.bindparam("tried"),
    _groups.group_key.in_(_started),
)


def choose(connection: sa.Connection, taste: Taste) -> Any:
    """The row (of `whole_jobs`) that such a worker should take next, or None."""
    kept_in = taste.home if taste.static else ()
    if kept_in:
        row: Any = connection.execute(_OWN_LEVEL, {"home": kept_in}).one_or_none()
    else:
        row = _ANY_LEVEL.first(connection, {})
    if row is None:
        return None
    level = {"priority": row.priority, "tried": row.tried}
    first = _FIRST_TRIED if row.tried else _FIRST_FRESH
    if taste.group is not None:
        row = first.first(connection, {**level, "group": taste.group})
        if row is not None and (not kept_in or row.category in kept_in):
            return row
    group = _choose_group(connection, level, taste.home, kept_in)
    return None if group is None else first.first(connection, {**level, "group": group})


def _choose_group(
    connection: sa.Connection,
    level: dict[str, Any],
    home: tuple[str, ...],
    kept_in: tuple[str, ...],
) -> str | None:
    left: dict[str, int] = {
        row.category: row.left
        for row in _LEFT.all(connection, level)
        if not kept_in or row.category in kept_in
    }
    at_work = _AT_WORK.all(connection, {})
    workers = Counter(row.group_key for row in at_work)
    started = {**level, "started": sorted(workers)}
    in_categories = {(row.worker, row.category) for row in at_work}
    order = _categories_in_order(left, Counter(category for _, category in in_categories), home)
    for tied in order:
        found = (
            connection.execute(_FIRST_UNSTARTED, {**started, "category": category}).one_or_none()
            for category in tied
        )
        whole = [group for group in found if group is not None]
        if whole:
            return str(min(whole, key=lambda group: group.position).group_key)
    open_groups = [row for row in connection.execute(_STARTED, started) if row.category in left]
    if not open_groups:
        return None

    def rank(group: Any) -> tuple[float, int, int]:
        place = home.index(group.category) if group.category in home else len(home)
        return -group.left / (1 + workers[group.group_key]), place, group.position

    return str(min(open_groups, key=rank).group_key)


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
