"""One process in trouble stops nobody for long: frozen, killed, astray."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import FPS, FRAMES, HEIGHT, WIDTH, Project, wait_for
from settable_clock import Clock
from supervising import SLOT, supervise

from runner.disk.attempts import read_attempts
from runner.disk.run_folder import RunFolder
from runner.disk.run_id import run_id
from runner.job.failures import FailureKind
from runner.machine.lock_holders import writers
from runner.machine.processes import ProcessId, ProcessState, send, state_of
from runner.machine.waiting import Busy, Waiting
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.runs.runs import live_slots
from runner.slots.lock import supervisor

HOLDS = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def someone_else_in(database: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not ours, stopped in the middle of a transaction."""
    command = [sys.executable, "-c", HOLDS, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: state_of(process.pid) is ProcessState.STOPPED)
        try:
            yield process
        finally:
            process.kill()


def workers_of(project: Project) -> dict[str, int]:
    """The pid of every worker that runs, by its slot's name."""
    return {one["name"]: one["pid"] for one in project.progress()["workers"]}


def at_work(project: Project) -> list[int]:
    """The pids of the workers that make a video."""
    return [one["pid"] for one in project.progress()["workers"] if one["job"] is not None]


def freeze_in_transaction(project: Project, pid: int) -> None:
    """Stop a worker at a moment at which it holds the queue's line."""
    queue = project.run_folder.queue
    line = queue.with_name(f"{queue.name}-line")
    ends = time.monotonic() + 30
    while True:
        assert time.monotonic() < ends, "it was never met in a transaction"
        if pid in writers([line]):
            os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: state_of(pid) is not None)
            if pid in writers([line]):
                return
            os.kill(pid, signal.SIGCONT)


def test_a_worker_that_is_frozen_with_the_queue_is_continued(project: Project) -> None:
    """Its supervisor sees to it, the others go on, and no job fails."""
    project.write(
        model={"seconds": 0.02},
        seeds=list(range(400)),
        placement={"gpus": [0], "processes_per_gpu": 3},
    )
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: len(workers_of(project)) == 3 and project.progress()["done"] > 3)
    name, pid = min(workers_of(project).items())
    freeze_in_transaction(project, pid)
    done = project.progress()["done"]
    wait_for(lambda: project.progress()["done"] > done + 5, 30)
    log = (project.run_folder.logs / f"{name}.log").read_text()
    assert "has held the queue for 1" in log
    assert "continuing it (SIGCONT)" in log
    assert state_of(pid) is None
    assert project.progress()["failed"] == 0


def test_workers_are_reached_although_someone_else_holds_the_queue(project: Project) -> None:
    """`stop` names who holds it, kills nobody for it, and the workers end after their jobs."""
    project.write(model={"seconds": 0.3}, placement={"gpus": [0], "processes_per_gpu": 2})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: len(workers_of(project)) == 2)
    with someone_else_in(project.run_folder.queue) as holder:
        asked = project.sweep("stop", "x")
        assert asked.status == 0, asked.err
        assert f"pid {holder.pid} (" in asked.err
        assert f"which is stopped; `kill -CONT {holder.pid}` lets it go on" in asked.err
        wait_for(lambda: not live_slots(project.run_folder), 60)
        assert project.progress()["sweep"] == "x"
        assert state_of(holder.pid) is ProcessState.STOPPED
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0
    # What a worker could not tell looks like its death, which costs a job none of its retries.
    kinds = {one["kind"] for one in read_attempts(project.run_folder.attempts)}
    assert kinds <= {None, FailureKind.WORKER_DIED.value}


def test_a_command_says_whom_it_waits_for_and_gives_up(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    with closing(Queue(path, create=True, waiting=Waiting.at_most(0.5))) as queue:
        with someone_else_in(path) as holder, pytest.raises(Busy) as error:
            queue.drain(True)
        assert f"pid {holder.pid} (" in str(error.value)
        assert "which is stopped" in str(error.value)
        queue.drain(True)


def test_ctrl_z_waits_for_the_end_of_a_transaction(tmp_path: Path) -> None:
    """A command is suspended, but not with what others wait for."""
    Queue(tmp_path / "sweep.db", create=True).close()
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom runner.machine import suspension\n"
        "from runner.queue import Queue\n"
        "suspension.install()\nqueue = Queue(Path(sys.argv[1]))\n"
        "with queue.driver.write():\n    print('in', flush=True)\n    time.sleep(1)\n"
        "    Path(sys.argv[2]).touch()\n"
        "time.sleep(60)\n"
    )
    ended = tmp_path / "ended"
    command = [sys.executable, "-c", program, str(tmp_path / "sweep.db"), str(ended)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        process.send_signal(signal.SIGTSTP)
        wait_for(lambda: state_of(process.pid) is ProcessState.STOPPED)
        assert ended.exists()
        with closing(Queue(tmp_path / "sweep.db", waiting=Waiting.at_most(1))) as queue:
            queue.drain(True)
        process.kill()


def test_a_signal_goes_to_the_process_that_was_meant_or_to_none() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        meant = ProcessId.of(process.pid)
        former = replace(meant, started=meant.started - 1)
        assert not send(former, signal.SIGKILL)
        assert not send(replace(meant, host="elsewhere"), signal.SIGKILL)
        assert process.poll() is None
        assert send(meant, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not send(meant, signal.SIGKILL)


def test_a_killed_encoder_is_no_failure_of_the_job(project: Project) -> None:
    """With no retries at all, a job whose ffmpeg was killed is made all the same."""
    import imageio_ffmpeg

    project.write(retries={"failures": 0})
    real, marker = imageio_ffmpeg.get_ffmpeg_exe(), project.root / "killed"
    encoder = project.root / "ffmpeg"
    encoder.write_text(
        "#!/bin/sh\n"
        'case "$*" in *libx264*)\n'
        '  if [ ! -e "$KILLED" ]; then : > "$KILLED"; kill -9 $$; fi;;\n'
        f'esac\nexec "{real}" "$@"\n'
    )
    encoder.chmod(0o755)
    project.environment["KILLED"] = str(marker)
    project.environment["IMAGEIO_FFMPEG_EXE"] = str(encoder)
    launched = project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert launched.status == 0, launched.err
    kinds = [one["kind"] for one in read_attempts(project.run_folder.attempts)]
    assert kinds.count("worker_died") == 1
    assert set(kinds) == {None, "worker_died"}


def is_replaced(project: Project, pid: int) -> bool:
    return pid not in workers_of(project).values()


def test_a_worker_that_somebody_ends_is_followed_by_another(project: Project) -> None:
    """One that was asked to end gives its job back; its slot goes on either way."""
    running(project)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        # With a job in hand, which is what is given back.
        wait_for(lambda: bool(at_work(project)), 60)
        (pid,) = at_work(project)
        os.kill(pid, number)
        wait_for(partial(is_replaced, project, pid), 60)
    wait_for(lambda: bool(workers_of(project)))
    outcomes = [one["outcome"] for one in read_attempts(project.run_folder.attempts)]
    assert outcomes == ["interrupted", "died"]
    assert project.progress()["failed"] == 0


def test_deaths_from_outside_do_not_slow_a_slot_down(project: Project) -> None:
    """While jobs succeed anywhere, the pause before the next worker stays the shortest."""
    other = '{"outcome":"done","worker":"gpu1_process0"}'
    program = (
        f"if number == 6: sys.exit(0)\n"
        f"open({str(project.run_folder.attempts)!r}, 'a').write('{other}\\n')\n"
        "os.kill(os.getpid(), 9)"
    )
    status, log = supervise(project, program, first_pause=0.3)
    assert status == 0
    assert log.count("starting another worker in 0 s") == 6


def test_a_wait_that_no_clock_can_mean_is_over(tmp_path: Path) -> None:
    """The clock was wrong when an attempt failed: nobody waits for a year that will not come."""
    from queue_jobs import JOBS, claim, pending

    clock = Clock()
    with closing(Queue(tmp_path / "sweep.db", create=True, clock=clock)) as queue:
        queue.sync(JOBS[:1], [], "m", pending)
        for far in (1e11, 1e15):
            clock.now = far
            taken = claim(queue)
            queue.fail(taken, "broken", FailureKind.GPU_ERROR)
            clock.now = time.time()
            assert queue.claim(SLOT, ProcessId.own(), Taste()) is None
            queue.reclaim()
            retaken = queue.claim(SLOT, ProcessId.own(), Taste())
            assert retaken is not None
            queue.give_back(retaken)


def test_resume_waits_for_no_retry(project: Project) -> None:
    """A command that does not end within two minutes fails a test, and a retry waits for ten."""
    fault = {"kind": "fail", "times": 1}
    project.write(model={"seconds": 0.02, "faults": [fault]}, retries={"backoff_seconds": 600})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: len(read_attempts(project.run_folder.attempts)) == 6)
    assert project.call("stop", "x", "--now").status == 0
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0


def running(project: Project) -> None:
    """Have the sweep run, with long jobs."""
    size = {"width": WIDTH, "height": HEIGHT, "num_frames": FRAMES, "fps": FPS}
    project.write(model={"seconds": 30}, generation={**size, "num_inference_steps": 300})
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: bool(workers_of(project)))


def test_a_run_folder_has_an_id_of_its_own(project: Project) -> None:
    """`plan` gives it one that stays; one that was planned before there were ids gets it from
    `resume`."""
    project.write()
    project.finish()
    run = project.run_folder
    run.id.unlink(missing_ok=True)
    assert project.call("resume", "x").status == 0
    first = run_id(run)
    assert first is not None
    assert project.call("plan", "experiments/x.yaml").status == 0
    assert run_id(run) == first


def moved_while_running(project: Project) -> tuple[RunFolder, Path, ProcessId]:
    """A run folder that was moved away under its worker, where to, and its supervisor."""
    running(project)
    run, moved = project.run_folder, project.root / "results" / "moved"
    process = supervisor(run.lock(SLOT))
    assert process is not None
    run.path.rename(moved)
    return run, moved, process


def test_a_run_folder_that_is_moved_away_is_left_alone(project: Project) -> None:
    """Its slots end and say so, nothing comes to be at its former path, no job is lost."""
    run, moved, process = moved_while_running(project)
    wait_for(process.is_gone, 60)
    assert not run.path.exists()
    log = (moved / "logs" / f"{SLOT.name}.log").read_text()
    assert "the run folder is gone, or is another run's" in log
    told = json.loads(project.call("progress", "moved", "--json").out)
    assert told["total"] == 6
    moved.rename(run.path)


def test_a_run_folder_in_anothers_place_is_not_worked_in(project: Project) -> None:
    run, _, process = moved_while_running(project)
    assert project.call("plan", "experiments/x.yaml").status == 0
    wait_for(process.is_gone, 60)
    assert not list(run.path.rglob("*.mp4"))
    assert not live_slots(run)


def test_work_that_is_deleted_lets_no_second_set_of_workers_in(project: Project) -> None:
    running(project)
    before = workers_of(project)
    shutil.rmtree(project.run_folder.path / "work")
    again = project.sweep("resume", "x", "--on", "local")
    assert again.status == 0, again.err
    assert "1 of its slots are running already" in again.err
    wait_for(lambda: live_slots(project.run_folder) == [SLOT])
    assert workers_of(project) == before
    assert project.sweep("stop", "x", "--now").status == 0


def test_a_slot_without_a_run_starts_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner.slots.slot", str(tmp_path / "gone")]
    done = subprocess.run([*command, "gpu0_process0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no run.id" in done.stderr
    assert not (tmp_path / "gone").exists()
