"""An attempt in hand: its claim, its stages, its last sign of life."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..backends.video_parameters import STEPS
from ..job import Job
from ..job.failures import FailureKind
from ..queue.claims import Claim


class LostClaim(BaseException):
    """The claim is no longer the worker's own: nothing of the job may be published."""


@dataclass
class Stages:
    """Seconds per stage of one job, in the order in which the stages were entered."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.monotonic() - start, 4)

    def __str__(self) -> str:
        return ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self.seconds.items())


@dataclass(frozen=True)
class Patience:
    """How many seconds an attempt may take: without a step, and in all (None sets no limit)."""

    step: float
    job: float | None = None


@dataclass(eq=False)
class Attempt:
    """An attempt of a job by this worker, from its claim to its end.

    Args:
        from_step: the number of steps that earlier attempts had done for it.
        kernels: the hash of the compiled kernels that its video is made with.
        lineage: by role, the sha256 of each video of another run that its video is made from.
        is_lost: whether the claim has become another worker's.
        waits: whether it waits for something outside, such as room on the disk, for which no time
            counts against it.
        steps: the number of steps of which the backend speaks.
    """

    claim: Claim
    stages: Stages = field(default_factory=Stages)
    from_step: int = 0
    kernels: str | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    is_lost: bool = False
    waits: bool = False
    begun: float = field(default_factory=time.monotonic)
    touched: float = field(default_factory=time.monotonic)
    steps: int = 0
    _step_times: list[float] = field(default_factory=list)

    @property
    def job(self) -> Job:
        return self.claim.job

    def touch(self) -> None:
        """Note a sign of life: a step, or a new stage."""
        self.touched = time.monotonic()

    def step(self, steps: int) -> None:
        """Note that a step was made; `steps` is the number of all."""
        self.touch()
        self.steps = steps
        self._step_times.append(self.touched)

    @property
    def seconds_per_step(self) -> float | None:
        """The mean from the first step to the last. None where there were fewer than two steps, or
        where the backend's steps are not those of `num_inference_steps`."""
        times = self._step_times
        is_other = self.steps != self.job.parameters.get(STEPS)
        return None if len(times) < 2 or is_other else (times[-1] - times[0]) / (len(times) - 1)

    @property
    def lasted(self) -> float:
        """Seconds since it was claimed, without those in which it waited."""
        return time.monotonic() - self.begun

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.touch()
        with self.stages.time(name):
            yield
        self.touch()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While this lasts, no time counts against the attempt."""
        self.waits = True
        start = time.monotonic()
        try:
            yield
        finally:
            self.begun += time.monotonic() - start
            self.touch()
            self.waits = False

    def overdue(self, patience: Patience) -> tuple[FailureKind, str] | None:
        """Why the attempt is given up; None while it is in time."""
        now = time.monotonic()
        if self.waits:
            return None
        if now - self.touched > patience.step:
            stage = next(reversed(self.stages.seconds), "claim")
            return FailureKind.STUCK, (
                f"no sign of life for {now - self.touched:.0f} s (limits.stuck_minutes), "
                f"after {stage}"
            )
        if patience.job is not None and self.lasted > patience.job:
            return FailureKind.TIMEOUT, (
                f"still at work after {self.lasted:.0f} s (limits.job_minutes)"
            )
        return None
