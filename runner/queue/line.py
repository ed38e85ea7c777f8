"""The line of those who write to `sweep.db`: one at a time, and nobody waits without end.

SQLite itself has writers sleep and try again, of which some wait for seconds where 16 contend.
So they take a lock file beside the database first. Whoever has it may be frozen: stopped, in a
debugger, on a dead disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import suspension
from ..waiting import Waiting, wait_for

READ_SECONDS = 20.0
"""A reader waits only for a process that repairs the database after a crash."""


class Line:
    """One connection's place at the lock file."""

    def __init__(self, database: Path, waiting: Waiting) -> None:
        self._database = database
        self._waiting = waiting
        self._descriptor = os.open(f"{database}-line", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def close(self) -> None:
        os.close(self._descriptor)

    @contextlib.contextmanager
    def transaction(self, driver: Any, waiting: Waiting | None) -> Iterator[None]:
        """Within this, the connection has the database's write lock.

        Args:
            driver: the connection of `sqlite3`, outside a transaction.
            waiting: in place of the connection's own.

        Raises:
            Busy: another process has it for too long.
        """
        with contextlib.ExitStack() as stack:
            self._wait_for(lambda: self._take(stack), waiting)
            if not _begin(driver):
                # Others that do not stand in line have it, such as a person's sqlite3.
                self._wait_for(lambda: _begin(driver), waiting)
            yield

    def _wait_for(self, attempt: Callable[[], bool], waiting: Waiting | None) -> None:
        files = [Path(f"{self._database}{end}") for end in ("-line", "-shm", "")]
        wait_for(attempt, waiting or self._waiting, self._database, files)

    def _take(self, stack: contextlib.ExitStack) -> bool:
        """Take the lock file, to be given back by `stack`; False where another has it."""
        with contextlib.ExitStack() as own:
            own.enter_context(suspension.deferred())
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            own.callback(fcntl.flock, self._descriptor, fcntl.LOCK_UN)
            stack.enter_context(own.pop_all())
        return True


def _begin(driver: Any) -> bool:
    """Begin a transaction that holds the write lock from its start; False where another has it.

    One that reads first and writes later would fail with "database is locked" instead of
    waiting its turn.
    """
    driver.execute("PRAGMA busy_timeout=0")
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
    finally:
        driver.execute(f"PRAGMA busy_timeout={READ_SECONDS * 1000:.0f}")
    return True
