"""A worker and its surroundings, with a GPU and a memory that the test decides on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import Project, wait_for

from runner.attempts import read_attempts
from runner.backends import Machine
from runner.experiment import load_experiment
from runner.fingerprint import Recipe
from runner.gpus import Gpu
from runner.placement import Slot
from runner.processes import ProcessId, Stop
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.slot import Log, Supervisor, take_slot
from runner.sweep import plan_sweep
from runner.worker import Worker
from runner.worker.disk_room import DiskRoom, folder_bytes
from runner.worker.gpu_watch import GpuWatch
from runner.worker.making import Patience
from runner.worker.surroundings import Recycling, Surroundings

SLOT = Slot(0, 0)


def gpu(used_gib: float) -> Gpu:
    return Gpu(0, "GPU-0", "a GPU", memory_gib=100, free_gib=100 - used_gib)


def healthy(_number: int) -> str | None:
    return None


def make_worker(
    project: Project,
    *,
    device: str = "cpu",
    find: Callable[[], Sequence[Gpu]] = list,
    problem: Callable[[int], str | None] = healthy,
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
        watch=GpuWatch(0, find, problem),
        recycling=Recycling(),
    )
    worker = Worker(
        run=run,
        queue=queue,
        backend=experiment.make_backend(),
        machine=Machine(device, run.cache),
        recipe=Recipe.of(experiment),
        data=experiment.data,
        slot=SLOT,
        taste=Taste(),
        stop=stop,
        patience=Patience(60),
        surroundings=surroundings,
        record={},
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
    wait_for(lambda: any(row.note for row in queue.workers.rows(time.time())))
    assert "someone else uses 29.3 GiB of GPU 0" in str(queue.workers.rows(time.time())[0].note)
    used[0] = 1.0
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert [row.failures for row in queue.rows()] == [0] * 6
    records = read_attempts(project.run_folder.attempts)
    assert [one["kind"] for one in records if one["outcome"] == "interrupted"] == [
        "out_of_gpu_memory"
    ]
    assert sum(one["outcome"] == "done" for one in records) == 6


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
    watch = GpuWatch(0, lambda: [gpu(50)], healthy)
    for number in range(2):
        slot = Slot(0, number)
        queue.workers.register(slot, ProcessId.own(), time.time())
        queue.workers.report(slot, time.time(), gpu_gib=24.0)
    assert watch.foreign_gib(queue.workers.rows(time.time())) == 0
    assert GpuWatch(0, list, healthy).foreign_gib(queue.workers.rows(time.time())) == 0


def test_a_gpu_that_nvml_calls_sick_takes_no_job(project: Project) -> None:
    project.write()
    worker, queue = make_worker(project, device="cuda", problem=lambda _: "NVML: GPU is lost")
    worker.run()
    assert queue.gate().aside == {"gpu0": "NVML: GPU is lost"}
    assert not read_attempts(project.run_folder.attempts)


def test_a_process_that_grows_is_replaced(project: Project) -> None:
    project.write()
    make_worker(project)
    surroundings = Surroundings(
        queue=Queue(project.run_folder.queue),
        slot=SLOT,
        stop=Stop(),
        room=DiskRoom(project.run_folder.path, 1000, None),
        watch=GpuWatch(0, list, healthy),
        recycling=Recycling(growth_gib=0.05),
    )
    assert surroundings.recycle(0) is None
    assert surroundings.recycle(1) is None
    leak = bytearray(b"x" * (100 << 20))
    assert "grown by 0.1 GiB" in str(surroundings.recycle(2))
    assert leak


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
    log = Log(run.log(SLOT), echo=False)
    supervisor = Supervisor(run, SLOT, [sys.executable, "-c", stopped], {}, log, silent_seconds=1.0)
    with take_slot(run.lock(SLOT)) as lock:
        assert supervisor.run_worker(lock) == -9
    assert "the worker was silent for 1 s; killing it" in run.log(SLOT).read_text()
