"""A failed attempt in the queue: what is read for `judgement.judge`, and what it says written.

Every function is a part of a transaction that is there already.
"""

from __future__ import annotations

import sqlalchemy as sa

from ..job import JobState
from ..job.failures import FailureKind, Policy
from ..job.slot_names import Slot
from ..machine.processes import ProcessId, oom_kills
from .claim_counts import count
from .claims import OF_CLAIM
from .gate import Gate
from .judgement import Circumstances, JudgedFailure, Trouble, Verdict, judge
from .rows import RunningRow
from .states import is_claimable, target
from .tables import get_meta, jobs, set_meta, workers
from .worker_table import RESTART_SECONDS, WorkerState


def end_attempt(connection: sa.Connection, row: RunningRow, failure: JudgedFailure) -> Verdict:
    """Count a failed attempt of a claimed job, and give it back or fail it."""
    policy = Policy.from_json(get_meta(connection, "policy"))
    gate = Gate.from_json(get_meta(connection, "gate"))
    trouble = Trouble.from_json(get_meta(connection, "trouble"))
    around = _surroundings(connection, gate, policy, row, failure.at)
    judged = judge(row, failure, policy, trouble, gate, around)
    OF_CLAIM[judged.event].run(connection, {"of": row.id, "by": row.token, **judged.values})
    if is_claimable(target(judged.event), held=row.held, retry_at=judged.values.get("retry_at")):
        count(connection, row._replace(tries=judged.values["tries"]), added=True)
    set_meta(connection, "trouble", judged.trouble.to_json())
    set_meta(connection, "gate", judged.gate.to_json())
    return judged.verdict


def cause_of_loss(row: RunningRow) -> tuple[FailureKind, str]:
    """Why the worker that holds a claim was lost, and in words."""
    process = ProcessId(row.host, row.pid, row.pid_started)
    if process.is_here and oom_kills() > (row.oom_kills or 0):
        told = f"the kernel killed {row.worker} (pid {row.pid}) for its memory"
        return FailureKind.OUT_OF_HOST_MEMORY, told
    told = f"the worker {row.worker} (pid {row.pid}) died or fell silent"
    return FailureKind.WORKER_DIED, told


def _surroundings(
    connection: sa.Connection, gate: Gate, policy: Policy, row: RunningRow, now: float
) -> Circumstances:
    slot = Slot.parse(row.worker)
    # Counting all jobs takes long where they are many.
    is_share = policy.max_failures is not None and policy.max_failures < 1
    planned = _jobs_in_all(connection) if is_share else 0
    done = _done(connection, sa.true())
    if slot is None:
        return Circumstances(done=done, planned=planned)
    on_devices = workers.c.devices == slot.devices.name
    return Circumstances(
        on_devices=_others(connection, gate, slot, now, on_devices),
        at_place=_others(connection, gate, slot, now, workers.c.place == slot.place),
        done_on_devices=_done(connection, on_devices),
        done=done,
        planned=planned,
    )


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


def _done(connection: sa.Connection, among: sa.ColumnElement[bool]) -> int:
    """How many jobs these workers have done since the last launch."""
    number = sa.func.coalesce(sa.func.sum(workers.c.jobs_done), 0)
    return int(connection.execute(sa.select(number).where(among)).scalar_one())


def _jobs_in_all(connection: sa.Connection) -> int:
    planned = jobs.c.state != JobState.RETIRED.value
    return int(connection.execute(sa.select(sa.func.count()).where(planned)).scalar_one())
