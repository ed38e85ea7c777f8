"""A run that is not ours to write: another user's, on a read-only mount, in an archive.

It is asked by a copy of its queue in a temporary folder, on which all that one does to answer,
such as looking at the disk, may be done. Nothing is written beside the original, not even the
files that SQLite would make there, and workers that use it notice nothing.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ..disk.run_folder import RunFolder, queue_files
from ..queue import Queue
from ..text.errors import UserError

MOST_COPIES = 5
"""A queue that changed while it was copied is copied again."""

DATA_PARTS = ("", "-wal")
"""SQLite's files that hold data; the third, `-shm`, it makes anew from them."""


def is_ours_to_write(run: RunFolder) -> bool:
    """Whether this process may write all that a question to a run's queue may write."""
    return all(os.access(path, os.W_OK) for path in _written(run))


def _written(run: RunFolder) -> Iterator[Path]:
    yield run.path
    for path in (run.locks, run.plan_lock, run.attempts, *queue_files(run.queue)):
        if path.exists():
            yield path


class BorrowedQueue(Queue):
    """A queue of its own in a temporary folder, which goes with it."""

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self._drop = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        super().__init__(folder / "sweep.db", create=create)

    def close(self) -> None:
        super().close()
        self._drop()


def copy_of_queue(run: RunFolder) -> BorrowedQueue | None:
    """A copy of the queue of a run as it is now; None where the queue is missing, damaged, of
    another version, or not ours to read.

    Raises:
        OSError: there is no room for the copy.
    """
    if not os.access(run.queue, os.R_OK):
        return None
    folder = Path(tempfile.mkdtemp(prefix="sweep-queue-"))
    try:
        if _copy_by_sqlite(run.queue, folder) or _copy_by_bytes(run.queue, folder):
            return BorrowedQueue(folder)
    except UserError:
        # What was wrong with it says itself with the path of the copy.
        pass
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return None


def queue_to_ask(run: RunFolder) -> Queue | None:
    """The queue as it stands, where it is ours to write itself, else as `copy_of_queue`.

    Raises:
        UserError: it is damaged, or of another version.
    """
    return Queue(run.queue) if is_ours_to_write(run) else copy_of_queue(run)


def new_queue() -> BorrowedQueue:
    """An empty queue, to be filled from the manifest and the files."""
    return BorrowedQueue(Path(tempfile.mkdtemp(prefix="sweep-queue-")), create=True)


def _copy_by_sqlite(queue: Path, folder: Path) -> bool:
    """Copy one state of a database, also of one that is being written.

    Where its `-shm` is there, SQLite can read beside others without making files; where it is not,
    nobody has the database open, and SQLite refuses.
    """
    name = f"{queue.absolute().as_uri()}?mode=ro&readonly_shm=1"
    target = folder / queue.name
    try:
        with (
            closing(sqlite3.connect(name, uri=True, timeout=10)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            copy.execute("PRAGMA synchronous=OFF")
            source.backup(copy)
    except sqlite3.Error:
        target.unlink(missing_ok=True)
        return False
    return True


def _copy_by_bytes(queue: Path, folder: Path) -> bool:
    """Copy the files of a database that nobody writes; False where they change meanwhile, or are
    damaged."""
    parts = queue_files(queue, DATA_PARTS)
    for _ in range(MOST_COPIES):
        before = [_stamp(part) for part in parts]
        for part in parts:
            (folder / part.name).unlink(missing_ok=True)
            if part.exists():
                shutil.copyfile(part, folder / part.name)
        if [_stamp(part) for part in parts] == before:
            return _is_whole(folder / queue.name)
    return False


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _is_whole(copy: Path) -> bool:
    try:
        with closing(sqlite3.connect(copy)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error:
        return False
    return bool(found == "ok")
