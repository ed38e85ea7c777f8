"""How many jobs of each group and category may be claimed, kept as rows beside the jobs.

They make a claim's cost independent of the number of jobs. Every change of a job to or from
being claimable (pending and not held) goes through `count`, or through `recount` where many
jobs change at once, in the transaction of the change itself.
"""

from __future__ import annotations

import sqlalchemy as sa

from .prepared import PreparedChange
from .rows import CountedRow, OfCount
from .tables import claimable, claimable_categories, claimable_groups, jobs


def count(connection: sa.Connection, row: OfCount, *, added: bool) -> None:
    """Note that a job became claimable, or that it no longer is.

    Args:
        row: the job's, with `tries` as they are when it is claimable.
    """
    key = {"priority": row.priority, "tried": row.tries > 0, "category": row.category}
    key |= {"method": row.method}
    key = {f"own_{name}": value for name, value in key.items()}
    for counter, more in (
        (_GROUPS, {"own_group_key": row.group_key, "position": row.position}),
        (_CATEGORIES, {}),
    ):
        values = {**key, **more}
        if added:
            if not counter.up.run(connection, values):
                plain = {name.removeprefix("own_"): value for name, value in values.items()}
                connection.execute(counter.start, {**plain, "left": 1})
        elif not counter.down.run(connection, values):
            counter.end.run(connection, values)


_COUNTED = sa.select(*(jobs.c[name] for name in CountedRow._fields))


def counted(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[CountedRow]:
    """By what these jobs are counted where they are claimable, and whether they are."""
    return [CountedRow(*row) for row in connection.execute(_COUNTED.where(*where))]


class _Counter:
    """The statements on one table of counters."""

    def __init__(self, table: sa.Table, *key: str) -> None:
        own = sa.and_(*(table.c[name] == sa.bindparam(f"own_{name}") for name in key))
        left = table.c.left
        self.up = PreparedChange(sa.update(table).where(own).values(left=left + 1))
        self.down = PreparedChange(sa.update(table).where(own, left > 1).values(left=left - 1))
        self.start = sa.insert(table)
        self.end = PreparedChange(sa.delete(table).where(own))


_CATEGORIES = _Counter(claimable_categories, "priority", "method", "tried", "category")
_GROUPS = _Counter(claimable_groups, "group_key", "method", "priority", "tried")


def recount(connection: sa.Connection) -> None:
    """Count everything anew."""
    for table in (claimable_groups, claimable_categories):
        connection.execute(sa.delete(table))
    tried = sa.case((jobs.c.tries > 0, sa.true()), else_=sa.false())
    position, number = sa.func.min(jobs.c.position), sa.func.count()
    group = (jobs.c.group_key, jobs.c.method, jobs.c.priority, tried, jobs.c.category)
    connection.execute(
        sa.insert(claimable_groups).from_select(
            ["group_key", "method", "priority", "tried", "category", "position", "left"],
            sa.select(*group, position, number).where(claimable).group_by(*group),
        )
    )
    groups = claimable_groups.c
    level = (groups.priority, groups.method, groups.tried, groups.category)
    connection.execute(
        sa.insert(claimable_categories).from_select(
            ["priority", "method", "tried", "category", "left"],
            sa.select(*level, sa.func.sum(groups.left)).group_by(*level),
        )
    )
