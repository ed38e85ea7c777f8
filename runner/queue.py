"""`sweep.db`: what is claimed, done and failed, by whom and how often. SQLite in WAL mode.

A claim is a lease: it is durable when `claim` returns, belongs to one worker, and ends when
the worker is gone from this host or has not sent a heartbeat for `LEASE_SECONDS`. Every
method is one transaction. Times are Unix seconds and are passed in.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from .claim_counts import count, recount
from .claim_order import Taste, choose
from .errors import UserError
from .job import Job, JobState
from .placement import Slot
from .processes import ProcessId
from .queue_sync import Files, OnDisk, follow_disk, follow_manifest
from .queue_tables import (
    CLEAN_SLATE,
    NO_CLAIM,
    SCHEMA,
    claimable,
    get_meta,
    job_of,
    jobs,
    meta,
    metadata,
    open_database,
    read,
    set_meta,
    whole_jobs,
    write,
)
from .worker_table import WorkerTable

HEARTBEAT_SECONDS = 10.0
LEASE_SECONDS = 60.0
FAILURE_LIMIT = 2
"""So many failed attempts make a job failed."""
DEATH_LIMIT = 10
"""So many workers that died on a job make it failed."""


@dataclass(frozen=True)
class Claim:
    """A job that a worker holds. `attempt` counts this one, from 1."""

    job: Job
    token: str
    worker: str
    attempt: int
    claimed_at: float


@dataclass(frozen=True)
class JobRow:
    """A job as the queue knows it."""

    job: Job
    state: JobState
    held: bool
    failures: int
    deaths: int
    error: str | None
    seconds: float | None
    worker: str | None


@dataclass(frozen=True, slots=True)
class PointRow:
    """Where in the grid a job stands: what it takes to choose a part of a sweep."""

    id: str
    category: str
    video: str
    prompt: int
    seed: int
    group: str


class Queue:
    """The queue of one sweep. Safe to use from many processes and threads at once."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if not create and not path.exists():
            raise UserError(f"{path}: there is no queue; `sweep resume` makes it anew")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._engine = open_database(path)
        self.workers = WorkerTable(self._engine)
        try:
            if create:
                with write(self._engine) as connection:
                    # The tables of another version stay as they are, to be refused below.
                    if not sa.inspect(connection).has_table(meta.name):
                        metadata.create_all(connection)
                        set_meta(connection, "schema", SCHEMA)
            with read(self._engine) as connection:
                schema = get_meta(connection, "schema")
        except sa.exc.DatabaseError:
            self.close()
            raise UserError(
                f"{path}: is damaged; delete it (and its -wal and -shm), and `sweep resume` "
                "makes it anew from the manifest and the videos"
            ) from None
        if schema != SCHEMA:
            self.close()
            raise UserError(
                f"{path}: is of another version; delete it (and its -wal and -shm), and `sweep "
                "resume` makes it anew from the manifest and the videos"
            )

    def close(self) -> None:
        self._engine.dispose()

    # Filling the queue.

    def sync(
        self,
        planned: Sequence[Job],
        retired: Sequence[Job],
        manifest_sha256: str,
        on_disk: OnDisk,
        files: Files | None = None,
        manifest_stamp: str = "",
    ) -> None:
        """Bring every row in line with the manifest and with what the disk proves.

        Running jobs stay with their workers. `on_disk` is asked before the transaction and
        again, inside it, for a job of which the two accounts differ, since a worker may have
        published meanwhile.

        Args:
            files: size and time of the files at an output's path; where they are those by
                which a row was last judged, `on_disk` is not asked. None asks it for each job.
            manifest_stamp: size and time of the manifest.
        """
        with read(self._engine) as connection:
            axis, order = _priorities(connection)
        rank = {value: place for place, value in enumerate(order)}

        def priority(job: Job) -> int:
            return rank.get(getattr(job, axis), len(rank)) if axis else 0

        def note(connection: sa.Connection) -> None:
            set_meta(connection, "manifest_sha256", manifest_sha256)
            set_meta(connection, "manifest_stamp", manifest_stamp)

        follow_manifest(self._engine, planned, retired, on_disk, files, priority, note)

    def sync_files(self, on_disk: OnDisk, files: Files) -> None:
        """Bring every row in line with the disk, without the manifest; as `sync` does."""
        follow_disk(self._engine, on_disk, files)

    def manifest_sha256(self) -> str | None:
        """The hash of the manifest that the rows were last brought in line with."""
        with read(self._engine) as connection:
            return get_meta(connection, "manifest_sha256")

    def manifest_stamp(self) -> str | None:
        """Size and time that this manifest had."""
        with read(self._engine) as connection:
            return get_meta(connection, "manifest_stamp")

    def hold_all_but(self, chosen: Collection[str] | None) -> None:
        """Let workers claim only these jobs; None lets them claim every job."""
        with write(self._engine) as connection:
            wanted = chosen is not None
            # One statement for all would rewrite a million rows that are right already.
            changed = connection.execute(
                sa.update(jobs).where(jobs.c.held != wanted).values(held=wanted)
            ).rowcount
            if chosen:
                connection.execute(
                    sa.update(jobs).where(jobs.c.id == sa.bindparam("of")).values(held=False),
                    [{"of": job_id} for job_id in chosen],
                )
            if changed or chosen:
                recount(connection)

    def retry(self, states: Iterable[JobState], job_ids: Collection[str] | None = None) -> int:
        """Make jobs of these states pending again with a clean slate; returns how many."""
        condition = jobs.c.state.in_([state.value for state in states])
        values = {"state": JobState.PENDING.value, **CLEAN_SLATE}
        with write(self._engine) as connection:
            found = connection.execute(sa.select(jobs.c.id).where(condition)).scalars().all()
            ids = [job_id for job_id in found if job_ids is None or job_id in job_ids]
            if ids:
                connection.execute(
                    sa.update(jobs).where(jobs.c.id == sa.bindparam("of")).values(values),
                    [{"of": job_id} for job_id in ids],
                )
                recount(connection)
        return len(ids)

    def prioritise(
        self, axis: Literal["category", "seed"] | None, order: Sequence[str | int] = ()
    ) -> None:
        """Have the jobs of the first value claimed before those of the second, and so on.

        Values that `order` does not name come last; so do those of later plans. With None no
        job comes before another.
        """
        place: sa.ColumnElement[int] = sa.literal(0)
        if axis is None or not order:
            axis, order = None, ()
        else:
            rank = {value: place for place, value in enumerate(order)}
            place = sa.case(rank, value=jobs.c[axis], else_=len(rank))
        with write(self._engine) as connection:
            set_meta(connection, "priorities", json.dumps([axis, list(order)]))
            changed = connection.execute(
                sa.update(jobs).where(jobs.c.priority != place).values(priority=place)
            )
            if changed.rowcount:
                recount(connection)

    # Claims.

    def claim(self, slot: Slot, process: ProcessId, taste: Taste, now: float) -> Claim | None:
        """Take a pending job, or None where there is none that this worker may take.

        Also None once `drain` was asked for of the slot's GPU.
        """
        token = uuid.uuid4().hex
        with write(self._engine) as connection:
            if _is_draining(connection, slot.gpu):
                return None
            row = choose(connection, taste)
            if row is None:
                return None
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == row.id)
                .values(
                    state=JobState.RUNNING.value,
                    token=token,
                    worker=slot.name,
                    host=process.host,
                    pid=process.pid,
                    pid_started=process.started,
                    claimed_at=now,
                    lease_until=now + LEASE_SECONDS,
                )
            )
            count(connection, row, added=False)
        return Claim(job_of(row), token, slot.name, row.tries + 1, now)

    def renew(self, claim: Claim, now: float) -> bool:
        """Extend a lease; False where the claim is no longer the worker's own."""
        with write(self._engine) as connection:
            return _update_claimed(connection, claim, {"lease_until": now + LEASE_SECONDS})

    def finish(
        self, claim: Claim, now: float, *, measured: bool = True, files: str | None = None
    ) -> JobState | None:
        """Record a published video.

        Args:
            files: size and time of its files, so that no later look at the disk has to read
                its sidecar.
            measured: whether the time since the claim is what making the video took.

        Returns:
            The job's new state: `DONE`, or `STALE` where its inputs changed meanwhile; None
            where the claim was lost.
        """
        with write(self._engine) as connection:
            row = connection.execute(
                sa.select(jobs.c.fingerprint).where(_is_claim(claim))
            ).one_or_none()
            if row is None:
                return None
            current = row.fingerprint == claim.job.fingerprint
            state = JobState.DONE if current else JobState.STALE
            values: dict[str, Any] = {"state": state.value, "finished_at": now, "files": files}
            if measured:
                values["seconds"] = now - claim.claimed_at
            _update_claimed(connection, claim, {**values, "error": None, **NO_CLAIM})
            return state

    def fail(self, claim: Claim, error: str, now: float) -> JobState | None:
        """Count a failed attempt. Returns `PENDING` or, at the limit, `FAILED`."""
        return self._end(claim, "failures", FAILURE_LIMIT, error, now)

    def give_back(self, claim: Claim) -> bool:
        """Return a job unharmed; False where the claim was lost."""
        with write(self._engine) as connection:
            row = connection.execute(sa.select(jobs).where(_is_claim(claim))).one_or_none()
            if row is None:
                return False
            if not row.held:
                count(connection, row, added=True)
            return _update_claimed(connection, claim, {"state": JobState.PENDING.value, **NO_CLAIM})

    def reclaim(self, now: float) -> list[Claim]:
        """Take back the jobs of lost workers; returns their claims.

        A worker of this host is lost when its process is gone, however the clock was set; one
        of another host when its lease has ended. A death does not use up a job's retries but a
        limit of its own.
        """
        with read(self._engine) as connection:
            running = connection.execute(
                whole_jobs.where(jobs.c.state == JobState.RUNNING.value)
            ).all()
        taken = []
        for row in running:
            process = ProcessId(row.host, row.pid, row.pid_started)
            if not (process.is_gone() if process.is_here else row.lease_until < now):
                continue
            claim = Claim(job_of(row), row.token, row.worker, row.tries + 1, row.claimed_at)
            error = f"the worker {row.worker} (pid {row.pid}) died or fell silent"
            if self._end(claim, "deaths", DEATH_LIMIT, error, now) is not None:
                taken.append(claim)
        return taken

    def _end(
        self, claim: Claim, counter: str, limit: int, error: str, now: float
    ) -> JobState | None:
        with write(self._engine) as connection:
            row = connection.execute(sa.select(jobs).where(_is_claim(claim))).one_or_none()
            if row is None:
                return None
            number, tries = getattr(row, counter) + 1, row.tries + 1
            state = JobState.FAILED if number >= limit else JobState.PENDING
            values = {counter: number, "tries": tries, "state": state.value}
            values |= {"error": error, "finished_at": now}
            _update_claimed(connection, claim, {**values, **NO_CLAIM})
            if state is JobState.PENDING and not row.held:
                tried = connection.execute(sa.select(jobs).where(jobs.c.id == row.id)).one()
                count(connection, tried, added=True)
            return state

    # Stopping.

    def drain(self, wanted: bool, gpus: Sequence[int] | None = None) -> None:
        """Have workers end after their job (True), or claim on (False).

        Args:
            gpus: those whose workers are meant; None means all, also of later launches.
        """
        with write(self._engine) as connection:
            everywhere, apart = _draining(connection)
            if gpus is None:
                everywhere, apart = wanted, set()
            elif wanted == everywhere:
                apart -= set(gpus)
            else:
                apart |= set(gpus)
            set_meta(connection, "draining", json.dumps([everywhere, sorted(apart)]))

    def is_draining(self, gpu: int | None = None) -> bool:
        """Whether this GPU's workers are to end, or with None those of every GPU."""
        with read(self._engine) as connection:
            return _is_draining(connection, gpu)

    # Questions.

    def counts(self) -> dict[str, dict[JobState, int]]:
        """Number of jobs per category and state, categories in the manifest's order."""
        with read(self._engine) as connection:
            rows = connection.execute(
                sa.select(jobs.c.category, jobs.c.state, sa.func.count())
                .group_by(jobs.c.category, jobs.c.state)
                .order_by(sa.func.min(jobs.c.position))
            ).all()
        counts: dict[str, dict[JobState, int]] = {}
        for category, state, number in rows:
            counts.setdefault(category, {})[JobState(state)] = number
        return counts

    def held(self) -> int:
        """Number of pending jobs outside the part of the sweep that is being run."""
        with read(self._engine) as connection:
            return int(
                connection.execute(
                    sa.select(sa.func.count()).where(
                        jobs.c.state == JobState.PENDING.value, jobs.c.held == sa.true()
                    )
                ).scalar_one()
            )

    def open_jobs(self, taste: Taste) -> tuple[int, int]:
        """How many jobs such a worker may claim now, and how many run that may come back."""
        own = jobs.c.category.in_(taste.home) if taste.static and taste.home else sa.true()
        running = jobs.c.state == JobState.RUNNING.value
        number = sa.select(sa.func.count()).select_from(jobs)
        with read(self._engine) as connection:
            pending: int = connection.execute(number.where(claimable, own)).scalar_one()
            may_return: int = connection.execute(
                number.where(running, jobs.c.held == sa.false(), own)
            ).scalar_one()
        return pending, may_return

    def mean_seconds(self, last: int = 200) -> float | None:
        """Mean seconds of the jobs done last, from claim to publication; loading is not in it."""
        with read(self._engine) as connection:
            recent = (
                sa.select(jobs.c.seconds)
                .where(jobs.c.seconds.is_not(None))
                .order_by(jobs.c.finished_at.desc())
                .limit(last)
                .subquery()
            )
            mean = connection.execute(sa.select(sa.func.avg(recent.c.seconds))).scalar_one()
        return None if mean is None else float(mean)

    def claim_times(self) -> list[float]:
        """Since when each running job runs."""
        with read(self._engine) as connection:
            rows = connection.execute(
                sa.select(jobs.c.claimed_at).where(jobs.c.state == JobState.RUNNING.value)
            ).all()
        return [row.claimed_at for row in rows]

    def left(
        self, states: Collection[JobState], chosen: Collection[str] | None = None
    ) -> dict[str, int]:
        """Number of jobs of these states (of those `chosen`) per category, in order."""
        if chosen is None:
            counts = self.counts()
            found = {c: sum(own.get(state, 0) for state in states) for c, own in counts.items()}
            return {category: number for category, number in found.items() if number}
        query = (
            sa.select(jobs.c.id, jobs.c.category)
            .where(jobs.c.state.in_([state.value for state in states]))
            .order_by(jobs.c.position)
        )
        numbers: dict[str, int] = {}
        with read(self._engine) as connection:
            for job_id, category in connection.execute(query):
                if job_id in chosen:
                    numbers[category] = numbers.get(category, 0) + 1
        return numbers

    def points(self) -> list[PointRow]:
        """Where every job of the manifest stands in the grid, in its order."""
        columns = (jobs.c.id, jobs.c.category, jobs.c.video, jobs.c.prompt, jobs.c.seed)
        query = (
            sa.select(*columns, jobs.c.group_key)
            .where(jobs.c.state != JobState.RETIRED.value)
            .order_by(jobs.c.position)
        )
        with read(self._engine) as connection:
            return [PointRow(*row) for row in connection.execute(query)]

    def rows(self, *states: JobState) -> list[JobRow]:
        """Jobs of these states (of all, where none is given), in the manifest's order."""
        query = whole_jobs.order_by(jobs.c.position)
        if states:
            query = query.where(jobs.c.state.in_([state.value for state in states]))
        with read(self._engine) as connection:
            return [
                JobRow(
                    job=job_of(row),
                    state=JobState(row.state),
                    held=row.held,
                    failures=row.failures,
                    deaths=row.deaths,
                    error=row.error,
                    seconds=row.seconds,
                    worker=row.worker,
                )
                for row in connection.execute(query)
            ]


def _is_claim(claim: Claim) -> sa.ColumnElement[bool]:
    return (jobs.c.id == claim.job.id) & (jobs.c.token == claim.token)


def _update_claimed(connection: sa.Connection, claim: Claim, values: dict[str, Any]) -> bool:
    return bool(connection.execute(sa.update(jobs).where(_is_claim(claim)).values(values)).rowcount)


def _draining(connection: sa.Connection) -> tuple[bool, set[int]]:
    """Whether every GPU drains, and the GPUs of which the opposite holds."""
    everywhere, apart = json.loads(get_meta(connection, "draining") or "[false, []]")
    return everywhere, set(apart)


def _is_draining(connection: sa.Connection, gpu: int | None) -> bool:
    everywhere, apart = _draining(connection)
    return (everywhere and not apart) if gpu is None else (gpu in apart) != everywhere


def _priorities(connection: sa.Connection) -> tuple[str | None, list[str | int]]:
    """The axis by which jobs come one before another, and its values in their order."""
    axis, order = json.loads(get_meta(connection, "priorities") or "[null, []]")
    return axis, order
