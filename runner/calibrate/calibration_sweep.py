"""The small sweep by which videos of one kind are measured: see `calibrate`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from ..backends.video_parameters import STEPS
from ..costs.kinds import Kind
from ..disk.logs import why_ended
from ..disk.manifest import read_manifest
from ..disk.run_folder import RunFolder
from ..disk.upstream import Upstream
from ..experiment.experiment import Experiment
from ..experiment.loading import load_experiment
from ..job import CATEGORY, METHOD, SEED
from ..machine import machine_file
from ..machine.gpus import find_gpus
from ..sweeps.launching import How, launch, wait
from ..sweeps.planned import plan_sweep
from ..sweeps.stopping import stop
from ..sweeps.telling import Say
from ..text.errors import UserError

NAME = "calibration"


@dataclass(frozen=True)
class MeasuringPlan:
    """What to measure.

    Attributes:
        gpu: the number of the GPU.
        steps: denoising steps of each video; None takes a few where the seconds of one step stand
            for all, and else what the experiment says.
        processes: how many to try, in this order; None goes on from 1 while it pays.
    """

    gpu: int
    steps: int | None = None
    processes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Shortfall:
    """Why there is no measurement of a number of processes; `is_memory` where they did not fit the
    GPU's memory together."""

    reason: str
    is_memory: bool = False


def write_experiment(
    experiment: Experiment,
    folder: Path,
    kind: Kind,
    measuring: MeasuringPlan,
    processes: int,
    videos: int,
) -> Path:
    """Write the experiment of a sweep that has videos of one kind only.

    Args:
        processes: the number of them on the GPU.
        videos: the number of videos of each group.
    """
    values: dict[str, Any] = yaml.safe_load(experiment.to_yaml(folder))
    values |= {"name": NAME, "results": str(folder / "results"), "overrides": []}
    values |= {"axes": {}, "include": [], "exclude": []}
    # A sweep of its method alone.
    method = experiment.method_of(kind.parameters)
    values |= {"backend": method.backend, "model": method.model.model_dump(mode="json")}
    own = {**kind.parameters, METHOD: None}
    if STEPS in own:
        own[STEPS] = measuring.steps
    values["generation"] = method.generation.from_parameters(own).model_dump(mode="json")
    values["methods"] = {}
    values["seeds"] = list(range(videos))
    values["placement"] |= {"gpus": [measuring.gpu], "processes_per_gpu": processes, "assign": {}}
    values["placement"]["balance"] = "steal"
    values["retries"] = {"failures": 0}
    for axis in experiment.input_axes.files:
        if (source := experiment.dataset.run_videos(axis)) is not None:
            # It is looked for beside the run that is made from it.
            (folder / "results").mkdir(exist_ok=True)
            there = experiment.run_folder.path.parent / source.run
            link = folder / "results" / source.run
            if not link.is_symlink():
                link.symlink_to(there.absolute())
    here = experiment.machine
    kept = {"checkpoints": [str(here.path(text)) for text in here.checkpoints]}
    (folder / machine_file.NAME).write_text(
        yaml.safe_dump({**kept, "data": str(experiment.data)}, allow_unicode=True), encoding="utf-8"
    )
    file = folder / f"{NAME}.yaml"
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return file


@contextmanager
def only_its_machine_file(folder: Path) -> Iterator[None]:
    """Have this process, and the workers that it starts, go by the machine file that
    `write_experiment` has written: what another one settles of GPUs and results is not for a
    calibration."""
    before = os.environ.get(machine_file.VARIABLE)
    os.environ[machine_file.VARIABLE] = str(folder / machine_file.NAME)
    try:
        yield
    finally:
        if before is None:
            del os.environ[machine_file.VARIABLE]
        else:
            os.environ[machine_file.VARIABLE] = before


def part_to_make(run: RunFolder, number: int) -> dict[str, list[str]] | Shortfall:
    """The part of the sweep to launch, as values by axis: this number of videos, each of another
    reference as far as a category has enough of them."""
    planned = read_manifest(run.manifest).jobs
    above = Upstream.of(run)
    made = above.made(one for job in planned for one in job.series.made.values())
    jobs = [job for job in planned if made.issuperset(job.series.made.values())]
    if not jobs:
        return Shortfall("the videos that they are made from are not made yet")
    axes = load_experiment(run.experiment).input_axes
    leading = axes.leading.name
    leads = dict.fromkeys((job.category, job.on(leading)) for job in jobs)
    category, _ = Counter(category for category, _ in leads).most_common(1)[0]
    own = [job for job in jobs if job.category == category]
    chosen = list(dict.fromkeys(job.on(leading) for job in own))[:number]
    ours = [job for job in own if job.on(leading) in chosen]
    others = [axis.name for axis in axes.inputs[1:] if axis.name in ours[0].series.point]
    seeds = sorted({job.seed for job in own})[: ceil(number / len(chosen))]
    return {
        CATEGORY: [category],
        leading: [str(lead) for lead in chosen],
        **{axis: [str(min(job.on(axis) for job in ours))] for axis in others},
        SEED: [str(seed) for seed in seeds],
    }


def make_videos(file: Path, run: RunFolder, number: int, say: Say) -> Shortfall | None:
    """Plan an experiment and make a number of its videos, until no worker is left.

    Interrupted, it ends the workers.

    Args:
        say: told that it ends them.

    Returns:
        Why no worker has begun; None where one has.
    """
    try:
        plan_sweep(file, [], skip_invalid=False, take_changes=True, gpus=find_gpus())
    except UserError as error:
        return Shortfall(str(error))
    part = part_to_make(run, number)
    if isinstance(part, Shortfall):
        return part
    reason = "no worker was started"
    try:
        launched = launch(run, only=part, how=How(on="local"))
        reason = next((one.reason for one in launched.missing), reason)
        wait(run)
    except UserError as error:
        reason = str(error)
        stop(run, now=True)
    except BaseException:
        # Workers outlive whoever waits for them, and would hold the GPU.
        say("ending the workers")
        stop(run, now=True)
        raise
    return None if list(run.logs.glob("*.log")) else Shortfall(reason)


def end_of_log(run: RunFolder) -> str:
    """Why a worker ended, or the last line that it logged."""
    log = min(run.logs.glob("*.log"))
    lines = log.read_text("utf-8", "replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return why_ended(log) or last
