"""`python -m runner.slots.slot RUN SLOT`: the supervisor of one slot, without torch.

It starts the slot's worker, writes all that the worker says to the slot's log and to its own
terminal, starts the worker again when it dies, and takes it down with itself. A lock file,
held by supervisor and worker alike, says that the slot is taken; the kernel frees it when the
last of them is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from ..disk.run_folder import RunFolder, queue_files
from ..disk.run_id import is_still, run_id
from ..job.slot_names import Slot
from ..machine.gpus import find_gpus
from ..machine.lock_holders import writers
from ..machine.processes import (
    AFTER_JOB_SIGNAL,
    Stop,
    die_with_parent,
    exit_status,
    how_it_ended,
    kill_session,
    oom_kills,
    state_of,
)
from ..text.errors import UserError
from ..text.input_file import MOST_RECORDS_BYTES, NotAnInput, lines_in, open_input
from ..text.log_lines import print_traceback
from ..text.plain_text import printable
from ..text.utf8_mode import ensure_utf8
from .at_end import run_end_commands
from .lock import SlotLock, SlotTaken
from .log import SlotLog

GRACE_SECONDS = 30.0
"""For a worker that was asked to stop; a step of a 14B model takes about seven."""

MOST_DEATHS = 12
"""Deaths of a worker in a row, with no job done between them, after which the slot gives up: more
than one job can cause before it is failed."""

EXIT_WRONG = 2
"""A worker's exit status where another one would end in the same way: machine, experiment or run
folder are not as they must be."""

EXIT_RESTART = 75
"""The exit status of a worker that asks for another in its place: EX_TEMPFAIL of sysexits(3)."""

EXIT_LOAD_FAILED = 70
"""The exit status of a worker whose model could not be loaded: EX_SOFTWARE of sysexits(3)."""

EXIT_NO_ROOM = 73
"""The exit status of a worker that a full disk kept from beginning: EX_CANTCREAT of sysexits(3)."""

NO_ROOM_SECONDS = 10.0
"""Until another worker is started where the disk is full."""

FROM_OUTSIDE = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM}
)
"""Signals by which somebody else ends a worker."""

MOST_FAILED_LOADS = 3
"""In a row, after which the slot gives up: the next one would fail as well."""

SILENT_SECONDS = 300.0
"""After these without a heartbeat a worker is killed: even its threads stand still."""

LOOK_SECONDS = 1.0
"""How often the supervisor looks at its worker; `POLL_SECONDS`, whether it has ended."""

POLL_SECONDS = 0.05

FROZEN_SECONDS = 10.0
"""A worker that holds up all others is continued when it has been stopped for this long, and killed
when that did not help for `CONTINUED_SECONDS`."""

CONTINUED_SECONDS = 3.0

INTERRUPT_SECONDS = 3.0

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class JobsDone(NamedTuple):
    """How many jobs this slot has finished so far, over all its workers, and how many all slots
    have."""

    own: int
    of_all: int


class Supervisor:
    """Keeps one worker running in one slot until there is nothing left to do.

    Args:
        silent_seconds: a worker whose heart has not beaten for this long is killed.
        first_pause: seconds before another worker is started; doubled with every further death.
        room_seconds: before another worker is started, where a full disk kept one from beginning.
    """

    def __init__(
        self,
        run: RunFolder,
        slot: Slot,
        command: list[str],
        environment: dict[str, str],
        log: SlotLog,
        *,
        silent_seconds: float = SILENT_SECONDS,
        first_pause: float = 1.0,
        room_seconds: float = NO_ROOM_SECONDS,
    ) -> None:
        self.run_folder = run
        self.slot = slot
        self.command = command
        self.environment = environment
        self.log = log
        self.silent_seconds = silent_seconds
        self.first_pause = first_pause
        self.room_seconds = room_seconds
        self._stop = Stop()
        self._interrupted_at = -INTERRUPT_SECONDS
        self._worker: subprocess.Popen[bytes] | None = None
        self._run_id = run_id(run)
        self._was_killed_here = False
        self.is_astray = False
        """Whether the run folder, or the slot in it, is no longer this supervisor's."""

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_asked

    def stop(self, number: int, _frame: FrameType | None = None) -> None:
        """Ask the worker to give its job back and end; kill it where it does not."""
        if not self._stop.is_asked:
            self._stop.ask()
            self._end_worker()
            self.log.say(f"{signal.Signals(number).name}: stopping")

    def stop_after_job(self, _number: int, _frame: FrameType | None = None) -> None:
        """Have the worker end after its job, and start no other."""
        self._stop.after_job = True
        if self._worker is not None and exit_status(self._worker.pid) is None:
            self._worker.send_signal(AFTER_JOB_SIGNAL)

    def interrupt(self, number: int, _frame: FrameType | None = None) -> None:
        """Take Ctrl-C in the slot's own terminal: only a second one soon after stops the worker,
        since a person who came to look may only want to leave."""
        now = time.monotonic()
        if now - self._interrupted_at < INTERRUPT_SECONDS:
            self.stop(number)
        self._interrupted_at = now
        self.log.say(
            "Ctrl-C does not stop a worker (a second one does, and gives its job back); leave "
            f"with Ctrl-b d, or `sweep stop {self.run_folder.name}`"
        )

    def _end_worker(self) -> None:
        worker = self._worker
        if worker is not None and exit_status(worker.pid) is None:
            worker.terminate()
            killer = threading.Timer(GRACE_SECONDS, self._kill)
            killer.daemon = True
            killer.start()

    def _kill(self) -> None:
        if self._worker is not None and exit_status(self._worker.pid) is None:
            self.log.say(f"the worker did not end within {GRACE_SECONDS:.0f} s; killing it")
            self._kill_worker(self._worker)

    def _kill_worker(self, worker: subprocess.Popen[bytes]) -> None:
        self._was_killed_here = True
        kill_all(worker.pid)

    def run(self, lock: SlotLock) -> int:
        """Run workers one after the other; return the exit status of the slot."""
        deaths = loads = 0
        done_before = self._jobs_done()
        while not (self._stop.is_asked or self._stop.after_job):
            oom_kills_before = oom_kills()
            status = self.run_worker(lock)
            self._look_for_run_folder(lock)
            if self.is_astray:
                return EXIT_WRONG
            if status in (0, EXIT_WRONG) or self._stop.is_asked:
                return EXIT_WRONG if status == EXIT_WRONG else 0
            if status == EXIT_RESTART:
                continue
            if status == EXIT_NO_ROOM:
                self._stop.wait(self.room_seconds)
                continue
            loads = loads + 1 if status == EXIT_LOAD_FAILED else 0
            if loads >= MOST_FAILED_LOADS:
                self.log.say(f"the model could not be loaded {loads} times in a row; giving up")
                return 1
            done = self._jobs_done()
            # That somebody else killed it says nothing of this slot while jobs succeed at all.
            is_from_outside = (
                -status in FROM_OUTSIDE
                and not self._was_killed_here
                and oom_kills() == oom_kills_before
            )
            has_done = done.own > done_before.own
            has_done |= is_from_outside and done.of_all > done_before.of_all
            deaths = 1 if has_done else deaths + 1
            done_before = done
            if deaths >= MOST_DEATHS:
                self.log.say(f"{deaths} workers died in a row without a finished job; giving up")
                return 1
            pause = min(self.first_pause * 2.0 ** (deaths - 1), 60.0)
            self.log.say(f"starting another worker in {pause:.0f} s")
            self._stop.wait(pause)
        return 0

    def run_worker(self, lock: SlotLock) -> int:
        """Run one worker to its end; return its exit status, or the negated signal."""
        self._was_killed_here = False
        self._worker = worker = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=lock.descriptors,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        if self._stop.is_asked:
            # The signal came before there was a worker to pass it on to.
            self._end_worker()
        assert worker.stdout is not None
        copying = threading.Thread(target=self.log.copy, args=(worker.stdout,), daemon=True)
        copying.start()
        status = self._wait(worker, lock)
        # Whatever the worker started goes with it; it would also keep the log's pipe open. Only
        # then is it waited for: until then its pid is no other's.
        kill_all(worker.pid)
        self._worker = None
        worker.wait()
        copying.join()
        worker.stdout.close()
        if status:
            self.log.say(f"the worker {how_it_ended(status)}")
        return status

    def _wait(self, worker: subprocess.Popen[bytes], lock: SlotLock) -> int:
        """Wait for the worker's end. A worker whose heart stands still, or that holds up all
        others, is ended."""
        pulse = self.run_folder.lock(self.slot)
        beat = since = look_at = 0.0
        frozen_since: float | None = None
        while (status := exit_status(worker.pid)) is None:
            time.sleep(POLL_SECONDS)
            now = time.monotonic()
            if now < look_at:
                continue
            look_at = now + LOOK_SECONDS
            with contextlib.suppress(OSError):
                if pulse.stat().st_mtime_ns != beat:
                    beat, since = pulse.stat().st_mtime_ns, now
            if now - since > self.silent_seconds:
                self.log.say(f"the worker was silent for {self.silent_seconds:.0f} s; killing it")
                self._kill_worker(worker)
            self._look_for_run_folder(lock)
            if not self._holds_up_others(worker):
                frozen_since = None
            elif frozen_since is None:
                frozen_since = now
            else:
                self._thaw(worker, now - frozen_since)
        return status

    def _look_for_run_folder(self, lock: SlotLock) -> None:
        """End the worker where the run folder, or the slot in it, is gone or another's."""
        if self.is_astray:
            return
        if not is_still(self.run_folder, self._run_id):
            self.is_astray = True
            self.log.say(f"{self.run_folder.path}: the run folder is gone, or is another run's")
        else:
            try:
                lock.keep()
            except SlotTaken:
                self.is_astray = True
                self.log.say("the lock file was deleted, and another has taken this slot")
        if self.is_astray:
            self._stop.ask()
            self._end_worker()

    def _holds_up_others(self, worker: subprocess.Popen[bytes]) -> bool:
        """Whether the worker stands still in the middle of a transaction."""
        state = state_of(worker.pid)
        if state is None or not state.stands_still:
            return False
        return worker.pid in writers(queue_files(self.run_folder.queue))

    def _thaw(self, worker: subprocess.Popen[bytes], seconds: float) -> None:
        """Continue a worker that has been stopped for these seconds, or end it."""
        if seconds > FROZEN_SECONDS + CONTINUED_SECONDS:
            self.log.say("the worker still holds the queue and does not go on; killing it")
            self._kill_worker(worker)
        elif seconds > FROZEN_SECONDS:
            self.log.say(
                f"the worker has held the queue for {seconds:.0f} s and stands still; "
                "continuing it (SIGCONT)"
            )
            worker.send_signal(signal.SIGCONT)

    def _jobs_done(self) -> JobsDone:
        marker = b'"outcome":"done"'
        name = f'"worker":"{self.slot.name}"'.encode()
        own = of_all = 0
        with (
            contextlib.suppress(FileNotFoundError, IsADirectoryError, NotAnInput),
            open_input(self.run_folder.attempts, MOST_RECORDS_BYTES) as lines,
        ):
            for line in lines_in(lines):
                if marker in line:
                    of_all += 1
                    own += name in line
        return JobsDone(own, of_all)


def kill_all(pid: int) -> None:
    """Kill a worker and all that it started: its group at once, then the rest of its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    kill_session(pid)


def worker_environment(slot: Slot, device: str, threads: int) -> dict[str, str]:
    """The worker's environment: it sees its own GPU only, and its share of the cores.

    Raises:
        UserError: there is no such GPU.
    """
    environment = dict(os.environ)
    if device == "cuda":
        gpus = {gpu.number: gpu for gpu in find_gpus()}
        number = slot.devices.gpu
        if number not in gpus:
            raise UserError(f"GPU {number} is not there (this machine has {sorted(gpus)})")
        if (problem := gpus[number].problem) is not None:
            raise UserError(f"GPU {number}: {problem}")
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number].uuid
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    environment.update(PYTHONUNBUFFERED="1", PYTHONFAULTHANDLER="1", PYTHONUTF8="1")
    return environment


def refuse(why: str) -> int:
    """Say why there is nothing to supervise, before there is a log; return the exit status."""
    sys.stderr.write(f"{printable(why)}\n")
    return EXIT_WRONG


def main() -> int:
    ensure_utf8()
    parser = argparse.ArgumentParser(prog="python -m runner.slots.slot", description=__doc__)
    parser.add_argument("run", help="the run folder")
    parser.add_argument("slot", help="its name, such as gpu0_process1")
    parser.add_argument("--device", choices=("cuda", "cpu"), default=None)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the worker")
    parser.add_argument("--home", action="append", default=[], help="a category to begin with")
    parser.add_argument("--quiet", action="store_true", help="write to the log alone")
    arguments = parser.parse_args()
    run = RunFolder(Path(arguments.run).absolute())
    try:
        slot = Slot.read(arguments.slot)
    except UserError as error:
        return refuse(str(error))
    device = arguments.device or ("cuda" if find_gpus() else "cpu")
    command = [sys.executable, "-m", "runner.worker", str(run.path)]
    command += [slot.name, f"--device={device}"]
    command += [f"--home={category}" for category in arguments.home]
    if run_id(run) is None:
        return refuse(f"{run.path}: no run folder (it has no run.id); see `sweep resume`")
    sys.excepthook = print_traceback
    log = SlotLog(run.log(slot), echo=not arguments.quiet)
    command.append(f"--prefix={log.prefix}")
    try:
        with contextlib.closing(SlotLock(run.lock(slot))) as lock:
            environment = worker_environment(slot, device, arguments.threads)
            supervisor = Supervisor(run, slot, command, environment, log)
            signal.signal(signal.SIGTERM, supervisor.stop)
            signal.signal(signal.SIGHUP, supervisor.stop)
            signal.signal(signal.SIGINT, supervisor.interrupt)
            signal.signal(AFTER_JOB_SIGNAL, supervisor.stop_after_job)
            # Ctrl-Z in the slot's terminal would have nobody look after the worker. A handler,
            # for what is ignored stays ignored in the worker.
            signal.signal(signal.SIGTSTP, lambda *_: None)
            log.say(f"supervisor started, pid {os.getpid()}")
            status = supervisor.run(lock)
            log.say(f"supervisor ended with status {status}")
        if supervisor.is_astray:
            return status
        run_end_commands(run, log.say, stopped=slot if supervisor.was_stopped else None)
        return status  # noqa: TRY300
    except SlotTaken:
        log.say("this slot is taken already; nothing was started")
        return 2
    except UserError as error:
        log.say(str(error))
        return 2
    except Exception as error:
        log.say(f"supervisor failed: {type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    sys.exit(main())
