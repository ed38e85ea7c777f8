"""The table of states: whole, obeyed by the real queue for every state and event, and the only
place that says what can happen to a job."""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import make_queue_states
import pytest
from hand_made import a_job
from queue_jobs import DRIVERS, OTHER_HOST, SLOT, check, governed, states
from settable_clock import Clock

from runner.job import JobState, MadeInput
from runner.job.failures import ANSWERS, Counted, FailureKind, Policy
from runner.queue import Queue
from runner.queue.awaiting import follow_upstream
from runner.queue.changes import beside_events, everywhere, of_rows
from runner.queue.claim_job import claim_job
from runner.queue.claim_order import Taste
from runner.queue.claims import LEASE_SECONDS, Claim
from runner.queue.driver import Driver
from runner.queue.gate import Gate
from runner.queue.judgement import Circumstances, JudgedFailure, Judgement, Trouble, judge
from runner.queue.rows import WholeRow
from runner.queue.states import (
    CLAIM,
    FOUND,
    GOVERNED,
    NEWLY_PLANNED,
    RULES,
    TABLE,
    Event,
    fixed,
    given,
    target,
    transition,
)
from runner.queue.tables import jobs, whole_jobs

QUEUE = Path(__file__).resolve().parents[1] / "runner" / "queue"
MODULES = sorted(QUEUE.glob("*.py"))
PENDING, AWAITING, RUNNING = JobState.PENDING, JobState.AWAITING, JobState.RUNNING
DONE, FAILED, STALE, RETIRED = JobState.DONE, JobState.FAILED, JobState.STALE, JobState.RETIRED


# The table by itself.


def test_every_event_has_one_rule_and_changes_no_column_twice() -> None:
    assert [rule.event for rule in RULES] == list(Event)
    for event in Event:
        columns = [*fixed(event), *given(event)]
        assert len(columns) == len(set(columns))
        assert set(columns) <= set(GOVERNED) - {"state"}
    assert set(GOVERNED) <= set(jobs.c.keys())


def test_whoever_runs_has_a_claim_and_nobody_else_does() -> None:
    for (state, event), step in TABLE.items():
        if step.to is RUNNING and state is not RUNNING:
            assert set(CLAIM) <= set(given(event))
        if state is RUNNING and step.to is not RUNNING:
            assert all(fixed(event)[name] is None for name in CLAIM)


def test_only_a_pending_job_waits_for_its_next_attempt() -> None:
    """So a time of waiting is set only on the way to pending, and no other way keeps one."""
    for (state, event), step in TABLE.items():
        if "retry_at" in given(event):
            assert step.to is PENDING
        # Nothing is claimed that waits: see `Event.CLAIMED`.
        if state is PENDING and step.to is not PENDING and event is not Event.CLAIMED:
            assert fixed(event)["retry_at"] is None


def test_an_event_that_leads_to_several_states_has_no_one_target() -> None:
    assert target(Event.CLAIMED) is RUNNING
    with pytest.raises(ValueError, match="several"):
        target(Event.FOUND_STALE)


def test_the_page_of_states_is_current() -> None:
    """Where this fails, run python docs/make_queue_states.py."""
    assert make_queue_states.FILE.read_text(encoding="utf-8") == make_queue_states.page()


# The real queue, one job in it, for every state and event.


class World:
    """A queue of at most one job, whoever holds it, and how each event is made to happen.

    Each method has the queue do it, or refuse it.
    """

    def __init__(self, path: Path, driver: type[Driver]) -> None:
        self.clock = Clock(1000.0)
        self.queue = Queue(path, create=True, clock=self.clock, driver=driver)
        self.queue.set_policy(Policy(failures=9))
        job = a_job("c", "v", 0, 1)
        made = MadeInput("above", job.id, "", "c/v/1.mp4")
        inputs = {**job.series.inputs, "image": made}
        self.job = replace(job, series=replace(job.series, inputs=inputs))
        self.claim = Claim(self.job, "nobody's", SLOT.name, 1, 0.0)

    def state(self) -> JobState | None:
        found = states(self.queue)
        return found.get(self.job.id)

    def take(self) -> None:
        self.claim = self.queue.claim(SLOT, OTHER_HOST, Taste()) or self.claim

    def bring(self) -> None:
        self.claim = claim_job(self.queue, self.job.id, "adopt") or self.claim

    def renew(self) -> None:
        self.clock.now += LEASE_SECONDS / 2
        self.queue.renew(self.claim)

    def finish(self) -> None:
        self.queue.finish(self.claim, seconds=1.0, files="1 1")

    def finish_outdated(self) -> None:
        job = replace(self.claim.job, fingerprint="0" * 64)
        self.queue.finish(replace(self.claim, job=job), files="1 1")

    def fail(self, kind: FailureKind) -> None:
        self.queue.fail(self.claim, "broken", kind)

    def end_waiting(self) -> None:
        """By asking, and by time."""
        self.queue.end_waiting()
        if self.state() is not RUNNING:
            self.clock.now += 1000
            self.queue.reclaim()

    def follow(self, *, are_there: bool) -> None:
        """Look at what other runs have made, for jobs of whatever state."""

        def made(inputs: Iterable[MadeInput]) -> set[MadeInput]:
            return set(inputs) if are_there else set()

        follow_upstream(self.queue, made, list(JobState))

    def plan(self, proven: JobState) -> None:
        self.queue.sync([self.job], [], "m", lambda _: proven)

    def plan_other_inputs(self, proven: JobState) -> None:
        self.job = replace(self.job, fingerprint=f"{self.job.fingerprint}e")
        self.plan(proven)

    def retire(self) -> None:
        self.queue.sync([], [self.job], "m", lambda _: PENDING)


TELL: dict[Event, Callable[[World], object]] = {
    Event.CLAIMED: World.take,
    Event.BROUGHT: World.bring,
    Event.RENEWED: World.renew,
    Event.MADE: World.finish,
    Event.MADE_OUTDATED: World.finish_outdated,
    Event.FAILED: partial(World.fail, kind=FailureKind.BACKEND_BUG),
    Event.FAILED_FOR_GOOD: partial(World.fail, kind=FailureKind.BAD_INPUT),
    Event.RETURNED: lambda world: world.queue.give_back(world.claim),
    Event.RETURNED_TO_AWAIT: lambda world: world.queue.give_back(world.claim, AWAITING),
    Event.RETRIED: lambda world: world.queue.retry(list(JobState)),
    Event.WAIT_ENDED: World.end_waiting,
    Event.INPUTS_MADE: partial(World.follow, are_there=True),
    Event.INPUTS_MISSING: partial(World.follow, are_there=False),
    **{event: partial(World.plan, proven=proven) for proven, event in FOUND.items()},
    **{
        event: partial(World.plan_other_inputs, proven=proven)
        for proven, event in NEWLY_PLANNED.items()
    },
    Event.RETIRED: World.retire,
}


def ways() -> dict[JobState | None, list[Event]]:
    """The shortest way from nothing to every state, by the table."""
    found: dict[JobState | None, list[Event]] = {None: []}
    queue: deque[JobState | None] = deque(found)
    while queue:
        state = queue.popleft()
        for (source, event), step in TABLE.items():
            if source is state and step.to not in found:
                found[step.to] = [*found[state], event]
                queue.append(step.to)
    return found


WAYS = ways()


def test_every_state_can_be_reached() -> None:
    assert set(WAYS) == {None, *JobState}


def in_state(world: World, state: JobState | None, *, waiting: bool = False) -> World:
    """With its job brought into that state; where it waits for its next attempt, by a failed one
    or, where the table has no way to that, by a former version of this project."""
    for event in WAYS[state]:
        TELL[event](world)
    if waiting and state is PENDING:
        world.take()
        world.fail(FailureKind.BACKEND_BUG)
    elif waiting:
        with world.queue.driver.write() as connection:
            connection.exec_driver_sql("update jobs set retry_at = 1500")
    assert world.state() is state
    return world


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
@pytest.mark.parametrize("state", WAYS, ids=lambda state: state.value if state else "none")
def test_each_event_does_what_the_table_says_or_nothing(
    tmp_path: Path, state: JobState | None, driver: type[Driver]
) -> None:
    """What the table does not have, the queue refuses: the row stays as it is."""
    for event in Event:
        if state is None and event in FOUND.values():
            # A plan finds a job without a row new; the disk is not asked about such a one.
            continue
        world = World(tmp_path / event.value / "sweep.db", driver)
        with closing(world.queue):
            in_state(world, state, waiting=event is Event.WAIT_ENDED)
            before = governed(world.queue)
            TELL[event](world)
            after = governed(world.queue)
            step = transition(state, event)
            if step is None:
                assert after == before, event
                continue
            assert world.state() is step.to, event
            check(before.get(world.job.id), after[world.job.id], [event])
            if event in (Event.RENEWED, Event.WAIT_ENDED):
                assert after != before, event


def test_a_check_sees_what_the_table_does_not_have(tmp_path: Path) -> None:
    """The tests' own measure: another state, another column, another event."""
    world = in_state(World(tmp_path / "sweep.db", DRIVERS[0]), RUNNING)
    with closing(world.queue):
        (before,) = governed(world.queue).values()
        world.finish()
        (after,) = governed(world.queue).values()
    check(before, after, [Event.MADE])
    for other in ({"state": "failed"}, {"tries": 1}, {"token": before["token"]}, {"error": "x"}):
        with pytest.raises(AssertionError, match="became"):
            check(before, {**after, **other}, [Event.MADE])
    with pytest.raises(AssertionError, match="became"):
        check(before, after, [Event.RETURNED, Event.MADE_OUTDATED])


# What a failed attempt leads to, without a queue.


@dataclass(frozen=True)
class Row:
    """What a job's row says while an attempt runs."""

    group_key: str = "g"
    worker: str = SLOT.name
    claimed_at: float = 0.0
    tries: int = 0
    failures: int = 0
    deaths: int = 0
    kind: str | None = None


POLICY = Policy(failures=1, deaths=3, backoff_seconds=10, gpu_errors=2)


def judged(
    kind: FailureKind,
    row: Row | None = None,
    policy: Policy = POLICY,
    trouble: Trouble | None = None,
    around: Circumstances | None = None,
) -> Judgement:
    return judge(
        row or Row(),
        JudgedFailure(kind, "broken\nat line 1", 100.0),
        policy,
        trouble or Trouble(),
        Gate(),
        around or Circumstances(done=1),
    )


@pytest.mark.parametrize("kind", FailureKind)
def test_an_attempt_is_counted_as_its_kind_has_it(kind: FailureKind) -> None:
    found = judged(kind)
    counted = ANSWERS[kind].counted
    names = ("tries", "failures", "deaths")
    expected = {Counted.FAILURE: (1, 1, 0), Counted.DEATH: (1, 0, 1), Counted.NOT: (0, 0, 0)}
    assert tuple(found.values[name] for name in names) == expected[counted]
    assert (found.event is Event.FAILED_FOR_GOOD) == ANSWERS[kind].is_final
    assert set(found.values) == set(given(found.event))
    if found.event is Event.FAILED:
        assert found.values["retry_at"] == (110.0 if ANSWERS[kind].backs_off else None)


@pytest.mark.parametrize("kind", [FailureKind.BACKEND_BUG, FailureKind.WORKER_DIED])
def test_the_last_attempt_allowed_is_the_last_one(kind: FailureKind) -> None:
    row = Row(tries=3, failures=1, deaths=2)
    assert judged(kind, row).event is Event.FAILED_FOR_GOOD
    assert judged(kind, replace(row, failures=0, deaths=1)).event is Event.FAILED


def test_whoever_is_no_worker_costs_a_job_nothing() -> None:
    found = judged(FailureKind.BACKEND_BUG, Row(worker="adopt"))
    assert (found.event, found.values["tries"]) == (Event.FAILED, 0)


def test_judging_changes_nothing_that_it_was_given() -> None:
    trouble = Trouble()
    found = judged(FailureKind.GPU_ERROR, trouble=trouble)
    assert trouble == Trouble()
    assert found.trouble.gpu_errors == {"gpu0": (1, 0)}
    again = judged(FailureKind.GPU_ERROR, trouble=found.trouble)
    assert again.gate.aside == {"gpu0": "2 GPU errors in a row, the last: broken"}


def test_a_share_of_failed_jobs_is_of_those_that_are_planned() -> None:
    policy = replace(POLICY, max_failures=0.5)
    around = Circumstances(done=1, planned=4)
    once = judged(FailureKind.BAD_INPUT, policy=policy, around=around)
    assert once.gate.halted is None
    twice = judged(FailureKind.BAD_INPUT, None, policy, once.trouble, around)
    assert "2 jobs have failed" in str(twice.gate.halted)
    assert twice.notes == (f"the sweep is stopped: {twice.gate.halted}",)


# The one place.


def trees() -> dict[str, ast.Module]:
    return {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def test_jobs_are_written_by_statements_of_the_table() -> None:
    """`changes` alone makes such statements, and it names no state."""
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("sa."):
                written = ast.unparse(node.func) in ("sa.insert", "sa.update", "sa.delete")
                if written and ast.unparse(node.args[0]) == "jobs":
                    assert name == "changes.py", name
            if name == "changes.py" and isinstance(node, ast.Attribute):
                assert ast.unparse(node.value) not in ("JobState", "states"), ast.unparse(node)


def test_no_value_of_a_state_is_written_anywhere_else() -> None:
    for name, tree in trees().items():
        for node in ast.walk(tree):
            given_to: list[ast.expr] = []
            if isinstance(node, ast.keyword) and node.arg == "state":
                given_to = [node.value]
            elif isinstance(node, ast.Dict):
                given_to = [
                    value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant) and key.value == "state"
                ]
            for value in given_to:
                assert not re.search(r"\bJobState\.\w+\.value", ast.unparse(value)), name


def test_statements_cannot_write_governed_columns_beside_events() -> None:
    with pytest.raises(AssertionError):
        beside_events("held", "retry_at")
    with pytest.raises(AssertionError):
        of_rows(["state", "files", "retry_at"])
    with pytest.raises(AssertionError):
        everywhere("state", "done")


SQLITES_OWN = re.compile(
    r"sqlite3|PRAGMA|BEGIN IMMEDIATE|json_each|sqlite_where|dialects|sqlite_master|create_engine"
)
SPEAK_SQLITE = {"sqlite.py", "sqlite_errors.py", "soundness.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_driver_is_spoken_to_in_one_place(path: Path) -> None:
    """What is SQLite's own is its driver's, and what examines a damaged file."""
    code = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(code):
        # What is said of it in words is no speaking.
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    found = SQLITES_OWN.findall(ast.unparse(code))
    assert path.name in SPEAK_SQLITE or not found, found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_rows_have_types(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arg) and node.arg in ("row", "rows"):
            assert node.annotation is not None
            assert "Any" not in ast.unparse(node.annotation), node.arg


def test_a_whole_row_has_the_columns_that_are_asked_for() -> None:
    assert tuple(whole_jobs.selected_columns.keys()) == WholeRow._fields
