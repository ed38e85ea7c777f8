"""The `workers` table of `sweep.db`: what each worker last said of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import sqlalchemy as sa

from ..job.slot_names import Slot
from ..machine.processes import ProcessId
from ..machine.waiting import Waiting
from ..text.errors import UserError
from .driver import Driver
from .prepared import PreparedChange
from .tables import workers

RESTART_SECONDS = 60.0
"""Within so long another worker is there, or the slot has given up."""
CARRIED = ("jobs_done", "job_seconds", "busy_seconds", "first_claim_at", "last_end_at")


class WorkerState(str, Enum):
    LOADING = "loading"
    WORKING = "working"
    WAITING = "waiting"
    """Nothing to claim now, but a job may yet come back; or its `note` says what it waits for."""
    RESTARTING = "restarting"
    """It ends, and its slot starts another one."""
    STOPPED = "stopped"
    GONE = "gone"
    """Its process no longer exists, and it did not say goodbye."""

    @property
    def has_ended(self) -> bool:
        return self in (WorkerState.STOPPED, WorkerState.GONE)


@dataclass(frozen=True)
class WorkerRow:
    """What a slot's workers of this launch last said of themselves.

    `job_seconds` is what their videos took from one publication to the next, `busy_seconds` the
    part in which the device was at work (prepare and generate), both since `first_claim_at`.
    """

    name: str
    slot: Slot
    process: ProcessId
    state: WorkerState
    note: str | None
    method: str | None
    """Whose model it has loaded, or loads: "" is a method without a name, None none yet."""
    job: str | None
    step: int
    steps: int
    jobs_done: int
    job_seconds: float
    busy_seconds: float
    started_at: float
    first_claim_at: float | None
    last_end_at: float | None
    gpu_gib: float | None
    """What its process holds of the GPU's memory."""


_REPORT = sa.update(workers).where(workers.c.name == sa.bindparam("of"))
_CLAIM = PreparedChange(
    _REPORT.values(state=WorkerState.WORKING.value, step=0, steps=0), ("job", "beat_at")
)
_DONE = PreparedChange(
    _REPORT.values(
        jobs_done=workers.c.jobs_done + 1,
        job_seconds=workers.c.job_seconds + sa.bindparam("took", type_=sa.Float),
        busy_seconds=workers.c.busy_seconds + sa.bindparam("busy", type_=sa.Float),
        first_claim_at=sa.func.coalesce(workers.c.first_claim_at, sa.bindparam("claimed_at")),
        last_end_at=sa.bindparam("ended_at"),
    )
)


class WorkerTable:
    """Reports of workers; every method is one transaction.

    Args:
        clock: the queue's.
    """

    def __init__(self, driver: Driver, clock: Callable[[], float]) -> None:
        self._driver = driver
        self._clock = clock

    def register(self, slot: Slot, process: ProcessId) -> None:
        """Enter a new worker of a slot; what the slot's former workers of this launch have
        done is carried on."""
        same_slot = workers.c.name == slot.name
        now = self._clock()
        values: dict[str, object] = {
            "name": slot.name,
            "place": slot.place,
            "devices": slot.devices.name,
            "host": process.host,
            "pid": process.pid,
            "pid_started": process.started,
            "state": WorkerState.LOADING.value,
            "job": None,
            "step": 0,
            "steps": 0,
            "jobs_done": 0,
            **dict.fromkeys(("job_seconds", "busy_seconds"), 0.0),
            **dict.fromkeys(("first_claim_at", "last_end_at", "note", "method", "gpu_gib")),
            "started_at": now,
            "beat_at": now,
        }
        with self._driver.write() as connection:
            former = connection.execute(sa.select(workers).where(same_slot)).one_or_none()
            if former is not None:
                values |= {name: getattr(former, name) for name in CARRIED}
            connection.execute(sa.delete(workers).where(same_slot))
            connection.execute(sa.insert(workers).values(values))

    def report(self, slot: Slot, waiting: Waiting | None = None, **values: object) -> None:
        """Note what a worker does: `state`, `job`, `step`, `steps`, ...

        Args:
            waiting: for other writers.
        """
        # Not durable: a power cut ends the worker too.
        plain = {key: v.value if isinstance(v, Enum) else v for key, v in values.items()}
        with self._driver.write(durable=False, waiting=waiting) as connection:
            connection.execute(_REPORT, {"of": slot.name, "beat_at": self._clock(), **plain})

    def note_loading(self, connection: sa.Connection, name: str, method: str) -> None:
        """Note that a worker begins to load a method's model, within a transaction that is there
        already."""
        values = {"state": WorkerState.LOADING.value, "job": None, "method": method}
        connection.execute(_REPORT, {"of": name, "beat_at": self._clock(), **values})

    def note_claim(self, connection: sa.Connection, name: str, job: str, claimed_at: float) -> None:
        """Note that a worker now works on a job, within a transaction that is there already."""
        _CLAIM.run(connection, {"of": name, "beat_at": claimed_at, "job": job})

    def note_done(
        self,
        connection: sa.Connection,
        name: str,
        claimed_at: float,
        ended_at: float,
        seconds: float,
        busy_seconds: float,
    ) -> None:
        """Add a job done to a slot's sums, within a transaction that is there already."""
        values = {"took": seconds, "busy": busy_seconds}
        values |= {"claimed_at": claimed_at, "ended_at": ended_at}
        _DONE.run(connection, {"of": name, **values})

    def rows(self) -> list[WorkerRow]:
        """Every worker since the last launch, by slot."""
        with self._driver.read() as connection:
            return self.rows_in(connection)

    def rows_in(self, connection: sa.Connection) -> list[WorkerRow]:
        """As `rows`, within a transaction that is there already."""
        rows = connection.execute(sa.select(workers)).all()
        now = self._clock()
        result = []
        for row in rows:
            process = ProcessId(row.host, row.pid, row.pid_started)
            state = WorkerState(row.state)
            restarts = state is WorkerState.RESTARTING and row.beat_at > now - RESTART_SECONDS
            if not restarts and not state.has_ended and process.is_gone():
                state = WorkerState.GONE
            result.append(
                WorkerRow(
                    name=row.name,
                    slot=slot_of(row.name),
                    process=process,
                    state=state,
                    note=None if state.has_ended else row.note,
                    method=row.method,
                    job=row.job if state is WorkerState.WORKING else None,
                    step=row.step,
                    steps=row.steps,
                    jobs_done=row.jobs_done,
                    job_seconds=row.job_seconds,
                    busy_seconds=row.busy_seconds,
                    started_at=row.started_at,
                    first_claim_at=row.first_claim_at,
                    last_end_at=row.last_end_at,
                    gpu_gib=row.gpu_gib,
                )
            )
        return sorted(result, key=lambda worker: worker.slot)

    def forget_ended(self) -> None:
        """Drop the rows of workers that have stopped or are gone."""
        ended = [worker.name for worker in self.rows() if worker.state.has_ended]
        with self._driver.write() as connection:
            connection.execute(sa.delete(workers).where(workers.c.name.in_(ended)))


def slot_of(name: str) -> Slot:
    """The slot of a row.

    Raises:
        ValueError: it is none that this version works with.
    """
    try:
        return Slot.read(name)
    except UserError as error:
        raise ValueError(str(error)) from None
