"""`sweep plan`."""

from __future__ import annotations

from pathlib import Path

import click

from ..text.terminal import print_json, say
from .options import here_option, json_option, settle_here, skip_option


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
    from ..sweeps import planning
    from .plan_view import print_plan

    settle_here(str(experiment), here)
    made = planning.plan(experiment, overrides, skip_invalid=skip_invalid)
    if as_json:
        print_json(made.to_json())
        return
    for line in made.gpus_left_out:
        say(f"left out: {line}")
    print_plan(made)


@click.command(short_help="Print the JSON Schema of the experiment file.")
def schema() -> None:
    """Print the JSON Schema of the experiment file, for editors to complete and check it.

    It has the backends that other packages bring, too.

    \b
    sweep schema > experiment.schema.json
    # yaml-language-server: $schema=experiment.schema.json    (the experiment's first line)
    """
    from ..backends.registry import OURS, installed
    from ..experiment.schema import experiment_schema

    own = {one.name: None for one in installed() if one.name not in OURS}
    print_json(experiment_schema([*OURS, *own]))
