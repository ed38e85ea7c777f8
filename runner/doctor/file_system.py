"""The file system under a run folder: what kind it is, whether its locks hold, its clock."""

from __future__ import annotations

import fcntl
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .finding import Finding, right, warning, wrong

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ncpfs", "virtiofs", "davfs"),
        *("lustre", "gpfs", "beegfs", "ceph", "glusterfs", "orangefs", "pvfs2", "wekafs", "panfs"),
        *("ocfs2", "gfs2", "juicefs", "sshfs", "s3fs", "gcsfuse", "rclone", "goofys", "cpfs"),
    }
)
"""Types on which SQLite's write-ahead log is not safe (https://sqlite.org/wal.html): other hosts
do not share the memory that its index lives in."""
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
MOVE = (
    "results=/a/local/folder; copy the run folder away when the sweep has ended (it goes on "
    "wherever it lies)"
)
CLOCK_APART_SECONDS = 5.0


@dataclass(frozen=True)
class Mount:
    """What is mounted where; `kind` is the file system's type, such as ext4 or fuse.sshfs."""

    point: Path
    kind: str

    @property
    def is_network(self) -> bool:
        return self.kind.removeprefix("fuse.") in NETWORK


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """The mount that a path lies on, or will once it is made.

    Args:
        path: absolute, with links followed.
        mountinfo: the content of /proc/self/mountinfo (proc_pid_mountinfo(5)).
    """
    best: Mount | None = None
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if "-" not in fields:
            continue
        point = Path(re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), fields[4]))
        kind = fields[fields.index("-", 6) + 1]
        # A later mount at the same place hides the earlier one.
        deeper = best is None or len(point.parts) >= len(best.point.parts)
        if path.is_relative_to(point) and deeper:
            best = Mount(point, kind)
    return best


def existing(path: Path) -> Path:
    """The nearest folder that is there."""
    path = path.absolute()
    return next(nearest for nearest in (path, *path.parents) if nearest.is_dir())


def check_file_system(folder: Path) -> Iterator[Finding]:
    """The file system on which a run folder lies or will lie."""
    nearest = existing(folder).resolve()
    try:
        # Mount points need not be UTF-8.
        mount = mount_of(nearest, os.fsdecode(MOUNTS.read_bytes()))
    except OSError:
        mount = None
    yield judge_mount(folder, mount)
    yield from try_locking(nearest)


def judge_mount(folder: Path, mount: Mount | None) -> Finding:
    if mount is None:
        return warning("file system", f"{folder}: its kind is not known", "is it a local disk?")
    found = f"{folder} lies on {mount.kind}, mounted at {mount.point}"
    if mount.is_network:
        return wrong("file system", f"{found}: a queue is not safe on a network file system", MOVE)
    if mount.kind in IN_MEMORY:
        return warning("file system", f"{found}: videos there are gone after a restart", MOVE)
    return right("file system", found)


def try_locking(folder: Path) -> Iterator[Finding]:
    """Whether a lock that one holds is refused to another there, and what time it is there."""
    probe = folder / f".sweep-doctor-{uuid.uuid4().hex[:12]}"
    try:
        first = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        remedy = "choose another folder with results=, or mend its owner and mode"
        yield wrong("writing", f"{folder}: cannot be written: {error.strerror}", remedy)
        return
    try:
        yield judge_lock(folder, first, probe)
        apart = abs(probe.stat().st_mtime - time.time())
        if apart > CLOCK_APART_SECONDS:
            found = f"the clock of the file server is {apart:.0f} s away from this machine's"
            yield warning("clock", found, "have both ask the same time server (NTP)")
    finally:
        os.close(first)
        probe.unlink(missing_ok=True)


def judge_lock(folder: Path, first: int, probe: Path) -> Finding:
    second = os.open(probe, os.O_RDWR)
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return right("locking", f"{folder}: a lock that one holds is refused to another")
        return wrong("locking", f"{folder}: two hold the same lock", MOVE)
    except OSError as error:
        return wrong("locking", f"{folder}: locks do not work: {error.strerror}", MOVE)
    finally:
        os.close(second)
