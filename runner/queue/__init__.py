"""`sweep.db`: what is claimed, done and failed, by whom and how often.

What can happen to a job, and what that changes, is the table of `states`. A claim is a lease: it is
durable when `claim` returns, belongs to one worker, and ends when the worker is gone from this host
or has not sent a heartbeat for `LEASE_SECONDS`. Every method is one transaction. Times are Unix
seconds, by the clock that the queue is opened with.
"""

from __future__ import annotations

import json
import os
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ..job import CATEGORY, SEED, Job, JobState
from ..job.failures import FailureKind, Policy
from ..job.slot_names import Devices, Slot
from ..machine.processes import ProcessId
from ..machine.waiting import PATIENT, Busy, Waiting
from ..text.canonical import canonical_json
from ..text.errors import UserError
from .changes import beside_events, by_event, can_happen, everywhere, is_in
from .claim_counts import count, recount
from .claim_order import Taste, choose, choose_method
from .claims import (
    CLAIM,
    GLANCE,
    LEASE_SECONDS,
    LEASES,
    OF_CLAIM,
    RUNNING,
    Claim,
    Lost,
    as_read,
    claim_of,
    claimed,
    is_lost,
    of_claim,
    taken,
)
from .damaged import DamagedQueue, note_opened
from .driver import Driver
from .failing import cause_of_loss, end_attempt
from .gate import Gate
from .judgement import JudgedFailure, Trouble, Verdict
from .prepared import PreparedQuery
from .questions import Questions
from .rows import ValueRow
from .soundness import check_tables, foreign_part, no_database
from .sqlite import Sqlite
from .states import GIVEN_BACK, Event, is_claimable, target
from .sync import Files, OnDisk, follow_disk, follow_manifest
from .tables import every_series, get_meta, is_of, job_of, jobs, meta, priorities_in, set_meta
from .waits import DUE, WAITING, end_waits
from .worker_table import WorkerTable

HEARTBEAT_SECONDS = 10.0
RENEWED_SECONDS = 5.0
RENEWAL = Waiting.at_most(2.0)


class Queue(Questions):
    """The queue of one sweep. Safe to use from many processes and threads at once.

    Whatever writes raises `Busy` where another process holds the database for longer than
    this one waits.

    Args:
        clock: tells the Unix time by which claims are given, judged and recorded.
        driver: what speaks to the database.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        waiting: Waiting = PATIENT,
        clock: Callable[[], float] = time.time,
        driver: type[Driver] = Sqlite,
    ) -> None:
        if not create and not os.path.lexists(path):
            raise UserError(f"{path}: there is no queue; `sweep resume` makes it anew")
        path.parent.mkdir(parents=True, exist_ok=True)
        if (foreign := foreign_part(path)) is not None:
            raise DamagedQueue(path, foreign)
        if not create and (told := no_database(path)) is not None:
            raise DamagedQueue(path, told)
        self.path = path
        note_opened(path)
        super().__init__(driver(path, waiting), clock)
        # A driver may be a circle of objects: what nobody closed would stay open until Python looks
        # for such.
        weakref.finalize(self, self.driver.close).atexit = False
        self.workers = WorkerTable(self.driver, clock)
        try:
            check_tables(self.driver, create=create)
        except driver.errors as error:
            # No room, busy for a minute, not ours to write: what it holds may be whole.
            self.close()
            raise UserError(f"{path}: {getattr(error, 'orig', error)}") from error
        except DamagedQueue:
            self.close()
            raise

    def close(self) -> None:
        self.driver.close()

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
        with self.driver.read() as connection:
            axis, order = _priorities(connection)
        rank = _ranks(order)

        def priority(job: Job) -> int:
            return rank.get(canonical_json(job.on(axis)), len(rank)) if axis else 0

        def note(connection: sa.Connection) -> None:
            set_meta(connection, "manifest_sha256", manifest_sha256)
            set_meta(connection, "manifest_stamp", manifest_stamp)

        follow_manifest(self.driver, planned, retired, on_disk, files, priority, note)

    def sync_files(self, on_disk: OnDisk, files: Files) -> None:
        """Bring every row in line with the disk, without the manifest; as `sync` does."""
        follow_disk(self.driver, on_disk, files)

    def manifest_sha256(self) -> str | None:
        """The hash of the manifest that the rows were last brought in line with."""
        with self.driver.read() as connection:
            return get_meta(connection, "manifest_sha256")

    def manifest_stamp(self) -> str | None:
        """Size and time that this manifest had."""
        with self.driver.read() as connection:
            return get_meta(connection, "manifest_stamp")

    def hold_all_but(self, chosen: Collection[str] | None) -> None:
        """Let workers claim only these jobs; None lets them claim every job."""
        with self.driver.write() as connection:
            wanted = chosen is not None
            # One statement for all would rewrite a million rows that are right already.
            changed = connection.execute(everywhere("held", wanted)).rowcount
            if chosen:
                among = [{"of": job_id, "held": False} for job_id in chosen]
                connection.execute(beside_events("held"), among)
            if changed or chosen:
                recount(connection)

    def retry(self, states: Iterable[JobState], job_ids: Collection[str] | None = None) -> int:
        """Make jobs of these states pending again with a clean slate; returns how many.

        Those that are still to be made, that somebody makes now or that are retired stay as they
        are.
        """
        condition = sa.and_(is_in(states), can_happen(Event.RETRIED))
        with self.driver.write() as connection:
            found = connection.execute(sa.select(jobs.c.id).where(condition)).scalars().all()
            ids = [job_id for job_id in found if job_ids is None or job_id in job_ids]
            if ids:
                wanted = by_event(Event.RETRIED, jobs.c.id == sa.bindparam("of"))
                connection.execute(wanted, [{"of": job_id} for job_id in ids])
                recount(connection)
        return len(ids)

    def end_waiting(self) -> None:
        """Have no job wait any longer for its next attempt."""
        with self.driver.write() as connection:
            end_waits(connection, [row.id for row in WAITING.all(connection, {})])

    def prioritise(self, axis: str | None, order: Sequence[Any] = ()) -> None:
        """Have the jobs of the first value claimed before those of the second, and so on.

        Values that `order` does not name come last; so do those of later plans. With None no
        job comes before another.

        Args:
            axis: of the grid, or a parameter.
        """
        place: sa.ColumnElement[int] = sa.literal(0)
        if axis is None or not order:
            axis, order = None, ()
        rank = _ranks(order)
        with self.driver.write() as connection:
            if axis in (CATEGORY, SEED):
                place = sa.case(
                    {value: place for place, value in enumerate(order)},
                    value=jobs.c[axis],
                    else_=len(rank),
                )
            elif axis is not None:
                of: list[list[tuple[int, int]]] = [[] for _ in rank]
                for key, series in every_series(connection).items():
                    if (own := rank.get(canonical_json(series.on(axis)))) is not None:
                        of[own].append(key)
                place = sa.case(
                    *((is_of(self.driver, keys), number) for number, keys in enumerate(of)),
                    else_=len(rank),
                )
            set_meta(connection, "priorities", json.dumps([axis, list(order)]))
            if connection.execute(everywhere("priority", place)).rowcount:
                recount(connection)

    # Claims.

    def next_method(self, slot: Slot, taste: Taste) -> str | None:
        """The method whose model a worker of that slot should load, since it has none loaded or
        can claim nothing with it; None where it could claim nothing with another one either.

        The worker's row says from then on that it loads it, so that others begin elsewhere.
        """
        with self.driver.read() as connection:
            if choose_method(connection, taste, Counter()) is None:
                return None
        with self.driver.write() as connection:
            rows = self.workers.rows_in(connection)
            others = Counter(
                row.method
                for row in rows
                if row.method is not None and not row.state.has_ended and row.slot != slot
            )
            method = choose_method(connection, taste, others)
            if method is not None:
                self.workers.note_loading(connection, slot.name, method)
            return method

    def claim(
        self,
        slot: Slot,
        process: ProcessId,
        taste: Taste,
        *,
        lasting: float = 0.0,
        oom_kills: int = 0,
    ) -> Claim | None:
        """Take a pending job, or None where there is none that this worker may take with the
        model that it has loaded; see `next_method`.

        Also None where the gate refuses the slot: see `refusal`. The worker's row says from then
        on that it works on the job.

        Args:
            lasting: seconds that a job takes this worker, for the sweep's `stop_at`.
            oom_kills: `processes.oom_kills()`, by which a later look tells why it died.
        """
        token = uuid.uuid4().hex
        # Chosen before the lock is held, and again under it only where another was faster.
        with self.driver.read() as connection:
            row = choose(connection, taste)
        with self.driver.write() as connection:
            now = self.clock()
            if _gate(connection).refusal(slot, now, lasting) is not None:
                return None
            values = {**taken(process, slot.name, token, now), "oom_kills": oom_kills}
            if row is None or not CLAIM.run(connection, {**values, **as_read(row)}):
                row = choose(connection, taste)
                if row is None:
                    return None
                CLAIM.run(connection, {**values, **as_read(row)})
            count(connection, row, added=False)
            self.workers.note_claim(connection, slot.name, row.id, now)
            return Claim(job_of(row), token, slot.name, row.tries + 1, now)

    def renew(self, claim: Claim) -> bool:
        """Extend a lease; False where the claim is no longer the worker's own.

        One that was extended less than `RENEWED_SECONDS` ago stays as it is.
        """
        with self.driver.read() as connection:
            row = GLANCE.first(connection, of_claim(claim))
            fresh = self.clock() + LEASE_SECONDS - RENEWED_SECONDS
            if row is None or row.lease_until > fresh:
                return row is not None
        # Not durable: a power cut ends the worker too.
        try:
            with self.driver.write(durable=False, waiting=RENEWAL) as connection:
                values = {**of_claim(claim), "lease_until": self.clock() + LEASE_SECONDS}
                return bool(OF_CLAIM[Event.RENEWED].run(connection, values))
        except Busy:
            # Nobody else can have taken it meanwhile.
            return True

    def finish(
        self,
        claim: Claim,
        *,
        seconds: float | None = None,
        busy_seconds: float = 0.0,
        files: str | None = None,
    ) -> JobState | None:
        """Record a published video.

        Args:
            seconds: what the video cost its worker, loading left out, to be added to what the
                worker has done; None where that was not measured.
            busy_seconds: the part of it in which the device was at work.
            files: size and time of its files, so that no later look at the disk has to read
                its sidecar.

        Returns:
            The job's new state: `DONE`, or `STALE` where its inputs changed meanwhile; None
            where the claim was lost.
        """
        # Not durable: the sidecar is, and a queue that forgot it learns it from the disk.
        with self.driver.write(durable=False) as connection:
            row = GLANCE.first(connection, of_claim(claim))
            if row is None:
                return None
            is_current = row.fingerprint == claim.job.fingerprint
            event = Event.MADE if is_current else Event.MADE_OUTDATED
            now = self.clock()
            values = {"finished_at": now, "files": files, "seconds": seconds}
            OF_CLAIM[event].run(connection, {**of_claim(claim), **values})
            if seconds is not None:
                self.workers.note_done(
                    connection, claim.worker, claim.claimed_at, now, seconds, busy_seconds
                )
            return target(event)

    def fail(
        self, claim: Claim, error: str, kind: FailureKind = FailureKind.BACKEND_BUG
    ) -> Verdict | None:
        """Count a failed attempt as its kind has it; None where the claim was lost."""
        with self.driver.write() as connection:
            row = claimed(connection, claim)
            if row is None:
                return None
            return end_attempt(connection, row, JudgedFailure(kind, error, self.clock()))

    def give_back(self, claim: Claim, state: JobState = JobState.PENDING) -> bool:
        """Return a job unharmed, to be pending or to await its inputs; False where the claim was
        lost."""
        with self.driver.write() as connection:
            row = claimed(connection, claim)
            if row is None:
                return False
            event = GIVEN_BACK[state]
            if is_claimable(target(event), held=row.held, retry_at=None):
                count(connection, row, added=True)
            return bool(OF_CLAIM[event].run(connection, of_claim(claim)))

    def reclaim(
        self,
        record: Callable[[Lost], object] = lambda _: None,
        waiting: Waiting | None = None,
    ) -> list[Lost]:
        """Take back the jobs of lost workers; returns their claims.

        A worker of this host is lost when its process is gone, however the clock was set; one
        of another host when its lease has ended. A death does not use up a job's retries but a
        limit of its own. Jobs whose time of waiting is over may be claimed again.

        Args:
            record: told of each before it is final: where that raises, the claim stands as it
                was, to be taken back later.
            waiting: for other writers.
        """
        now = self.clock()
        with self.driver.read() as connection:
            due = [row.id for row in DUE.all(connection, {"now": now})]
            is_any_lost = any(is_lost(row, now) for row in LEASES.all(connection, {}))
            running = RUNNING.all(connection, {}) if is_any_lost else []
            lost = [(row, claim_of(row)) for row in running if is_lost(row, now)]
        if due:
            with self.driver.write(waiting=waiting) as connection:
                end_waits(connection, due)
        taken_back = []
        for row, claim in lost:
            kind, error = cause_of_loss(row)
            with self.driver.write(waiting=waiting) as connection:
                current = claimed(connection, claim)
                if current is None:
                    continue
                verdict = end_attempt(connection, current, JudgedFailure(kind, error, now))
                record(one := Lost(claim, kind, error, verdict))
            taken_back.append(one)
        return taken_back

    # Who may claim.

    def drain(
        self,
        wanted: bool,
        which: Collection[Devices] | None = None,
        waiting: Waiting | None = None,
    ) -> None:
        """Have workers end after their job (True), or claim on (False).

        Args:
            which: those whose workers are meant; None means all, also of later launches.
            waiting: for other writers.
        """
        self._change_gate(lambda gate: gate.drain(wanted, which), waiting)

    def reopen(self, which: Collection[Devices] | None = None) -> None:
        """Begin anew after what was set aside or stopped: these devices' slots (None: all) may
        claim on."""
        with self.driver.write() as connection:
            gate = _gate(connection).drain(False, which).reopen(which)
            set_meta(connection, "gate", gate.to_json())
            set_meta(connection, "trouble", Trouble().to_json())

    def stop_at(self, moment: float | None) -> None:
        """Have no job claimed that would not end by then, in Unix seconds."""
        self._change_gate(lambda gate: replace(gate, stop_at=moment))

    def set_aside(self, which: Slot | Devices, reason: str) -> None:
        """Have a slot, or all slots of devices, claim nothing more."""
        self._change_gate(lambda gate: gate.set_aside(which, reason))

    def gate(self) -> Gate:
        """Who may claim now."""
        with self.driver.read() as connection:
            return _gate(connection)

    def refusal(self, slot: Slot, lasting: float = 0.0) -> str | None:
        """Why a slot may not claim now a job that lasts so many seconds, or None."""
        return self.gate().refusal(slot, self.clock(), lasting)

    def set_policy(self, policy: Policy) -> None:
        """The experiment's limits, by which failures are judged from now on."""
        text = json.dumps(policy.to_json())
        with self.driver.read() as connection:
            if get_meta(connection, "policy") == text:
                return
        with self.driver.write() as connection:
            set_meta(connection, "policy", text)

    def _change_gate(self, change: Callable[[Gate], Gate], waiting: Waiting | None = None) -> None:
        with self.driver.write(waiting=waiting) as connection:
            set_meta(connection, "gate", change(_gate(connection)).to_json())


_GATE = PreparedQuery(ValueRow, sa.select(meta.c.value).where(meta.c.key == "gate"))


def _gate(connection: sa.Connection) -> Gate:
    row = _GATE.first(connection, {})
    return Gate.from_json(None if row is None else row.value)


def _ranks(order: Sequence[Any]) -> dict[str, int]:
    """The place of each value, by its JSON: a parameter's value may be a list."""
    return {canonical_json(value): place for place, value in enumerate(order)}


def _priorities(connection: sa.Connection) -> tuple[str | None, list[Any]]:
    """The axis by which jobs come one before another, and its values in their order."""
    return priorities_in(get_meta(connection, "priorities") or "[null, []]")
