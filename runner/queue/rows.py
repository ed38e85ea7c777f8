"""The rows that functions of the queue are handed: plain tuples, named after their columns.

A truth value is 0 or 1 in a row of a prepared statement (`prepared`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class OfProcess(Protocol):
    """A process that holds a claim."""

    @property
    def host(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def pid_started(self) -> int: ...


class OfLease(OfProcess, Protocol):
    """A process that holds a claim, and when its lease ends, in Unix seconds."""

    @property
    def lease_until(self) -> float: ...


class OfJob(Protocol):
    """What makes a `Job`: see `tables.job_of`."""

    @property
    def id(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def series_json(self) -> str: ...
    @property
    def alike_json(self) -> str: ...


class OfCount(Protocol):
    """By what a claimable job is counted: see `claim_counts`."""

    @property
    def category(self) -> str: ...
    @property
    def group_key(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def tries(self) -> int: ...


class ChosenRow(NamedTuple):
    """A job that a worker may claim next."""

    id: str
    position: int
    category: str
    group_key: str
    method: str
    seed: int
    priority: int
    fingerprint: str
    output: str
    tries: int
    series_json: str
    alike_json: str


class WholeRow(NamedTuple):
    """All that is known of a job."""

    id: str
    position: int
    category: str
    group_key: str
    method: str
    seed: int
    priority: int
    fingerprint: str
    output: str
    state: str
    held: bool
    tries: int
    failures: int
    deaths: int
    kind: str | None
    error: str | None
    retry_at: float | None
    seconds: float | None
    worker: str | None
    series_json: str
    alike_json: str


class RunningRow(NamedTuple):
    """A job that somebody holds: what it is, by what it is counted, and the claim."""

    id: str
    position: int
    category: str
    group_key: str
    method: str
    seed: int
    priority: int
    fingerprint: str
    output: str
    held: bool
    tries: int
    failures: int
    deaths: int
    kind: str | None
    token: str
    worker: str
    host: str
    pid: int
    pid_started: int
    claimed_at: float
    lease_until: float
    oom_kills: int | None
    series_json: str
    alike_json: str


class CountedRow(NamedTuple):
    """By what a job is counted where it is claimable, and whether it is."""

    id: str
    category: str
    group_key: str
    method: str
    position: int
    priority: int
    tries: int
    state: str
    held: bool
    retry_at: float | None


class LeaseRow(NamedTuple):
    """A process that holds jobs, and the end of its first lease."""

    host: str
    pid: int
    pid_started: int
    lease_until: float


class GlanceRow(NamedTuple):
    """What a running job's worker looks at: whether its inputs are still those that it has, and
    when its lease ends."""

    fingerprint: str
    lease_until: float


class IdRow(NamedTuple):
    id: str


class ValueRow(NamedTuple):
    """A value of `meta`."""

    value: str


class FoundRow(NamedTuple):
    """What a look at the disk is compared with."""

    id: str
    fingerprint: str
    state: str
    files: str | None


class PlannedRow(NamedTuple):
    """What a new plan is compared with.

    `is_clean`: it was never tried, or has a clean slate since.
    """

    id: str
    fingerprint: str
    state: str
    files: str | None
    position: int
    method: str
    series: int
    alike: int
    held: bool
    is_clean: bool


class LevelRow(NamedTuple):
    """A priority, and whether its jobs have been tried."""

    priority: int
    tried: bool


class CategoryRow(NamedTuple):
    """How many jobs of a category may be claimed, of one method and level."""

    priority: int
    method: str
    tried: bool
    category: str
    left: int


class LeftRow(NamedTuple):
    category: str
    left: int


class AtWorkRow(NamedTuple):
    """Who works on which group."""

    worker: str
    group_key: str
    category: str


class GroupRow(NamedTuple):
    """How many jobs of a group may be claimed."""

    group_key: str
    category: str
    position: int
    left: int
