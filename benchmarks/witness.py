"""A witness in every worker: does it ever make a job that another live process is making?

The chaos command copies this file as `sitecustomize.py` into a folder that it puts on
PYTHONPATH, and names a folder in SWEEP_WITNESS; Python then runs it in each worker before
anything else. It asks the queue nothing: around every backend's `generate` and up to the end of
the job's `finish`, the worker holds an exclusive flock(2) on a file of the job's own, which
the kernel frees when the worker dies. Whoever finds it held has seen a job made twice at once.
"""

from __future__ import annotations

import fcntl
import functools
import os
import sys
from pathlib import Path
from typing import Any


class Witness:
    """Holds a lock per job in the making, in `folder`.

    `begun` there counts the jobs that were begun, `violations` names those that two live
    processes made at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, job_id: str) -> int:
        """Note that this process makes a job; returns the descriptor to be closed at its end."""
        descriptor = os.open(self._folder / job_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(descriptor, 32, 0).decode()
            # A child of a dead process has the lock too, for as long as it takes to exec.
            if other and _is_alive(int(other)):
                self._append("violations", f"{job_id}: by {os.getpid()} while by {other}\n")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._append("begun", f"{job_id}\n")
        return descriptor

    def _append(self, name: str, line: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._folder / name, flags, 0o644)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def watch(witness: Witness) -> None:
    """Have every engine class that is defined from now on hold its jobs' locks."""
    from runner.backends import Engine

    held: dict[int, int] = {}
    jobs: dict[int, str] = {}

    def generating(generate: Any) -> Any:
        @functools.wraps(generate)
        def wrapped(self: Any, job: Any, *rest: Any) -> Any:
            descriptor = witness.begin(job.id)
            try:
                pending = generate(self, job, *rest)
            except BaseException:
                os.close(descriptor)
                raise
            held[id(pending)], jobs[id(pending)] = descriptor, job.id
            return pending

        return wrapped

    def finishing(finish: Any) -> Any:
        @functools.wraps(finish)
        def wrapped(self: Any, pending: Any, *rest: Any) -> Any:
            # A video that found no room on the disk is finished once more.
            key = id(pending)
            descriptor = held.pop(key) if key in held else witness.begin(jobs[key])
            try:
                return finish(self, pending, *rest)
            finally:
                os.close(descriptor)

        return wrapped

    def define(cls: Any, /) -> None:
        if "generate" in cls.__dict__:
            cls.generate = generating(cls.generate)
        if "finish" in cls.__dict__:
            cls.finish = finishing(cls.finish)

    Engine.__init_subclass__ = classmethod(define)  # type: ignore[assignment]


if "runner.worker" in sys.orig_argv and "SWEEP_WITNESS" in os.environ:
    watch(Witness(Path(os.environ["SWEEP_WITNESS"])))
