"""`python -m runner.slot RUN --gpu G --process P`: the supervisor of one slot, without torch.

It starts the slot's worker, writes all that the worker says to the slot's log and to its own
terminal, starts the worker again when it dies, and takes it down with itself. A lock file,
held by supervisor and worker alike, says that the slot is taken; the kernel frees it when the
last of them is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

from .at_end import run_end_commands
from .errors import UserError
from .failures import is_disk_full
from .gpus import find_gpus
from .input_file import NotAnInput, open_input, read_json
from .placement import Slot
from .processes import ProcessId, Stop, die_with_parent, kill_session
from .run_folder import RunFolder

GRACE_SECONDS = 30.0
"""A worker that was asked to stop has so long; a step of a 14B model takes about seven."""

DEATHS_LIMIT = 12
"""So many deaths of a worker in a row, no job done between them, and the slot gives up: more
than one job can cause before it is failed."""

RESTART = 75
"""The exit status of a worker that asks for another in its place: EX_TEMPFAIL of sysexits(3)."""

LOAD_FAILED = 70
"""The exit status of a worker whose model could not be loaded: EX_SOFTWARE of sysexits(3)."""

NO_ROOM = 73
"""The exit status of a worker that a full disk kept from beginning: EX_CANTCREAT of sysexits(3)."""

ROOM_SECONDS = 10.0
"""After so long it is tried again."""

LOADS_LIMIT = 3
"""So many in a row, and the slot gives up: the next one would fail as well."""

SILENT_SECONDS = 300.0
"""A worker whose heart has not beaten for so long is killed: even its threads stand still."""

LOOK_SECONDS = 1.0

INTERRUPT_SECONDS = 3.0

LOCK_SECONDS = 2.0
"""Others who ask about a lock hold it for a moment."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class SlotTaken(Exception):
    """Another supervisor, or a worker that outlived its own, has this slot."""


class Log:
    """The slot's log file, with a copy to the terminal where there is one."""

    def __init__(self, path: Path, *, echo: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._echo = echo
        if echo:
            ignore_stop_key()

    def say(self, text: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        line = f"{stamp},{int(now % 1 * 1000):03d} SLOT    {text}\n".encode(
            "utf-8", "backslashreplace"
        )
        self._write(line)
        self.show(line)

    def show(self, data: bytes) -> None:
        """Pass to the terminal alone; one that has gone away is no error."""
        if self._echo:
            with contextlib.suppress(OSError):
                os.write(sys.stdout.fileno(), data)

    def copy(self, stream: IO[bytes]) -> None:
        """Copy a worker's output until it ends: all of it to the terminal, and to the file
        each line as it finally stood, without the progress bars that it overwrote."""
        rest = b""
        while data := os.read(stream.fileno(), 65536):
            self.show(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._write_line(line)
            rest = rest.rpartition(b"\r")[2] if len(rest) > 65536 else rest
        if rest:
            self._write_line(rest)

    def _write_line(self, line: bytes) -> None:
        final = line.rstrip(b"\r").rpartition(b"\r")[2]
        if final.strip():
            self._write(final + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line)
        except OSError as error:
            # The worker waits for room; its log has a gap until then.
            if not is_disk_full(error):
                raise


class Supervisor:
    """Keeps one worker running in one slot until there is nothing left to do.

    Args:
        silent_seconds: a worker whose heart has not beaten for so long is killed.
        first_pause: seconds before another worker is started; doubled with every further death.
        room_seconds: before another try, where a full disk kept a worker from beginning.
    """

    def __init__(
        self,
        run: RunFolder,
        slot: Slot,
        command: list[str],
        environment: dict[str, str],
        log: Log,
        *,
        silent_seconds: float = SILENT_SECONDS,
        first_pause: float = 1.0,
        room_seconds: float = ROOM_SECONDS,
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

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_asked

    def stop(self, number: int, _frame: FrameType | None = None) -> None:
        """Ask the worker to give its job back and end; kill it where it does not."""
        if not self._stop.is_asked:
            self._stop.ask()
            self._end_worker()
            self.log.say(f"{signal.Signals(number).name}: stopping")

    def interrupt(self, number: int, _frame: FrameType | None = None) -> None:
        """Ctrl-C in the slot's own terminal: only a second one soon after stops the worker, for
        whoever came to look may mean to leave."""
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
        if worker is not None and worker.poll() is None:
            worker.terminate()
            killer = threading.Timer(GRACE_SECONDS, self._kill)
            killer.daemon = True
            killer.start()

    def _kill(self) -> None:
        if self._worker is not None and self._worker.poll() is None:
            self.log.say(f"the worker did not end within {GRACE_SECONDS:.0f} s; killing it")
            kill_all(self._worker.pid)

    def run(self, lock: int) -> int:
        """Run workers one after the other; returns the exit status of the slot."""
        deaths = loads = 0
        done_before = self._jobs_done()
        while not self._stop.is_asked:
            status = self.run_worker(lock)
            if status in (0, 2) or self._stop.is_asked:
                return 2 if status == 2 else 0
            if status == RESTART:
                continue
            if status == NO_ROOM:
                self._stop.wait(self.room_seconds)
                continue
            loads = loads + 1 if status == LOAD_FAILED else 0
            if loads >= LOADS_LIMIT:
                self.log.say(f"the model could not be loaded {loads} times in a row; giving up")
                return 1
            done = self._jobs_done()
            deaths = 1 if done > done_before else deaths + 1
            done_before = done
            if deaths >= DEATHS_LIMIT:
                self.log.say(f"{deaths} workers died in a row without a finished job; giving up")
                return 1
            pause = min(self.first_pause * 2.0 ** (deaths - 1), 60.0)
            self.log.say(f"starting another worker in {pause:.0f} s")
            self._stop.wait(pause)
        return 0

    def run_worker(self, lock: int) -> int:
        """Run one worker to its end; returns its exit status, or the negated signal."""
        self._worker = worker = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        if self._stop.is_asked:
            # The signal came before there was a worker to pass it on to.
            self._end_worker()
        assert worker.stdout is not None
        copying = threading.Thread(target=self.log.copy, args=(worker.stdout,), daemon=True)
        copying.start()
        status = self._wait(worker)
        # Whatever the worker started goes with it; it would also keep the log's pipe open.
        kill_all(worker.pid)
        copying.join()
        worker.stdout.close()
        if status < 0:
            self.log.say(f"the worker was killed by {signal.Signals(-status).name}")
        elif status:
            self.log.say(f"the worker ended with status {status}")
        return status

    def _wait(self, worker: subprocess.Popen[bytes]) -> int:
        """Wait for the worker's end, and kill it where its heart stands still."""
        pulse = self.run_folder.lock(self.slot)
        beat, since = pulse.stat().st_mtime_ns, time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return worker.wait(LOOK_SECONDS)
            with contextlib.suppress(OSError):
                if pulse.stat().st_mtime_ns != beat:
                    beat, since = pulse.stat().st_mtime_ns, time.monotonic()
            if time.monotonic() - since > self.silent_seconds:
                self.log.say(f"the worker was silent for {self.silent_seconds:.0f} s; killing it")
                kill_all(worker.pid)

    def _jobs_done(self) -> int:
        """How many jobs this slot has finished so far, over all its workers."""
        marker = b'"outcome":"done"'
        name = f'"worker":"{self.slot.name}"'.encode()
        try:
            with open_input(self.run_folder.attempts) as lines:
                return sum(marker in line and name in line for line in lines)
        except (FileNotFoundError, NotAnInput):
            return 0


def kill_all(pid: int) -> None:
    """Kill a worker and all that it started: its group at once, then the rest of its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    kill_session(pid)


@contextlib.contextmanager
def take_slot(path: Path) -> Iterator[int]:
    """Hold a slot's lock file; yields its descriptor, to be handed to the worker.

    Raises:
        SlotTaken: it is held already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        ends = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > ends:
                    raise SlotTaken(path.stem) from None
                time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(asdict(ProcessId.own())).encode())
        yield descriptor
    finally:
        os.close(descriptor)


def supervisor(lock: Path) -> ProcessId | None:
    """The process that wrote itself into a lock file."""
    try:
        return ProcessId(**read_json(lock))
    except (OSError, ValueError, TypeError):
        return None


def ignore_stop_key() -> None:
    """Have Ctrl-S no longer stop this terminal: it would stop the worker's output, and with
    it the worker."""
    with contextlib.suppress(termios.error, OSError):
        attributes = termios.tcgetattr(sys.stdout.fileno())
        attributes[0] &= ~termios.IXON
        termios.tcsetattr(sys.stdout.fileno(), termios.TCSANOW, attributes)


def worker_environment(slot: Slot, device: str, threads: int) -> dict[str, str]:
    """The worker's environment: it sees its own GPU only, and its share of the cores.

    Raises:
        UserError: there is no such GPU.
    """
    environment = dict(os.environ)
    if device == "cuda":
        gpus = {gpu.number: gpu for gpu in find_gpus()}
        if slot.gpu not in gpus:
            raise UserError(f"GPU {slot.gpu} is not there (this machine has {sorted(gpus)})")
        if (problem := gpus[slot.gpu].problem) is not None:
            raise UserError(f"GPU {slot.gpu}: {problem}")
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot.gpu].uuid
    else:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    environment.update(PYTHONUNBUFFERED="1", PYTHONFAULTHANDLER="1", PYTHONUTF8="1")
    return environment


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runner.slot", description=__doc__)
    parser.add_argument("run", help="the run folder")
    parser.add_argument("--gpu", type=int, required=True)
    parser.add_argument("--process", type=int, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default=None)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the worker")
    parser.add_argument("--home", action="append", default=[], help="a category to begin with")
    parser.add_argument("--quiet", action="store_true", help="write to the log alone")
    arguments = parser.parse_args()
    run, slot = RunFolder(Path(arguments.run).absolute()), Slot(arguments.gpu, arguments.process)
    device = arguments.device or ("cuda" if find_gpus() else "cpu")
    command = [sys.executable, "-m", "runner.worker", str(run.path)]
    command += [f"--gpu={slot.gpu}", f"--process={slot.process}", f"--device={device}"]
    command += [f"--home={category}" for category in arguments.home]
    log = Log(run.log(slot), echo=not arguments.quiet)
    try:
        with take_slot(run.lock(slot)) as lock:
            environment = worker_environment(slot, device, arguments.threads)
            supervisor = Supervisor(run, slot, command, environment, log)
            signal.signal(signal.SIGTERM, supervisor.stop)
            signal.signal(signal.SIGHUP, supervisor.stop)
            signal.signal(signal.SIGINT, supervisor.interrupt)
            log.say(f"supervisor started, pid {os.getpid()}")
            status = supervisor.run(lock)
            log.say(f"supervisor ended with status {status}")
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
