"""Bringing the queue's rows in line with the manifest and with what is on disk.

A file is judged by its sidecar once; from then on by the size and time that it had (`files`).
The disk is looked at before the transaction, so that workers do not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ..job import UNMADE, Job, JobState
from .claim_counts import recount
from .tables import (
    CLEAN_SLATE,
    NO_CLAIM,
    SharedValues,
    job_of,
    jobs,
    read,
    shared,
    whole_jobs,
    write,
)

OnDisk = Callable[[Job], JobState]
Files = Callable[[str], str]
"""Size and time of the files at an output's path; "" where nothing can be proven by them."""
BATCH = 5000
MANY = 500
"""So many ids in one statement."""

_glance = sa.select(jobs.c.id, jobs.c.fingerprint, jobs.c.state, jobs.c.files)
_rows = _glance.add_columns(
    jobs.c.position,
    jobs.c.method,
    jobs.c.series,
    jobs.c.alike,
    jobs.c.held,
    sa.and_(
        *(jobs.c[name].is_not_distinct_from(value) for name, value in CLEAN_SLATE.items())
    ).label("is_clean"),
)


def follow_manifest(
    engine: sa.Engine,
    planned: Sequence[Job],
    retired: Sequence[Job],
    on_disk: OnDisk,
    files: Files | None,
    priority: Callable[[Job], int],
    then: Callable[[sa.Connection], None],
) -> None:
    """Bring every row in line with the manifest and the disk; `then` ends the transaction."""
    evidence = _look(engine, planned, on_disk, files)
    with write(engine) as connection:
        rows: dict[str, Any] = {row.id: row for row in connection.execute(_rows)}
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
                    yield _row(job, place, found.state, found.stamp, held, priority(job))
            for position, job in enumerate(retired, start=len(planned)):
                place = _place(position, job, values)
                if job.id in rows:
                    update.retired(job, place)
                else:
                    yield _row(job, place, JobState.RETIRED, None, held, 0)

        for batch in _batches(new_rows(), BATCH):
            connection.execute(sa.insert(jobs), batch)
        _insert_shared(connection, values.new)
        update.write(connection)
        recount(connection)
        then(connection)


class _Found(NamedTuple):
    """What the disk proves of a job: its state, or None where its row says so already."""

    state: JobState | None
    stamp: str | None


def _look(
    engine: sa.Engine, planned: Sequence[Job], on_disk: OnDisk, files: Files | None
) -> list[_Found]:
    """What the disk proves of each job; nothing is read of files that have not changed."""
    with read(engine) as connection:
        before = {row.id: tuple(row[1:]) for row in connection.execute(_glance)}
    nothing, judged = _Found(JobState.PENDING, ""), _Found(None, None)
    found = []
    for job in planned:
        stamp = files(job.output) if files is not None else None
        row = before.get(job.id)
        if stamp is not None and _is_judged(row, job, stamp):
            found.append(judged)
        elif stamp and row is not None and row[1:] == (JobState.DONE, stamp):
            # These files were proven to be of the fingerprint that the job had.
            found.append(_Found(JobState.STALE, stamp))
        elif stamp == "":
            found.append(nothing)
        else:
            found.append(_Found(on_disk(job), stamp))
    return found


def _is_judged(row: tuple[Any, ...] | None, job: Job, stamp: str) -> bool:
    """Whether a row's state was judged by the files that are there now, for these inputs."""
    if row is None:
        return False
    fingerprint, state, judged_by = row
    return (fingerprint, judged_by) == (job.fingerprint, stamp) and state != JobState.RETIRED


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

    def __init__(self, rows: dict[str, Any]) -> None:
        self._rows = rows
        self._changed: list[dict[str, Any]] = []
        self._moved: list[dict[str, Any]] = []
        self._remade: list[str] = []

    def planned(
        self, job: Job, place: _Place, found: _Found, on_disk: OnDisk, files: Files | None
    ) -> None:
        """A job of the manifest. `found` was seen before the transaction."""
        row = self._rows.pop(job.id)
        state, stamp = found
        if state is None or row.state == JobState.RUNNING:
            self._note(row, place, row.state, row.files)
            return
        same = bool(stamp) and files is not None and files(job.output) == stamp
        if state != row.state and not same and (now := on_disk(job)) is not state:
            # A worker has published meanwhile.
            state, stamp = now, None
        if row.fingerprint == job.fingerprint:
            state = _judge(JobState(row.state), state)
        else:
            if not row.is_clean:
                self._remade.append(job.id)
        self._note(row, place, state.value, stamp)

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
        _set(connection, self._remade, CLEAN_SLATE)
        retired = {"state": JobState.RETIRED.value, **NO_CLAIM}
        dropped = [row.id for row in self._rows.values() if row.state != JobState.RETIRED]
        _set(connection, dropped, retired)

    def _note(self, row: Any, place: _Place, state: str, stamp: str | None) -> None:
        where, now = (
            (place.position, place.method, state),
            (place.fingerprint, place.series, place.alike, stamp),
        )
        if where != (row.position, row.method, row.state):
            self._moved.append(dict(zip(_MOVES, (row.id, *now, *where), strict=True)))
        elif now != (row.fingerprint, row.series, row.alike, row.files):
            self._changed.append(dict(zip(_CHANGES, (row.id, *now), strict=True)))


def follow_disk(engine: sa.Engine, on_disk: OnDisk, files: Files) -> None:
    """Bring the rows in line with the disk, where the manifest is the one they know."""
    settled = [JobState.RETIRED.value, JobState.RUNNING.value]
    query = (
        sa.select(jobs.c.id, jobs.c.output, jobs.c.files, jobs.c.state)
        .where(jobs.c.state.not_in(settled))
        .order_by(jobs.c.position)
    )
    with read(engine) as connection:
        differing: dict[str, tuple[str, str | None, str]] = {}
        for job_id, output, former, state in connection.execute(query):
            stamp = files(output)
            if stamp != former:
                differing[job_id] = (stamp, former, state)
        found = [
            job_of(row)
            for ids in _batches(differing, MANY)
            for row in connection.execute(
                whole_jobs.where(jobs.c.id.in_(ids)).order_by(jobs.c.position)
            )
        ]
    if not found:
        return
    proven = {job.id: on_disk(job) if differing[job.id][0] else JobState.PENDING for job in found}
    with write(engine) as connection:
        changed = [
            {
                "of": job_id,
                "was": state,
                "had": former,
                "state": _judge(JobState(state), proven[job_id]).value,
                "files": stamp,
            }
            for job_id, (stamp, former, state) in differing.items()
        ]
        same = jobs.c.files.is_not_distinct_from(sa.bindparam("had"))
        connection.execute(
            # Only where no worker has acted meanwhile: it knows better.
            sa.update(jobs)
            .where(jobs.c.id == sa.bindparam("of"), jobs.c.state == sa.bindparam("was"), same)
            .values(state=sa.bindparam("state"), files=sa.bindparam("files")),
            changed,
        )
        recount(connection)


def _judge(former: JobState, proven: JobState) -> JobState:
    """The state of a job of unchanged inputs, by its former one and by what the disk proves."""
    if former is JobState.FAILED and proven is not JobState.DONE:
        return former
    if former in UNMADE and proven is JobState.STALE:
        # Its remake was asked for.
        return former
    return proven


def _row(
    job: Job,
    place: _Place,
    state: JobState,
    files: str | None,
    held: bool,
    priority: int,
) -> dict[str, Any]:
    return {
        "id": job.id,
        **place._asdict(),
        "category": job.category,
        "group_key": job.group,
        "seed": job.seed,
        "priority": priority,
        "output": job.output,
        "state": state.value,
        "held": held,
        "files": files,
    }


_CHANGES = ("of", "fingerprint", "series", "alike", "files")
_MOVES = (*_CHANGES, "position", "method", "state")


def _set_all(names: Sequence[str]) -> sa.Update:
    return (
        sa.update(jobs)
        .where(jobs.c.id == sa.bindparam("of"))
        .values({name: sa.bindparam(name) for name in names[1:]})
    )


# Two statements, for SQLite writes every index anew of which it is given a column, changed or not.
_update, _update_and_move = _set_all(_CHANGES), _set_all(_MOVES)


def _set(connection: sa.Connection, ids: Sequence[str], values: Mapping[str, Any]) -> None:
    for batch in _batches(ids, MANY):
        connection.execute(sa.update(jobs).where(jobs.c.id.in_(batch)).values(values))


def _insert_shared(connection: sa.Connection, new: Mapping[int, str]) -> None:
    known = set(connection.execute(sa.select(shared.c.key)).scalars())
    rows = ({"key": key, "value": value} for key, value in new.items() if key not in known)
    for batch in _batches(rows, BATCH):
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
