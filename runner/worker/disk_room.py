"""Whether there is room for another video: the file system, a quota, the experiment's own limit."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ..job.failures import is_disk_full

GIB = 1024**3
MIB = 1024**2
SPARE_BYTES = 2 * MIB
"""Kept free beside the videos, for sidecars, queue and logs."""
VIDEOS_AT_ONCE = 2
"""The unpublished videos of one worker: one being generated, and one being finished."""
MEASURE_SECONDS = 5.0
WORK_PER_MEASURING = 20
"""After a folder was measured, this many times as long goes by before the next measuring."""


class DiskRoom:
    """The room in a run folder. Asking before each job costs little.

    Args:
        folder: the run folder.
        video_bytes: the expected size of a video, until a larger one was made.
        limit_gib: what the folder may hold; None sets no limit.
    """

    def __init__(self, folder: Path, video_bytes: int, limit_gib: float | None) -> None:
        self._folder = folder
        self._video_bytes = video_bytes
        self._limit_gib = limit_gib
        self._held = 0
        self._held_after = 0
        self._measure_at = 0.0

    def saw_video(self, size: int) -> None:
        """Take note of the size of a video that was made."""
        self._video_bytes = max(self._video_bytes, size)

    def shortage(self, jobs_done: Callable[[], int]) -> str | None:
        """Why there is no room for a further video; None where there is room.

        Args:
            jobs_done: how many jobs all workers have done so far. The folder is measured only now
                and then, and what was published since is reckoned by this number.
        """
        need = VIDEOS_AT_ONCE * self._video_bytes + SPARE_BYTES
        free = shutil.disk_usage(self._folder).free
        if free < need:
            return (
                f"the disk of {self._folder} is full: {free / MIB:.1f} MiB are free, "
                f"{need / MIB:.1f} are needed"
            )
        if self._limit_gib is None:
            return None
        now, done = time.monotonic(), jobs_done()
        if now >= self._measure_at:
            self._held, self._held_after = folder_bytes(self._folder), done
            took = time.monotonic() - now
            self._measure_at = now + took + max(MEASURE_SECONDS, WORK_PER_MEASURING * took)
        published = (done - self._held_after) * self._video_bytes
        if self._held + published + self._video_bytes > self._limit_gib * GIB:
            if published:
                # Reckoned, not measured: look again before saying so.
                self._measure_at = 0.0
                return self.shortage(jobs_done)
            return (
                f"{self._folder.name} holds {self._held / GIB:.3g} GiB, and limits.max_disk_gb "
                f"is {self._limit_gib:g}"
            )
        return None

    def is_refused(self) -> bool:
        """Whether the file system refuses to hold another video now. A quota may show in no other
        way."""
        path = self._folder / "work" / f"room-{uuid.uuid4().hex[:12]}.tmp"
        try:
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                # Without a name, for its room must come free even if this process is killed.
                path.unlink()
                os.posix_fallocate(file.fileno(), 0, self._video_bytes + SPARE_BYTES)
        except OSError as error:
            if is_disk_full(error):
                return True
            raise
        return False


def folder_bytes(folder: Path) -> int:
    """The size of all files of a folder, in bytes; files that vanish meanwhile are left out."""
    total = 0
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        else:
                            total += entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue
        except FileNotFoundError:
            continue
    return total
