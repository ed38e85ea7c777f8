"""The line of those who write to `sweep.db`: one at a time, and nobody waits without end.

SQLite itself has writers sleep and try again, of which some wait for seconds where 16 contend.
So they take a lock file beside the database first, at which the kernel wakes the next at once.
Whoever has it may be frozen: stopped, in a debugger, on a dead disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ..disk.run_folder import open_own, queue_files, try_lock
from ..machine import suspension
from ..machine.waiting import Waiting, repeat, wait_for


class Line:
    """One connection's place in line."""

    def __init__(self, database: Path, waiting: Waiting) -> None:
        self._database = database
        self._files = queue_files(database)
        self._path = self._files[-1]
        self._waiting = waiting
        self._descriptor = open_own(self._path)

    def close(self) -> None:
        os.close(self._descriptor)

    @contextlib.contextmanager
    def turn(self, begin: Callable[[], bool], waiting: Waiting | None) -> Iterator[None]:
        """Within this, the connection has the database's write lock.

        Args:
            begin: begins the transaction; False where somebody has the lock who does not stand
                in line.
            waiting: in place of the connection's own.

        Raises:
            Busy: another process has it for too long.
        """
        how = (waiting or self._waiting, self._database, self._files)
        with contextlib.ExitStack() as held:
            if not self._take(held):
                turn = held.enter_context(contextlib.closing(_Turn(self._path)))
                wait_for(turn.wait, *how)
            wait_for(partial(repeat, begin), *how)
            yield

    def _take(self, held: contextlib.ExitStack) -> bool:
        """Take the lock file, to be given back by `held`; False where another has it."""
        with contextlib.ExitStack() as own:
            own.enter_context(suspension.deferred())
            if not try_lock(self._descriptor):
                return False
            own.callback(fcntl.flock, self._descriptor, fcntl.LOCK_UN)
            held.enter_context(own.pop_all())
        return True


class _Turn:
    """One wait for the lock file, by a thread that can be left behind: no call takes a lock
    within a time."""

    def __init__(self, path: Path) -> None:
        self._descriptor = open_own(path)
        self._guard = threading.Lock()
        self._has_come = threading.Event()
        self._is_given_up = False
        self._held = contextlib.ExitStack()
        threading.Thread(target=self._stand, daemon=True, name="line").start()

    def wait(self, seconds: float) -> bool:
        """Wait for the turn at most so long; whether it has come."""
        return self._has_come.wait(seconds)

    def close(self) -> None:
        """Let the next one have it, now or as soon as the turn comes."""
        with self._guard:
            self._is_given_up = True
            if self._has_come.is_set():
                self._held.close()

    def _stand(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._guard:
            self._held.callback(os.close, self._descriptor)
            self._held.enter_context(suspension.deferred())
            if self._is_given_up:
                self._held.close()
            self._has_come.set()
