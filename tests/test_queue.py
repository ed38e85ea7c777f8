"""The queue: claims are exclusive, durable, and given back when their worker is gone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from test_plan import a_job

from runner.claim_order import Taste
from runner.errors import UserError
from runner.failures import FailureKind, Policy
from runner.job import Job, JobState
from runner.placement import Slot
from runner.processes import ProcessId
from runner.queue import LEASE_SECONDS, Claim, Queue

JOBS = [a_job(c, f"v{v}", p, s) for c in "ab" for v in range(2) for p in range(2) for s in (1, 2)]
SLOT = Slot(0, 0)
OTHER_HOST = ProcessId("another host", 1, 0)
POLICY = Policy(failures=1, deaths=10, backoff_seconds=0)


def pending(_job: Job) -> JobState:
    return JobState.PENDING


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    made = Queue(tmp_path / "sweep.db", create=True)
    made.sync(JOBS, [], "m", pending)
    made.set_policy(POLICY)
    return made


def claim(
    queue: Queue, taste: Taste | None = None, *, process: ProcessId | None = None, now: float = 0
) -> Claim:
    taken = queue.claim(SLOT, process or ProcessId.own(), taste or Taste(), now)
    assert taken is not None
    return taken


def states(queue: Queue) -> dict[str, JobState]:
    return {row.job.id: row.state for row in queue.rows()}


def test_a_worker_uses_up_each_group_and_ends(queue: Queue) -> None:
    """Each job is claimed once, group after group, and then there is nothing left."""
    group: str | None = None
    seen = []
    while (taken := queue.claim(SLOT, ProcessId.own(), Taste(group), 0)) is not None:
        group = taken.job.group
        seen.append(taken.job)
        assert queue.finish(taken, 1) is JobState.DONE
    assert sorted(job.id for job in seen) == sorted(job.id for job in JOBS)
    groups = [job.group for job in seen]
    changes = sum(one != two for one, two in pairwise(groups))
    assert changes == len(set(groups)) - 1


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
    assert queue.claim(SLOT, ProcessId.own(), taste, 0) is None


def test_held_jobs_are_not_claimed(queue: Queue) -> None:
    chosen = JOBS[5]
    queue.hold_all_but({chosen.id})
    assert queue.held() == len(JOBS) - 1
    assert claim(queue).job == chosen
    assert queue.claim(SLOT, ProcessId.own(), Taste(), 0) is None
    queue.hold_all_but(None)
    assert claim(queue).job != chosen


def test_draining_gives_out_nothing(queue: Queue) -> None:
    queue.drain(True)
    assert queue.claim(SLOT, ProcessId.own(), Taste(), 0) is None
    queue.drain(False)
    claim(queue)


def test_one_gpu_drains_while_the_others_go_on(queue: Queue) -> None:
    """Giving one GPU back leaves the rest; a later launch on some GPUs wakes only those."""
    one, two = Slot(0, 1), Slot(3, 0)

    def gives(slot: Slot) -> bool:
        return queue.claim(slot, ProcessId.own(), Taste(), 0) is not None

    queue.drain(True, [3])
    assert (gives(one), gives(two)) == (True, False)
    gate = queue.gate()
    assert (gate.is_draining(), gate.is_draining(0), gate.is_draining(3)) == (False, False, True)
    queue.drain(False, [3])
    assert gives(two)
    queue.drain(True)
    assert queue.gate().is_draining()
    queue.drain(False, [3])
    assert (gives(one), gives(two)) == (False, True)
    assert not queue.gate().is_draining()
    queue.drain(False)
    assert gives(one)


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


def test_nothing_is_read_that_has_not_changed(tmp_path: Path) -> None:
    """A second look at the disk reads no sidecar unless a file's size or time is another."""
    files = {job.output: "1 1 1 1" for job in JOBS[:4]}
    asked: list[str] = []

    def on_disk(job: Job) -> JobState:
        asked.append(job.id)
        return JobState.DONE if job.output in files else JobState.PENDING

    def look(output: str) -> str:
        return files.get(output, "")

    made = Queue(tmp_path / "sweep.db", create=True)
    made.sync(JOBS, [], "m", on_disk, look)
    assert asked == [job.id for job in JOBS[:4]]
    asked.clear()
    made.sync(JOBS, [], "m", on_disk, look)
    made.sync_files(on_disk, look)
    assert asked == []
    files[JOBS[1].output] = "2 1 1 1"
    files[JOBS[5].output] = "1 1 1 1"
    del files[JOBS[0].output]
    made.sync_files(on_disk, look)
    assert asked == [JOBS[1].id, JOBS[5].id]
    assert [states(made)[JOBS[n].id] for n in (0, 1, 5)] == [
        JobState.PENDING,
        JobState.DONE,
        JobState.DONE,
    ]
    asked.clear()
    made.sync_files(on_disk, look)
    assert asked == []
    assert [job.job for job in made.rows(JobState.DONE)] == [JOBS[n] for n in (1, 2, 3, 5)]


def test_a_queue_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    Queue(path, create=True).close()
    with sqlite3.connect(str(path)) as connection:
        connection.execute("update meta set value = '1' where key = 'schema'")
    for create in (False, True):
        with pytest.raises(UserError, match="another version; delete it"):
            Queue(path, create=create)


def test_a_lost_claim_can_neither_finish_nor_fail_nor_renew(queue: Queue) -> None:
    """Whoever lost a job to another worker changes nothing of it."""
    queue.hold_all_but({JOBS[0].id})
    lost = claim(queue, process=OTHER_HOST, now=0)
    assert [taken.claim.token for taken in queue.reclaim(LEASE_SECONDS + 1)] == [lost.token]
    again = claim(queue, now=100)
    assert again.job == lost.job
    assert again.token != lost.token
    assert not queue.renew(lost, 100)
    assert queue.finish(lost, 100) is None
    assert queue.fail(lost, "late", 100) is None
    assert not queue.give_back(lost)
    assert queue.renew(again, 100)


def test_a_lease_of_another_host_ends_only_with_time(queue: Queue) -> None:
    taken = claim(queue, process=OTHER_HOST, now=0)
    assert queue.reclaim(LEASE_SECONDS - 1) == []
    assert queue.renew(taken, 50)
    assert queue.reclaim(LEASE_SECONDS + 1) == []
    assert len(queue.reclaim(50 + LEASE_SECONDS + 1)) == 1


def test_a_dead_process_of_this_host_gives_its_job_back_at_once(queue: Queue) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    now = time.time()
    claim(queue, process=ProcessId.of(process.pid), now=now)
    assert queue.reclaim(now) == []
    process.kill()
    process.wait()
    assert len(queue.reclaim(now)) == 1


def test_a_pid_used_again_is_another_process() -> None:
    own = ProcessId.own()
    assert not own.is_gone()
    assert ProcessId(own.host, own.pid, own.started - 100).is_gone()


def test_a_job_that_killed_its_worker_comes_after_all_others(queue: Queue) -> None:
    """One job that kills every worker cannot keep the rest from being made."""
    poison = claim(queue, process=OTHER_HOST, now=0).job
    queue.reclaim(LEASE_SECONDS + 1)
    taken = []
    while (found := queue.claim(SLOT, ProcessId.own(), Taste(poison.group), 0)) is not None:
        taken.append(found.job)
    assert taken[-1] == poison
    assert len(taken) == len(JOBS)


def test_a_remake_asked_for_outlives_another_plan(tmp_path: Path) -> None:
    """`resume --stale` is not undone by a plan, nor is a failed remake."""
    made = Queue(tmp_path / "sweep.db", create=True)

    def stale(_job: Job) -> JobState:
        return JobState.STALE

    made.sync(JOBS[:1], [], "m", stale)
    assert made.retry([JobState.STALE]) == 1
    made.sync(JOBS[:1], [], "m", stale)
    assert states(made)[JOBS[0].id] is JobState.PENDING
    made.set_policy(POLICY)
    for _ in range(1 + POLICY.failures):
        made.fail(claim(made), "broken", 1)
    made.sync(JOBS[:1], [], "m", stale)
    assert states(made)[JOBS[0].id] is JobState.FAILED


@pytest.mark.parametrize("content", [b"", b"no database" * 999])
def test_a_damaged_queue_is_said_to_be(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.db").write_bytes(content)
    with pytest.raises(UserError, match="damaged; delete it"):
        Queue(tmp_path / "sweep.db")


def test_failures_and_deaths_have_limits_of_their_own(queue: Queue) -> None:
    queue.hold_all_but({JOBS[0].id})
    for _ in range(POLICY.deaths - 1):
        claim(queue, process=OTHER_HOST, now=0)
        queue.reclaim(LEASE_SECONDS + 1)
        assert states(queue)[JOBS[0].id] is JobState.PENDING
    for number in range(1 + POLICY.failures):
        assert states(queue)[JOBS[0].id] is JobState.PENDING
        assert claim(queue).attempt == POLICY.deaths + number
        queue.fail(queue_claim(queue), "broken", 1)
    row = queue.rows(JobState.FAILED)[0]
    assert (row.job, row.error, row.deaths) == (JOBS[0], "broken", POLICY.deaths - 1)
    assert queue.retry([JobState.FAILED]) == 1
    assert claim(queue).attempt == 1


def queue_claim(queue: Queue) -> Claim:
    """The claim of the one running job, as its worker holds it."""
    row = queue.rows(JobState.RUNNING)[0]
    with sqlite3.connect(str(queue.path)) as connection:
        token = connection.execute("select token from jobs where token is not null").fetchone()[0]
    return Claim(row.job, token, "w", 1, 0)


def test_a_job_replanned_while_it_runs_ends_as_stale(queue: Queue) -> None:
    taken = claim(queue)
    changed = [*JOBS]
    changed[0] = Job.from_json({**JOBS[0].to_json(), "fingerprint": "e" * 64})
    queue.sync(changed, [], "n", pending)
    assert states(queue)[JOBS[0].id] is JobState.RUNNING
    assert queue.finish(taken, 1) is JobState.STALE


def test_the_disk_is_the_truth(tmp_path: Path) -> None:
    """A queue made anew from manifest and disk counts what the disk proves, no more."""
    proof = {JOBS[0].id: JobState.DONE, JOBS[1].id: JobState.STALE}

    def on_disk(job: Job) -> JobState:
        return proof.get(job.id, JobState.PENDING)

    made = Queue(tmp_path / "sweep.db", create=True)
    made.sync(JOBS[:-1], JOBS[-1:], "m", on_disk)
    assert made.manifest_sha256() == "m"
    found = states(made)
    assert [found[job.id] for job in (JOBS[0], JOBS[1], JOBS[2], JOBS[-1])] == [
        JobState.DONE,
        JobState.STALE,
        JobState.PENDING,
        JobState.RETIRED,
    ]
    proof.clear()
    made.sync(JOBS, [], "m2", on_disk)
    assert set(states(made).values()) == {JobState.PENDING}


def test_a_missing_queue_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sweep resume"):
        Queue(tmp_path / "sweep.db")
    assert not (tmp_path / "sweep.db").exists()


def contend(path: Path, name: str, out: multiprocessing.Queue[list[str]]) -> None:
    queue = Queue(path)
    done = []
    while (
        taken := queue.claim(Slot(0, int(name)), ProcessId.own(), Taste(), time.time())
    ) is not None:
        queue.workers.report(Slot(0, int(name)), time.time(), step=1)
        done.append(taken.job.id)
        queue.finish(taken, time.time())
    out.put(done)


def test_contending_processes_share_every_job_exactly_once(tmp_path: Path) -> None:
    """Eight real processes on one queue: no job is claimed twice, none is lost."""
    jobs = [a_job("c", f"v{v}", p, 1) for v in range(20) for p in range(10)]
    Queue(tmp_path / "sweep.db", create=True).sync(jobs, [], "m", pending)
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[list[str]] = context.Queue()
    processes = [
        context.Process(target=contend, args=(tmp_path / "sweep.db", str(n), out)) for n in range(8)
    ]
    for process in processes:
        process.start()
    claimed = [job_id for _ in processes for job_id in out.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(claimed) == sorted(job.id for job in jobs)


def test_a_claim_survives_kill_9(tmp_path: Path) -> None:
    """What `claim` returned is on disk: the job stays the dead worker's until it is reclaimed."""
    path = tmp_path / "sweep.db"
    queue = Queue(path, create=True)
    queue.sync(JOBS[:1], [], "m", pending)
    code = (
        "import os, signal, sys, time; from pathlib import Path\n"
        "from runner.queue import Queue; from runner.processes import ProcessId\n"
        "from runner.claim_order import Taste; from runner.placement import Slot\n"
        "Queue(Path(sys.argv[1])).claim(Slot(0, 0), ProcessId.own(), Taste(), time.time())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert queue.claim(SLOT, ProcessId.own(), Taste(), time.time()) is None
    assert len(queue.reclaim(time.time())) == 1
    assert claim(queue).job == JOBS[0]


def raw(queue: Queue, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(str(queue.path)) as connection:
        return connection.execute(query).fetchall()


def first_by_reading_everything(queue: Queue, taste: Taste) -> str | None:
    """The job that the documented order puts first, worked out from all rows, as a model."""
    columns = "id, category, group_key, position, priority, tries, state, held, retry_at"
    rows = [
        dict(zip(columns.split(", "), row, strict=True))
        for row in raw(queue, f"select {columns} from jobs")
    ]
    running = [row for row in rows if row["state"] == "running"]
    started = {row["group_key"] for row in running}
    open_rows = [
        row
        for row in rows
        if row["state"] == "pending"
        and not row["held"]
        and row["retry_at"] is None
        and not (taste.static and taste.home and row["category"] not in taste.home)
    ]
    if not open_rows:
        return None
    level = min((row["priority"], row["tries"] > 0) for row in open_rows)
    open_rows = [row for row in open_rows if (row["priority"], row["tries"] > 0) == level]
    left = Counter(row["category"] for row in open_rows)
    at_work = Counter(row["category"] for row in running)
    position = {
        row["group_key"]: min(r["position"] for r in rows if r["group_key"] == row["group_key"])
        for row in open_rows
    }

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        home = row["category"] in taste.home
        return (
            row["group_key"] != taste.group,
            row["group_key"] in started,
            taste.home.index(row["category"]) if home else len(taste.home),
            0 if home else -left[row["category"]] / (1 + at_work[row["category"]]),
            position[row["group_key"]],
            row["tries"],
            row["position"],
        )

    first: str = min(open_rows, key=rank)["id"]
    return first


class AnyOrder(RuleBasedStateMachine):
    """Any order of claims, ends, silences and new plans keeps every job accounted for."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.queue = Queue(Path(self.folder.name) / "sweep.db", create=True)
        self.now = 0.0
        self.held: list[Claim] = []
        self.disk: dict[str, JobState] = {}
        self.queue.sync(JOBS, [], "m", self.on_disk)

    def on_disk(self, job: Job) -> JobState:
        return self.disk.get(job.id, JobState.PENDING)

    @rule(
        home=st.sampled_from([(), ("a",), ("b",), ("b", "a")]),
        group=st.sampled_from([None, *sorted({job.group for job in JOBS})]),
        static=st.booleans(),
    )
    def take(self, home: tuple[str, ...], group: str | None, static: bool) -> None:
        taste = Taste(group, home, static)
        refused = self.queue.gate().refusal(SLOT, self.now) is not None
        expected = None if refused else first_by_reading_everything(self.queue, taste)
        taken = self.queue.claim(SLOT, OTHER_HOST, taste, self.now)
        assert expected == (taken.job.id if taken is not None else None)
        if taken is not None:
            assert taken.job.id not in {claim.job.id for claim in self.live()}
            assert taken.job in JOBS
            self.held.append(taken)

    @rule(chosen=st.none() | st.sets(st.sampled_from([job.id for job in JOBS])))
    def hold(self, chosen: set[str] | None) -> None:
        self.queue.hold_all_but(chosen)

    @rule(order=st.permutations([1, 2]), axis=st.sampled_from(["category", "seed", None]))
    def prioritise(self, order: list[int], axis: Literal["category", "seed"] | None) -> None:
        self.queue.prioritise(axis, order if axis == "seed" else ["ab"[n - 1] for n in order])

    @rule()
    def retry(self) -> None:
        self.queue.retry([JobState.FAILED])

    @rule()
    def reopen(self) -> None:
        self.queue.reopen()

    @rule(number=st.integers(1, len(JOBS)))
    def plan_fewer(self, number: int) -> None:
        """A smaller plan takes jobs out, and the next one brings them back."""
        self.queue.sync(JOBS[:number], JOBS[number:], "n", self.on_disk)
        self.counters_equal_a_recount()
        self.plan_again()

    @invariant()
    def counters_equal_a_recount(self) -> None:
        """What claims go by is what counting every job would give."""
        level = "priority, tries > 0, category"
        claimable = "from jobs where state = 'pending' and not held and retry_at is null group by"
        for table, key in (
            ("claimable_groups", f"group_key, {level}"),
            ("claimable_categories", level),
        ):
            kept = raw(self.queue, f"select {key.replace('tries > 0', 'tried')}, left from {table}")
            assert sorted(kept) == sorted(
                raw(self.queue, f"select {key}, count(*) {claimable} {key}")
            )

    @rule(data=st.data(), end=st.sampled_from(["finish", "fail", "give_back", "renew"]))
    def end(self, data: st.DataObject, end: str) -> None:
        if not self.held:
            return
        chosen = data.draw(st.sampled_from(self.held))
        was_live = chosen in self.live()
        if end == "finish":
            if was_live:
                self.disk[chosen.job.id] = JobState.DONE
            assert (self.queue.finish(chosen, self.now) is not None) == was_live
        elif end == "fail":
            kind = data.draw(st.sampled_from(FailureKind))
            assert (self.queue.fail(chosen, "e", self.now, kind) is not None) == was_live
        elif end == "give_back":
            assert self.queue.give_back(chosen) == was_live
        else:
            assert self.queue.renew(chosen, self.now) == was_live
            return
        self.held.remove(chosen)

    @rule(seconds=st.sampled_from([1, LEASE_SECONDS / 2, LEASE_SECONDS + 1]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.queue.reclaim(self.now)

    @rule()
    def plan_again(self) -> None:
        self.queue.sync(JOBS, [], "m", self.on_disk)

    def live(self) -> list[Claim]:
        running = {row.job.id for row in self.queue.rows(JobState.RUNNING)}
        tokens = {token for token in self.tokens()}
        return [c for c in self.held if c.job.id in running and c.token in tokens]

    def tokens(self) -> list[str]:
        return [row[0] for row in raw(self.queue, "select token from jobs where token > ''")]

    @invariant()
    def every_job_is_somewhere(self) -> None:
        found = states(self.queue)
        assert set(found) == {job.id for job in JOBS}
        done = {job_id for job_id, state in found.items() if state is JobState.DONE}
        assert done == set(self.disk)
        running = [job_id for job_id, state in found.items() if state is JobState.RUNNING]
        assert sorted(running) == sorted(claim.job.id for claim in self.live())

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_this_process_is_named_by_more_than_its_pid() -> None:
    own = ProcessId.own()
    assert own.pid == os.getpid()
    assert own.host
    assert own.started > 0


def test_a_queue_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    """Nobody is told to delete what may be whole."""
    path = tmp_path / "sweep.db"
    path.mkdir()
    with pytest.raises(UserError, match="unable to open") as raised:
        Queue(path)
    assert "delete" not in str(raised.value)
