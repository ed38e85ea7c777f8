"""Bringing the queue's rows in line with the manifest and with what is on disk.

A file is judged by its sidecar once; from then on by the size and time that it had (`files`).
The disk is looked at before the transaction, so that workers do not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..job import Job, JobState
from .changes import by_event, insert, of_one, of_rows, set_fixed
from .claim_counts import recount
from .driver import Driver
from .rows import FoundRow, PlannedRow
from .states import FOUND, NEWLY_PLANNED, Event, fixed, transition
from .tables import SharedValues, job_of, jobs, shared, whole, whole_jobs

OnDisk = Callable[[Job], JobState]
Files = Callable[[str], str]
"""Size and time of the files at an output's path; "" where nothing can be proven by them."""
ROWS_PER_STATEMENT = 5000
IDS_PER_STATEMENT = 500

_glance = sa.select(*(jobs.c[name] for name in FoundRow._fields))
_slate = fixed(Event.PLANNED)
_is_clean = sa.and_(*(jobs.c[name].is_not_distinct_from(value) for name, value in _slate.items()))
_rows = sa.select(*(jobs.c[name] for name in PlannedRow._fields[:-1]), _is_clean.label("is_clean"))
_in_plan = jobs.c.state.not_in(
    [
        state.value
        for state in JobState
        if state is JobState.RETIRED or transition(state, Event.FOUND_NOTHING) is None
    ]
)
"""Whether a look at the disk may concern a job."""


def follow_manifest(
    driver: Driver,
    planned: Sequence[Job],
    retired: Sequence[Job],
    on_disk: OnDisk,
    files: Files | None,
    priority: Callable[[Job], int],
    then: Callable[[sa.Connection], None],
) -> None:
    """Bring every row in line with the manifest and the disk; `then` ends the transaction."""
    evidence = _look(driver, planned, on_disk, files)
    with driver.write() as connection:
        rows = {row.id: row for row in map(PlannedRow._make, connection.execute(_rows))}
        # While a part of the sweep is being run, new jobs are not in it.
        held = any(row.held for row in rows.values())
        values = SharedValues()
        update = _Update(rows)

        def new_rows() -> Iterator[dict[str, Any]]:
            """One pass over the manifest, since a million rows are not kept in memory."""
            for position, (job, found) in enumerate(zip(planned, evidence, strict=True)):
                place = _place(position, job, values)
                if job.id in rows:
                    update.planned(job, place, found, on_disk, files)
                else:
                    assert found.state is not None
                    event = NEWLY_PLANNED[found.state]
                    yield _row(job, place, event, found.stamp, held, priority(job))
            for position, job in enumerate(retired, start=len(planned)):
                place = _place(position, job, values)
                if job.id in rows:
                    update.retired(job, place)
                else:
                    yield _row(job, place, Event.RETIRED, None, held, 0)

        for batch in _batches(new_rows(), ROWS_PER_STATEMENT):
            connection.execute(insert(), batch)
        _insert_shared(connection, values.new)
        update.write(connection)
        recount(connection)
        then(connection)


class _Found(NamedTuple):
    """What the disk proves of a job: its state, or None where its row says so already."""

    state: JobState | None
    stamp: str | None


def _look(
    driver: Driver, planned: Sequence[Job], on_disk: OnDisk, files: Files | None
) -> list[_Found]:
    """What the disk proves of each job; nothing is read of files that have not changed."""
    with driver.read() as connection:
        before = {row.id: FoundRow(*row) for row in connection.execute(_glance)}
    nothing, judged = _Found(JobState.PENDING, ""), _Found(None, None)
    found = []
    for job in planned:
        stamp = files(job.output) if files is not None else None
        row = before.get(job.id)
        if stamp is not None and _is_judged(row, job, stamp):
            found.append(judged)
        elif stamp and row is not None and (row.state, row.files) == (JobState.DONE, stamp):
            # These files were proven to be of the fingerprint that the job had.
            found.append(_Found(JobState.STALE, stamp))
        elif stamp == "":
            found.append(nothing)
        else:
            found.append(_Found(on_disk(job), stamp))
    return found


def _is_judged(row: FoundRow | None, job: Job, stamp: str) -> bool:
    """Whether a row's state was judged by the files that are there now, for these inputs."""
    if row is None or row.state == JobState.RETIRED:
        return False
    return (row.fingerprint, row.files) == (job.fingerprint, stamp)


class _Place(NamedTuple):
    """What the manifest says of a job beside what its id stands for."""

    position: int
    method: str
    fingerprint: str
    series: int
    alike: int


def _place(position: int, job: Job, values: SharedValues) -> _Place:
    keys = values.keys(job.series)
    return _Place(position, job.method or "", job.fingerprint, *keys)


class _Update:
    """Collects what changes in the rows that are there, by the queue as it is in this transaction.

    Args:
        rows: every row, by the job's id; those of planned jobs are taken out one by one.
    """

    def __init__(self, rows: dict[str, PlannedRow]) -> None:
        self._rows = rows
        self._changed: list[dict[str, Any]] = []
        self._moved: list[dict[str, Any]] = []
        self._happened: dict[Event, list[str]] = {}

    def planned(
        self, job: Job, place: _Place, found: _Found, on_disk: OnDisk, files: Files | None
    ) -> None:
        """A job of the manifest. `found` was seen before the transaction."""
        row = self._rows.pop(job.id)
        state, stamp = found
        events = FOUND if row.fingerprint == job.fingerprint else NEWLY_PLANNED
        if state is None or transition(JobState(row.state), events[state]) is None:
            # Judged already, or a worker's.
            self._note(row, place, row.state, row.files)
            return
        same = bool(stamp) and files is not None and files(job.output) == stamp
        if state != row.state and not same and (now := on_disk(job)) is not state:
            # A worker has published meanwhile.
            state, stamp = now, None
        step = transition(JobState(row.state), events[state])
        assert step is not None
        if not row.is_clean:
            self._happened.setdefault(step.event, []).append(job.id)
        self._note(row, place, step.to.value, stamp)

    def retired(self, job: Job, place: _Place) -> None:
        """A job that was taken out of the experiment; `write` sees to its state."""
        row = self._rows[job.id]
        self._note(row, place, row.state, row.files)

    def write(self, connection: sa.Connection) -> None:
        """Write all of it, and retire the jobs that were not planned."""
        if self._changed:
            connection.execute(_update, self._changed)
        if self._moved:
            connection.execute(_update_and_move, self._moved)
        for event, ids in self._happened.items():
            if fixed(event):
                for batch in _batches(ids, IDS_PER_STATEMENT):
                    connection.execute(set_fixed(event, batch))
        dropped = [
            row.id
            for row in self._rows.values()
            if transition(JobState(row.state), Event.RETIRED) is not None
        ]
        for batch in _batches(dropped, IDS_PER_STATEMENT):
            connection.execute(by_event(Event.RETIRED, jobs.c.id.in_(batch)))

    def _note(self, row: PlannedRow, place: _Place, state: str, stamp: str | None) -> None:
        where, now = (
            (place.position, place.method, state),
            (place.fingerprint, place.series, place.alike, stamp),
        )
        if where != (row.position, row.method, row.state):
            self._moved.append(dict(zip(_MOVES, (row.id, *now, *where), strict=True)))
        elif now != (row.fingerprint, row.series, row.alike, row.files):
            self._changed.append(dict(zip(_CHANGES, (row.id, *now), strict=True)))


def follow_disk(driver: Driver, on_disk: OnDisk, files: Files) -> None:
    """Bring the rows in line with the disk, where the manifest is the one they know."""
    query = (
        sa.select(jobs.c.id, jobs.c.output, jobs.c.files, jobs.c.state)
        .where(_in_plan)
        .order_by(jobs.c.position)
    )
    with driver.read() as connection:
        differing: dict[str, tuple[str, str | None, str]] = {}
        for job_id, output, former, state in connection.execute(query):
            stamp = files(output)
            if stamp != former:
                differing[job_id] = (stamp, former, state)
        found = [
            job_of(row)
            for ids in _batches(differing, IDS_PER_STATEMENT)
            for row in whole(
                connection, whole_jobs.where(jobs.c.id.in_(ids)).order_by(jobs.c.position)
            )
        ]
    if not found:
        return
    happened: dict[Event, list[dict[str, Any]]] = {}
    for job in found:
        stamp, former, state = differing[job.id]
        event = FOUND[on_disk(job) if stamp else JobState.PENDING]
        step = transition(JobState(state), event)
        assert step is not None
        values = {"of": job.id, "was": state, "had": former, "now": step.to.value, "files": stamp}
        happened.setdefault(event, []).append(values)
    with driver.write() as connection:
        # Only where no worker has acted meanwhile: it knows better.
        same = jobs.c.files.is_not_distinct_from(sa.bindparam("had"))
        for event, values_of_jobs in happened.items():
            connection.execute(of_one(event, same), values_of_jobs)
        recount(connection)


def _row(
    job: Job,
    place: _Place,
    event: Event,
    files: str | None,
    held: bool,
    priority: int,
) -> dict[str, Any]:
    step = transition(None, event)
    assert step is not None
    return {
        "id": job.id,
        **place._asdict(),
        "category": job.category,
        "group_key": job.group,
        "seed": job.seed,
        "priority": priority,
        "output": job.output,
        "state": step.to.value,
        "held": held,
        "files": files,
    }


_CHANGES = ("of", "fingerprint", "series", "alike", "files")
_MOVES = (*_CHANGES, "position", "method", "state")


# Two statements, for SQLite writes every index anew of which it is given a column, changed or not.
_update, _update_and_move = of_rows(_CHANGES[1:]), of_rows(_MOVES[1:])


def _insert_shared(connection: sa.Connection, new: Mapping[int, str]) -> None:
    known = set(connection.execute(sa.select(shared.c.key)).scalars())
    rows = ({"key": key, "value": value} for key, value in new.items() if key not in known)
    for batch in _batches(rows, ROWS_PER_STATEMENT):
        connection.execute(sa.insert(shared), batch)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
