"""`sweep calibrate`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError
from ..slot_names import MOST_NUMBER, MOST_PROCESSES
from ..terminal import print_json, say
from .options import json_option, numbers

if TYPE_CHECKING:
    from ..calibrate import Variant
    from ..calibration_sweep import Trial


@click.command(short_help="Measure seconds a video on this machine, for plans to go by.")
@click.argument("experiment", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--gpu", type=click.IntRange(0, MOST_NUMBER), help="On this GPU; default: the first.")
@click.option(
    "--steps",
    type=click.IntRange(min=2),
    help="Of each video; default: 4, or all where steps are not alike: a script's, or tea_cache.",
)
@click.option(
    "--processes",
    metavar="N[,N]...",
    help="Processes on the GPU to try; default: 1, 2 and so on while it pays.",
)
@click.option(
    "--try",
    "tried",
    multiple=True,
    metavar="KEY=VALUE",
    help="Measure with this setting as well; may be given again.",
)
@json_option
def calibrate(
    experiment: Path,
    overrides: tuple[str, ...],
    gpu: int | None,
    steps: int | None,
    processes: str | None,
    tried: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a few short videos of an experiment with one, two, ... processes on a GPU.

    It takes a few minutes, most of them to load the model. `sweep plan` goes by what was measured.

    \b
    sweep calibrate experiments/my.yaml
    sweep calibrate experiments/my.yaml --processes 1,2 --try model.vram=managed
    """
    from ..calibrate import best_of, check, measure_variant
    from ..calibration_sweep import Trial
    from ..calibration_view import line, report, to_json

    wanted = None if processes is None else numbers("--processes", processes)
    if wanted is not None and not all(1 <= number <= MOST_PROCESSES for number in wanted):
        raise UserError(f"--processes {processes}: must be from 1 to {MOST_PROCESSES}")
    trial = Trial(_gpu(experiment, overrides, gpu), steps, wanted)
    for one in tried:
        # Before minutes are spent on the others.
        check(experiment, [*overrides, one])
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Like Ctrl-C: workers must not outlive what measures them.
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    variants: list[Variant] = []
    failed = False
    for setting in (None, *tried):
        say(f"calibrating{f' with {setting}' if setting else ''}: {_what(trial)}")
        words = (*overrides, *((setting,) if setting else ()))
        try:
            found = measure_variant(
                experiment, words, setting, trial, lambda kind, row: say(line(kind, row))
            )
        except UserError as error:
            if setting is None:
                raise
            # What was measured with other settings is worth its table.
            say(f"sweep: with {setting}: {error}")
            failed = True
        else:
            variants.append(found)
    best = best_of(variants)
    if as_json:
        print_json(to_json(variants, best))
    else:
        report(variants, best)
    if failed:
        sys.exit(2)


def _what(trial: Trial) -> str:
    steps = "" if trial.steps is None else f"{trial.steps} steps a video "
    return f"{steps}on GPU {trial.gpu}"


def _gpu(experiment: Path, overrides: tuple[str, ...], wanted: int | None) -> int:
    """The GPU to measure on.

    Raises:
        UserError: it is not there, or is in use by someone else.
    """
    from ..experiment import load_experiment
    from ..gpus import Wish, choose_gpus, find_gpus

    gpus: Any = load_experiment(experiment, overrides).placement.gpus
    source = f"{experiment}: placement.gpus"
    if wanted is not None:
        gpus, source = [wanted], "--gpu"
    there = find_gpus()
    if wanted is None and there and gpus != "auto":
        # Whichever of the experiment's is here: it may be planned for another machine.
        known = {gpu.number for gpu in there}
        gpus = [number for number in gpus if number in known] or "auto"
    choice = choose_gpus(Wish(gpus, source), there)
    if not choice.numbers:
        raise UserError(f"{source}: no GPU is left to use")
    return choice.numbers[0]
