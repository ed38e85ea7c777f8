"""What a power cut, a bad disk or a slip has done to a run folder's own files.

A damaged file is never deleted: it is set aside beside its place, as `<name>.damaged-<time>`,
and what it held is taken from what is whole. The videos are the truth; the queue follows from
manifest and videos; the manifest from the experiment and, for what was once planned, the queue.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from .errors import UserError
from .job import JobState
from .manifest import DamagedManifest, Manifest, read_manifest
from .queue import Queue
from .run_folder import RunFolder, flush_folder

log = logging.getLogger("sweep")

QUEUE_PARTS = ("", "-wal", "-shm")
"""SQLite's files beside the database."""


def set_aside(path: Path) -> Path:
    """Give a damaged file another name in its folder."""
    stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{time.time_ns() % 1_000_000_000:09d}"
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    path.rename(target)
    flush_folder(path.parent)
    return target


def drop_damaged_queue(run: RunFolder) -> None:
    """Set a queue aside in which SQLite finds damage, so that it is made anew.

    Only while no worker lives, and with the plan's lock held: a queue that is just being made
    has no jobs either. A queue made anew does not know how often jobs were tried.
    """
    problem = find_queue_damage(run.queue)
    if problem is None:
        return
    # The log belongs to this very database: another one must not be given it.
    for part in reversed(QUEUE_PARTS):
        path = run.queue.with_name(run.queue.name + part)
        if path.exists():
            aside = set_aside(path)
    log.warning("%s: was damaged (%s); kept as %s and made anew", run.queue, problem, aside.name)


def may_be_damaged(path: Path) -> bool:
    """Whether a queue is to be looked at: it cannot be read, or was not closed."""
    return log_of(path).exists() or find_queue_damage(path) is not None


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log, which its last user takes away on closing the database."""
    return path.with_name(f"{path.name}-wal")


def find_queue_damage(path: Path) -> str | None:
    """What is wrong with a queue's database, in one line, or None.

    All of it is read only where its last user did not come to close it, as its log tells: that
    takes about as long as planning the sweep.
    """
    unclosed = log_of(path).exists()
    try:
        # A plain connection would make the file where it is not there.
        name = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(name, uri=True, timeout=60)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not {"jobs", "meta"} <= {name for (name,) in tables}:
                return "it has no jobs"
            if unclosed:
                (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                return None if found == "ok" else str(found).splitlines()[-1]
    except sqlite3.OperationalError:
        # Busy, no room, not ours to write: that is no damage.
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None


def read_former(run: RunFolder) -> Manifest:
    """What was planned so far; where the manifest is damaged or lost, as the queue knows it."""
    if run.manifest.exists():
        try:
            return read_manifest(run.manifest)
        except DamagedManifest as error:
            aside = set_aside(run.manifest)
            log.warning("%s; kept as %s and planned anew", error.what, aside.name)
    try:
        queue = Queue(run.queue)
    except UserError:
        return Manifest(())
    try:
        rows = queue.rows()
    finally:
        queue.close()
    retired = [row.job for row in rows if row.state is JobState.RETIRED]
    return Manifest(
        tuple(row.job for row in rows if row.state is not JobState.RETIRED), tuple(retired)
    )
