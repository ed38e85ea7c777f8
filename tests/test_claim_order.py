"""The order of claims: references are used up, no worker waits, the tail is shared."""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from hand_made import SIZE, a_job
from hypothesis import given, settings
from hypothesis import strategies as st
from queue_jobs import JOBS, OTHER_HOST, SLOT, claim, pending
from settable_clock import Clock

from runner.job import Job
from runner.job.failures import Policy
from runner.job.slot_names import Slot
from runner.machine.processes import ProcessId
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.queue.claims import LEASE_SECONDS, Claim
from runner.queue.soundness import find_damage
from runner.queue.worker_table import WorkerState
from runner.text.canonical import sha256_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    made = Queue(tmp_path / "sweep.db", create=True, clock=clock)
    made.sync(JOBS, [], "m", pending)
    return made


def jobs_of(groups: dict[str, int], method: str = "") -> list[Job]:
    """So many jobs of each group, "category/video", of one method."""
    own = {**SIZE, "method": method} if method else SIZE
    jobs = []
    for group, number in groups.items():
        category, _, video = group.partition("/")
        for prompt in range(number):
            digest = sha256_of([group, prompt, method])[:16]
            jobs.append(a_job(category, video, prompt, 1, parameters=own, id=digest))
    return jobs


def queue_of(
    folder: Path, groups: dict[str, int], methods: Mapping[str, dict[str, int]] | None = None
) -> Queue:
    """A queue of groups, each "category/video", with so many jobs; and of those of methods."""
    jobs = jobs_of(groups)
    for name, own in (methods or {}).items():
        jobs += jobs_of(own, name)
    made = Queue(folder / "sweep.db", create=True, clock=Clock())
    made.sync(jobs, [], "m", pending)
    return made


class Fleet:
    """Workers that claim from one queue, each with its last group and the method that it has
    loaded, as real ones do."""

    def __init__(self, queue: Queue, homes: dict[int, tuple[str, ...]] | None = None) -> None:
        self.queue = queue
        self.homes = homes or {}
        self.groups: dict[int, str] = {}
        self.methods: dict[int, str] = {}
        self.loads = 0

    def taste(self, worker: int) -> Taste:
        method = self.methods.get(worker, "")
        return Taste(self.groups.get(worker), self.homes.get(worker, ()), method=method)

    def load(self, worker: int) -> str | None:
        """Load the next method's model, where there is one; returns its name."""
        slot = Slot.of(worker, 0)
        if worker not in self.methods:
            self.queue.workers.register(slot, ProcessId.own())
        method = self.queue.next_method(slot, self.taste(worker))
        if method is not None and method != self.methods.get(worker):
            self.methods[worker] = method
            self.groups.pop(worker, None)
            self.loads += 1
        return method

    def leave(self, worker: int) -> None:
        self.queue.workers.report(Slot.of(worker, 0), state=WorkerState.STOPPED)

    def claim(self, worker: int) -> Claim | None:
        taken = self.queue.claim(Slot.of(worker, 0), ProcessId.own(), self.taste(worker))
        if taken is not None:
            self.groups[worker] = taken.job.group
        return taken

    def work(self, worker: int) -> Claim | None:
        """The next claim, after another model was loaded if need be."""
        taken = self.claim(worker) if worker in self.methods else None
        if taken is None and self.load(worker) is not None:
            taken = self.claim(worker)
        return taken

    def group(self, worker: int) -> str:
        """The group of this worker's next claim, which it keeps."""
        taken = self.claim(worker)
        assert taken is not None
        return taken.job.group


def test_a_worker_begins_at_home_and_moves_on_when_home_is_done(queue: Queue) -> None:
    group: str | None = None
    categories = []
    for _ in JOBS:
        taken = claim(queue, Taste(group, ("b",)))
        group = taken.job.group
        categories.append(taken.job.category)
    assert categories == ["b"] * 8 + ["a"] * 8


def test_two_workers_of_one_home_do_not_share_a_group(queue: Queue) -> None:
    one, two = claim(queue, Taste(home=("a",))), claim(queue, Taste(home=("a",)))
    assert one.job.group != two.job.group
    assert one.job.category == two.job.category == "a"


def test_static_claims_nothing_outside_home(queue: Queue) -> None:
    taste = Taste(home=("b",), static=True)
    taken = [claim(queue, taste).job.category for _ in range(8)]
    assert taken == ["b"] * 8
    assert queue.claim(SLOT, ProcessId.own(), taste) is None


def test_all_of_one_seed_comes_before_the_next(queue: Queue) -> None:
    """`prioritise` orders by seed or category, also jobs that are planned later."""
    queue.prioritise("seed", [2, 1])
    more = [*JOBS, a_job("a", "v9", 0, 1), a_job("a", "v9", 0, 2)]
    queue.sync(more, [], "n", pending)
    group, seeds = None, []
    for _ in more:
        taken = claim(queue, Taste(group))
        group = taken.job.group
        seeds.append(taken.job.seed)
    assert seeds == [2] * (len(more) // 2) + [1] * (len(more) // 2)


def test_one_category_comes_before_the_next_wherever_a_worker_is_at_home(queue: Queue) -> None:
    """Also in the middle of a group, and for a worker that has begun another category."""
    begun = claim(queue, Taste(home=("a",)))
    queue.prioritise("category", ["b", "a"])
    rest = [claim(queue, Taste(begun.job.group, ("a",))).job.category for _ in JOBS[1:]]
    assert rest == ["b"] * 8 + ["a"] * 7


def test_a_job_that_killed_its_worker_comes_after_all_others(queue: Queue, clock: Clock) -> None:
    """One job that kills every worker cannot keep the rest from being made."""
    poison = claim(queue, process=OTHER_HOST).job
    clock.now = LEASE_SECONDS + 1
    queue.reclaim()
    taken = []
    while (found := queue.claim(SLOT, ProcessId.own(), Taste(poison.group))) is not None:
        taken.append(found.job)
    assert taken[-1] == poison
    assert len(taken) == len(JOBS)


def test_a_whole_group_is_taken_of_the_category_with_most_left_per_worker(tmp_path: Path) -> None:
    """Where home is done, a worker goes where one more is of most use, not where most is left."""
    groups = {f"{category}/v{n}": 3 for category in "abc" for n in range(4)}
    groups["a/v4"] = 3
    fleet = Fleet(queue_of(tmp_path, {"home/v": 1, **groups}), {0: ("home",)})
    assert fleet.group(0) == "home/v"
    # a: 15 left, b and c: 12. Each claim there makes the category's share smaller.
    assert [fleet.group(worker) for worker in range(1, 4)] == ["a/v0", "b/v0", "c/v0"]
    # a: 14 over 2, b and c: 11 over 2.
    assert fleet.group(0) == "a/v1"
    # a: 13 over 3, b and c: 11 over 2, of which b stands first.
    assert fleet.group(4) == "b/v1"


def test_a_started_group_is_left_alone_while_there_is_a_whole_one(tmp_path: Path) -> None:
    fleet = Fleet(queue_of(tmp_path, {"a/long": 50, "b/v0": 1, "b/v1": 1}))
    assert fleet.group(0) == "a/long"
    assert {fleet.group(1), fleet.group(2)} == {"b/v0", "b/v1"}
    assert fleet.group(1) == "a/long"


def test_the_tail_is_shared_where_most_is_left_per_worker(tmp_path: Path) -> None:
    """Workers that find only started groups spread over them by what is left, not by position."""
    fleet = Fleet(queue_of(tmp_path, {"a/v": 3, "b/v": 9, "c/v": 6}))
    assert {fleet.group(worker) for worker in range(3)} == {"a/v", "b/v", "c/v"}
    # Left: 2, 8, 5, so 1, 4, 2.5 for one more worker each; then 7 over 3; then 4 over 3.
    assert [fleet.group(worker) for worker in range(3, 6)] == ["b/v", "c/v", "b/v"]


def test_in_the_tail_home_comes_first_only_among_equals(tmp_path: Path) -> None:
    """A started group at home has to be prepared like any other, and soon ends."""
    fleet = Fleet(queue_of(tmp_path, {"a/v": 4, "b/v": 4, "c/v": 9}), {3: ("b",), 4: ("b",)})
    assert {fleet.group(worker) for worker in range(3)} == {"a/v", "b/v", "c/v"}
    assert fleet.group(3) == "c/v"
    # Left: 3, 3, 7: 1.5, 1.5, and 7 over 3; and with one more at c, 6 over 4.
    assert fleet.group(5) == "c/v"
    assert fleet.group(4) == "b/v"


def test_a_worker_with_two_jobs_of_a_group_counts_once(tmp_path: Path) -> None:
    """While one video is encoded the next is generated: that is one worker, not two."""
    fleet = Fleet(queue_of(tmp_path, {"a/v": 6, "b/v": 5}))
    assert [fleet.group(0), fleet.group(0), fleet.group(1)] == ["a/v", "a/v", "b/v"]
    # Left: 4 and 4.
    assert fleet.group(2) == "a/v"


def test_static_shares_the_tail_only_at_home(tmp_path: Path) -> None:
    made = queue_of(tmp_path, {"a/v": 3, "b/v": 9})
    taste = Taste(home=("a",), static=True)
    taken = [made.claim(Slot.of(n, 0), ProcessId.own(), taste) for n in range(4)]
    assert [one.job.group if one else None for one in taken] == ["a/v"] * 3 + [None]


def method_of(claim: Claim | None) -> str | None:
    return None if claim is None else claim.job.method


def test_a_worker_makes_all_it_can_with_the_model_that_it_has_loaded(tmp_path: Path) -> None:
    groups = {"a/v": 2, "b/v": 2}
    fleet = Fleet(queue_of(tmp_path, groups, {"ours": groups, "other": {"a/v": 1}}))
    taken = [method_of(fleet.work(0)) for _ in range(10)]
    assert taken == [None] * 4 + ["ours"] * 4 + ["other", None]
    assert fleet.loads == 3


def test_workers_begin_with_different_methods(tmp_path: Path) -> None:
    """By what is left of each per worker that has it loaded, also before it has claimed a job."""
    many = {"a/v0": 4, "a/v1": 4}
    fleet = Fleet(queue_of(tmp_path, {}, {"one": {"a/v": 3}, "two": many, "three": many}))
    # Left: 3, 8, 8; then 3, 4, 8; then 3, 4, 4; of equal ones the first.
    assert [fleet.load(worker) for worker in range(4)] == ["two", "three", "two", "three"]
    # 3, 8 over 3, 8 over 3.
    assert fleet.load(4) == "one"
    fleet.leave(0)
    assert fleet.load(5) == "two"


def test_a_group_is_prepared_for_each_method(tmp_path: Path) -> None:
    """One that another method's worker has begun is a whole one for this."""
    fleet = Fleet(queue_of(tmp_path, {}, {"one": {"a/v": 4, "b/v": 1}, "two": {"a/v": 4}}))
    assert (fleet.load(0), fleet.load(1)) == ("one", "two")
    assert fleet.group(0) == fleet.group(1) == "a/v"


def test_priorities_come_before_the_model_that_is_loaded(tmp_path: Path) -> None:
    groups = {"a/v": 2, "b/v": 2}
    fleet = Fleet(queue_of(tmp_path, {}, {"one": groups, "two": groups}))
    fleet.queue.prioritise("category", ["b", "a"])
    taken = [fleet.work(0) for _ in range(8)]
    assert [one.job.category for one in taken if one] == ["b"] * 4 + ["a"] * 4
    assert [method_of(one) for one in taken] == [*["one"] * 2, *["two"] * 4, *["one"] * 2]
    assert fleet.claim(0) is None
    assert fleet.load(0) is None


def test_what_failed_waits_for_all_others_unless_its_model_is_loaded(tmp_path: Path) -> None:
    """A job that kills its workers keeps no method from being made: the next one begins with what
    has not been tried. One that has a model loaded does not leave it for a job that has failed."""
    groups = {"a/v": 2}
    fleet = Fleet(queue_of(tmp_path, {}, {"one": groups, "two": groups}))
    fleet.queue.set_policy(Policy(failures=9, deaths=9, backoff_seconds=0))
    first = fleet.work(0)
    assert first is not None
    fleet.queue.fail(first, "broken")
    assert [method_of(fleet.work(0)) for _ in range(2)] == ["one", "one"]
    again = fleet.work(0)
    assert method_of(again) == "two"
    last = Fleet(queue_of(tmp_path / "new", {}, {"one": {"a/v": 1}, "two": groups}))
    last.queue.set_policy(Policy(failures=9, deaths=9, backoff_seconds=0))
    assert last.load(0) == "two"
    begun = last.claim(0)
    assert begun is not None
    last.queue.fail(begun, "broken")
    assert [method_of(last.work(1)) for _ in range(3)] == ["one", "two", "two"]


def test_a_method_that_cannot_be_loaded_is_left_out(tmp_path: Path) -> None:
    groups = {"a/v": 2}
    queue = queue_of(tmp_path, {}, {"one": groups, "two": groups})
    queue.prioritise("method", ["one", "two"])
    without = Taste(method="two", without=("one",))
    assert queue.next_method(SLOT, without) == "two"
    assert [claim(queue, without).job.method for _ in range(2)] == ["two", "two"]
    assert queue.next_method(SLOT, without) is None
    assert queue.open_jobs(without) == (0, 2)
    assert queue.open_jobs(Taste()) == (2, 2)


@given(st.data())
@settings(max_examples=25)
def test_methods_are_made_one_after_the_other_by_each_worker(data: st.DataObject) -> None:
    """Whoever comes and goes, and whatever fails: all is made, no worker finds nothing while there
    is a job, and none changes its model while it could make something with it."""
    sizes = st.dictionaries(st.sampled_from(["a/v", "a/w", "b/v"]), st.integers(1, 4), min_size=1)
    names = st.sampled_from(["", "one", "two"])
    methods = data.draw(st.dictionaries(names, sizes, min_size=1))
    left = Counter({name: sum(own.values()) for name, own in methods.items()})
    with TemporaryDirectory() as folder:
        queue = queue_of(Path(folder), {}, methods)
        queue.set_policy(Policy(failures=99, deaths=99, backoff_seconds=0))
        fleet = Fleet(queue)
        done: list[str] = []
        # More of them than that, and none done, would stop the sweep.
        failures = 5
        while left.total():
            worker = data.draw(st.integers(0, 3))
            before = fleet.methods.get(worker)
            taken = fleet.work(worker)
            assert taken is not None
            method = taken.job.method or ""
            assert method == fleet.methods[worker]
            assert before is None or method == before or not left[before]
            if not failures or data.draw(st.integers(0, 4)):
                assert queue.finish(taken)
                left[method] -= 1
                done.append(taken.job.id)
            else:
                failures -= 1
                queue.fail(taken, "broken")
        assert fleet.work(0) is None
        queue.close()
        assert find_damage(Path(folder) / "sweep.db") is None
    assert len(done) == len(set(done)) == sum(sum(own.values()) for own in methods.values())


@given(st.data())
@settings(max_examples=40)
def test_no_worker_waits_while_workers_come_and_go(data: st.DataObject) -> None:
    """Any groups, homes, durations and comings and goings: all is made, nobody idles.

    A worker finds nothing only when nothing is pending, so that all end within one job of each
    other; a second worker prepares a reference only when no whole group is left.
    """
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=2, max_size=7))
    groups = {f"{'abc'[n % 3]}/v{n}": size for n, size in enumerate(sizes)}
    durations = st.floats(0.5, 1.5, allow_nan=False)
    comings = data.draw(st.lists(st.floats(0, 8), min_size=1, max_size=5))
    goings = data.draw(st.lists(st.none() | st.floats(0, 8), min_size=4, max_size=4))
    homes = data.draw(
        st.lists(st.sampled_from([(), ("a",), ("b",), ("c", "a")]), min_size=6, max_size=6)
    )
    with TemporaryDirectory() as folder:
        queue = queue_of(Path(folder), groups)
        fleet = Fleet(queue, dict(enumerate(homes)))
        # The first stays from the beginning to the end, so that everything can be made.
        events: list[tuple[float, int, Claim | None]] = [(0.0, 0, None)]
        events += [(at, worker, None) for worker, at in enumerate(comings, start=1)]
        leaves: dict[int, float | None] = dict(enumerate(goings, start=1))
        heapq.heapify(events)
        left, pending_jobs = Counter(groups), sum(sizes)
        made: list[Job] = []
        at_work: Counter[str] = Counter()
        while events:
            now, worker, finished = heapq.heappop(events)
            leave = leaves.get(worker)
            goes = leave is not None and now >= leave
            former = fleet.groups.get(worker)
            whole = {group for group in groups if left[group] and not at_work[group]}
            # As a worker does: it claims the next before the last one's end is recorded.
            taken = None if goes else fleet.claim(worker)
            assert taken is not None or goes or not pending_jobs
            if taken is not None:
                group = taken.job.group
                if group != former and at_work[group]:
                    assert not whole
                left[group] -= 1
                at_work[group] += 1
                pending_jobs -= 1
                heapq.heappush(events, (now + data.draw(durations), worker, taken))
            if finished is not None:
                assert queue.finish(finished)
                at_work[finished.job.group] -= 1
                made.append(finished.job)
        queue.close()
    assert sorted(job.id for job in made) == sorted({job.id for job in made})
    assert len(made) == sum(sizes)


def steps_of_claims(folder: Path, groups: int, jobs: int) -> int:
    """The most instructions of SQLite's machine that a claim or its end takes in such a queue."""
    folder.mkdir()
    queue_of(folder, {f"{'ab'[n % 2]}/v{n:03d}": jobs for n in range(groups)}).close()
    counts = [0]

    def step() -> int:
        counts[-1] += 1
        return 0

    def count_steps(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_progress_handler(step, 1)

    sa.event.listen(sa.Pool, "connect", count_steps)
    try:
        fleet = Fleet(Queue(folder / "sweep.db", clock=Clock(1)), {0: ("a",)})
        for number in range(20):
            counts.append(0)
            taken = fleet.claim(number % 3)
            assert taken is not None
            if number % 4:
                fleet.queue.finish(taken)
            else:
                fleet.queue.fail(taken, "broken")
            fleet.queue.reclaim()
        return max(counts[1:])
    finally:
        sa.event.remove(sa.Pool, "connect", count_steps)


def test_a_claim_costs_the_same_whatever_the_number_of_jobs(tmp_path: Path) -> None:
    """Twenty times as many groups, of four times as many jobs each, add nothing to speak of."""
    few = steps_of_claims(tmp_path / "few", groups=8, jobs=5)
    many = steps_of_claims(tmp_path / "many", groups=160, jobs=20)
    assert many < 1.2 * few, (few, many)
