"""Bringing the queue's rows in line with the manifest and with what is on disk.

A file is judged by its sidecar once; from then on by the size and time that it had (`files`).
The disk is looked at before the transaction, so that workers do not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa

from .claim_counts import recount
from .job import Job, JobState
from .queue_tables import (
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
    with read(engine) as connection:
        before = {row.id: tuple(row) for row in connection.execute(_glance)}
    seen: list[str | None] = []
    proven: list[JobState | None] = []
    for job in planned:
        stamp = files(job.output) if files is not None else None
        row = before.get(job.id)
        state: JobState | None
        if (
            row is not None
            and stamp is not None
            and row == (job.id, job.fingerprint, row[2], stamp)
            and row[2] != JobState.RETIRED
        ):
            state = None
        elif stamp == "":
            state = JobState.PENDING
        elif row is not None and stamp is not None and row[2:] == (JobState.DONE, stamp):
            # These files were proven to be of the fingerprint that the job had.
            state = JobState.STALE
        else:
            state = on_disk(job)
        seen.append(stamp)
        proven.append(state)
    del before
    with write(engine) as connection:
        rows = {
            row.id: row
            for row in connection.execute(
                sa.select(
                    jobs.c.id,
                    jobs.c.position,
                    jobs.c.fingerprint,
                    jobs.c.text,
                    jobs.c.parameters,
                    jobs.c.state,
                    jobs.c.held,
                    jobs.c.files,
                )
            )
        }
        # While a part of the sweep is being run, new jobs are not in it.
        held = any(row.held for row in rows.values())
        values = SharedValues()
        changed: list[dict[str, Any]] = []
        remade: list[str] = []
        dropped = rows.keys() - {job.id for job in chain(planned, retired)}

        def new() -> Iterator[dict[str, Any]]:
            """The rows of new jobs; on the way, what changes in the others is put down."""
            for position, job in enumerate(planned):
                row = rows.get(job.id)
                text, parameters = values.keys(job)
                state, stamp = proven[position], seen[position]
                if row is None:
                    assert state is not None
                    yield _row(job, position, text, parameters, state, stamp, held, priority(job))
                    continue
                if row.state == JobState.RUNNING or state is None:
                    state = JobState(row.state)
                    stamp = row.files
                else:
                    same = bool(stamp) and files is not None and files(job.output) == stamp
                    if state != row.state and not same and on_disk(job) is not state:
                        # A worker has published meanwhile.
                        state, stamp = on_disk(job), None
                    if row.fingerprint != job.fingerprint:
                        remade.append(job.id)
                    else:
                        state = _judge(JobState(row.state), state)
                now = (position, job.fingerprint, text, parameters, state.value, stamp)
                if now != (*row[1:6], row.files):
                    changed.append(dict(zip(_CHANGES, (job.id, *now), strict=True)))
            for position, job in enumerate(retired, start=len(planned)):
                row = rows.get(job.id)
                text, parameters = values.keys(job)
                if row is None:
                    state = JobState.RETIRED
                    yield _row(job, position, text, parameters, state, None, held, 0)
                else:
                    dropped.add(job.id)
                    now = (position, job.fingerprint, text, parameters, row.state, row.files)
                    if now != (*row[1:6], row.files):
                        changed.append(dict(zip(_CHANGES, (job.id, *now), strict=True)))

        for batch in _batches(new(), BATCH):
            connection.execute(sa.insert(jobs), batch)
        _insert_shared(connection, values.new)
        if changed:
            connection.execute(_update, changed)
        _set(connection, remade, CLEAN_SLATE)
        retiring = {"state": JobState.RETIRED.value, **NO_CLAIM}
        _set(connection, [i for i in dropped if rows[i].state != JobState.RETIRED], retiring)
        recount(connection)
        then(connection)


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
    if former is JobState.PENDING and proven is JobState.STALE:
        # Its remake was asked for.
        return former
    return proven


def _row(
    job: Job,
    position: int,
    text: int,
    parameters: int,
    state: JobState,
    files: str | None,
    held: bool,
    priority: int,
) -> dict[str, Any]:
    return {
        "id": job.id,
        "position": position,
        "category": job.category,
        "group_key": job.group,
        "video": job.video,
        "prompt": job.prompt,
        "seed": job.seed,
        "priority": priority,
        "fingerprint": job.fingerprint,
        "output": job.output,
        "text": text,
        "parameters": parameters,
        "state": state.value,
        "held": held,
        "files": files,
    }


_CHANGES = ("of", "position", "fingerprint", "text", "parameters", "state", "files")

_update = (
    sa.update(jobs)
    .where(jobs.c.id == sa.bindparam("of"))
    .values({name: sa.bindparam(name) for name in _CHANGES[1:]})
)


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
