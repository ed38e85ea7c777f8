"""What a failed attempt changes in the queue: the job's counters, and who may still claim.

Every function is a part of a transaction that is there already.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from ..failures import ANSWERS, FAILURES_WITHOUT_SUCCESS, Counted, FailureKind, Policy
from ..forms import checked, is_count, is_number, is_text, list_of, mapping_of
from ..job import JobState
from ..processes import ProcessId, oom_kills
from ..slot_names import Slot
from .claim_counts import count
from .gate import Gate
from .tables import NO_CLAIM, get_meta, jobs, set_meta, workers
from .worker_table import RESTART_SECONDS, WorkerState

_FORM = {
    "failures": is_count,
    "failed_jobs": is_count,
    "bad_groups": list_of(is_text),
    "gpu_errors": mapping_of(lambda pair: list_of(is_count)(pair) and len(pair) == 2),
    "out_of_memory": mapping_of(is_count),
    "aside_at": mapping_of(is_number),
}


@dataclass(frozen=True)
class Verdict:
    """What became of a job whose attempt failed.

    `state` is `PENDING` or `FAILED`; `notes` say who was set aside, or that the sweep was
    stopped, and why.
    """

    state: JobState
    notes: tuple[str, ...] = ()


@dataclass
class Trouble:
    """What has gone wrong since the last launch, beyond single jobs.

    Attributes:
        failures: failed attempts; those of one clip's bad input count once.
        failed_jobs: jobs that are not tried again.
        bad_groups: groups of which an input was bad, the first few.
        gpu_errors: by devices ("gpu0"), errors in a row and how many jobs they had done before.
        out_of_memory: how often the memory of devices ("gpu0") or of a host ("host") ran out.
        aside_at: when a slot of these devices was last set aside for their memory.
    """

    failures: int = 0
    failed_jobs: int = 0
    bad_groups: list[str] = field(default_factory=list)
    gpu_errors: dict[str, tuple[int, int]] = field(default_factory=dict)
    out_of_memory: dict[str, int] = field(default_factory=dict)
    aside_at: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, connection: sa.Connection) -> Trouble:
        return cls.from_json(get_meta(connection, "trouble"))

    @classmethod
    def from_json(cls, text: str | None) -> Trouble:
        """The trouble of a text that `save` wrote, or none.

        Raises:
            ValueError: it is no such text.
        """
        return cls() if text is None else cls(**checked(json.loads(text), _FORM))

    def save(self, connection: sa.Connection) -> None:
        set_meta(connection, "trouble", json.dumps(vars(self)))


def end_attempt(
    connection: sa.Connection, row: Any, kind: FailureKind, error: str, now: float
) -> Verdict:
    """Count a failed attempt of a claimed job (`row` of `jobs`), and give it back or fail it."""
    policy = Policy.from_json(get_meta(connection, "policy"))
    trouble = Trouble.load(connection)
    gate = Gate.from_json(get_meta(connection, "gate"))
    slot = Slot.parse(row.worker)
    answer, counted = ANSWERS[kind], ANSWERS[kind].counted
    is_final = answer.is_final
    notes: list[str] = []
    if slot is None:
        # Whoever held it is no worker: no fault of the job's.
        counted = Counted.NOT
    elif kind is FailureKind.OUT_OF_GPU_MEMORY:
        gate, counted, note = _gpu_memory(connection, gate, trouble, slot, row, now)
        notes += [note] if note else []
        # Alone on its GPU, a job that did not fit twice never will.
        is_final = counted is Counted.FAILURE and row.kind == kind.value
    elif kind is FailureKind.OUT_OF_HOST_MEMORY:
        gate, note = _host_memory(connection, gate, trouble, slot, now)
        notes += [note] if note else []
    elif kind is FailureKind.GPU_ERROR:
        gate, note = _gpu_error(connection, gate, trouble, slot, policy, error)
        notes += [note] if note else []
    failures = row.failures + (counted is Counted.FAILURE)
    deaths = row.deaths + (counted is Counted.DEATH)
    is_final = is_final or failures > policy.failures or deaths >= policy.deaths
    state = JobState.FAILED if is_final else JobState.PENDING
    tries = row.tries + (counted is not Counted.NOT)
    waits = answer.backs_off and not is_final and policy.backoff_seconds > 0
    values = {
        "state": state.value,
        "failures": failures,
        "deaths": deaths,
        "tries": tries,
        "kind": kind.value,
        "error": error,
        "finished_at": now,
        "retry_at": now + policy.backoff(tries) if waits else None,
        **NO_CLAIM,
    }
    connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(values))
    if state is JobState.PENDING and not waits and not row.held:
        count(connection, _row(connection, row.id), added=True)
    if counted is Counted.FAILURE or is_final:
        trouble.failures += _tells_of_the_sweep(trouble, kind, row)
        trouble.failed_jobs += is_final
        halt = _halt(connection, trouble, policy, error)
        if halt is not None and gate.halted is None:
            gate = replace(gate, halted=halt)
            notes.append(f"the sweep is stopped: {halt}")
    trouble.save(connection)
    set_meta(connection, "gate", gate.to_json())
    return Verdict(state, tuple(notes))


def cause_of_loss(row: Any) -> tuple[FailureKind, str]:
    """Why the worker that holds a claim (`row` of `jobs`) was lost, and in words."""
    process = ProcessId(row.host, row.pid, row.pid_started)
    if process.is_here and oom_kills() > (row.oom_kills or 0):
        told = f"the kernel killed {row.worker} (pid {row.pid}) for its memory"
        return FailureKind.OUT_OF_HOST_MEMORY, told
    told = f"the worker {row.worker} (pid {row.pid}) died or fell silent"
    return FailureKind.WORKER_DIED, told


def release_due(connection: sa.Connection, ids: list[str]) -> None:
    """Let jobs be claimed again whose time of waiting is over."""
    for job_id in ids:
        waits = (jobs.c.id == job_id) & jobs.c.retry_at.is_not(None)
        if connection.execute(sa.update(jobs).where(waits).values(retry_at=None)).rowcount:
            row = _row(connection, job_id)
            if row.state == JobState.PENDING.value and not row.held:
                count(connection, row, added=True)


def _gpu_memory(
    connection: sa.Connection,
    gate: Gate,
    trouble: Trouble,
    slot: Slot,
    row: Any,
    now: float,
) -> tuple[Gate, Counted, str | None]:
    """The first time on a GPU the job just goes back; then one process of several leaves."""
    key = slot.devices.name
    if trouble.aside_at.get(key, 0.0) > row.claimed_at:
        # The process that left meanwhile had a share in this.
        return gate, Counted.NOT, None
    neighbours = _others(connection, gate, slot, now, workers.c.devices == key)
    if not neighbours:
        return gate, Counted.FAILURE, None
    trouble.out_of_memory[key] = trouble.out_of_memory.get(key, 0) + 1
    if trouble.out_of_memory[key] < 2:
        return gate, Counted.NOT, None
    trouble.out_of_memory[key] = 0
    trouble.aside_at[key] = now
    reason = f"GPU {slot.devices.gpu} ran out of memory twice; it goes on with {neighbours} process"
    reason += "es" if neighbours > 1 else ""
    return gate.set_aside(slot, reason), Counted.NOT, f"{slot.name} is set aside: {reason}"


def _host_memory(
    connection: sa.Connection, gate: Gate, trouble: Trouble, slot: Slot, now: float
) -> tuple[Gate, str | None]:
    """The second time that the host's memory runs out, one worker of several leaves."""
    times = trouble.out_of_memory.get(slot.host, 0) + 1
    others = _others(connection, gate, slot, now, workers.c.place == slot.place)
    if times < 2 or not others:
        trouble.out_of_memory[slot.host] = times
        return gate, None
    trouble.out_of_memory[slot.host] = 0
    reason = f"the host ran out of memory twice; {others} other worker"
    reason += "s go on" if others > 1 else " goes on"
    return gate.set_aside(slot, reason), f"{slot.name} is set aside: {reason}"


def _gpu_error(
    connection: sa.Connection,
    gate: Gate,
    trouble: Trouble,
    slot: Slot,
    policy: Policy,
    error: str,
) -> tuple[Gate, str | None]:
    """Errors in a row, without a job done on that GPU between them, set the GPU aside."""
    key = slot.devices.name
    done = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(workers.c.jobs_done), 0)).where(
            workers.c.devices == key
        )
    ).scalar_one()
    number, done_before = trouble.gpu_errors.get(key, (0, done))
    number = number + 1 if done_before == done else 1
    trouble.gpu_errors[key] = (number, done)
    if number < policy.gpu_errors or key in gate.aside:
        return gate, None
    reason = f"{number} GPU errors in a row, the last: {error.splitlines()[0][:200]}"
    return gate.set_aside(slot.devices, reason), f"{key} is set aside: {reason}"


def _others(
    connection: sa.Connection, gate: Gate, slot: Slot, now: float, among: sa.ColumnElement[bool]
) -> int:
    """How many other slots among these are at work and not set aside."""
    state = workers.c.state
    ended = state.in_([WorkerState.STOPPED.value, WorkerState.GONE.value])
    gave_up = (state == WorkerState.RESTARTING.value) & (workers.c.beat_at < now - RESTART_SECONDS)
    rows = connection.execute(
        sa.select(workers.c.name, workers.c.devices).where(
            among, workers.c.name != slot.name, sa.not_(ended | gave_up)
        )
    ).all()
    return sum(row.name not in gate.aside and row.devices not in gate.aside for row in rows)


def _tells_of_the_sweep(trouble: Trouble, kind: FailureKind, row: Any) -> bool:
    """Whether a failed attempt may be a sign that nothing works: one clip that cannot be used has
    many jobs, and says nothing of the others."""
    if kind is not FailureKind.BAD_INPUT:
        return True
    is_known = row.group_key in trouble.bad_groups
    if not is_known and len(trouble.bad_groups) < FAILURES_WITHOUT_SUCCESS:
        trouble.bad_groups.append(row.group_key)
    return not is_known


def _halt(connection: sa.Connection, trouble: Trouble, policy: Policy, error: str) -> str | None:
    """Why the sweep shall stop as a whole, or None."""
    last = error.splitlines()[0][:200] if error else "no message"
    if trouble.failures >= FAILURES_WITHOUT_SUCCESS:
        done = connection.execute(sa.select(sa.func.sum(workers.c.jobs_done))).scalar_one()
        if not done:
            return f"{trouble.failures} attempts failed and none succeeded, the last: {last}"
    allowed = policy.failed_jobs_allowed(lambda: _jobs_in_all(connection))
    if allowed is not None and trouble.failed_jobs >= allowed:
        return f"{trouble.failed_jobs} jobs have failed (--max-failures), the last: {last}"
    return None


def _jobs_in_all(connection: sa.Connection) -> int:
    planned = jobs.c.state != JobState.RETIRED.value
    number: int = connection.execute(sa.select(sa.func.count()).where(planned)).scalar_one()
    return number


def _row(connection: sa.Connection, job_id: str) -> Any:
    return connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one()
