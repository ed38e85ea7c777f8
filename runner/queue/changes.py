"""The statements that write to `jobs`: what changes by an event is as the table of states has it.

No other module inserts jobs or updates them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ..job import JobState
from .prepared import PreparedChange
from .states import GOVERNED, Event, fixed, given, sources, target
from .tables import jobs


def by_event(event: Event, *where: sa.ColumnElement[bool]) -> sa.Update:
    """The update of those jobs to which an event happens: they are in a state in which it can, and
    what is given holds of them. Whoever runs it brings the values of the event's columns along,
    each as the parameter of its own name.

    Raises:
        ValueError: the event leads to several states; see `of_one`.
    """
    values = {"state": target(event).value, **fixed(event), **_parameters(given(event))}
    return sa.update(jobs).where(can_happen(event), *where).values(values)


def prepared(event: Event, *where: sa.ColumnElement[bool]) -> PreparedChange:
    """As `by_event`, for what is run for every job; the event can happen in one state only."""
    return PreparedChange(by_event(event, *where))


def of_one(event: Event, *where: sa.ColumnElement[bool]) -> sa.Update:
    """As `by_event`, for the job `of`, which was in the state `was` and is to be in `now`: these
    are parameters as well, from `states.transition`."""
    values = {"state": sa.bindparam("now"), **fixed(event), **_parameters(given(event))}
    return sa.update(jobs).where(IS_ONE, can_happen(event), IS_AS_IT_WAS, *where).values(values)


def of_rows(columns: Sequence[str]) -> sa.Update:
    """The update of the job `of` by a plan, each column from the parameter of its own name: for
    many jobs at once, to which several events happen or none. Of what events govern only `state`
    and `files` may be among the columns, to be as `states.transition` has it; `set_fixed` does the
    rest."""
    _ungoverned(set(columns) - {"state", "files"})
    return sa.update(jobs).where(IS_ONE).values(_parameters(columns))


def set_fixed(event: Event, ids: Sequence[str]) -> sa.Update:
    """Sets the columns that an event changes always in the same way; see `of_rows`."""
    return sa.update(jobs).where(jobs.c.id.in_(ids)).values(fixed(event))


def can_happen(event: Event) -> sa.ColumnElement[bool]:
    """Whether a job is in a state in which an event can happen."""
    wanted = sources(event)
    others = [state for state in JobState if state not in wanted]
    # Not as a list, which a statement for many jobs, or a prepared one, cannot have. Where it is
    # most states, by the others: a database that looks through the index of states for these
    # jobs, and not for those that are named beside, would go through nearly all.
    if len(others) < len(wanted):
        return sa.and_(*(jobs.c.state != state.value for state in others))
    return sa.or_(*(jobs.c.state == state.value for state in wanted))


def is_in(states: Iterable[JobState]) -> sa.ColumnElement[bool]:
    """Whether a job is in one of these states."""
    return jobs.c.state.in_([state.value for state in states])


def beside_events(*names: str) -> sa.Update:
    """An update of columns of the job `of` that no event governs, each from the parameter of its
    own name."""
    return sa.update(jobs).where(IS_ONE).values(_parameters(_ungoverned(names)))


def everywhere(name: str, value: Any) -> sa.Update:
    """The update of the jobs that have another value in a column that no event governs."""
    (column,) = _ungoverned([name])
    return sa.update(jobs).where(jobs.c[column] != value).values({column: value})


def insert() -> sa.Insert:
    """Of new jobs, in the states to which `states.transition` leads from none."""
    return sa.insert(jobs)


IS_ONE = jobs.c.id == sa.bindparam("of")
IS_AS_IT_WAS = jobs.c.state == sa.bindparam("was")


def _parameters(names: Iterable[str]) -> Mapping[str, sa.BindParameter[Any]]:
    return {name: sa.bindparam(name) for name in names}


def _ungoverned(names: Collection[str]) -> Collection[str]:
    governed = set(names) & set(GOVERNED)
    assert not governed, governed
    return names
