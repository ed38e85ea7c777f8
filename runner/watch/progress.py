"""Where a sweep stands: one snapshot of the queue, as numbers, JSON or lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..job import JobState
from ..queue import Queue
from ..queue.worker_table import WorkerRow, WorkerState
from ..text.plain_text import printable

COUNTED = (JobState.DONE, JobState.RUNNING, JobState.PENDING, JobState.FAILED, JobState.STALE)


@dataclass(frozen=True)
class Counts:
    """Numbers of jobs. `total` leaves retired jobs out."""

    total: int
    done: int
    running: int
    pending: int
    failed: int
    stale: int

    @classmethod
    def of(cls, states: dict[JobState, int]) -> Counts:
        numbers = dict.fromkeys((state.value for state in COUNTED), 0)
        for state, number in states.items():
            if state.counts_as in COUNTED:
                numbers[state.counts_as.value] += number
        return cls(total=sum(numbers.values()), **numbers)


@dataclass(frozen=True)
class WorkerStatus:
    """One worker as others see it.

    `place` is "" in a sweep on one host; `seconds_per_job` is the mean of its own jobs, without the
    loading of models; `note` says what it waits for.
    """

    name: str
    place: str
    gpu: int
    process: int
    pid: int
    state: str
    note: str | None
    job: str | None
    video: str | None
    step: int
    steps: int
    jobs_done: int
    seconds_per_job: float | None


@dataclass(frozen=True)
class Makespan:
    """The seconds from the first claim to the last publication of this launch's workers, and the
    ideal: the same work spread evenly, with no device ever waiting."""

    seconds: float
    ideal_seconds: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.ideal_seconds if self.ideal_seconds else 1.0


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Args:
        held: how many pending jobs are outside the part that is being made.
        awaiting: how many jobs wait for videos that other runs have not made yet.
        waiting: how many jobs have to wait for their next attempt.
        next_try_at: when the first of these attempts may begin, in Unix seconds.
        eta_seconds: the remaining time, by the measured seconds per job and the workers now alive;
            None while either is unknown.
        busy: for each GPU, the share of time in which its processes had it at work, from 0 to 1.
        set_aside: the slots and GPUs that take no more jobs, each with its reason.
        stopped_because: why no worker claims any more.
        stop_at: in Unix seconds.
    """

    sweep: str
    counts: Counts
    held: int
    awaiting: int
    waiting: int
    next_try_at: float | None
    eta_seconds: float | None
    seconds_per_job: float | None
    categories: dict[str, Counts]
    workers: tuple[WorkerStatus, ...]
    busy: dict[int, float]
    makespan: Makespan | None
    draining: bool
    set_aside: dict[str, str]
    stopped_because: str | None
    stop_at: float | None

    @property
    def has_ended(self) -> bool:
        """Whether no job that may be claimed is left."""
        return self.counts.pending == self.held and self.counts.running == 0

    @property
    def alive(self) -> int:
        return sum(not WorkerState(worker.state).has_ended for worker in self.workers)

    def to_json(self) -> dict[str, Any]:
        return {
            "sweep": self.sweep,
            **asdict(self.counts),
            "held": self.held,
            "awaiting": self.awaiting,
            "waiting": self.waiting,
            "next_try_at": self.next_try_at,
            "eta_seconds": self.eta_seconds,
            "seconds_per_job": self.seconds_per_job,
            "draining": self.draining,
            "set_aside": self.set_aside,
            "stopped_because": self.stopped_because,
            "stop_at": self.stop_at,
            "busy": {str(gpu): share for gpu, share in self.busy.items()},
            "makespan": None
            if self.makespan is None
            else {**asdict(self.makespan), "ratio": round(self.makespan.ratio, 4)},
            "categories": {name: asdict(counts) for name, counts in self.categories.items()},
            "workers": [asdict(worker) for worker in self.workers],
        }


def take_snapshot(name: str, queue: Queue) -> Snapshot:
    """Ask the queue where the sweep stands."""
    per_category = queue.counts()
    totals: dict[JobState, int] = {}
    for states in per_category.values():
        for state, number in states.items():
            totals[state] = totals.get(state, 0) + number
    running = {row.job.id: row.job.output for row in queue.rows(JobState.RUNNING)}
    rows = queue.workers.rows()
    waiting, next_try_at = queue.waiting()
    counts, held, mean = Counts.of(totals), queue.held(), queue.mean_seconds()
    gate = queue.gate()
    snapshot = Snapshot(
        sweep=name,
        counts=counts,
        held=held,
        awaiting=totals.get(JobState.AWAITING, 0),
        waiting=waiting,
        next_try_at=next_try_at,
        eta_seconds=None,
        seconds_per_job=mean,
        categories={
            category: Counts.of(states)
            for category, states in per_category.items()
            if set(states) - {JobState.RETIRED}
        },
        workers=tuple(_worker(row, running) for row in rows),
        busy=_busy(rows),
        makespan=_makespan(rows),
        draining=gate.is_draining(),
        set_aside=dict(gate.aside),
        stopped_because=gate.halted,
        stop_at=gate.stop_at,
    )
    return _with_eta(snapshot, queue)


def _with_eta(snapshot: Snapshot, queue: Queue) -> Snapshot:
    mean, counts = snapshot.seconds_per_job, snapshot.counts
    eta: float | None = None
    if snapshot.has_ended:
        eta = 0.0
    elif mean is not None and snapshot.alive:
        now = queue.clock()
        spent = sum(min(now - since, mean) for since in queue.claim_times())
        left = (counts.pending - snapshot.held + counts.running) * mean - spent
        eta = round(max(left, 0.0) / snapshot.alive, 1)
    return replace(snapshot, eta_seconds=eta)


def _busy(rows: Sequence[WorkerRow]) -> dict[int, float]:
    shares: dict[int, list[float]] = {}
    for row in rows:
        if row.first_claim_at is not None and row.last_end_at is not None:
            seconds = row.last_end_at - row.first_claim_at
            shares.setdefault(row.slot.devices.gpu, []).append(row.busy_seconds / seconds)
    return {gpu: round(min(sum(own) / len(own), 1.0), 4) for gpu, own in shares.items()}


def _makespan(rows: Sequence[WorkerRow]) -> Makespan | None:
    starts = [row.first_claim_at for row in rows if row.first_claim_at is not None]
    ends = [row.last_end_at for row in rows if row.last_end_at is not None]
    if not starts or not ends:
        return None
    ideal = sum(row.busy_seconds for row in rows) / len(starts)
    return Makespan(round(max(ends) - min(starts), 3), round(ideal, 3))


def _worker(row: WorkerRow, running: dict[str, str]) -> WorkerStatus:
    return WorkerStatus(
        name=row.name,
        place=row.slot.place,
        gpu=row.slot.devices.gpu,
        process=row.slot.process,
        pid=row.process.pid,
        state=row.state.value,
        note=row.note,
        job=row.job,
        video=running.get(row.job or ""),
        step=row.step,
        steps=row.steps,
        jobs_done=row.jobs_done,
        seconds_per_job=round(row.job_seconds / row.jobs_done, 3) if row.jobs_done else None,
    )


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 1.5 s, 45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def one_line(snapshot: Snapshot) -> str:
    """A snapshot as one plain line, for logs and pipes."""
    counts = snapshot.counts
    parts = [f"{counts.done}/{counts.total} done", f"{counts.running} running"]
    parts.append(f"{counts.pending} pending")
    if snapshot.held:
        parts[-1] += f" ({snapshot.held} not asked for)"
    if snapshot.awaiting:
        parts[-1] += f" ({snapshot.awaiting} await another sweep's videos)"
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    if counts.stale:
        parts.append(f"{counts.stale} stale")
    if snapshot.alive:
        parts.append(f"{snapshot.alive} worker{'s' * (snapshot.alive > 1)}")
        eta = snapshot.eta_seconds
        parts.append("time left not known yet" if eta is None else f"{duration(eta)} left")
    waiting = sorted({worker.note for worker in snapshot.workers if worker.note})
    parts += [f"waiting: {printable(note)}" for note in waiting[:1]]
    return f"{printable(snapshot.sweep)}: {', '.join(parts)}"
