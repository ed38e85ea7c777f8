"""Which process is which, who is alive, and being asked to stop. Linux's /proc and prctl."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.05
SESSION_PASSES = 10
"""A process may start another while its session is being killed; not for ever."""
NICENESS = 10

AFTER_JOB_SIGNAL = signal.SIGUSR1
"""Asks a slot to end after its job, where the queue cannot be written."""


@functools.cache
def host_id() -> str:
    """This host: boot id and pid namespace, for a pid means nothing beyond these."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return socket.gethostname()
    return f"{boot}/{space}"


@dataclass(frozen=True)
class ProcessId:
    """One process for all time: a pid alone is used again after its process ended.

    `started` is in clock ticks since boot, which no change of the clock moves.
    """

    host: str
    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process that has that pid now.

        Raises:
            ProcessLookupError: there is none, or it has ended and waits for its parent.
        """
        started = _start_ticks(pid)
        if started is None:
            raise ProcessLookupError(pid)
        return cls(host_id(), pid, started)

    @classmethod
    def own(cls) -> ProcessId:
        return cls.of(os.getpid())

    @property
    def is_here(self) -> bool:
        """Whether it belongs to this host and pid namespace, so that its end can be seen."""
        return self.host == host_id()

    def is_gone(self) -> bool:
        """Whether it certainly no longer runs; a process of another host is not known to be."""
        return self.is_here and _start_ticks(self.pid) != self.started


class ProcessState(str, Enum):
    """How a process that does nothing stands: field 3 of proc_pid_stat(5)."""

    STOPPED = "T"
    TRACED = "t"
    ON_DISK = "D"

    @property
    def stands_still(self) -> bool:
        """Whether only somebody else can have it go on."""
        return self is not ProcessState.ON_DISK

    @property
    def told(self) -> str:
        return _TOLD[self]


_TOLD = {
    ProcessState.STOPPED: "is stopped",
    ProcessState.TRACED: "stands in a debugger",
    ProcessState.ON_DISK: "waits for its disk",
}


def state_of(pid: int) -> ProcessState | None:
    """How a process is stopped; None where it runs, sleeps or has ended."""
    fields = _stat_fields(pid)
    state = "" if fields is None else fields[0].decode("ascii", "replace")
    return ProcessState(state) if state in {one.value for one in ProcessState} else None


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Send a signal to a process of this host; return False where it has ended, even if another
    process has its pid now.

    Raises:
        PermissionError: it is another user's.
    """
    if not process.is_here:
        return False
    with contextlib.suppress(ProcessLookupError):
        return _send_to(process.pid, number, lambda: not process.is_gone())
    return False


def _send_to(pid: int, number: signal.Signals, is_meant: Callable[[], bool]) -> bool:
    """Send a signal to a pid; `is_meant` is asked while the pid cannot become another's."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        if isinstance(error, ProcessLookupError):
            raise
        # A kernel before 5.3: the pid could become another's within these microseconds.
        if is_meant():
            os.kill(pid, number)
            return True
        return False
    try:
        if is_meant():
            signal.pidfd_send_signal(descriptor, number)
            return True
        return False
    finally:
        os.close(descriptor)


def exit_status(child: int) -> int | None:
    """The exit status of a child that has ended, or the negated signal; None while it runs.

    It stays to be waited for, so that until then its pid is no other's.
    """
    result = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def how_it_ended(status: int | None) -> str:
    """A process's end in words, from its exit status."""
    if status is None:
        return "no longer answers"
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"ended with status {status}"


def _start_ticks(pid: int) -> int | None:
    """Field 22 of proc_pid_stat(5), or None for a process that has ended."""
    fields = _stat_fields(pid)
    return None if fields is None or _has_ended(fields) else int(fields[19])


def _has_ended(fields: list[bytes]) -> bool:
    """Whether nothing of a process is left but its exit status.

    One whose first thread has ended is shown as a zombie while others of its threads still run, or
    are about to die: until then it holds its files and their locks.
    """
    return fields[0] == b"X" or (fields[0] == b"Z" and int(fields[17]) <= 1)


def _stat_fields(pid: int) -> list[bytes] | None:
    """The fields of proc_pid_stat(5) from the third on; None for a process that is not there."""
    try:
        # Not by a file object: each claim asks this of every other worker.
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    # The program's name stands in parentheses and may hold any character, these included.
    return text.rpartition(b")")[2].split()


def kill_session(leader: int) -> None:
    """Kill every process of the session that a process has begun, whatever group it is in.

    Args:
        leader: a child that was not waited for yet, so that its pid is no other's.
    """
    for _ in range(SESSION_PASSES):
        members = session_members(leader)
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                _send_to(pid, signal.SIGKILL, functools.partial(_is_of_session, pid, leader))


def session_members(leader: int) -> list[int]:
    """The living processes of a session: field 6 of proc_pid_stat(5)."""
    found = []
    for pid in (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()):
        if _is_of_session(pid, leader):
            found.append(pid)
    return found


def _is_of_session(pid: int, leader: int) -> bool:
    fields = _stat_fields(pid)
    return fields is not None and int(fields[3]) == leader and not _has_ended(fields)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of that pid, dies (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It died before it could be told from: no signal comes any more.
        os.kill(os.getpid(), signal.SIGKILL)


def give_way() -> None:
    """Have this thread, and what it starts, leave the processor to others that want it.

    On Linux niceness is a thread's own; see setpriority(2).
    """
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def oom_kills() -> int:
    """How often the kernel has killed a process for memory in this cgroup (v2 or v1), or, where
    that cannot be read, on this machine. See `memory.events` in the kernel's cgroup-v2 text."""
    return _oom_kills_in(_oom_counter()) or 0


@functools.cache
def _oom_counter() -> Path:
    machine = Path("/proc/vmstat")
    return next((path for path in _cgroup_files() if _oom_kills_in(path) is not None), machine)


def _oom_kills_in(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return None


def _cgroup_files() -> Iterator[Path]:
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield root / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                yield root / "memory" / path.lstrip("/") / "memory.oom_control"
    # In a container its own cgroup is mounted as the root.
    yield root / "memory.events"
    yield root / "memory" / "memory.oom_control"


def resident_gib(others: Iterable[int] = ()) -> float:
    """Memory of this process, and of others by their pid, that is in RAM, in GiB."""
    pages = 0
    for of in ("self", *others):
        # One of the others may have ended.
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{of}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1024**3


def peak_resident_gib(others: Iterable[int] = ()) -> float | None:
    """Peak memory in RAM of this process, and of others by their pid, since the last call
    (first: since each started), in GiB: the sum of their peaks, which need not have been at once.

    None where Linux's `/proc` does not tell. Writing 5 to `clear_refs` starts the peak anew
    (https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html).
    """
    kib = 0
    for of in ("self", *others):
        proc = Path(f"/proc/{of}")
        try:
            peak = re.search(r"^VmHWM:\s+(\d+) kB", (proc / "status").read_text(), re.MULTILINE)
            (proc / "clear_refs").write_text("5")
        except OSError:
            if of == "self":
                return None
            continue
        if peak is not None:
            kib += int(peak[1])
    return round(kib / 1024**2, 3) if kib else None


class Stop:
    """Whether this process was asked to stop: at once, or `after_job`.

    Plain flags: `threading.Event.set` can deadlock in a signal handler that interrupts
    `Event.wait`.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self.after_job = False

    def ask(self) -> None:
        self.is_asked = True

    def wait(self, seconds: float) -> None:
        """Sleep for these seconds, or until asked to stop."""
        ends = time.monotonic() + seconds
        while not self.is_asked and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))

    def on_signals(self) -> None:
        """Be asked by SIGTERM, SIGINT and SIGHUP, and to stop after the job by SIGUSR1."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.ask()

        def handle_later(_number: int, _frame: FrameType | None) -> None:
            self.after_job = True

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, handle)
        signal.signal(AFTER_JOB_SIGNAL, handle_later)


def share_of_cores(processes: int) -> int:
    """The number of threads with which each of these processes may compute, sharing the cores that
    this one may use. `OMP_NUM_THREADS` comes first, as everywhere."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said):
        return int(said)
    return max(1, len(os.sched_getaffinity(0)) // processes)
