"""`sweep adopt`: videos that another script made."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..text.plain_text import plural
from ..text.terminal import print_json, print_lines, progress_bar
from .completing import complete_run
from .options import json_option


@click.command(short_help="Take in videos that another script made.")
@click.argument("run", shell_complete=complete_run)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--pattern",
    required=True,
    metavar="PATTERN",
    help="Where a job's video lies below FOLDER, with {category}, {video}, {prompt}, {prompt+1}, "
    "{seed} and parameters.",
)
@click.option("--dry-run", is_flag=True, help="Check every file, and say what would be adopted.")
@json_option
def adopt(run: str, folder: Path, pattern: str, dry_run: bool, as_json: bool) -> None:
    """Take in videos that another script made, each decoded, copied and marked as adopted.

    A done job keeps its own video. The files in FOLDER stay as they are.

    \b
    sweep adopt my ~/old_results --pattern '{video}/prompt{prompt+1}_seed{seed}.mp4' --dry-run
    """
    from ..runs.adopt import Fate
    from ..sweeps import adopting

    with progress_bar("video") as begin:
        step = begin(0)
        adopted = adopting.adopt(run, folder, pattern, dry_run=dry_run, on_finding=lambda _: step())
    name, unmatched = adopted.run.name, adopted.adoption.unmatched
    if as_json:
        print_json(adopted.to_json())
    else:
        for finding in adopted.adoption.findings:
            if finding.fate in (Fate.LEFT, Fate.BROKEN, Fate.MISSING):
                told = f"{finding.file}: {finding.fate.value}: {finding.reason}"
                print_lines(f"{told} (for {finding.job.output})")
        for path in unmatched:
            print_lines(f"{path}: unmatched: no job's video is expected there")
        counts = {fate.value: adopted.count(fate) for fate in Fate}
        print_lines(
            f"{name}: {counts['adopted']} {'would be ' if dry_run else ''}adopted, "
            f"{counts['kept']} done already, {counts['left']} left, {counts['broken']} broken, "
            f"{counts['missing']} missing, {plural(len(unmatched), 'file')} unmatched"
        )
    if adopted.count(Fate.BROKEN):
        sys.exit(1)
