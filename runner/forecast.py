"""What the rest of a sweep will cost on this machine, by the best source that there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .backends import PeakMemory
from .calibration import Calibration, Subject, find, folder_of
from .costs import (
    Cost,
    Measured,
    Pace,
    Work,
    advice,
    cost,
    pace_of_arithmetic,
    pace_of_calibration,
    pace_of_jobs,
)
from .experiment import Experiment
from .fingerprint import Recipe
from .past_jobs import former_sweeps, measured
from .plan import Estimate

ENOUGH = 3
"""So many videos of this sweep tell more than a calibration does."""


@dataclass(frozen=True)
class Forecast:
    """`cost` is None where nothing tells it; `advice` are lines on what would be better."""

    cost: Cost | None
    advice: tuple[str, ...] = ()

    def to_json(self, now: float) -> dict[str, Any]:
        return {
            "cost": None if self.cost is None else self.cost.to_json(now),
            "advice": list(self.advice),
        }


class Experience:
    """What is known of the cost of an experiment's videos: calibrations and former videos.

    Args:
        device: the name of the GPU, or processor, that will make them; None where it is not here,
            and any GPU's numbers are better than none.
    """

    def __init__(self, experiment: Experiment, recipe: Recipe, device: str | None) -> None:
        self._experiment = experiment
        self._subject = Subject.of(experiment, recipe)
        self._device = device
        self._own = [job for job in measured(experiment, self._subject) if self._fits(job.gpu)]
        found = find(folder_of(experiment), self._subject)
        self.calibration: Calibration | None = next(
            (one for one in found if self._fits(one.gpu)), None
        )

    def _fits(self, device: str) -> bool:
        return self._device in (None, device)

    def peak_memory(self, processes: int) -> PeakMemory | None:
        """Of one of so many processes on a GPU, where it was calibrated."""
        if self.calibration is None:
            return None
        row = self.calibration.row(processes) or self.calibration.rows[0]
        if row.peak_gib is None:
            return None
        return PeakMemory(round(row.peak_gib, 1), f"calibrated on {self.calibration.gpu}")

    def video_bytes(self) -> int | None:
        """Mean size of this sweep's last videos, once there are some."""
        sizes = [job.video_bytes for job in self._own]
        return sum(sizes) // len(sizes) if len(sizes) >= ENOUGH else None

    def pace(self, work: Work, flops: float | None) -> Pace | None:
        """By the best source; None where nothing tells."""
        if len(self._own) >= ENOUGH and (pace := pace_of_jobs(self._own, work, "this sweep")):
            return pace
        if self.calibration is not None:
            return pace_of_calibration(self.calibration, work)
        for name, jobs in former_sweeps(self._experiment.run_folder, self._subject):
            fitting: list[Measured] = [job for job in jobs if self._fits(job.gpu)]
            if pace := pace_of_jobs(fitting, work, f"the sweep {name}"):
                return pace
        if self._own and (pace := pace_of_jobs(self._own, work, "this sweep")):
            return pace
        return None if flops is None else pace_of_arithmetic(flops, self._device)


def forecast(
    experiment: Experiment,
    experience: Experience,
    estimate: Estimate,
    left: Mapping[str, int],
    flops: float | None,
) -> Forecast:
    """What making the jobs that are left will cost.

    Args:
        left: jobs that are to be made, per category.
        flops: floating-point operations of a video, where no GPU time was measured.
    """
    work = Work(
        left=left,
        steps=estimate.steps,
        jobs_per_group=estimate.jobs / max(estimate.groups, 1),
        home=estimate.categories_per_gpu,
        processes=experiment.placement.processes_per_gpu,
        static=experiment.placement.balance == "static",
    )
    pace = experience.pace(work, flops)
    if pace is None:
        return Forecast(None)
    return Forecast(cost(work, pace), tuple(advice(work, pace, experience.calibration)))
