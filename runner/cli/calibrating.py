"""`sweep calibrate`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from ..job.slot_names import LARGEST_NUMBER_IN_NAME
from ..text.terminal import print_json, say
from .options import json_option, numbers


@click.command(short_help="Measure seconds a video on this machine, for plans to go by.")
@click.argument("experiment", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--gpu", type=click.IntRange(0, LARGEST_NUMBER_IN_NAME), help="On this GPU; default: the first."
)
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
    from ..calibrate import calibrate as measure
    from .calibration_view import line, report

    for number in (signal.SIGTERM, signal.SIGHUP):
        # Like Ctrl-C: workers must not outlive what measures them.
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    found = measure(
        experiment,
        overrides,
        gpu=gpu,
        steps=steps,
        processes=None if processes is None else numbers("--processes", processes),
        tried=tried,
        say=say,
        show=lambda kind, row: say(line(kind, row)),
    )
    if as_json:
        print_json(found.to_json())
    else:
        report(found.variants, found.best)
    if found.failed:
        sys.exit(2)
