"""`sweep init`: an experiment file from a folder of clips."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..text.plain_text import plural
from ..text.terminal import print_json, print_lines, say
from .options import json_option

if TYPE_CHECKING:
    from ..proposal import Proposal


@click.command(short_help="Write an experiment file for a folder of clips.")
@click.argument("name")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of clips.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help="JSON, YAML, CSV, TSV, .txt, or a folder of <video>.txt; by default what lies beside.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="Another script's settings (JSON, YAML)."
)
@click.option("--checkpoint", metavar="FOLDER", help="The model's files, or tiny to try it out.")
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@json_option
def init(
    name: str,
    videos: Path | None,
    prompts: Path | None,
    config: Path | None,
    checkpoint: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write experiments/NAME.yaml for a folder of clips and their prompts.

    Size, frame count and rate are such that every clip can serve them. What does not match is
    listed with the nearest name, and the exit status is 1.

    \b
    sweep init my --videos clips --prompts prompts.csv
    sweep init my --videos Final_Dataset --config config.json
    sweep init try --videos clips --prompts prompts.csv --checkpoint tiny
    """
    from ..sweeps import starting

    proposed = starting.init(
        name, videos=videos, prompts=prompts, config=config, checkpoint=checkpoint, force=force
    )
    if as_json:
        print_json(proposed.to_json())
    else:
        print_proposal(proposed.file, proposed.proposal)
    if proposed.proposal.problems:
        sys.exit(1)


def print_proposal(file: Path, proposal: Proposal) -> None:
    """What was found, what does not fit, what to do next."""
    values, here = proposal.values, Path.cwd()
    name = file.relative_to(here) if file.is_relative_to(here) else file
    for remark in proposal.remarks:
        say(remark)
    for problem in proposal.problems:
        say(f"does not fit: {problem}")
    clips = ", ".join(f"{count} in {category}" for category, count in proposal.categories.items())
    print_lines(f"{plural(proposal.clips, 'clip')}: {clips}")
    print_lines(f"prompts: {values['dataset.prompts']}")
    print_lines(
        f"{values['generation.width']}x{values['generation.height']}, "
        f"{values['generation.num_frames']} frames at {values['generation.fps']:g} per second"
    )
    seeds = plural(len(values["seeds"]), "seed")
    print_lines(f"{name}: {plural(proposal.prompts, 'prompt')} x {seeds}: {proposal.videos} videos")
    if proposal.problems:
        say(f"{plural(len(proposal.problems), 'thing')} to mend; `sweep plan {name}` checks again")
    else:
        print_lines(f"next: sweep plan {name}")
