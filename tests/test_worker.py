"""A worker and its surroundings, with a GPU and a memory that the test decides on."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
from conftest import Project, wait_for
from supervising import SLOT, supervise

from runner.backends import GpuMemory, Machine
from runner.backends.fake.engine import FakeEngine
from runner.disk.attempts import read_attempts
from runner.experiment.loading import load_experiment
from runner.job import JobState
from runner.job.slot_names import Slot
from runner.machine.gpus import Gpu, Health
from runner.machine.processes import ProcessId, Stop
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.queue.worker_table import WorkerState
from runner.runs.runs import take_back
from runner.slots.lock import SlotLock
from runner.slots.log import SlotLog
from runner.slots.slot import EXIT_NO_ROOM, EXIT_RESTART, MOST_DEATHS, Supervisor
from runner.sweeps.planned import plan_sweep
from runner.worker import Worker
from runner.worker.disk_room import DiskRoom, folder_bytes
from runner.worker.gpu_watch import GpuWatch
from runner.worker.loaded import methods_of
from runner.worker.making import Patience
from runner.worker.surroundings import Recycling, Surroundings


def gpu(used_gib: float) -> Gpu:
    return Gpu(0, "GPU-0", "a GPU", memory_gib=100, free_gib=100 - used_gib)


def healthy(_number: int) -> Health:
    return Health()


class Full(DiskRoom):
    """A disk that stays full."""

    def shortage(self, jobs_done: Callable[[], int]) -> str | None:
        return "the disk is full"

    def is_refused(self) -> bool:
        return True


def make_worker(
    project: Project,
    *,
    device: str = "cpu",
    find: Callable[[], Sequence[Gpu]] = list,
    health: Callable[[int], Health] = healthy,
) -> tuple[Worker, Queue]:
    """A worker of the project's sweep, and its queue."""
    plan_sweep(project.file, [], skip_invalid=False, take_changes=True)
    run = project.run_folder
    run.lock(SLOT).touch()
    experiment = load_experiment(run.experiment)
    queue, stop = Queue(run.queue), Stop()
    surroundings = Surroundings(
        queue=queue,
        slot=SLOT,
        stop=stop,
        room=DiskRoom(run.path, 1000, None),
        watch=GpuWatch(SLOT.devices, find, health),
        recycling=Recycling(),
    )
    worker = Worker(
        run=run,
        queue=queue,
        methods=methods_of(experiment, device),
        machine=Machine(device, run.cache),
        data=experiment.data,
        slot=SLOT,
        taste=Taste(),
        stop=stop,
        patience=Patience(60),
        surroundings=surroundings,
    )
    return worker, queue


def test_memory_that_someone_else_holds_is_waited_for(project: Project) -> None:
    """No attempt is counted, the worker says what it waits for, and then goes on."""
    fault = {"kind": "out_of_gpu_memory", "video": "-dash", "times": 1}
    project.write(model={"seconds": 0.05, "faults": [fault]})
    used = [30.0]
    worker, queue = make_worker(project, find=lambda: [gpu(used[0])])
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_for(lambda: any(row.note for row in queue.workers.rows()))
    assert "someone else uses 29.3 GiB of GPU 0" in str(queue.workers.rows()[0].note)
    used[0] = 1.0
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert [row.failures for row in queue.rows()] == [0] * 6
    records = read_attempts(project.run_folder.attempts)
    assert [one["kind"] for one in records if one["outcome"] == "interrupted"] == [
        "out_of_gpu_memory"
    ]
    assert sum(one["outcome"] == "done" for one in records) == 6


def test_what_a_process_holds_of_its_gpu_is_told_within_a_video(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one would take its activations for somebody else's memory."""
    monkeypatch.setattr("runner.worker.heart.HEARTBEAT_SECONDS", 0.05)
    size = {"width": 112, "height": 64, "num_frames": 9, "fps": 15}
    project.write(model={"seconds": 60}, generation={**size, "num_inference_steps": 600})
    worker, queue = make_worker(project)
    held = 10.0
    monkeypatch.setattr(FakeEngine, "memory", lambda *_, **__: GpuMemory(held, held))
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_for(lambda: bool(queue.rows(JobState.RUNNING)))
    held = 30.0
    wait_for(lambda: queue.workers.rows()[0].gpu_gib == held)
    worker.stop.ask()
    thread.join(timeout=60)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("kind", "goes_on"),
    [("kill", True), ("out_of_gpu_memory", True), ("gpu_error", False), ("fail", False)],
)
def test_a_job_goes_on_from_what_an_attempt_left_unless_it_may_be_to_blame(
    project: Project, kind: str, goes_on: bool
) -> None:
    """The attempt after says from which step; once done, nothing is left."""
    fault = {"kind": kind, "video": "-dash", "times": 1}
    project.write(
        model={"seconds": 0.05, "faults": [fault], "keep_every": 1},
        retries={"backoff_seconds": 0},
    )
    done = project.sweep("launch", str(project.file), "--on", "local", "--wait")
    assert done.status == 0, done.err
    records = read_attempts(project.run_folder.attempts)
    (failed,) = {one["job"] for one in records if one["outcome"] != "done"}
    steps = {one["job"]: one["from_step"] for one in records if one["outcome"] == "done"}
    assert steps.pop(failed) == (3 if goes_on else 0)
    assert set(steps.values()) == {0}
    left = [path.name for path in (project.run_folder.path / "work").iterdir()]
    assert left == ["locks"]


def test_what_workers_hold_themselves_is_nobody_elses(project: Project) -> None:
    project.write()
    _, queue = make_worker(project)
    watch = GpuWatch(SLOT.devices, lambda: [gpu(50)], healthy)
    for number in range(2):
        slot = Slot.of(0, number)
        queue.workers.register(slot, ProcessId.own())
        queue.workers.report(slot, gpu_gib=24.0)
    assert watch.foreign_gib(queue.workers.rows()) == 0
    assert GpuWatch(SLOT.devices, list, healthy).foreign_gib(queue.workers.rows()) == 0


def test_a_gpu_that_nvml_calls_sick_takes_no_job(project: Project) -> None:
    project.write()
    lost = Health("NVML: GPU is lost")
    worker, queue = make_worker(project, device="cuda", health=lambda _: lost)
    worker.run()
    assert queue.gate().aside == {"gpu0": "NVML: GPU is lost"}
    assert not read_attempts(project.run_folder.attempts)


def test_memory_errors_count_from_when_a_worker_began() -> None:
    """Those of a machine's former user cost nobody the GPU."""
    told = [Health(memory_errors=2)]
    watch = GpuWatch(SLOT.devices, list, lambda _: told[-1])
    assert watch.problem() is None
    told.append(Health(memory_errors=3))
    assert watch.problem() == "NVML: uncorrected memory errors since its worker began: 1"


def test_a_worker_begins_no_job_that_lasts_beyond_the_deadline(project: Project) -> None:
    """Nor does one that has just taken another's place and made none yet: it goes by the others."""
    project.write()
    worker, queue = make_worker(project)
    claim = queue.claim(Slot.of(1, 0), ProcessId.own(), Taste())
    assert claim is not None
    queue.finish(claim, seconds=100.0)
    queue.stop_at(time.time() + 60)
    worker.run()
    assert not read_attempts(project.run_folder.attempts)
    queue.stop_at(time.time() + 300)
    worker.run()
    assert len(read_attempts(project.run_folder.attempts)) == 5


def test_a_worker_that_waits_for_room_leaves_at_the_deadline(project: Project) -> None:
    """A full disk keeps nobody beyond `--stop-at`, and what is left is said to be so."""
    project.write()
    worker, queue = make_worker(project)
    worker.surroundings.room = Full(project.run_folder.path, 1000, None)
    queue.stop_at(time.time() + 2)
    worker.run()
    assert queue.workers.rows()[0].state is WorkerState.STOPPED
    assert not read_attempts(project.run_folder.attempts)


def test_a_trial_of_the_disk_leaves_nothing(tmp_path: Path) -> None:
    """Not even where it is killed in the middle: its file has no name by then."""
    assert not DiskRoom(tmp_path, 1000, None).is_refused()
    assert list((tmp_path / "work").iterdir()) == []


def claimed_by_the_dead(project: Project) -> Queue:
    """A queue of which a process that is no more holds a job."""
    _, queue = make_worker(project)
    own = ProcessId.own()
    gone = ProcessId(own.host, own.pid, own.started - 1)
    assert queue.claim(SLOT, gone, Taste()) is not None
    return queue


def test_a_death_is_recorded_or_has_not_happened(project: Project) -> None:
    """Where its record cannot be written, the claim stands, to be taken back later."""
    project.write()
    queue = claimed_by_the_dead(project)

    def refuse(_lost: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        queue.reclaim(refuse)
    assert len(queue.rows(JobState.RUNNING)) == 1
    assert len(take_back(project.run_folder, queue)) == 1
    assert [one["outcome"] for one in read_attempts(project.run_folder.attempts)] == ["died"]


def test_a_death_that_is_recorded_twice_counts_once(project: Project) -> None:
    """Whoever recorded it may be killed before the job goes back, and the next one does both."""
    project.write()
    queue = claimed_by_the_dead(project)
    before = project.run_folder.queue.with_name("before.db")
    with sqlite3.connect(project.run_folder.queue) as live, sqlite3.connect(before) as copy:
        live.backup(copy)
    assert len(take_back(project.run_folder, queue)) == 1
    with sqlite3.connect(project.run_folder.queue) as live, sqlite3.connect(before) as copy:
        copy.backup(live)
    assert len(take_back(project.run_folder, queue)) == 1
    assert len(project.run_folder.attempts.read_bytes().splitlines()) == 2
    assert len(read_attempts(project.run_folder.attempts)) == 1


def reasons_while_growing(project: Project) -> list[str | None]:
    """Why a process is to be replaced: before its first job, after it, 100 MB larger, and so much
    larger with a model in a process of its own."""
    surroundings = Surroundings(
        queue=Queue(project.run_folder.queue),
        slot=SLOT,
        stop=Stop(),
        room=DiskRoom(project.run_folder.path, 1000, None),
        watch=GpuWatch(SLOT.devices, list, healthy),
        recycling=Recycling(growth_gib=0.05),
    )
    reasons = [surroundings.recycle(0), surroundings.recycle(1)]
    leak = bytearray(b"x" * (100 << 20))
    reasons += [surroundings.recycle(2), surroundings.recycle(2, (os.getpid(),))]
    assert leak
    return reasons


def test_a_process_that_grows_is_replaced(project: Project) -> None:
    project.write()
    make_worker(project)
    # In a process of its own: this one holds what other tests left, which may go meanwhile.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        before, first, grown, elsewhere = pool.submit(reasons_while_growing, project).result()
    assert (before, first, elsewhere) == (None, None, None)
    assert "grown by 0.1 GiB" in str(grown)


def test_a_folder_is_measured_whole(tmp_path: Path) -> None:
    (tmp_path / "深" / "b").mkdir(parents=True)
    (tmp_path / "深" / "b" / "one").write_bytes(bytes(1000))
    (tmp_path / "two").write_bytes(bytes(24))
    assert folder_bytes(tmp_path) == 1024


def test_a_worker_whose_heart_stands_still_is_killed(project: Project) -> None:
    """Stopped as by SIGSTOP, or hung with Python's lock held: nothing of it can say so."""
    project.write()
    plan_sweep(project.file, [], skip_invalid=False, take_changes=True)
    run = project.run_folder
    stopped = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    log = SlotLog(run.log(SLOT), echo=False)
    supervisor = Supervisor(run, SLOT, [sys.executable, "-c", stopped], {}, log, silent_seconds=1.0)
    with closing(SlotLock(run.lock(SLOT))) as lock:
        assert supervisor.run_worker(lock) == -9
    assert "the worker was silent for 1 s; killing it" in run.log(SLOT).read_text()


def test_a_slot_whose_workers_only_die_gives_up(project: Project) -> None:
    """After so many deaths without a finished job between them, and it says so."""
    status, log = supervise(project, "os.kill(os.getpid(), 9)")
    assert status == 1
    assert log.count("killed by SIGKILL") == MOST_DEATHS
    assert f"{MOST_DEATHS} workers died in a row without a finished job; giving up" in log


def test_a_slot_whose_workers_make_something_does_not_give_up(project: Project) -> None:
    """Workers that died long ago are not counted once jobs were done since, by whichever worker;
    nor are those that found no room on the disk."""
    program = (
        f"if number > {3 * MOST_DEATHS}:\n    sys.exit(0)\n"
        f"if number % 3 == 0:\n    finish_a_job(); sys.exit({EXIT_RESTART})\n"
        f"sys.exit({EXIT_NO_ROOM} if number % 3 == 1 else 1)\n"
    )
    status, log = supervise(project, program)
    assert status == 0
    assert log.count("ended with status 1\n") == MOST_DEATHS
