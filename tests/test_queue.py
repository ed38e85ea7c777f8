"""The queue: claims are exclusive, durable, and given back when their worker is gone.

One suite for every database that the queue may lie in: what takes `empty` or `queue` is tried with
each driver.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from hand_made import a_job
from queue_jobs import DRIVERS, JOBS, OTHER_HOST, POLICY, SLOT, claim, pending, raw, states
from settable_clock import Clock

from runner.job import Alike, Job, JobState
from runner.job.failures import Policy
from runner.job.slot_names import Slot
from runner.machine.processes import ProcessId
from runner.machine.waiting import Busy, Waiting
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.queue.claims import LEASE_SECONDS, Claim
from runner.queue.damaged import DamagedQueue
from runner.queue.driver import Driver
from runner.queue.prepared import PreparedQuery
from runner.queue.rows import ValueRow
from runner.queue.tables import get_meta, jobs, set_meta
from runner.text.errors import UserError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.name)
def empty(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Queue]:
    """A queue without jobs, in every database that there is a driver for."""
    path = tmp_path / "sweep.db"
    with closing(Queue(path, create=True, clock=clock, driver=request.param)) as made:
        yield made


@pytest.fixture
def queue(empty: Queue) -> Queue:
    empty.sync(JOBS, [], "m", pending)
    empty.set_policy(POLICY)
    return empty


def test_what_is_likely_next_is_what_is_claimed_next(queue: Queue) -> None:
    """As long as nobody else claims; asking changes nothing."""
    group: str | None = None
    while (expected := queue.likely_next(Taste(group))) is not None:
        assert queue.likely_next(Taste(group)) == expected
        taken = claim(queue, Taste(group))
        assert taken.job == expected
        group = taken.job.group
    assert queue.claim(SLOT, ProcessId.own(), Taste(group)) is None


def test_a_worker_uses_up_each_group_and_ends(queue: Queue) -> None:
    """Each job is claimed once, group after group, and then there is nothing left."""
    group: str | None = None
    seen = []
    while (taken := queue.claim(SLOT, ProcessId.own(), Taste(group))) is not None:
        group = taken.job.group
        seen.append(taken.job)
        assert queue.finish(taken) is JobState.DONE
    assert sorted(job.id for job in seen) == sorted(job.id for job in JOBS)
    groups = [job.group for job in seen]
    changes = sum(one != two for one, two in pairwise(groups))
    assert changes == len(set(groups)) - 1


def test_held_jobs_are_not_claimed(queue: Queue) -> None:
    chosen = JOBS[5]
    queue.hold_all_but({chosen.id})
    assert queue.held() == len(JOBS) - 1
    assert claim(queue).job == chosen
    assert queue.claim(SLOT, ProcessId.own(), Taste()) is None
    queue.hold_all_but(None)
    assert claim(queue).job != chosen


def test_draining_gives_out_nothing(queue: Queue) -> None:
    queue.drain(True)
    assert queue.claim(SLOT, ProcessId.own(), Taste()) is None
    queue.drain(False)
    claim(queue)


def test_one_gpu_drains_while_the_others_go_on(queue: Queue) -> None:
    """Giving one GPU back leaves the rest; a later launch on some GPUs wakes only those."""
    one, two = Slot.of(0, 1), Slot.of(3, 0)

    def gives(slot: Slot) -> bool:
        return queue.claim(slot, ProcessId.own(), Taste()) is not None

    queue.drain(True, [two.devices])
    assert (gives(one), gives(two)) == (True, False)
    gate = queue.gate()
    assert not gate.is_draining()
    assert [gate.is_draining(slot.devices) for slot in (one, two)] == [False, True]
    queue.drain(False, [two.devices])
    assert gives(two)
    queue.drain(True)
    assert queue.gate().is_draining()
    queue.drain(False, [two.devices])
    assert (gives(one), gives(two)) == (False, True)
    assert not queue.gate().is_draining()
    queue.drain(False)
    assert gives(one)


def test_nothing_is_read_that_has_not_changed(empty: Queue) -> None:
    """A second look at the disk reads no sidecar unless a file's size or time is another."""
    files = {job.output: "1 1 1 1" for job in JOBS[:4]}
    asked: list[str] = []

    def on_disk(job: Job) -> JobState:
        asked.append(job.id)
        return JobState.DONE if job.output in files else JobState.PENDING

    def look(output: str) -> str:
        return files.get(output, "")

    made = empty
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


def test_a_queue_of_another_version_is_refused(empty: Queue) -> None:
    with empty.driver.write() as connection:
        connection.exec_driver_sql("update meta set value = '1' where key = 'schema'")
    for create in (False, True):
        with pytest.raises(UserError, match="is of another version"):
            Queue(empty.path, create=create, driver=type(empty.driver))


def test_a_lost_claim_can_neither_finish_nor_fail_nor_renew(queue: Queue, clock: Clock) -> None:
    """Whoever lost a job to another worker changes nothing of it."""
    queue.hold_all_but({JOBS[0].id})
    lost = claim(queue, process=OTHER_HOST)
    clock.now = LEASE_SECONDS + 1
    assert [taken.claim.token for taken in queue.reclaim()] == [lost.token]
    clock.now = 100
    again = claim(queue)
    assert again.job == lost.job
    assert again.token != lost.token
    assert not queue.renew(lost)
    assert queue.finish(lost) is None
    assert queue.fail(lost, "late") is None
    assert not queue.give_back(lost)
    assert queue.renew(again)


def test_a_lease_of_another_host_ends_only_with_time(queue: Queue, clock: Clock) -> None:
    taken = claim(queue, process=OTHER_HOST)
    clock.now = LEASE_SECONDS - 1
    assert queue.reclaim() == []
    clock.now = 50
    assert queue.renew(taken)
    clock.now = LEASE_SECONDS + 1
    assert queue.reclaim() == []
    clock.now += 50
    assert len(queue.reclaim()) == 1


def test_what_is_recorded_is_by_the_queues_clock(queue: Queue, clock: Clock) -> None:
    """Claims, ends and waits: nobody brings a time along."""
    queue.workers.register(SLOT, ProcessId.own())
    clock.now = 1000
    taken = claim(queue)
    assert (taken.claimed_at, queue.claim_times()) == (1000, [1000])
    clock.now = 1010
    assert queue.finish(taken, seconds=10) is JobState.DONE
    (row,) = queue.workers.rows()
    assert (row.first_claim_at, row.last_end_at) == (1000, 1010)
    assert raw(queue, "select finished_at from jobs where state = 'done'") == [(1010,)]
    queue.set_policy(Policy(failures=1, backoff_seconds=60))
    queue.fail(claim(queue), "broken")
    assert queue.waiting() == (1, 1070)
    clock.now = 1071
    assert queue.waiting() == (0, None)


def test_a_dead_process_of_this_host_gives_its_job_back_at_once(queue: Queue) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    claim(queue, process=ProcessId.of(process.pid))
    assert queue.reclaim() == []
    process.kill()
    process.wait()
    assert len(queue.reclaim()) == 1


def test_a_pid_used_again_is_another_process() -> None:
    own = ProcessId.own()
    assert not own.is_gone()
    assert ProcessId(own.host, own.pid, own.started - 100).is_gone()


def test_a_remake_asked_for_outlives_another_plan(empty: Queue) -> None:
    """`resume --stale` is not undone by a plan, nor is a failed remake."""
    made = empty

    def stale(_job: Job) -> JobState:
        return JobState.STALE

    made.sync(JOBS[:1], [], "m", stale)
    assert made.retry([JobState.STALE]) == 1
    made.sync(JOBS[:1], [], "m", stale)
    assert states(made)[JOBS[0].id] is JobState.PENDING
    made.set_policy(POLICY)
    for _ in range(1 + POLICY.failures):
        made.fail(claim(made), "broken")
    made.sync(JOBS[:1], [], "m", stale)
    assert states(made)[JOBS[0].id] is JobState.FAILED


def test_failures_and_deaths_have_limits_of_their_own(queue: Queue, clock: Clock) -> None:
    queue.hold_all_but({JOBS[0].id})
    for _ in range(POLICY.deaths - 1):
        claim(queue, process=OTHER_HOST)
        clock.now += LEASE_SECONDS + 1
        queue.reclaim()
        assert states(queue)[JOBS[0].id] is JobState.PENDING
    for number in range(1 + POLICY.failures):
        assert states(queue)[JOBS[0].id] is JobState.PENDING
        assert claim(queue).attempt == POLICY.deaths + number
        queue.fail(queue_claim(queue), "broken")
    row = queue.rows(JobState.FAILED)[0]
    assert (row.job, row.error, row.deaths) == (JOBS[0], "broken", POLICY.deaths - 1)
    assert queue.retry([JobState.FAILED]) == 1
    assert claim(queue).attempt == 1


def queue_claim(queue: Queue) -> Claim:
    """The claim of the one running job, as its worker holds it."""
    row = queue.rows(JobState.RUNNING)[0]
    ((token,),) = raw(queue, "select token from jobs where token is not null")
    return Claim(row.job, token, "w", 1, 0)


def test_a_job_replanned_while_it_runs_ends_as_stale(queue: Queue) -> None:
    taken = claim(queue)
    changed = [*JOBS]
    changed[0] = replace(JOBS[0], fingerprint="e" * 64)
    queue.sync(changed, [], "n", pending)
    assert states(queue)[JOBS[0].id] is JobState.RUNNING
    assert queue.finish(taken) is JobState.STALE


def test_the_disk_is_the_truth(empty: Queue) -> None:
    """A queue made anew from manifest and disk counts what the disk proves, no more."""
    proof = {JOBS[0].id: JobState.DONE, JOBS[1].id: JobState.STALE}

    def on_disk(job: Job) -> JobState:
        return proof.get(job.id, JobState.PENDING)

    made = empty
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


def test_jobs_are_alike_in_parameters_and_shape(empty: Queue) -> None:
    """With the same parameters, what is read of its files may give a job another shape."""
    short, long = a_job("c", "a", seed=1), a_job("c", "b", seed=1)
    shape = replace(long.shape, num_frames=33)
    long = replace(long, series=replace(long.series, parameters=short.parameters, shape=shape))
    jobs = [short, replace(short, id="0" * 16, seed=2, output="c/a/2.mp4"), long]
    queue = empty
    queue.sync(jobs, [], "m", pending)
    alike = [Alike(short.parameters, short.shape, 2), Alike(short.parameters, shape, 1)]
    assert queue.left_alike({JobState.PENDING}) == alike
    assert queue.shapes() == {short.shape, shape}
    for _ in jobs:
        queue.finish(claim(queue))
    assert [job.id for job in queue.last_done(9, lambda _, own: own == shape)] == [long.id]


def test_a_missing_queue_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sweep resume"):
        Queue(tmp_path / "sweep.db")
    assert not (tmp_path / "sweep.db").exists()


def test_a_claim_survives_kill_9(empty: Queue) -> None:
    """What `claim` returned is on disk: the job stays the dead worker's until it is reclaimed."""
    queue = empty
    queue.sync(JOBS[:1], [], "m", pending)
    driver = type(queue.driver)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        f"from {driver.__module__} import {driver.__name__}\n"
        "from runner.queue import Queue; from runner.machine.processes import ProcessId\n"
        "from runner.queue.claim_order import Taste; from runner.job.slot_names import Slot\n"
        f"queue = Queue(Path(sys.argv[1]), driver={driver.__name__})\n"
        "queue.claim(Slot.of(0, 0), ProcessId.own(), Taste())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(queue.path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert queue.claim(SLOT, ProcessId.own(), Taste()) is None
    assert len(queue.reclaim()) == 1
    assert claim(queue).job == JOBS[0]


def test_this_process_is_named_by_more_than_its_pid() -> None:
    own = ProcessId.own()
    assert own.pid == os.getpid()
    assert own.host
    assert own.started > 0


# What a driver promises: see `runner.queue.driver`.


def test_a_transaction_that_fails_leaves_nothing(empty: Queue) -> None:
    def break_off() -> None:
        with empty.driver.write() as connection:
            set_meta(connection, "gate", "changed")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with empty.driver.read() as connection:
        assert get_meta(connection, "gate") is None


def test_a_reader_sees_one_state_and_keeps_nobody_from_writing(empty: Queue) -> None:
    with empty.driver.read() as before:
        assert get_meta(before, "gate") is None
        for durable in (True, False):
            with empty.driver.write(durable=durable) as connection:
                set_meta(connection, "gate", "written")
        assert get_meta(before, "gate") is None
    with empty.driver.read() as after:
        assert get_meta(after, "gate") == "written"


def test_one_writes_at_a_time(empty: Queue) -> None:
    """What a transaction has read stays so until it ends; whoever waits no longer is told."""
    with (
        empty.driver.write(),
        pytest.raises(Busy),
        empty.driver.write(waiting=Waiting.at_most(0)),
    ):
        pass
    threads = [threading.Thread(target=count_up, args=(empty.driver,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with empty.driver.read() as connection:
        assert get_meta(connection, "number") == "40"


def count_up(driver: Driver) -> None:
    for _ in range(10):
        with driver.write(durable=False) as connection:
            number = int(get_meta(connection, "number") or 0)
            set_meta(connection, "number", str(number + 1))


def test_a_list_may_be_longer_than_a_statement_takes_parameters(empty: Queue) -> None:
    wanted = [f"no job {number}" for number in range(100_000)]
    empty.sync(JOBS, [], "m", pending)
    listed = empty.driver.listed([*wanted, JOBS[3].id])
    with empty.driver.read() as connection:
        found = connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(listed)))
        assert found.scalars().all() == [JOBS[3].id]


def test_a_prepared_statement_raises_what_every_other_does(empty: Queue) -> None:
    wrong = PreparedQuery(ValueRow, sa.select(sa.literal_column("nothing").label("value")))
    for run in (
        lambda connection: wrong.first(connection, {}),
        lambda connection: connection.exec_driver_sql("select nothing"),
    ):
        with pytest.raises((sa.exc.DBAPIError, DamagedQueue)), empty.driver.read() as connection:
            run(connection)


# Of SQLite alone.


@pytest.mark.parametrize("content", [b"", b"no database" * 999])
def test_a_damaged_queue_is_said_to_be(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.db").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged: .*; `sweep resume"):
        Queue(tmp_path / "sweep.db")


def test_a_queue_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    """Nobody is told to have made anew what may be whole."""
    path = tmp_path / "sweep.db"
    Queue(path, create=True).close()
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, former[1]))
    try:
        with pytest.raises(UserError, match="unable to open") as raised:
            Queue(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
    assert not isinstance(raised.value, DamagedQueue)


def test_a_queue_that_nobody_closed_leaves_no_file_open(tmp_path: Path) -> None:
    """A process that asks again and again would run out of files."""
    Queue(tmp_path / "sweep.db", create=True).close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        Queue(tmp_path / "sweep.db").gate()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


ANOTHER = """
import sys
from pathlib import Path
from runner.queue import Queue
from runner.job.slot_names import Slot
queue = Queue(Path(sys.argv[1]))
queue.set_aside(Slot.of(0, 0), "tried")
queue.close()
"""


def test_a_process_may_open_a_queue_twice_and_keeps_what_it_reads(tmp_path: Path) -> None:
    """SQLite's locks are the process's: whoever opened and closed the file beside it would take
    them from the queue that is open, and another process would clear away what this one reads."""
    queue = Queue(tmp_path / "sweep.db", create=True)
    queue.sync(JOBS, [], "m", pending)
    Queue(queue.path).close()
    subprocess.run([sys.executable, "-c", ANOTHER, str(queue.path)], check=True)
    # Only the last one who has it open clears this away.
    assert queue.path.with_name("sweep.db-wal").exists()
    assert queue.gate().aside == {"gpu0_process0": "tried"}
    queue.close()
