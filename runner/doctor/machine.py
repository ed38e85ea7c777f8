"""Disk, host memory, limits and clock of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ..text.plain_text import size
from .file_system import existing
from .finding import Finding, right, warning, wrong

LEAST_OPEN_FILES = 1024
LEAST_PROCESSES = 512
DISK_PER_ESTIMATE = 1.1
"""How much must be free, in times the estimate of the videos' size."""
ADJTIMEX_TIME_ERROR = 5
"""adjtimex(2): nothing keeps the kernel's clock in step."""
EARLIEST_CLOCK_SECONDS = 1_760_000_000
"""Since 1970. A clock that says less is wrong: this was written later."""


def check_disk(folder: Path, need_bytes: int | None, jobs: int) -> Iterator[Finding]:
    """The free disk, compared with what the jobs that are left will write; `need_bytes` is None
    where that is not known."""
    free = shutil.disk_usage(existing(folder)).free
    room = f"{size(free)} free at {existing(folder)}"
    if need_bytes is None:
        yield right("disk", room)
        return
    need = f"{jobs} videos to make need about {size(need_bytes)}"
    if need_bytes > free:
        remedy = "make room, or results=FOLDER on a larger disk; workers wait while it is full"
        yield wrong("disk", f"{room}; {need}", remedy)
    elif need_bytes * DISK_PER_ESTIMATE > free:
        yield warning("disk", f"{room}; {need}", "make room: that is an estimate")
    else:
        yield right("disk", f"{room}; {need}")


def check_memory(need_bytes: int, why: str) -> Iterator[Finding]:
    """Free host memory against what workers take of it."""
    free = available_memory()
    if free is None:
        yield warning("host memory", "cannot be read from /proc", "is this Linux?")
        return
    room = f"{size(free)} free"
    if need_bytes > free:
        remedy = "fewer processes (placement.processes_per_gpu), or a machine with more"
        yield wrong("host memory", f"{room}; {why} need {size(need_bytes)}", remedy)
    elif need_bytes:
        yield right("host memory", f"{room}; {why} need {size(need_bytes)}")
    else:
        yield right("host memory", room)


def available_memory() -> int | None:
    """Bytes that programs can still take, the container's own limit considered."""
    free = None
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    uses = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
    for limit, use in zip(limits, uses, strict=True):
        with contextlib.suppress(OSError, ValueError):
            left = int(Path(limit).read_text()) - int(Path(use).read_text())
            free = left if free is None else min(free, left)
    return free


def check_limits() -> Iterator[Finding]:
    """Limits on open files and processes; see getrlimit(2)."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield judge_limit("open files", files, LEAST_OPEN_FILES, "ulimit -n 65536")
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    yield judge_limit("processes and threads", processes, LEAST_PROCESSES, "ulimit -u 65536")


def judge_limit(what: str, limit: int, least: int, remedy: str) -> Finding:
    if limit != resource.RLIM_INFINITY and limit < least:
        return warning("limits", f"only {limit} {what} are allowed", f"{remedy}, then launch")
    allowed = "any number of" if limit == resource.RLIM_INFINITY else f"{limit}"
    return right("limits", f"{allowed} {what}")


def check_clock() -> Iterator[Finding]:
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now))
    if now < EARLIEST_CLOCK_SECONDS:
        yield wrong("clock", f"{shown}: that is past", "set the clock (date -s, or NTP)")
    elif in_step() is False:
        remedy = "only --stop-at and the times shown depend on it; timedatectl set-ntp true"
        yield warning("clock", f"{shown}; nothing keeps it in step", remedy)
    else:
        yield right("clock", shown)


def in_step() -> bool | None:
    """Whether the kernel says that something sets its clock; None where the kernel does not
    tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    # A struct timex, of which all zeros asks and changes nothing; it has 208 bytes.
    asked = ctypes.create_string_buffer(512)
    try:
        state = libc.adjtimex(asked)
    except AttributeError:
        return None
    return None if state < 0 else state != ADJTIMEX_TIME_ERROR


def check_processor(workers: int) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    if workers > cores:
        found = f"{cores} cores for {workers} workers"
        yield warning("processor", found, "workers wait for one another; fewer of them may do more")
    else:
        yield right("processor", f"{cores} cores")
