"""`sweep.db`: what is claimed, done and failed, by whom and how often. SQLite in WAL mode.

A claim is a lease: it is durable when `claim` returns, belongs to one worker, and ends when
the worker is gone from this host or has not sent a heartbeat for `LEASE_SECONDS`. Every
method is one transaction. Times are Unix seconds and are passed in.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .claim_order import Taste, choose
from .errors import UserError
from .job import Job, JobState
from .processes import ProcessId
from .queue_tables import (
    CLEAN_SLATE,
    NO_CLAIM,
    jobs,
    meta,
    metadata,
    open_database,
    planned_values,
    read,
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
                    metadata.create_all(connection)
            self.manifest_sha256()
        except sa.exc.DatabaseError:
            self.close()
            raise UserError(
                f"{path}: is damaged; delete it (and its -wal and -shm), and `sweep resume` "
                "makes it anew from the manifest and the videos"
            ) from None

    def close(self) -> None:
        self._engine.dispose()

    # Filling the queue.

    def sync(
        self,
        planned: Sequence[Job],
        retired: Sequence[Job],
        manifest_sha256: str,
        on_disk: Callable[[Job], JobState],
    ) -> None:
        """Bring every row in line with the manifest and with what the disk proves.

        Running jobs stay with their workers. `on_disk` is asked before the transaction and
        again, inside it, for a job of which the two accounts differ, since a worker may have
        published meanwhile.
        """
        proven = {job.id: on_disk(job) for job in planned}
        with write(self._engine) as connection:
            known = {row.id: row for row in connection.execute(sa.select(jobs))}
            # While a part of the sweep is being run, new jobs are not in it.
            held = any(row.held for row in known.values())
            new = []
            for position, job in enumerate((*planned, *retired)):
                row = known.get(job.id)
                values = planned_values(job, position)
                if job.id not in proven:
                    values |= {"state": JobState.RETIRED.value, **NO_CLAIM}
                elif row is None:
                    values["state"] = proven[job.id].value
                elif row.state != JobState.RUNNING:
                    state = proven[job.id]
                    if state != row.state:
                        state = on_disk(job)
                    if row.fingerprint != job.fingerprint:
                        values |= CLEAN_SLATE
                    elif state is not JobState.DONE and row.state == JobState.FAILED:
                        state = JobState.FAILED
                    elif state is JobState.STALE and row.state == JobState.PENDING:
                        # Its remake was asked for.
                        state = JobState.PENDING
                    values["state"] = state.value
                if row is None:
                    new.append({**values, **CLEAN_SLATE, "held": held})
                elif any(getattr(row, key) != value for key, value in values.items()):
                    connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(values))
            if new:
                connection.execute(sa.insert(jobs), new)
            for job_id in known.keys() - {job.id for job in (*planned, *retired)}:
                connection.execute(
                    sa.update(jobs)
                    .where(jobs.c.id == job_id)
                    .values(state=JobState.RETIRED.value, **NO_CLAIM)
                )
            _set_meta(connection, "manifest_sha256", manifest_sha256)

    def manifest_sha256(self) -> str | None:
        """The hash of the manifest that the rows were last brought in line with."""
        with read(self._engine) as connection:
            return _get_meta(connection, "manifest_sha256")

    def hold_all_but(self, chosen: set[str] | None) -> None:
        """Let workers claim only these jobs; None lets them claim every job."""
        with write(self._engine) as connection:
            connection.execute(sa.update(jobs).values(held=chosen is not None))
            for job_id in chosen or ():
                connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(held=False))

    def retry(self, states: Iterable[JobState], job_ids: Iterable[str] | None = None) -> int:
        """Make jobs of these states pending again with a clean slate; returns how many."""
        condition: sa.ColumnElement[bool] = jobs.c.state.in_([state.value for state in states])
        if job_ids is not None:
            condition &= jobs.c.id.in_(list(job_ids))
        with write(self._engine) as connection:
            return connection.execute(
                sa.update(jobs).where(condition).values(state=JobState.PENDING.value, **CLEAN_SLATE)
            ).rowcount

    # Claims.

    def claim(self, worker: str, process: ProcessId, taste: Taste, now: float) -> Claim | None:
        """Take a pending job, or None where there is none that this worker may take.

        Also None once `drain` was asked for.
        """
        token = uuid.uuid4().hex
        with write(self._engine) as connection:
            if _get_meta(connection, "draining"):
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
                    worker=worker,
                    host=process.host,
                    pid=process.pid,
                    pid_started=process.started,
                    claimed_at=now,
                    lease_until=now + LEASE_SECONDS,
                )
            )
        job = Job.from_json(json.loads(row.job))
        return Claim(job, token, worker, row.failures + row.deaths + 1, now)

    def renew(self, claim: Claim, now: float) -> bool:
        """Extend a lease; False where the claim is no longer the worker's own."""
        with write(self._engine) as connection:
            return _update_claimed(connection, claim, {"lease_until": now + LEASE_SECONDS})

    def finish(self, claim: Claim, now: float, seconds: float | None = None) -> JobState | None:
        """Record a published video.

        Args:
            seconds: what the video cost its worker, loading left out; None where not measured.

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
            values = {"state": state.value, "finished_at": now, "seconds": seconds}
            _update_claimed(connection, claim, {**values, "error": None, **NO_CLAIM})
            return state

    def fail(self, claim: Claim, error: str, now: float) -> JobState | None:
        """Count a failed attempt. Returns `PENDING` or, at the limit, `FAILED`."""
        return self._end(claim, "failures", FAILURE_LIMIT, error, now)

    def give_back(self, claim: Claim) -> bool:
        """Return a job unharmed; False where the claim was lost."""
        with write(self._engine) as connection:
            return _update_claimed(connection, claim, {"state": JobState.PENDING.value, **NO_CLAIM})

    def reclaim(self, now: float) -> list[Claim]:
        """Take back the jobs of lost workers; returns their claims.

        A worker of this host is lost when its process is gone, however the clock was set; one
        of another host when its lease has ended. A death does not use up a job's retries but a
        limit of its own.
        """
        with read(self._engine) as connection:
            running = connection.execute(
                sa.select(jobs).where(jobs.c.state == JobState.RUNNING.value)
            ).all()
        taken = []
        for row in running:
            process = ProcessId(row.host, row.pid, row.pid_started)
            if not (process.is_gone() if process.is_here else row.lease_until < now):
                continue
            job = Job.from_json(json.loads(row.job))
            attempt = row.failures + row.deaths + 1
            claim = Claim(job, row.token, row.worker, attempt, row.claimed_at)
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
            count = getattr(row, counter) + 1
            state = JobState.FAILED if count >= limit else JobState.PENDING
            values = {counter: count, "state": state.value, "error": error, "finished_at": now}
            _update_claimed(connection, claim, {**values, **NO_CLAIM})
            return state

    # Stopping.

    def drain(self, wanted: bool) -> None:
        """Have workers end after their job (True), or claim on (False)."""
        with write(self._engine) as connection:
            _set_meta(connection, "draining", "yes" if wanted else "")

    def is_draining(self) -> bool:
        with read(self._engine) as connection:
            return bool(_get_meta(connection, "draining"))

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
                        jobs.c.state == JobState.PENDING.value, jobs.c.held
                    )
                ).scalar_one()
            )

    def open_jobs(self, taste: Taste) -> tuple[int, int]:
        """How many jobs such a worker may claim now, and how many run that may come back."""
        conditions = [~jobs.c.held]
        if taste.static and taste.home:
            conditions.append(jobs.c.category.in_(taste.home))
        with read(self._engine) as connection:
            rows = connection.execute(
                sa.select(jobs.c.state, sa.func.count()).where(*conditions).group_by(jobs.c.state)
            ).all()
        numbers: dict[str, int] = {state: number for state, number in rows}
        return numbers.get(JobState.PENDING.value, 0), numbers.get(JobState.RUNNING.value, 0)

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

    def rows(self, *states: JobState) -> list[JobRow]:
        """Jobs of these states (of all, where none is given), in the manifest's order."""
        query = sa.select(jobs).order_by(jobs.c.position)
        if states:
            query = query.where(jobs.c.state.in_([state.value for state in states]))
        with read(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            JobRow(
                job=Job.from_json(json.loads(row.job)),
                state=JobState(row.state),
                held=row.held,
                failures=row.failures,
                deaths=row.deaths,
                error=row.error,
                seconds=row.seconds,
                worker=row.worker,
            )
            for row in rows
        ]


def _is_claim(claim: Claim) -> sa.ColumnElement[bool]:
    return (jobs.c.id == claim.job.id) & (jobs.c.token == claim.token)


def _update_claimed(connection: sa.Connection, claim: Claim, values: dict[str, Any]) -> bool:
    return bool(connection.execute(sa.update(jobs).where(_is_claim(claim)).values(values)).rowcount)


def _get_meta(connection: sa.Connection, key: str) -> str | None:
    value: str | None = connection.execute(
        sa.select(meta.c.value).where(meta.c.key == key)
    ).scalar_one_or_none()
    return value


def _set_meta(connection: sa.Connection, key: str, value: str) -> None:
    connection.execute(sa.delete(meta).where(meta.c.key == key))
    connection.execute(sa.insert(meta).values(key=key, value=value))
