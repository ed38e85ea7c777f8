"""Which job a worker takes next, so that loaded models and prepared references are used up and no
GPU waits.

Jobs of the foremost priority come first. Of these a worker takes those of the method whose model
it has loaded, and among them first those that have not been tried: one job that kills its workers
cannot keep the others of its priority from being made, for whoever comes after it has no model
loaded yet. Of these it takes, with "left" for the number of claimable ones and "per worker" for a
share of them, were this worker to join those that hold jobs there now:

1. the next of its own group, whose reference it has prepared;
2. a whole group (one of which nothing runs) of its home categories, in their order;
3. a whole group of the category with most left per worker, by position where two are equal;
4. where only started groups are left, one of the group with most left per worker, home
   categories first and then by position where two are equal. It has to prepare the reference
   in any case; there it has most use of it, and the groups end at about the same time.

With `static` all of this is within the home categories.

A worker that has no model loaded, or with whose there is nothing left to make, loads another: of
the methods of which jobs have not been tried, else of all, the one with most left per worker that
has its model loaded, by position where two are equal.

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
from .prepared import PreparedQuery
from .rows import AtWorkRow, CategoryRow, ChosenRow, GroupRow, LeftRow, LevelRow
from .tables import claimable, claimable_categories, claimable_groups, columns_of, jobs


@dataclass(frozen=True)
class Taste:
    """What a worker would rather claim: its last group, then its home categories.

    Args:
        static: it claims nothing outside its home categories.
        method: whose model it has loaded, it claims no other's jobs; "" is one without a name.
        without: methods whose model it cannot load.
    """

    group: str | None = None
    home: tuple[str, ...] = ()
    static: bool = False
    method: str = ""
    without: tuple[str, ...] = ()

    @property
    def kept_in(self) -> tuple[str, ...]:
        """The categories outside of which it claims nothing; () where there is no such."""
        return self.home if self.static else ()


_groups, _categories = claimable_groups.c, claimable_categories.c

_method: sa.BindParameter[str] = sa.bindparam("method")
_ANY_LEVEL = PreparedQuery(
    LevelRow,
    sa.select(_categories.priority, _categories.tried)
    .where(
        _categories.priority == sa.select(sa.func.min(_categories.priority)).scalar_subquery(),
        _categories.method == _method,
    )
    .order_by(_categories.tried)
    .limit(1),
)
_FIRST_JOB = (
    columns_of(ChosenRow)
    .where(
        claimable,
        jobs.c.group_key == sa.bindparam("group"),
        jobs.c.method == _method,
        jobs.c.priority == sa.bindparam("priority"),
    )
    .order_by(jobs.c.tries, jobs.c.position)
    .limit(1)
)
_FIRST_FRESH = PreparedQuery(ChosenRow, _FIRST_JOB.where(jobs.c.tries == 0))
_FIRST_TRIED = PreparedQuery(ChosenRow, _FIRST_JOB.where(jobs.c.tries > 0))
_LEFT = PreparedQuery(
    LeftRow,
    sa.select(_categories.category, _categories.left).where(
        _categories.priority == sa.bindparam("priority"),
        _categories.method == _method,
        _categories.tried == sa.bindparam("tried"),
    ),
)
# A worker may hold two jobs of a group: the one it generates and the one being encoded.
_AT_WORK = PreparedQuery(
    AtWorkRow,
    sa.select(jobs.c.worker, jobs.c.group_key, jobs.c.category)
    .where(jobs.c.state == JobState.RUNNING.value, jobs.c.method == _method)
    .distinct(),
)
_started: sa.BindParameter[str] = sa.bindparam("started", expanding=True)
_FIRST_UNSTARTED = (
    sa.select(_groups.group_key, _groups.position)
    .where(
        _groups.priority == sa.bindparam("priority"),
        _groups.tried == sa.bindparam("tried"),
        _groups.method == _method,
        _groups.category == sa.bindparam("category"),
        _groups.group_key.not_in(_started),
    )
    .order_by(_groups.position)
    .limit(1)
)
_STARTED = sa.select(*(_groups[name] for name in GroupRow._fields)).where(
    _groups.priority == sa.bindparam("priority"),
    _groups.tried == sa.bindparam("tried"),
    _groups.method == _method,
    _groups.group_key.in_(_started),
)
_FIRST_POSITION = sa.select(sa.func.min(_groups.position)).where(
    _groups.priority == sa.bindparam("priority"),
    _groups.tried == sa.bindparam("tried"),
    _groups.method == _method,
)


def choose(connection: sa.Connection, taste: Taste) -> ChosenRow | None:
    """The job that such a worker should take next, or None where it has nothing
    to make by the method that it has loaded."""
    kept_in = taste.kept_in
    if kept_in or taste.without:
        levels = (row for row in _open_levels(connection, taste) if row.method == taste.method)
        found: CategoryRow | LevelRow | None = min(levels, key=lambda own: own.tried, default=None)
    else:
        found = _ANY_LEVEL.first(connection, {"method": taste.method})
    if found is None:
        return None
    level = {"priority": found.priority, "tried": found.tried, "method": taste.method}
    first = _FIRST_TRIED if found.tried else _FIRST_FRESH
    if taste.group is not None:
        row = first.first(connection, {**level, "group": taste.group})
        if row is not None and (not kept_in or row.category in kept_in):
            return row
    group = _choose_group(connection, level, taste.home, kept_in)
    return None if group is None else first.first(connection, {**level, "group": group})


def choose_method(connection: sa.Connection, taste: Taste, workers: Counter[str]) -> str | None:
    """The method whose model such a worker should load next, or None where there is nothing that
    it may claim.

    Args:
        workers: how many others have each method's model loaded, or load it.
    """
    levels = _open_levels(connection, taste)
    if not levels:
        return None
    tried = min(level.tried for level in levels)
    left: Counter[str] = Counter()
    for level in levels:
        if level.tried == tried:
            left[level.method] += level.left
    share = {method: number / (1 + workers[method]) for method, number in left.items()}
    most = max(share.values())
    common = {"priority": levels[0].priority, "tried": tried}

    def position(method: str) -> int:
        query = connection.execute(_FIRST_POSITION, {**common, "method": method})
        return int(query.scalar_one())

    equal = [method for method, own in share.items() if own == most]
    return equal[0] if len(equal) == 1 else min(equal, key=position)


def _open_levels(connection: sa.Connection, taste: Taste) -> list[CategoryRow]:
    """Of the foremost priority that such a worker may claim, what is left by method, category and
    whether it was tried; the methods that it cannot load are left out."""
    allowed: sa.ColumnElement[bool] = _categories.method.not_in(taste.without)
    if taste.kept_in:
        allowed &= _categories.category.in_(taste.kept_in)
    foremost = sa.select(sa.func.min(_categories.priority)).where(allowed).scalar_subquery()
    columns = (_categories[name] for name in CategoryRow._fields)
    query = sa.select(*columns).where(allowed, _categories.priority == foremost)
    return [CategoryRow(*row) for row in connection.execute(query)]


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
    at_work = _AT_WORK.all(connection, {"method": level["method"]})
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
    begun = (GroupRow(*row) for row in connection.execute(_STARTED, started))
    open_groups = [row for row in begun if row.category in left]
    if not open_groups:
        return None

    def rank(group: GroupRow) -> tuple[float, int, int]:
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
