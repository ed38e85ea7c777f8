"""Any order of claims, heartbeats, ends, deaths and plans: no job runs twice, none is lost, and
nothing happens to one that the table of states does not have."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hand_made import a_job
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from queue_jobs import JOBS, OTHER_HOST, only, pending, raw, states
from settable_clock import Clock

from runner.job import UNMADE, Job, JobState, MadeInput
from runner.job.failures import FailureKind, Policy
from runner.job.slot_names import Slot
from runner.machine.processes import ProcessId
from runner.queue import Queue
from runner.queue.awaiting import follow_upstream
from runner.queue.claim_job import claim_job
from runner.queue.claim_order import Taste
from runner.queue.claims import LEASE_SECONDS, Claim
from runner.queue.states import FOUND, NEWLY_PLANNED, Event

GONE = replace(ProcessId.own(), started=ProcessId.own().started - 1)
"""A process of this host that has ended: its pid is another's now."""


LOOKS = tuple(FOUND.values())
PLANS = (*LOOKS, *NEWLY_PLANNED.values(), Event.RETIRED)
BRINGER = "adopt"
"""Who brings videos along; this process, which lives."""
FAILS = (Event.FAILED, Event.FAILED_FOR_GOOD)


def made_of_another(job: Job) -> Job:
    """The same job, of which one input is a video that another run makes."""
    made = MadeInput("above", job.id, job.fingerprint, job.output)
    return replace(job, series=replace(job.series, inputs={**job.series.inputs, "image": made}))


PLAN = [*JOBS[:-2], *map(made_of_another, JOBS[-2:])]


def first_by_reading_everything(queue: Queue, taste: Taste) -> str | None:
    """The job that the documented order puts first, worked out from all rows, as a model."""
    columns = "id, category, group_key, position, priority, tries, state, held, worker, retry_at"
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
    at_work = {
        key: Counter(of for of, _ in {(row[key], row["worker"]) for row in running})
        for key in ("category", "group_key")
    }
    in_group = Counter(row["group_key"] for row in open_rows)
    position = {
        row["group_key"]: min(r["position"] for r in rows if r["group_key"] == row["group_key"])
        for row in open_rows
    }

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        category, group = row["category"], row["group_key"]
        home = taste.home.index(category) if category in taste.home else len(taste.home)
        share: float
        if group in started:
            share = in_group[group] / (1 + at_work["group_key"][group])
            place: tuple[float, float] = (-share, home)
        else:
            share = left[category] / (1 + at_work["category"][category])
            place = (home, 0 if category in taste.home else -share)
        job = (row["tries"], row["position"])
        return group != taste.group, group in started, *place, position[group], *job

    first: str = min(open_rows, key=rank)["id"]
    return first


class AnyOrder(RuleBasedStateMachine):
    """Any order of claims, ends, silences and new plans keeps every job accounted for.

    Whatever a rule does is held against the table of states: see `queue_jobs.only`.
    """

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.queue = Queue(Path(self.folder.name) / "sweep.db", create=True, clock=self.clock)
        self.held: list[Claim] = []
        self.orphans: list[Claim] = []
        self.plan = {job.id: job for job in PLAN}
        self.disk: dict[str, str] = {}
        """The fingerprint of the video of each job that has one."""
        self.plan_again()

    def on_disk(self, job: Job) -> JobState:
        if job.id not in self.disk:
            return JobState.PENDING
        return JobState.DONE if self.disk[job.id] == job.fingerprint else JobState.STALE

    def files(self, output: str) -> str:
        (job,) = (job for job in PLAN if job.output == output)
        return f"1 {self.disk[job.id]}" if job.id in self.disk else ""

    @rule(
        home=st.sampled_from([(), ("a",), ("b",), ("b", "a")]),
        group=st.sampled_from([None, *sorted({job.group for job in JOBS})]),
        static=st.booleans(),
        worker=st.integers(0, 3),
        dies=st.booleans(),
    )
    def take(
        self, home: tuple[str, ...], group: str | None, static: bool, worker: int, dies: bool
    ) -> None:
        """A worker claims; one of this host may die at once, which ends its claims."""
        taste = Taste(group, home, static)
        refused = self.queue.refusal(Slot.of(worker, 0)) is not None
        expected = None if refused else first_by_reading_everything(self.queue, taste)
        process = GONE if dies else OTHER_HOST
        with only(self.queue, Event.CLAIMED):
            taken = self.queue.claim(Slot.of(worker, 0), process, taste)
        assert expected == (taken.job.id if taken is not None else None)
        if taken is not None:
            assert taken.job.id not in {
                claim.job.id for claim in [*self.live(), *self.running(self.orphans)]
            }
            assert taken.job == self.plan[taken.job.id]
            (self.orphans if dies else self.held).append(taken)

    @rule(job=st.sampled_from([job.id for job in PLAN]))
    def bring(self, job: str) -> None:
        """Somebody has its video already."""
        before = states(self.queue)[job]
        with only(self.queue, Event.BROUGHT):
            taken = claim_job(self.queue, job, BRINGER)
        assert (taken is not None) == (before in (*UNMADE, JobState.FAILED))
        if taken is not None:
            self.held.append(taken)

    @rule(chosen=st.none() | st.sets(st.sampled_from([job.id for job in PLAN])))
    def hold(self, chosen: set[str] | None) -> None:
        with only(self.queue):
            self.queue.hold_all_but(chosen)

    @rule(order=st.permutations([1, 2]), axis=st.sampled_from(["category", "seed", None]))
    def prioritise(self, order: list[int], axis: Literal["category", "seed"] | None) -> None:
        with only(self.queue):
            self.queue.prioritise(axis, order if axis == "seed" else ["ab"[n - 1] for n in order])

    @rule(wanted=st.sets(st.sampled_from(JobState)))
    def retry(self, wanted: set[JobState]) -> None:
        """What there is of a video is put out of the way first."""
        again = wanted & {JobState.DONE, JobState.FAILED, JobState.STALE}
        concerned = [job for job, state in states(self.queue).items() if state in again]
        for job in concerned:
            self.disk.pop(job, None)
        with only(self.queue, Event.RETRIED):
            assert self.queue.retry(wanted) == len(concerned)

    @rule()
    def end_waiting(self) -> None:
        with only(self.queue, Event.WAIT_ENDED):
            self.queue.end_waiting()
        assert not raw(self.queue, "select id from jobs where retry_at is not null")

    @rule()
    def reopen(self) -> None:
        with only(self.queue):
            self.queue.reopen()

    @rule(are_there=st.booleans())
    def follow(self, are_there: bool) -> None:
        """A look at what the other run has made."""
        with only(self.queue, Event.INPUTS_MADE, Event.INPUTS_MISSING):
            follow_upstream(self.queue, lambda own: set(own) if are_there else set(), UNMADE)
        assert are_there or not any(
            states(self.queue)[job.id] is JobState.PENDING for job in PLAN[-2:]
        )

    @rule(number=st.integers(1, len(PLAN)))
    def plan_fewer(self, number: int) -> None:
        """A smaller plan takes jobs out, and the next one brings them back."""
        now = list(self.plan.values())
        with only(self.queue, *PLANS):
            self.queue.sync(now[:number], now[number:], "n", self.on_disk)
        self.counters_equal_a_recount()
        self.only_pending_jobs_wait_and_only_running_ones_are_claimed()
        self.plan_again()

    @rule(job=st.sampled_from([job.id for job in PLAN]), content=st.sampled_from(["", "e" * 64]))
    def plan_other_inputs(self, job: str, content: str) -> None:
        self.plan[job] = replace(self.plan[job], fingerprint=content)
        self.plan_again()

    @rule()
    def look_at_the_disk(self) -> None:
        with only(self.queue, *LOOKS):
            self.queue.sync_files(self.on_disk, self.files)

    @invariant()
    def only_pending_jobs_wait_and_only_running_ones_are_claimed(self) -> None:
        for state, waits, is_claimed in raw(
            self.queue, "select state, retry_at is not null, token is not null from jobs"
        ):
            assert not waits or state == "pending"
            assert is_claimed == (state == "running")

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
                self.disk[chosen.job.id] = chosen.job.fingerprint
            with only(self.queue, Event.MADE, Event.MADE_OUTDATED):
                assert (self.queue.finish(chosen) is not None) == was_live
        elif end == "fail":
            kind = data.draw(st.sampled_from(FailureKind))
            with only(self.queue, *FAILS):
                assert (self.queue.fail(chosen, "e", kind) is not None) == was_live
        elif end == "give_back":
            state = data.draw(st.sampled_from([JobState.PENDING, JobState.AWAITING]))
            with only(self.queue, Event.RETURNED, Event.RETURNED_TO_AWAIT):
                assert self.queue.give_back(chosen, state) == was_live
        else:
            with only(self.queue, Event.RENEWED):
                assert self.queue.renew(chosen) == was_live
            return
        self.held.remove(chosen)

    @rule(seconds=st.sampled_from([1, LEASE_SECONDS / 2, LEASE_SECONDS + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        due = {claim.token for claim in self.running(self.orphans)}
        of_workers = [claim for claim in self.live() if claim.worker != BRINGER]
        due |= {claim.token for claim in of_workers if self.lease(claim) < self.clock.now}
        with only(self.queue, *FAILS, Event.WAIT_ENDED):
            assert {lost.claim.token for lost in self.queue.reclaim()} == due
        self.orphans.clear()

    @rule()
    def plan_again(self) -> None:
        with only(self.queue, *PLANS):
            self.queue.sync(list(self.plan.values()), [], "m", self.on_disk)

    def live(self) -> list[Claim]:
        """The claims of living workers that are still theirs."""
        return self.running(self.held)

    def running(self, claims: list[Claim]) -> list[Claim]:
        found = raw(self.queue, "select id, token from jobs where state = 'running'")
        return [claim for claim in claims if (claim.job.id, claim.token) in found]

    def lease(self, claim: Claim) -> float:
        query = f"select lease_until from jobs where id = '{claim.job.id}'"
        return float(raw(self.queue, query)[0][0])

    @invariant()
    def every_job_is_somewhere(self) -> None:
        found = states(self.queue)
        assert set(found) == {job.id for job in PLAN}
        done = {job_id for job_id, state in found.items() if state is JobState.DONE}
        assert done == {one for one, own in self.disk.items() if own == self.plan[one].fingerprint}
        running = [job_id for job_id, state in found.items() if state is JobState.RUNNING]
        known = [*self.live(), *self.running(self.orphans)]
        assert sorted(running) == sorted(claim.job.id for claim in known)

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=25)


def contend(path: Path, name: str, out: multiprocessing.Queue[list[str]]) -> None:
    queue = Queue(path)
    done = []
    while (taken := queue.claim(Slot.of(0, int(name)), ProcessId.own(), Taste())) is not None:
        queue.workers.report(Slot.of(0, int(name)), step=1)
        done.append(taken.job.id)
        queue.finish(taken)
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


def come_and_go(folder: Path, number: int) -> None:
    """A real worker that does anything a worker may do, in an order of its own.

    What runs is locked by a file of its name, which the kernel frees when the process dies: a
    job that runs twice at a time is seen by whoever comes second.
    """
    luck = random.Random(number)
    queue, slot, process = Queue(folder / "sweep.db"), Slot.of(number, 0), ProcessId.own()
    queue.workers.register(slot, process)
    group: str | None = None
    for _ in range(luck.randint(3, 40)):
        queue.reclaim()
        taken = queue.claim(slot, process, Taste(group, luck.choice([(), ("a",)])))
        if taken is None:
            break
        group = taken.job.group
        lock = os.open(folder / taken.job.id, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (folder / f"{taken.job.id}.twice").touch()
        if luck.random() < 0.3:
            queue.workers.report(slot, step=1)
        assert queue.renew(taken)
        time.sleep(luck.random() / 200)
        choice = luck.random()
        if choice < 0.1:
            os.kill(os.getpid(), signal.SIGKILL)
        # Freed first: from its end on in the queue, the job may be another's.
        os.close(lock)
        if choice < 0.2:
            assert queue.give_back(taken)
        elif choice < 0.3 and taken.attempt == 1:
            verdict = queue.fail(taken, "broken")
            assert verdict is not None
            assert verdict.state is JobState.PENDING
        else:
            (folder / f"{taken.job.id}.{taken.token}.made").touch()
            assert queue.finish(taken, seconds=0.01) is JobState.DONE


def test_real_workers_that_come_go_fail_and_are_killed_lose_nothing(tmp_path: Path) -> None:
    """Many processes, some killed at any moment by themselves or from outside."""
    jobs = [a_job(c, f"v{v}", p, 1) for c in "ab" for v in range(5) for p in range(12)]
    queue = Queue(tmp_path / "sweep.db", create=True)
    queue.sync(jobs, [], "m", pending)
    queue.set_policy(Policy(backoff_seconds=0))
    context = multiprocessing.get_context("fork")
    luck = random.Random(0)
    crew: list[Any] = []
    for number in range(400):
        counts = Counter(states(queue).values())
        if counts[JobState.DONE] == len(jobs):
            break
        crew = [worker for worker in crew if worker.is_alive()]
        while len(crew) >= 8:
            if luck.random() < 0.1:
                luck.choice(crew).kill()
            time.sleep(0.01)
            crew = [worker for worker in crew if worker.is_alive()]
        crew.append(context.Process(target=come_and_go, args=(tmp_path, number)))
        crew[-1].start()
    for worker in crew:
        worker.join()
    assert Counter(states(queue).values()) == {JobState.DONE: len(jobs)}
    assert not list(tmp_path.glob("*.twice"))
    made = Counter(path.name.partition(".")[0] for path in tmp_path.glob("*.made"))
    assert set(made) == {job.id for job in jobs}
    # One that was killed between publishing and recording it is made again, as on disk.
    assert sum(made.values()) - len(jobs) <= sum(row.deaths for row in queue.rows())
