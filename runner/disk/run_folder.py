"""The run folder: the path of everything in it, and the one way to write a file atomically."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..job import PlannedVideo
from ..job.slot_names import Slot
from ..machine.waiting import PATIENT, Waiting, repeat, wait_for
from ..text.errors import UserError
from ..text.input_file import open_input

DATABASE_PARTS = ("", "-wal", "-shm")
"""What SQLite puts behind a database's name for its files."""

QUEUE_PARTS = (*DATABASE_PARTS, "-line")
"""The same, and the lock file of those who write to the queue."""

RESERVED = frozenset(
    {
        *("experiment.yaml", "manifest.jsonl", "attempts.jsonl"),
        *(f"sweep.db{part}" for part in QUEUE_PARTS),
        *("logs", "work", "cache", "superseded", "report"),
    }
)
"""Names in the run folder itself, which no category can have."""

FOLDERS = (
    *("work", "work/locks", "logs", "cache", "superseded", "attempts"),
    *("report", "report/posters", "report/previews", "report/references", "report/sheets"),
)
"""Folders in the run folder that are no category's."""

RESERVED_LATER = frozenset({"run.id", "attempts", "scores", "marks.jsonl", "judge"})
"""Such names too; a run that has such a category already keeps it."""


@dataclass(frozen=True)
class RunFolder:
    """All that belongs to one sweep, under `results/<name>/`."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def id(self) -> Path:
        return self.path / "run.id"

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.jsonl"

    @property
    def queue(self) -> Path:
        return self.path / "sweep.db"

    @property
    def attempts(self) -> Path:
        return self.path / "attempts.jsonl"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def locks(self) -> Path:
        return self.path / "work" / "locks"

    @property
    def plan_lock(self) -> Path:
        return self.locks / "plan.lock"

    @property
    def launch_lock(self) -> Path:
        return self.locks / "launch.lock"

    @property
    def at_end(self) -> Path:
        """What is to be run when the sweep has ended, while that is still to come."""
        return self.path / "work" / "at_end.json"

    def holds(self, path: Path) -> bool:
        """Whether a path is in the run folder once all links are followed."""
        try:
            return path.resolve().is_relative_to(self.path.resolve())
        except (OSError, RuntimeError):
            # Links in a circle.
            return False

    def own(self, path: Path) -> Path:
        """A path in the run folder, before something is written, moved or deleted there.

        Raises:
            UserError: links lead out of the run folder.
        """
        if not self.holds(path):
            raise UserError(
                f"{path}: links lead out of the run folder {self.path}; put a folder in their place"
            )
        return path

    def make(self, folder: Path) -> None:
        """Make a folder of the run folder, and those above it in there.

        Raises:
            UserError: links lead out of the run folder.
            FileNotFoundError: the run folder itself is gone.
        """
        below = self.own(folder).relative_to(self.path)
        for depth in range(1, len(below.parts) + 1):
            (self.path / Path(*below.parts[:depth])).mkdir(exist_ok=True)

    def refuse_links(self) -> None:
        """Raise UserError where links lead a folder out of the run folder in which something is
        written without a look at the way there."""
        for name in FOLDERS:
            if (path := self.path / name).is_symlink():
                self.own(path)

    def drop(self, folder: Path) -> None:
        """Delete a folder of the run folder as far as that can be done; one to which links lead
        out of it stays."""
        with contextlib.suppress(UserError):
            shutil.rmtree(self.own(folder), ignore_errors=True)

    def log(self, slot: Slot) -> Path:
        return self.logs / slot.log

    def lock(self, slot: Slot) -> Path:
        return self.locks / slot.lock

    def scratch(self, job: PlannedVideo) -> Path:
        return self.path / "work" / job.id

    def video(self, job: PlannedVideo) -> Path:
        return self.path / job.output

    def sidecar(self, job: PlannedVideo) -> Path:
        return self.video(job).with_suffix(".json")

    def superseded(self, job: PlannedVideo, stamp: str) -> Path:
        """Where a job's former video goes when it is remade; `stamp` keeps the makes apart."""
        former = Path(job.output)
        return self.path / "superseded" / former.parent / f"{former.stem}.{stamp}{former.suffix}"

    def temporary(self, job: PlannedVideo) -> Path:
        """A new unique name beside the job's video, for the file in the making.

        Raises:
            UserError: links lead out of the run folder.
        """
        video = self.video(job)
        self.own(video.parent)
        return video.with_name(f".{video.stem}.{uuid.uuid4().hex[:12]}.tmp{video.suffix}")

    def temporaries(self, job: PlannedVideo) -> list[Path]:
        """What earlier attempts of a job left beside its video, of video and sidecar."""
        video = self.video(job)
        if not video.parent.is_dir():
            return []
        # To the letter: another job's name may begin with this one's.
        own = re.compile(
            rf"\.{re.escape(video.stem)}\.(json\.)?[0-9a-f]{{12}}\.tmp({video.suffix})?"
        )
        return [path for path in video.parent.iterdir() if own.fullmatch(path.name)]


def open_own(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """A descriptor of a file of the run folder, made where it is not there.

    Raises:
        UserError: a link is in its place, which might lead anywhere, or no regular file.
        OSError: it cannot be opened.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        # ENXIO: a pipe that nobody reads, or a socket.
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    raise UserError(f"{path}: is no regular file of its own; move it away, and it is made anew")


def queue_files(queue: Path, parts: Iterable[str] = QUEUE_PARTS) -> list[Path]:
    """The files of a queue, whether they are there or not."""
    return [queue.with_name(queue.name + part) for part in parts]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, such that they survive a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush_folder(folder.parent)


def flush_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


HALF_WRITTEN = ".*.tmp"
"""A pattern of the names of what `write_atomically` has not put in its place yet."""


def write_atomically(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file as a whole: a reader sees the old content or the new, never a part.

    Args:
        content: all of it, or its parts one after the other.
    """
    with replacing(path, content) as commit:
        commit()


@contextlib.contextmanager
def replacing(path: Path, content: bytes | Iterable[bytes]) -> Iterator[Callable[[], None]]:
    """`write_atomically` in two steps: the content is on disk once this is entered, and in its
    place once what it yields was called; without that call nothing is changed."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")

    def commit() -> None:
        temporary.replace(path)
        flush_folder(path.parent)

    try:
        with temporary.open("wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        yield commit
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """Append one line with a single write, so that lines of several processes never mix.

    What a power cut or a full disk left of a line before it is ended first.

    Raises:
        OSError: the disk is full; a part of the line may be there, to be ended by the next.
    """
    descriptor = open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        size = os.fstat(descriptor).st_size
        begun = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        whole = b"\n" * begun + line.rstrip(b"\n") + b"\n"
        if os.write(descriptor, whole) < len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def sha256_file(path: Path, most: int | None = None) -> str:
    """Hex sha256 of a file's content; of at most so many bytes, or `open_input` refuses it."""
    digest = hashlib.sha256()
    with open_input(path, most) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_locked(path: Path) -> bool:
    """Whether a living process holds that lock file (the kernel frees it when the last dies).

    Asking takes a shared lock for a moment: those who ask do not see one another.
    """
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except (FileNotFoundError, UserError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def locked(path: Path, waiting: Waiting = PATIENT) -> Iterator[None]:
    """Hold a lock file.

    Raises:
        Busy: another process holds it for too long.
    """
    descriptor = open_lock(path)
    try:
        wait_for(partial(repeat, partial(try_lock, descriptor)), waiting, path, [path])
        yield
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """A descriptor of a lock file. Its folder and the one above are made, but not those above
    these: a run folder that was moved away does not come to be again."""
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(exist_ok=True)
    return open_own(path)


def try_lock(descriptor: int) -> bool:
    """Take a lock file, if nobody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
