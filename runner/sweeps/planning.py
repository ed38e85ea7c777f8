"""Expand an experiment into jobs, and say what the sweep will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..backends.settings import settings_record, settings_set
from ..costs.forecast import Experience, Forecast, forecast
from ..costs.kinds import Kind, kinds_of
from ..experiment.experiment import Experiment
from ..job import Job
from ..machine.gpus import Choice, Gpu, GpuWish, find_gpus, likely_gpus, processor_name
from ..plan.plan import Estimate, alike, estimate, flops_a_video, model_problems, peak_memory
from ..runs.drift import Now, Survey, survey
from ..runs.runs import live_slots, mending
from .opening import OpenRun
from .planned import Planned, plan_sweep


@dataclass(frozen=True)
class Plan:
    """A sweep as it is planned now.

    Attributes:
        planned: the jobs, and what this plan has changed.
        estimate: workers, disk and GPU memory.
        drift: which inputs of stale videos have changed.
        forecast: hours and GPU-hours of what is left to make.
        gpus_left_out: why GPUs of this machine take no part, a line for each.
    """

    planned: Planned
    estimate: Estimate
    drift: Survey
    forecast: Forecast
    gpus_left_out: tuple[str, ...]

    @property
    def run(self) -> OpenRun:
        return OpenRun(self.planned.run)

    @property
    def jobs(self) -> tuple[Job, ...]:
        return tuple(self.planned.manifest.jobs)

    def to_json(self) -> dict[str, Any]:
        planned = self.planned
        return {
            "sweep": planned.run.name,
            "run_folder": str(planned.run.path),
            **_of_methods(planned),
            "total": self.estimate.jobs,
            "changes": asdict(planned.changes),
            "made_stale": planned.made_stale,
            "awaiting": planned.awaiting,
            "reasons": list(planned.reasons),
            "linked": [
                {"job": one.job.id, "video": one.job.output, "source": one.source}
                for one in planned.linked
            ],
            "key_changes": list(planned.key_changes),
            "left_out": list(planned.left_out),
            "remarks": [remark.to_json() for remark in planned.remarks],
            "stale": self.drift.to_json(),
            **{key: value for key, value in asdict(self.estimate).items() if key != "jobs"},
            **self.forecast.to_json(time.time()),
            "gpus_left_out": list(self.gpus_left_out),
        }


def _of_methods(planned: Planned) -> dict[str, Any]:
    """What each method's model is, and its settings."""
    found = {
        method.name: {
            "model_is": planned.models[method.name].what,
            "settings": settings_record(settings_set(method.model)),
        }
        for method in planned.experiment.every_method
    }
    plain = found.pop(None, {"model_is": None, "settings": {}})
    return {**plain, "methods": found}


def plan(
    experiment: Path | str, overrides: Sequence[str] = (), *, skip_invalid: bool = False
) -> Plan:
    """Expand an experiment into jobs, bring its run folder in line, and say what it will take.

    Args:
        experiment: its file.
        overrides: `KEY=VALUE`, such as `generation.num_inference_steps=20`; the run keeps them
            until `KEY=` takes one back.
        skip_invalid: leave clips out that cannot be used.

    Raises:
        UserError: the experiment is wrong, or its run folder is another experiment's.
    """
    gpus = find_gpus()
    planned = mending(
        lambda: plan_sweep(
            Path(experiment), overrides, skip_invalid=skip_invalid, take_changes=True, gpus=gpus
        )
    )
    placement = planned.experiment.placement
    own = frozenset(slot.devices.gpu for slot in live_slots(planned.run))
    choice = likely_gpus(GpuWish(placement.gpus, f"{experiment}: placement.gpus", own=own), gpus)
    kinds = kinds_of(
        planned.experiment, planned.identities, planned.left_alike or alike(planned.manifest.jobs)
    )

    def flops(kind: Kind) -> float | None:
        if placement.device == "cpu":
            return None
        return flops_a_video(planned.experiment, kind.videos)

    is_for_gpus = any(map(flops, kinds))
    device = _device(planned.experiment, gpus, choice, is_for_gpus=is_for_gpus)
    experience = Experience(planned.experiment, kinds, device)
    expected = _estimate(planned, gpus, choice, experience)
    now = Now.of(planned.experiment) if planned.stale else Now(planned.identities)
    return Plan(
        planned,
        expected,
        survey(planned.run, planned.stale, now),
        forecast(planned.experiment, experience, expected, planned.left, flops),
        tuple(choice.left_out),
    )


def _device(
    experiment: Experiment, gpus: Sequence[Gpu], choice: Choice, *, is_for_gpus: bool
) -> str | None:
    """The name of the GPU or processor that will make the videos; None where it is not in this
    machine."""
    if gpus and experiment.placement.device != "cpu":
        # Numbers may be another machine's: the GPUs here are the best guess then.
        return next((gpu.name for gpu in gpus if gpu.number in choice.numbers), gpus[0].name)
    # A model too large for this machine waits for GPUs that are not here.
    return None if is_for_gpus else processor_name()


def _estimate(
    planned: Planned, gpus: Sequence[Gpu], choice: Choice, experience: Experience
) -> Estimate:
    experiment, jobs = planned.experiment, planned.manifest.jobs
    measured = experience.peak_memory(experiment.placement.processes_per_gpu)
    found = estimate(
        experiment,
        jobs,
        choice.numbers,
        measured or peak_memory(experiment, jobs),
        min((gpu.memory_gib for gpu in gpus if gpu.problem is None), default=None),
        experience.video_bytes(),
    )
    return replace(found, problems=(*found.problems, *model_problems(planned.models)))
