"""What can go wrong with a job, and the answer to each: exception -> kind of failure -> what to do.

The one place in which kinds are told apart. Errors of torch and CUDA are known by their names
and texts, so that nothing here imports torch and a foreign interpreter's errors are understood
as well.
"""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from ..text.errors import UserError
from ..text.forms import checked, is_amount, is_count, or_none

_POLICY = {
    "failures": is_count,
    "deaths": is_count,
    "backoff_seconds": is_amount,
    "gpu_errors": is_count,
    "max_failures": or_none(is_amount),
}


class FailureKind(str, Enum):
    BAD_INPUT = "bad_input"
    """The job's own prompt, clip or parameters: another attempt would fail as well."""
    OUT_OF_GPU_MEMORY = "out_of_gpu_memory"
    OUT_OF_HOST_MEMORY = "out_of_host_memory"
    """The kernel killed the worker for its memory."""
    GPU_ERROR = "gpu_error"
    """A CUDA error, or a GPU that is gone: the process cannot use its GPU any more."""
    STUCK = "stuck"
    """No step for `limits.stuck_minutes`."""
    TIMEOUT = "timeout"
    """Longer than `limits.job_minutes`."""
    DISK_FULL = "disk_full"
    """No space, quota, or the experiment's own `limits.max_disk_gb`."""
    BACKEND_BUG = "backend_bug"
    """Any other exception, or a video that is not as it must be."""
    WORKER_DIED = "worker_died"


class Counted(str, Enum):
    """Which of a job's counters an attempt uses up."""

    FAILURE = "failure"
    DEATH = "death"
    NOT = "not"


@dataclass(frozen=True)
class Answer:
    """What a kind of failure leads to.

    `is_final`: the job is not tried again. `restarts`: the worker ends, and its slot starts
    another. `backs_off`: the job waits before it may be claimed again. `keeps_work`: the next
    attempt may go on from what this one leaves; where not, that may itself be what is wrong.
    """

    counted: Counted
    is_final: bool = False
    restarts: bool = False
    backs_off: bool = False
    keeps_work: bool = False


ANSWERS = {
    FailureKind.BAD_INPUT: Answer(Counted.FAILURE, is_final=True),
    # The job goes back once; then its GPU has fewer processes, and only a job that does not
    # fit by itself fails: see `queue.failing`.
    FailureKind.OUT_OF_GPU_MEMORY: Answer(Counted.FAILURE, restarts=True, keeps_work=True),
    FailureKind.OUT_OF_HOST_MEMORY: Answer(Counted.DEATH, keeps_work=True),
    # The GPU is to blame as likely as the job: the larger limit.
    FailureKind.GPU_ERROR: Answer(Counted.DEATH, restarts=True, backs_off=True),
    FailureKind.STUCK: Answer(Counted.FAILURE, restarts=True, backs_off=True, keeps_work=True),
    FailureKind.TIMEOUT: Answer(Counted.FAILURE, restarts=True, backs_off=True, keeps_work=True),
    # What the job itself has left may be what fills the disk.
    FailureKind.DISK_FULL: Answer(Counted.NOT),
    FailureKind.BACKEND_BUG: Answer(Counted.FAILURE, backs_off=True),
    FailureKind.WORKER_DIED: Answer(Counted.DEATH, keeps_work=True),
}


@dataclass(frozen=True)
class Policy:
    """The limits of an experiment that decide what a failure leads to.

    Attributes:
        failures: further attempts of a job that has failed.
        deaths: workers that may die on one job.
        backoff_seconds: before the next attempt; doubled with every further one.
        gpu_errors: after this number of errors in a row, with no job done between them, the GPU is
            set aside.
        max_failures: the number of failed jobs that stops the sweep; below 1, the share of all
            jobs. None stops it only where all attempts fail.
    """

    failures: int = 1
    deaths: int = 10
    backoff_seconds: float = 10.0
    gpu_errors: int = 3
    max_failures: float | None = None

    def backoff(self, attempts: int) -> float:
        """Seconds to wait after this number of attempts."""
        return min(self.backoff_seconds * 2.0 ** min(attempts - 1, 20), MOST_BACKOFF_SECONDS)

    def failed_jobs_allowed(self, total: Callable[[], int]) -> int | None:
        """How many failed jobs stop the sweep; asks for the number of all only for a share."""
        if self.max_failures is None:
            return None
        if self.max_failures < 1:
            return max(1, math.ceil(self.max_failures * total()))
        return int(self.max_failures)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, text: str | None) -> Policy:
        """The policy of a text of such JSON, or the usual one.

        Raises:
            ValueError: it is no such text.
        """
        return cls() if text is None else cls(**checked(json.loads(text), _POLICY))


def failures_allowed(value: float | str | None) -> float | None:
    """A number of jobs (20), or below 1 a share of all (5% or 0.05); None is no limit.

    Raises:
        ValueError: the text is neither a number nor a share.
    """
    if value is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", str(value))
    number = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not match or not (0 < number < 1 or (not match[2] and number.is_integer() and number >= 1)):
        raise ValueError("must be a number of jobs such as 20, or a share such as 5%")
    return number


MOST_BACKOFF_SECONDS = 600.0

FAILURES_WITHOUT_SUCCESS = 10
"""Failed attempts after which a sweep without a success stops: most likely the checkpoint is
wrong."""


class BadInput(Exception):
    """A job's own input cannot be used."""


class OutOfGpuMemory(Exception):
    """For backends without torch."""


class GpuError(Exception):
    """For backends without torch."""


class ChildDied(Exception):
    """A process in which a backend works has died."""


class ForeignError(Exception):
    """An exception of another interpreter.

    Args:
        names: of its class and of those it inherits from, in their order.
        errno: of an OSError.
    """

    def __init__(self, names: Sequence[str], text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.names = tuple(names)
        self.errno = errno


_FULL = (errno.ENOSPC, errno.EDQUOT)
_GPU_MEMORY = re.compile(r"CUDA out of memory|CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation")
_GPU = re.compile(
    r"CUDA error|CUDA driver error|cudaError|CUBLAS_STATUS|CUDNN_STATUS|device-side assert"
    r"|NCCL error|GPU is lost|fallen off the bus|uncorrectable ECC"
)


def kind_of(error: BaseException) -> FailureKind:
    """The kind of failure that an exception stands for."""
    names = set(names_of(error))
    if isinstance(error, UserError) or "BadInput" in names:
        return FailureKind.BAD_INPUT
    if is_disk_full(error):
        return FailureKind.DISK_FULL
    text = str(error)
    if isinstance(error, ChildDied) or was_killed(error):
        return FailureKind.WORKER_DIED
    # MemoryError is Python's own: the host's, in a worker that still lives.
    if "MemoryError" in names or "DefaultCPUAllocator: can't allocate" in text:
        return FailureKind.OUT_OF_HOST_MEMORY
    if names & {"OutOfGpuMemory", "OutOfMemoryError"} or _GPU_MEMORY.search(text):
        return FailureKind.OUT_OF_GPU_MEMORY
    if names & {"GpuError", "AcceleratorError"} or _GPU.search(text):
        return FailureKind.GPU_ERROR
    return FailureKind.BACKEND_BUG


_KILLED = re.compile(r"died with <Signals\.|DataLoader worker .* is killed by signal")


def was_killed(error: BaseException) -> bool:
    """Whether an error says that a helper process, such as ffmpeg, was killed by a signal:
    Python's `subprocess.CalledProcessError`, or torch's DataLoader."""
    return _KILLED.search(str(error)) is not None


def keeps_work(error: BaseException | None) -> bool:
    """Whether the next attempt may go on from what one that ended so has left."""
    return error is not None and ANSWERS[kind_of(error)].keeps_work


def names_of(error: BaseException) -> tuple[str, ...]:
    """The names of an exception's class and of those that it inherits from."""
    if isinstance(error, ForeignError):
        return error.names
    return tuple(cls.__name__ for cls in type(error).__mro__)


def told(error: BaseException) -> str:
    """An exception in a record: its class and what it says."""
    return f"{names_of(error)[0]}: {error}".strip()


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that the disk or a quota is full."""
    while error is not None:
        if isinstance(error, (OSError, ForeignError)) and error.errno in _FULL:
            return True
        if "database or disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


_UNTOLD = ("disk I/O error", "unable to open database file")


def may_be_disk_full(error: BaseException | None) -> bool:
    """Whether an error is SQLite's and leaves open that the disk is full: of a quota (EDQUOT) it
    says no more than of a broken disk. A trial tells them apart."""
    while error is not None:
        if any(text in str(error) for text in _UNTOLD):
            return True
        error = error.__cause__ or error.__context__
    return False
