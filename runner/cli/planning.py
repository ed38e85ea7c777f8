"""`sweep plan`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..terminal import print_json, say
from .options import here_option, json_option, settle_here, skip_option

if TYPE_CHECKING:
    from ..kinds import Kind


@click.command(short_help="Expand an experiment, and say what it will take.")
@click.argument("experiment", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@skip_option
@here_option
@json_option
def plan(
    experiment: Path,
    overrides: tuple[str, ...],
    skip_invalid: bool,
    here: tuple[str, ...],
    as_json: bool,
) -> None:
    """Expand an experiment into jobs, and say what the sweep will take.

    \b
    sweep plan experiments/quickstart.yaml
    sweep plan experiments/quickstart.yaml seeds=[1,2,3] generation.num_inference_steps=20
    """
    from ..drift import Now, survey
    from ..forecast import Experience, forecast
    from ..gpus import Wish, find_gpus, likely_gpus, processor_name
    from ..kinds import kinds_of
    from ..plan import alike, estimate, flops_a_video, model_problems, peak_memory
    from ..plan_view import plan_json, print_plan
    from ..runs import live_slots, mending
    from ..sweep import plan_sweep

    settle_here(str(experiment), here)
    gpus = find_gpus()
    planned = mending(
        lambda: plan_sweep(
            experiment, overrides, skip_invalid=skip_invalid, take_changes=True, gpus=gpus
        )
    )
    placement = planned.experiment.placement
    own = frozenset(slot.devices.gpu for slot in live_slots(planned.run))
    choice = likely_gpus(Wish(placement.gpus, f"{experiment}: placement.gpus", own=own), gpus)
    kinds = kinds_of(
        planned.experiment, planned.recipes, planned.left_alike or alike(planned.manifest.jobs)
    )

    def flops(kind: Kind) -> float | None:
        if placement.device == "cpu":
            return None
        return flops_a_video(planned.experiment, kind.videos)

    device: str | None
    if gpus and placement.device != "cpu":
        # Numbers may be another machine's: the GPUs here are the best guess then.
        device = next((gpu.name for gpu in gpus if gpu.number in choice.numbers), gpus[0].name)
    else:
        # A model too large for this machine waits for GPUs that are not here.
        device = None if any(map(flops, kinds)) else processor_name()
    experience = Experience(planned.experiment, kinds, device)
    result = estimate(
        planned.experiment,
        planned.manifest.jobs,
        choice.numbers,
        experience.peak_memory(placement.processes_per_gpu)
        or peak_memory(planned.experiment, planned.manifest.jobs),
        min((gpu.memory_gib for gpu in gpus if gpu.problem is None), default=None),
        experience.video_bytes(),
    )
    result = replace(result, problems=(*result.problems, *model_problems(planned.models)))
    costs = forecast(
        planned.experiment,
        experience,
        result,
        planned.left,
        flops,
    )
    now = Now.of(planned.experiment) if planned.stale else Now(planned.recipes)
    drift = survey(planned.run, planned.stale, now)
    if as_json:
        print_json(
            {**plan_json(planned, result, drift, costs), "gpus_left_out": list(choice.left_out)}
        )
    else:
        for line in choice.left_out:
            say(f"left out: {line}")
        print_plan(planned, result, drift, costs)


@click.command(short_help="Print the JSON Schema of the experiment file.")
def schema() -> None:
    """Print the JSON Schema of the experiment file, for editors to complete and check it.

    It has the backends that other packages bring, too.

    \b
    sweep schema > experiment.schema.json
    # yaml-language-server: $schema=experiment.schema.json    (the experiment's first line)
    """
    from ..backends.registry import OURS, installed
    from ..schema import experiment_schema

    own = {one.name: None for one in installed() if one.name not in OURS}
    print_json(experiment_schema([*OURS, *own]))
