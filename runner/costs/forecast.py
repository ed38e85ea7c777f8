"""What the rest of a sweep will cost on this machine, by the best source that there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..backends import PeakMemory
from ..experiment.experiment import Experiment
from ..plan.plan import Estimate
from .calibration import Calibration, Mix, Share, find, folder_of
from .costs import (
    Cost,
    Measured,
    Pace,
    Portion,
    Work,
    advice,
    cost,
    pace_of_all,
    pace_of_arithmetic,
    pace_of_calibration,
    pace_of_jobs,
)
from .kinds import Kind
from .past_jobs import former_sweeps, measured

ENOUGH_VIDEOS = 3
"""From this number on, videos of this sweep tell more than a calibration."""

Flops = Callable[[Kind], "float | None"]
"""Tells the floating-point operations of a video of a kind; None where they are not known, or where
no GPU makes it."""


@dataclass(frozen=True)
class Forecast:
    """`cost` is None where its kinds of videos are not all known; `unknown` names those that are
    not (see `Kind.name`). `advice` are lines on what would be better."""

    cost: Cost | None
    advice: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def to_json(self, now: float) -> dict[str, Any]:
        return {
            "cost": None if self.cost is None else self.cost.to_json(now),
            "advice": list(self.advice),
        }


class Tale:
    """What is known of the cost of one kind of videos.

    Args:
        device: as in `Experience`.
    """

    def __init__(self, experiment: Experiment, kind: Kind, device: str | None) -> None:
        self.kind = kind
        self._experiment = experiment
        self._device = device
        self._alike = experiment.method_of(kind.parameters).steps_are_alike
        self.own = self._fitting(measured(experiment, kind.subject))
        found = find(folder_of(experiment), kind.subject)
        if not self._alike:
            found.sort(key=lambda one: one.steps != kind.steps)
        self.calibration: Calibration | None = next(
            (one for one in found if self._fits(one.gpu, one.steps) and one.tells(kind.steps)),
            None,
        )

    def _fitting(self, jobs: Sequence[Measured]) -> list[Measured]:
        return [job for job in jobs if self._fits(job.gpu, job.steps)]

    def _fits(self, device: str, steps: int) -> bool:
        """Whether videos with this number of steps on that device tell of this kind's cost."""
        same = self._device in (None, device)
        return same and (self._alike is not False or steps == self.kind.steps)

    def pace(self, work: Work, flops: float | None) -> Pace | None:
        """The pace by the best source; None where no source tells it."""
        if len(self.own) >= ENOUGH_VIDEOS and (pace := pace_of_jobs(self.own, work, "this sweep")):
            return pace
        if self.calibration is not None:
            return pace_of_calibration(self.calibration, work)
        for name, jobs in former_sweeps(self._experiment.run_folder, self.kind.subject):
            if pace := pace_of_jobs(self._fitting(jobs), work, f"the sweep {name}"):
                return pace
        if self.own and (pace := pace_of_jobs(self.own, work, "this sweep")):
            return pace
        return None if flops is None else pace_of_arithmetic(flops, self._device)


class Experience:
    """What is known of the cost of an experiment's videos: calibrations and former videos.

    Args:
        kinds: of the videos that are still to be made; of all where none is left.
        device: the name of the GPU, or processor, that will make them. None where it is not in this
            machine: then numbers of any GPU are better than none.
    """

    def __init__(self, experiment: Experiment, kinds: Sequence[Kind], device: str | None) -> None:
        self.tales = [Tale(experiment, kind, device) for kind in kinds]

    def peak_memory(self, processes: int) -> PeakMemory | None:
        """The most GPU memory of one process, as calibrated with this number of processes; None
        where a kind was not calibrated, or without a GPU."""
        found: list[PeakMemory] = []
        for tale in self.tales:
            if tale.calibration is None:
                return None
            row = tale.calibration.row(processes) or tale.calibration.rows[0]
            if row.peak_gib is None:
                return None
            source = f"calibrated on {tale.calibration.gpu}"
            found.append(PeakMemory(round(row.peak_gib, 1), source))
        return max(found, key=lambda peak: peak.gib, default=None)

    def video_bytes(self) -> int | None:
        """Mean size of this sweep's last videos, once there are some."""
        sizes = [job.video_bytes for tale in self.tales for job in tale.own]
        return sum(sizes) // len(sizes) if len(sizes) >= ENOUGH_VIDEOS else None

    def mix(self, jobs_per_group: float) -> Mix | None:
        """The calibrations of all kinds; None where a kind has none."""
        shares = [
            Share(tale.calibration, tale.kind.steps, jobs_per_group, tale.kind.number)
            for tale in self.tales
            if tale.calibration is not None
        ]
        return Mix(tuple(shares)) if shares and len(shares) == len(self.tales) else None


def forecast(
    experiment: Experiment,
    experience: Experience,
    estimate: Estimate,
    left: Mapping[str, int],
    flops: Flops,
) -> Forecast:
    """What making the jobs that are left will cost.

    Args:
        left: jobs that are to be made, per category.
    """
    work = Work(
        left=left,
        steps=estimate.steps,
        jobs_per_group=estimate.jobs / max(estimate.groups, 1),
        home=estimate.categories_per_gpu,
        processes=experiment.placement.processes_per_gpu,
        static=experiment.placement.balance == "static",
    )
    portions: list[Portion] = []
    unknown: list[str] = []
    for tale in experience.tales:
        kind = tale.kind
        pace = tale.pace(replace(work, steps=kind.steps), flops(kind))
        if pace is None:
            unknown.append(kind.name)
        else:
            portions.append(Portion(kind.name, kind.number, pace))
    if unknown or not portions:
        return Forecast(None, unknown=tuple(unknown))
    pace = pace_of_all(portions)
    mix = experience.mix(work.jobs_per_group)
    shown = portions if work.videos else ()
    return Forecast(cost(work, pace, shown), tuple(advice(work, pace, mix)))
