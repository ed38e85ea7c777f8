"""What a power cut, a bad disk or a slip has done to a run folder's own files.

A damaged file is never deleted: it is set aside beside its place, as `<name>.damaged-<time>`,
and what it held is taken from what is whole. The videos are the truth; the queue follows from
manifest and videos; the manifest from the experiment and, for what was once planned, the queue.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from ..disk.manifest import DamagedManifest, Manifest, read_manifest
from ..disk.run_folder import RunFolder, flush_folder
from ..job import JobState
from ..queue import Queue
from ..queue.soundness import find_damage, parts_of
from ..text.errors import UserError

log = logging.getLogger("sweep")


def set_aside(path: Path) -> Path:
    """Give a damaged file another name in its folder."""
    stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{time.time_ns() % 1_000_000_000:09d}"
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    path.rename(target)
    flush_folder(path.parent)
    return target


def mend_queue(run: RunFolder) -> None:
    """Set a queue aside in which damage is found, or that is of another version, so that it is
    made anew.

    Only while no worker lives, and with the plan's lock held: a queue that is just being made
    has no jobs either. A queue made anew does not know how often jobs were tried.
    """
    what = find_damage(run.queue)
    if what is not None:
        set_queue_aside(run, what)


def set_queue_aside(run: RunFolder, what: str) -> None:
    """Give a queue's files other names in their folder, and say so in a line.

    Args:
        what: the damage, as `DamagedQueue` has it.
    """
    # The log belongs to this very database: another one must not be given it.
    kept = [set_aside(part) for part in reversed(parts_of(run.queue))]
    if kept:
        told = what.replace("is ", "was ", 1)
        log.warning("%s %s; kept as %s and made anew", run.queue, told, kept[-1].name)


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
        try:
            rows = queue.rows()
        finally:
            queue.close()
    except UserError:
        return Manifest(())
    retired = [row.job for row in rows if row.state is JobState.RETIRED]
    return Manifest(
        tuple(row.job for row in rows if row.state is not JobState.RETIRED), tuple(retired)
    )
