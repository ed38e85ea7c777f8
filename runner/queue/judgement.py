"""What a failed attempt leads to: a function on values, with nothing of a database in it.

It has a job's counters, the trouble that the sweep has seen, and who may claim; and says what they
are afterwards.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..job import JobState
from ..job.failures import ANSWERS, FAILURES_WITHOUT_SUCCESS, Counted, FailureKind, Policy
from ..job.slot_names import Slot
from ..text.forms import checked, is_count, is_number, is_text, list_of, mapping_of
from .gate import Gate
from .states import Event, target

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
    def from_json(cls, text: str | None) -> Trouble:
        """The trouble of a text that `to_json` made, or none.

        Raises:
            ValueError: it is no such text.
        """
        return cls() if text is None else cls(**checked(json.loads(text), _FORM))

    def to_json(self) -> str:
        return json.dumps(vars(self))


class Attempted(Protocol):
    """What a job's row says of it while an attempt runs.

    `kind` is of its last failed attempt.
    """

    @property
    def group_key(self) -> str: ...
    @property
    def worker(self) -> str: ...
    @property
    def claimed_at(self) -> float: ...
    @property
    def tries(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def deaths(self) -> int: ...
    @property
    def kind(self) -> str | None: ...


@dataclass(frozen=True)
class JudgedFailure:
    """How an attempt failed, and when, in Unix seconds."""

    kind: FailureKind
    error: str
    at: float

    @property
    def line(self) -> str:
        """The first line of the error, to be told in another one."""
        return self.error.splitlines()[0][:200] if self.error else "no message"


@dataclass(frozen=True)
class Circumstances:
    """What goes on beside an attempt.

    Attributes:
        on_devices: other slots at work on the same devices.
        at_place: other slots at work on the same place.
        done_on_devices: jobs that workers of these devices have done since the last launch.
        done: jobs that all workers have done since.
        planned: jobs of the plan; needed only where `Policy.max_failures` is a share.
    """

    on_devices: int = 0
    at_place: int = 0
    done_on_devices: int = 0
    done: int = 0
    planned: int = 0


@dataclass(frozen=True)
class Judgement:
    """What a failed attempt leads to.

    Attributes:
        event: `FAILED` or `FAILED_FOR_GOOD`.
        values: the columns that the event is given, by name.
        notes: who was set aside, or that the sweep was stopped, and why.
        trouble, gate: as they are from now on.
    """

    event: Event
    values: dict[str, Any]
    notes: tuple[str, ...]
    trouble: Trouble
    gate: Gate

    @property
    def verdict(self) -> Verdict:
        return Verdict(target(self.event), self.notes)


def judge(
    row: Attempted,
    failure: JudgedFailure,
    policy: Policy,
    trouble: Trouble,
    gate: Gate,
    around: Circumstances,
) -> Judgement:
    """What a failed attempt of a claimed job leads to."""
    kind, slot, trouble = failure.kind, Slot.parse(row.worker), deepcopy(trouble)
    answer, counted = ANSWERS[kind], ANSWERS[kind].counted
    is_final = answer.is_final
    note = None
    if slot is None:
        # Whoever held it is no worker: no fault of the job's.
        counted = Counted.NOT
    elif kind is FailureKind.OUT_OF_GPU_MEMORY:
        gate, counted, note = _gpu_memory(gate, trouble, slot, row, failure, around)
        # Alone on its GPU, a job that did not fit twice never will.
        is_final = counted is Counted.FAILURE and row.kind == kind.value
    elif kind is FailureKind.OUT_OF_HOST_MEMORY:
        gate, note = _host_memory(gate, trouble, slot, around)
    elif kind is FailureKind.GPU_ERROR:
        gate, note = _gpu_error(gate, trouble, slot, policy, failure, around)
    notes = [note] if note else []
    failures = row.failures + (counted is Counted.FAILURE)
    deaths = row.deaths + (counted is Counted.DEATH)
    tries = row.tries + (counted is not Counted.NOT)
    values: dict[str, Any] = {"failures": failures, "deaths": deaths, "tries": tries}
    values |= {"kind": kind.value, "error": failure.error, "finished_at": failure.at}
    is_final |= failures > policy.failures or deaths >= policy.deaths
    if not is_final:
        waits = answer.backs_off and policy.backoff_seconds > 0
        values["retry_at"] = failure.at + policy.backoff(tries) if waits else None
    if counted is Counted.FAILURE or is_final:
        trouble.failures += _tells_of_the_sweep(trouble, kind, row.group_key)
        trouble.failed_jobs += is_final
        halt = _halt(trouble, policy, failure, around)
        if halt is not None and gate.halted is None:
            gate = replace(gate, halted=halt)
            notes.append(f"the sweep is stopped: {halt}")
    event = Event.FAILED_FOR_GOOD if is_final else Event.FAILED
    return Judgement(event, values, tuple(notes), trouble, gate)


def _gpu_memory(
    gate: Gate,
    trouble: Trouble,
    slot: Slot,
    row: Attempted,
    failure: JudgedFailure,
    around: Circumstances,
) -> tuple[Gate, Counted, str | None]:
    """The first time on a GPU the job just goes back; then one process of several leaves."""
    key = slot.devices.name
    if trouble.aside_at.get(key, 0.0) > row.claimed_at:
        # The process that left meanwhile had a share in this.
        return gate, Counted.NOT, None
    neighbours = around.on_devices
    if not neighbours:
        return gate, Counted.FAILURE, None
    trouble.out_of_memory[key] = trouble.out_of_memory.get(key, 0) + 1
    if trouble.out_of_memory[key] < 2:
        return gate, Counted.NOT, None
    trouble.out_of_memory[key] = 0
    trouble.aside_at[key] = failure.at
    reason = f"GPU {slot.devices.gpu} ran out of memory twice; it goes on with {neighbours} process"
    reason += "es" if neighbours > 1 else ""
    return gate.set_aside(slot, reason), Counted.NOT, f"{slot.name} is set aside: {reason}"


def _host_memory(
    gate: Gate, trouble: Trouble, slot: Slot, around: Circumstances
) -> tuple[Gate, str | None]:
    """The second time that the host's memory runs out, one worker of several leaves."""
    times = trouble.out_of_memory.get(slot.host, 0) + 1
    others = around.at_place
    if times < 2 or not others:
        trouble.out_of_memory[slot.host] = times
        return gate, None
    trouble.out_of_memory[slot.host] = 0
    reason = f"the host ran out of memory twice; {others} other worker"
    reason += "s go on" if others > 1 else " goes on"
    return gate.set_aside(slot, reason), f"{slot.name} is set aside: {reason}"


def _gpu_error(
    gate: Gate,
    trouble: Trouble,
    slot: Slot,
    policy: Policy,
    failure: JudgedFailure,
    around: Circumstances,
) -> tuple[Gate, str | None]:
    """Errors in a row, without a job done on that GPU between them, set the GPU aside."""
    key, done = slot.devices.name, around.done_on_devices
    number, done_before = trouble.gpu_errors.get(key, (0, done))
    number = number + 1 if done_before == done else 1
    trouble.gpu_errors[key] = (number, done)
    if number < policy.gpu_errors or key in gate.aside:
        return gate, None
    reason = f"{number} GPU errors in a row, the last: {failure.line}"
    return gate.set_aside(slot.devices, reason), f"{key} is set aside: {reason}"


def _tells_of_the_sweep(trouble: Trouble, kind: FailureKind, group: str) -> bool:
    """Whether a failed attempt may be a sign that nothing works: one clip that cannot be used has
    many jobs, and says nothing of the others."""
    if kind is not FailureKind.BAD_INPUT:
        return True
    is_known = group in trouble.bad_groups
    if not is_known and len(trouble.bad_groups) < FAILURES_WITHOUT_SUCCESS:
        trouble.bad_groups.append(group)
    return not is_known


def _halt(
    trouble: Trouble, policy: Policy, failure: JudgedFailure, around: Circumstances
) -> str | None:
    """Why the sweep shall stop as a whole, or None."""
    if trouble.failures >= FAILURES_WITHOUT_SUCCESS and not around.done:
        return f"{trouble.failures} attempts failed and none succeeded, the last: {failure.line}"
    allowed = policy.failed_jobs_allowed(lambda: around.planned)
    if allowed is not None and trouble.failed_jobs >= allowed:
        told = f"{trouble.failed_jobs} jobs have failed (--max-failures)"
        return f"{told}, the last: {failure.line}"
    return None
