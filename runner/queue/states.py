"""The states of jobs, and every way from one to another: a table, with nothing of a database in it.

What a row of `jobs` says of a job's state, attempts, claim and video (`GOVERNED`) changes by one of
these events, from a state in which the event can happen, and as its rule says; by nothing else.
The store (`changes`) makes its statements of this table; docs/queue_states.md shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from ..job import JobState

PENDING, AWAITING, RUNNING = JobState.PENDING, JobState.AWAITING, JobState.RUNNING
DONE, FAILED, STALE, RETIRED = JobState.DONE, JobState.FAILED, JobState.STALE, JobState.RETIRED

CLAIM = (
    *("token", "worker", "host", "pid", "pid_started"),
    *("claimed_at", "lease_until", "oom_kills"),
)
"""The columns of a claim; all are null where nobody has the job."""
COUNTERS = ("tries", "failures", "deaths")
GOVERNED = (
    *("state", *COUNTERS, *CLAIM),
    *("kind", "error", "retry_at", "seconds", "finished_at", "files"),
)
"""The columns that no statement writes but by an event."""


class Event(str, Enum):
    """What can happen to a job. Its `TransitionRule` says when it does."""

    CLAIMED = "claimed"
    BROUGHT = "brought"
    RENEWED = "renewed"
    MADE = "made"
    MADE_OUTDATED = "made_outdated"
    FAILED = "failed"
    FAILED_FOR_GOOD = "failed_for_good"
    RETURNED = "returned"
    RETURNED_TO_AWAIT = "returned_to_await"
    RETRIED = "retried"
    WAIT_ENDED = "wait_ended"
    INPUTS_MADE = "inputs_made"
    INPUTS_MISSING = "inputs_missing"
    FOUND_NOTHING = "found_nothing"
    FOUND_DONE = "found_done"
    FOUND_STALE = "found_stale"
    PLANNED = "planned"
    PLANNED_DONE = "planned_done"
    PLANNED_STALE = "planned_stale"
    RETIRED = "retired"


@dataclass(frozen=True)
class StateChange:
    """Columns that change together.

    Attributes:
        words: what it is called in the rendered table.
        fixed: the value that each of these columns gets.
        given: the columns whose values whoever tells the event brings along.
    """

    words: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()


CLAIM_TAKEN = StateChange("claim taken", given=CLAIM)
CLAIM_ENDED = StateChange("claim cleared", fixed=dict.fromkeys(CLAIM))
LEASE_EXTENDED = StateChange("lease extended", given=("lease_until",))
ATTEMPT_COUNTED = StateChange("counters as the kind of failure has them", given=COUNTERS)
FAILURE_NOTED = StateChange("kind, error and end noted", given=("kind", "error", "finished_at"))
WAIT_SET = StateChange("time of the next attempt set, or none", given=("retry_at",))
WAIT_CLEARED = StateChange("wait cleared", fixed={"retry_at": None})
ERROR_CLEARED = StateChange("kind and error cleared", fixed={"kind": None, "error": None})
COUNTERS_CLEARED = StateChange("counters set to 0", fixed=dict.fromkeys(COUNTERS, 0))
VIDEO_NOTED = StateChange(
    "seconds, end and files of the video noted", given=("seconds", "finished_at", "files")
)
FILES_NOTED = StateChange("files noted by which it was judged", given=("files",))

CLEAN_SLATE = (COUNTERS_CLEARED, ERROR_CLEARED, WAIT_CLEARED)


@dataclass(frozen=True)
class TransitionRule:
    """When an event happens, where it leads from each state in which it can (None: the job has no
    row yet), and what else it changes."""

    event: Event
    when: str
    steps: Mapping[JobState | None, JobState]
    changes: tuple[StateChange, ...] = ()


@dataclass(frozen=True)
class Transition:
    """One line of the table."""

    state: JobState | None
    event: Event
    to: JobState
    changes: tuple[StateChange, ...]


def _all_but_running(to: JobState) -> dict[JobState | None, JobState]:
    states = (None, PENDING, AWAITING, DONE, FAILED, STALE, RETIRED)
    return dict.fromkeys(states, to)


RULES = (
    TransitionRule(
        Event.CLAIMED,
        "a worker takes the job that comes next for it; it is not held and waits for nothing",
        {PENDING: RUNNING},
        (CLAIM_TAKEN,),
    ),
    TransitionRule(
        Event.BROUGHT,
        "somebody who brings its video along takes it by its id, held or not",
        {PENDING: RUNNING, AWAITING: RUNNING, FAILED: RUNNING},
        (CLAIM_TAKEN, WAIT_CLEARED),
    ),
    TransitionRule(
        Event.RENEWED, "its worker sends a heartbeat", {RUNNING: RUNNING}, (LEASE_EXTENDED,)
    ),
    TransitionRule(
        Event.MADE,
        "its video is published",
        {RUNNING: DONE},
        (VIDEO_NOTED, ERROR_CLEARED, CLAIM_ENDED),
    ),
    TransitionRule(
        Event.MADE_OUTDATED,
        "its video is published, made from inputs that have been planned anew meanwhile",
        {RUNNING: STALE},
        (VIDEO_NOTED, ERROR_CLEARED, CLAIM_ENDED),
    ),
    TransitionRule(
        Event.FAILED,
        "its attempt failed, or its worker was lost, and it is tried again",
        {RUNNING: PENDING},
        (ATTEMPT_COUNTED, FAILURE_NOTED, WAIT_SET, CLAIM_ENDED),
    ),
    TransitionRule(
        Event.FAILED_FOR_GOOD,
        "its attempt failed, or its worker was lost, and it is not tried again",
        {RUNNING: FAILED},
        (ATTEMPT_COUNTED, FAILURE_NOTED, CLAIM_ENDED),
    ),
    TransitionRule(
        Event.RETURNED, "its worker gives it back unharmed", {RUNNING: PENDING}, (CLAIM_ENDED,)
    ),
    TransitionRule(
        Event.RETURNED_TO_AWAIT,
        "its worker gives it back, since a video that it is made from is not there",
        {RUNNING: AWAITING},
        (CLAIM_ENDED,),
    ),
    TransitionRule(
        Event.RETRIED,
        "somebody asks for it to be made again",
        {DONE: PENDING, FAILED: PENDING, STALE: PENDING},
        CLEAN_SLATE,
    ),
    TransitionRule(
        Event.WAIT_ENDED,
        "the time before its next attempt is over, or cut short",
        {PENDING: PENDING},
        (WAIT_CLEARED,),
    ),
    TransitionRule(
        Event.INPUTS_MADE,
        "all videos of other runs that it is made from are there",
        {AWAITING: PENDING},
        (WAIT_CLEARED,),
    ),
    TransitionRule(
        Event.INPUTS_MISSING,
        "a video of another run that it is made from is not there",
        {PENDING: AWAITING},
        (WAIT_CLEARED,),
    ),
    TransitionRule(
        Event.FOUND_NOTHING,
        "it is in the plan as before, and the disk has no video of it",
        {
            **{PENDING: PENDING, AWAITING: AWAITING, DONE: PENDING, STALE: PENDING},
            **{FAILED: FAILED, RETIRED: PENDING},
        },
        (FILES_NOTED,),
    ),
    TransitionRule(
        Event.FOUND_DONE,
        "it is in the plan as before, and the disk proves its video",
        {
            **{PENDING: DONE, AWAITING: DONE, DONE: DONE, STALE: DONE},
            **{FAILED: DONE, RETIRED: DONE},
        },
        (FILES_NOTED, WAIT_CLEARED),
    ),
    TransitionRule(
        Event.FOUND_STALE,
        "it is in the plan as before, and the disk has a video made from other inputs; a remake "
        "that was asked for stays asked for",
        {
            **{PENDING: PENDING, AWAITING: AWAITING, DONE: STALE, STALE: STALE},
            **{FAILED: FAILED, RETIRED: STALE},
        },
        (FILES_NOTED,),
    ),
    TransitionRule(
        Event.PLANNED,
        "it is new in the plan, or with other inputs, and the disk has no video of it",
        _all_but_running(PENDING),
        (FILES_NOTED, *CLEAN_SLATE),
    ),
    TransitionRule(
        Event.PLANNED_DONE,
        "it is new in the plan, or with other inputs, and the disk proves its video",
        _all_but_running(DONE),
        (FILES_NOTED, *CLEAN_SLATE),
    ),
    TransitionRule(
        Event.PLANNED_STALE,
        "it is new in the plan, or with other inputs, and the disk has a video made from others",
        _all_but_running(STALE),
        (FILES_NOTED, *CLEAN_SLATE),
    ),
    TransitionRule(
        Event.RETIRED,
        "it is no longer in the plan; whoever makes it has lost it",
        dict.fromkeys((None, PENDING, AWAITING, RUNNING, DONE, FAILED, STALE), RETIRED),
        (WAIT_CLEARED, CLAIM_ENDED),
    ),
)

_RULES = MappingProxyType({rule.event: rule for rule in RULES})

TABLE: Mapping[tuple[JobState | None, Event], Transition] = MappingProxyType(
    {
        (state, rule.event): Transition(state, rule.event, to, rule.changes)
        for rule in RULES
        for state, to in rule.steps.items()
    }
)
"""Every legal transition, by the state and the event. What is not here cannot happen."""

FOUND = MappingProxyType(
    {PENDING: Event.FOUND_NOTHING, DONE: Event.FOUND_DONE, STALE: Event.FOUND_STALE}
)
"""The event, by the state that the disk proves, for a job that is in the plan as before."""
NEWLY_PLANNED = MappingProxyType(
    {PENDING: Event.PLANNED, DONE: Event.PLANNED_DONE, STALE: Event.PLANNED_STALE}
)
"""The same for a job that is new in the plan, or has other inputs than its row knows."""
GIVEN_BACK = MappingProxyType({PENDING: Event.RETURNED, AWAITING: Event.RETURNED_TO_AWAIT})
"""The event by which a worker gives a job back, by the state that it shall have."""


def transition(state: JobState | None, event: Event) -> Transition | None:
    """What an event makes of a job in that state (None: it has no row); None where the event
    cannot happen to it."""
    return TABLE.get((state, event))


def sources(event: Event) -> tuple[JobState, ...]:
    """The states of rows to which an event can happen."""
    return tuple(state for state in _RULES[event].steps if state is not None)


def target(event: Event) -> JobState:
    """The state to which an event leads.

    Raises:
        ValueError: it leads from one state to another than from the next.
    """
    (*others, last) = set(_RULES[event].steps.values())
    if others:
        raise ValueError(f"{event.value} leads to several states")
    return last


def fixed(event: Event) -> dict[str, Any]:
    """The columns that an event sets to a value which is always the same, and that value."""
    return {name: value for change in _RULES[event].changes for name, value in change.fixed.items()}


def given(event: Event) -> tuple[str, ...]:
    """The columns whose new values whoever tells the event brings along."""
    return tuple(name for change in _RULES[event].changes for name in change.given)


def is_claimable(state: JobState, *, held: bool, retry_at: float | None) -> bool:
    """Whether a worker may take a job: it is pending, in the part of the sweep that is being run,
    and waits for no later attempt."""
    return state is PENDING and not held and retry_at is None
