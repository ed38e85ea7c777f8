"""Each kind of failure has its own answer, and jobs are failed for their own faults only."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hand_made import a_job
from settable_clock import Clock

from runner.job import JobState
from runner.job.failures import (
    ANSWERS,
    FAILURES_WITHOUT_SUCCESS,
    BadInput,
    FailureKind,
    Policy,
    failures_allowed,
    is_disk_full,
    kind_of,
    may_be_disk_full,
)
from runner.job.slot_names import Slot
from runner.machine.processes import ProcessId, oom_kills
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.queue.claims import Claim
from runner.queue.worker_table import WorkerState
from runner.text.errors import UserError

JOBS = [a_job("a", f"v{v}", p, s) for v in range(4) for p in range(3) for s in (1, 2)]
OWN = ProcessId.own()


class OutOfMemoryError(RuntimeError):
    """Called as torch's is."""


class AcceleratorError(RuntimeError):
    """Called as torch's is."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BadInput("too short"), FailureKind.BAD_INPUT),
        (UserError("no such clip"), FailureKind.BAD_INPUT),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate"), FailureKind.OUT_OF_GPU_MEMORY),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when"), FailureKind.OUT_OF_GPU_MEMORY),
        (MemoryError(), FailureKind.OUT_OF_HOST_MEMORY),
        (AcceleratorError("CUDA error: an illegal memory access"), FailureKind.GPU_ERROR),
        (RuntimeError("CUDA error: device-side assert triggered"), FailureKind.GPU_ERROR),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), FailureKind.GPU_ERROR),
        (OSError(errno.ENOSPC, "No space left on device"), FailureKind.DISK_FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), FailureKind.DISK_FULL),
        (
            RuntimeError("(sqlite3.OperationalError) database or disk is full"),
            FailureKind.DISK_FULL,
        ),
        (OSError(errno.EPIPE, "Broken pipe"), FailureKind.BACKEND_BUG),
        (ValueError("shape mismatch"), FailureKind.BACKEND_BUG),
    ],
)
def test_an_exception_is_of_one_kind(error: Exception, kind: FailureKind) -> None:
    assert kind_of(error) is kind


def test_a_full_disk_is_known_behind_another_error() -> None:
    """Libraries raise errors of their own from the one that tells."""
    error = RuntimeError("cannot write the file")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert kind_of(error) is FailureKind.DISK_FULL


def test_what_sqlite_says_of_a_quota_may_be_a_full_disk() -> None:
    """It has no words of its own for EDQUOT; an error of anything else is not looked into."""
    error = UserError("sweep.db: cannot be opened")
    error.__cause__ = RuntimeError("(sqlite3.OperationalError) disk I/O error")
    assert may_be_disk_full(error)
    assert not is_disk_full(error)
    assert not may_be_disk_full(RuntimeError("shape mismatch"))


def test_every_kind_has_an_answer() -> None:
    assert set(ANSWERS) == set(FailureKind)


def test_waiting_grows_and_is_bounded() -> None:
    policy = Policy(backoff_seconds=10)
    waits = [policy.backoff(tries) for tries in range(1, 40)]
    assert waits[:3] == [10, 20, 40]
    assert waits == sorted(waits)
    assert waits[-1] == 600


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(20, 20), ("20", 20), ("5%", 0.05), ("0.5", 0.5), (0.05, 0.05), (20.0, 20), (None, None)],
)
def test_a_number_or_a_share_of_failures(value: float | str | None, allowed: float | None) -> None:
    assert failures_allowed(value) == allowed


@pytest.mark.parametrize("value", [0, -1, 1.5, -0.5, "", "0", "0%", "100%", "many", "1.5", "-3"])
def test_other_limits_of_failures_are_refused(value: float | str) -> None:
    with pytest.raises(ValueError, match="must be"):
        failures_allowed(value)


# In the queue.


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Queue:
    made = Queue(tmp_path / "sweep.db", create=True, clock=clock)
    made.sync(JOBS, [], "m", lambda _: JobState.PENDING)
    made.set_policy(Policy(backoff_seconds=0))
    return made


def take(queue: Queue, slot: Slot = Slot.of(0, 0)) -> Claim:  # noqa: B008
    taken = queue.claim(slot, OWN, Taste())
    assert taken is not None
    return taken


def state_of(queue: Queue, claim: Claim) -> JobState:
    return next(row.state for row in queue.rows() if row.job.id == claim.job.id)


def fail(queue: Queue, claim: Claim, kind: FailureKind) -> tuple[str, ...]:
    verdict = queue.fail(claim, "what happened\nand its traceback", kind)
    assert verdict is not None
    return verdict.notes


def test_bad_input_is_never_tried_again(queue: Queue) -> None:
    claim = take(queue)
    fail(queue, claim, FailureKind.BAD_INPUT)
    assert state_of(queue, claim) is JobState.FAILED


def test_another_attempt_waits_longer_each_time(queue: Queue, clock: Clock) -> None:
    """Meanwhile the worker has other jobs, and does not end for want of this one."""
    queue.set_policy(Policy(failures=3, backoff_seconds=10))
    queue.hold_all_but({JOBS[0].id})
    for wait in (10.0, 20.0, 40.0):
        fail(queue, take(queue), FailureKind.BACKEND_BUG)
        assert queue.open_jobs(Taste()) == (0, 1)
        clock.now += wait - 1
        queue.reclaim()
        assert queue.claim(Slot.of(0, 0), OWN, Taste()) is None
        clock.now += 1
        queue.reclaim()
        assert queue.open_jobs(Taste()) == (1, 0)
    last = take(queue)
    fail(queue, last, FailureKind.BACKEND_BUG)
    assert state_of(queue, last) is JobState.FAILED


def test_a_gpu_with_errors_in_a_row_is_set_aside_and_the_others_go_on(queue: Queue) -> None:
    for number in range(3):
        assert queue.gate().aside == {}
        notes = fail(queue, take(queue, Slot.of(1, 0)), FailureKind.GPU_ERROR)
        assert bool(notes) == (number == 2)
    assert "3 GPU errors in a row" in queue.gate().aside["gpu1"]
    assert queue.claim(Slot.of(1, 1), OWN, Taste()) is None
    assert all(row.state is not JobState.FAILED for row in queue.rows())
    take(queue, Slot.of(0, 0))
    queue.reopen()
    take(queue, Slot.of(1, 1))


def test_gpu_errors_between_finished_jobs_are_not_in_a_row(queue: Queue) -> None:
    queue.workers.register(Slot.of(1, 0), OWN)
    for _ in range(4):
        fail(queue, take(queue, Slot.of(1, 0)), FailureKind.GPU_ERROR)
        queue.finish(take(queue, Slot.of(1, 0)), seconds=1)
    assert queue.gate().aside == {}


def test_a_gpu_that_runs_out_of_memory_twice_has_one_process_less(
    queue: Queue, clock: Clock
) -> None:
    """No job is failed for its neighbour, and the last process stays."""
    one, two = Slot.of(0, 0), Slot.of(0, 1)
    for slot in (one, two, Slot.of(1, 0)):
        queue.workers.register(slot, OWN)
    first = take(queue, one)
    assert fail(queue, first, FailureKind.OUT_OF_GPU_MEMORY) == ()
    beside, second = take(queue, one), take(queue, two)
    clock.now = 1
    assert "goes on with 1 process" in fail(queue, second, FailureKind.OUT_OF_GPU_MEMORY)[0]
    assert list(queue.gate().aside) == [two.name]
    # It began beside the process that has left.
    assert fail(queue, beside, FailureKind.OUT_OF_GPU_MEMORY) == ()
    assert {state_of(queue, claim) for claim in (first, beside, second)} == {JobState.PENDING}
    assert all(row.failures == 0 for row in queue.rows())


def test_a_neighbour_that_restarts_has_its_share_in_the_memory(queue: Queue) -> None:
    """Its slot starts another worker: a job that fails beside it is not alone on the GPU."""
    one, two = Slot.of(0, 0), Slot.of(0, 1)
    for slot in (one, two):
        queue.workers.register(slot, OWN)
    queue.workers.report(two, state=WorkerState.RESTARTING)
    assert fail(queue, take(queue, one), FailureKind.OUT_OF_GPU_MEMORY) == ()
    assert fail(queue, take(queue, one), FailureKind.OUT_OF_GPU_MEMORY) != ()
    assert list(queue.gate().aside) == [one.name]


def test_a_neighbour_that_does_not_come_back_has_no_share(queue: Queue, clock: Clock) -> None:
    for slot in (Slot.of(0, 0), Slot.of(0, 1)):
        queue.workers.register(slot, OWN)
    queue.workers.report(Slot.of(0, 1), state=WorkerState.RESTARTING)
    clock.now = 100
    claim = take(queue, Slot.of(0, 0))
    fail(queue, claim, FailureKind.OUT_OF_GPU_MEMORY)
    assert [row.failures for row in queue.rows() if row.job.id == claim.job.id] == [1]


def test_a_job_that_does_not_fit_alone_fails_at_its_second_attempt(queue: Queue) -> None:
    queue.set_policy(Policy(failures=5, backoff_seconds=0))
    queue.hold_all_but({JOBS[0].id})
    queue.workers.register(Slot.of(0, 0), OWN)
    fail(queue, take(queue), FailureKind.OUT_OF_GPU_MEMORY)
    claim = take(queue)
    fail(queue, claim, FailureKind.OUT_OF_GPU_MEMORY)
    assert state_of(queue, claim) is JobState.FAILED


def test_a_host_that_runs_out_of_memory_twice_has_one_worker_less(queue: Queue) -> None:
    for slot in (Slot.of(0, 0), Slot.of(1, 0)):
        queue.workers.register(slot, OWN)
    assert fail(queue, take(queue, Slot.of(0, 0)), FailureKind.OUT_OF_HOST_MEMORY) == ()
    assert fail(queue, take(queue, Slot.of(1, 0)), FailureKind.OUT_OF_HOST_MEMORY) != ()
    assert list(queue.gate().aside) == ["gpu1_process0"]
    fail(queue, take(queue, Slot.of(0, 0)), FailureKind.OUT_OF_HOST_MEMORY)
    fail(queue, take(queue, Slot.of(0, 0)), FailureKind.OUT_OF_HOST_MEMORY)
    assert list(queue.gate().aside) == ["gpu1_process0"]


@pytest.mark.parametrize(
    ("kills_before", "kind"),
    [(-1, FailureKind.OUT_OF_HOST_MEMORY), (None, FailureKind.WORKER_DIED)],
)
def test_the_hosts_memory_is_to_blame_only_where_the_kernel_has_killed(
    queue: Queue, kills_before: int | None, kind: FailureKind
) -> None:
    """Its count of kills has risen since the worker claimed."""
    gone = ProcessId(OWN.host, OWN.pid, OWN.started - 1)
    before = oom_kills() if kills_before is None else kills_before
    assert queue.claim(Slot.of(0, 0), gone, Taste(), oom_kills=before) is not None
    (lost,) = queue.reclaim()
    assert lost.kind is kind
    assert [row.deaths for row in queue.rows() if row.job.id == lost.claim.job.id] == [1]


def test_where_everything_fails_the_sweep_stops_early(queue: Queue) -> None:
    """A wrong checkpoint does not burn every job."""
    for _ in range(FAILURES_WITHOUT_SUCCESS):
        assert queue.gate().halted is None
        fail(queue, take(queue), FailureKind.BACKEND_BUG)
    halted = queue.gate().halted
    assert halted is not None
    assert "none succeeded, the last: what happened" in halted
    assert queue.claim(Slot.of(0, 0), OWN, Taste()) is None


def test_some_failures_among_successes_do_not_stop_it(queue: Queue) -> None:
    queue.workers.register(Slot.of(0, 0), OWN)
    queue.finish(take(queue), seconds=1)
    for _ in range(2 * FAILURES_WITHOUT_SUCCESS):
        fail(queue, take(queue), FailureKind.BACKEND_BUG)
    assert queue.gate().halted is None


@pytest.mark.parametrize("allowed", [3, 0.125])
def test_so_many_failed_jobs_stop_the_sweep(queue: Queue, allowed: float) -> None:
    queue.workers.register(Slot.of(0, 0), OWN)
    queue.finish(take(queue), seconds=1)
    queue.set_policy(Policy(failures=0, max_failures=allowed))
    for _ in range(3):
        assert queue.gate().halted is None
        fail(queue, take(queue), FailureKind.BACKEND_BUG)
    assert "3 jobs have failed" in str(queue.gate().halted)


def test_jobs_that_killed_all_their_workers_are_failed_jobs_too(queue: Queue) -> None:
    """`--max-failures` counts every job that is given up, for whatever reason."""
    queue.workers.register(Slot.of(0, 0), OWN)
    queue.finish(take(queue), seconds=1)
    queue.set_policy(Policy(deaths=1, backoff_seconds=0, max_failures=2))
    for _ in range(2):
        assert queue.gate().halted is None
        fail(queue, take(queue), FailureKind.WORKER_DIED)
    assert "2 jobs have failed" in str(queue.gate().halted)


def test_one_bad_clip_does_not_stop_what_has_not_begun(queue: Queue) -> None:
    """The sweep goes on around it, though its jobs come first; where all is bad, it stops."""
    for _ in range(6):
        fail(queue, take(queue), FailureKind.BAD_INPUT)
    assert len({row.job.group for row in queue.rows(JobState.FAILED)}) == 1
    for _ in range(FAILURES_WITHOUT_SUCCESS - 2):
        fail(queue, take(queue), FailureKind.BACKEND_BUG)
    assert queue.gate().halted is None
    fail(queue, take(queue), FailureKind.BACKEND_BUG)
    assert "none succeeded" in str(queue.gate().halted)


def test_nothing_is_claimed_that_would_not_end_in_time(queue: Queue, clock: Clock) -> None:
    queue.stop_at(1000)
    slot = Slot.of(0, 0)
    clock.now = 900
    assert queue.claim(slot, OWN, Taste(), lasting=99) is not None
    assert queue.claim(slot, OWN, Taste(), lasting=101) is None
    assert queue.refusal(slot, 99) is None
    assert "--stop-at" in str(queue.refusal(slot, 101))
