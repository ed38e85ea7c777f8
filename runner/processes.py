"""Which process is which: a name for this host and process space, and who is alive in it."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1


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
    """One process for all time: a pid alone is used again after its process ended."""

    host: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        return cls(host_id(), pid, psutil.Process(pid).create_time())

    @classmethod
    def own(cls) -> ProcessId:
        return cls.of(os.getpid())

    def is_gone(self) -> bool:
        """Whether it certainly no longer runs; a process of another host is not known to be."""
        if self.host != host_id():
            return False
        try:
            process = psutil.Process(self.pid)
            return (
                abs(process.create_time() - self.started) > 0.5
                or process.status() == psutil.STATUS_ZOMBIE
            )
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux's prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
