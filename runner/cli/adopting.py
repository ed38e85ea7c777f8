"""`sweep adopt`: videos that another script made."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..terminal import plural, print_json, print_lines
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
    from tqdm import tqdm

    from ..adopt import Fate
    from ..adopt import adopt as take_in
    from ..experiment import load_experiment
    from ..pattern import Pattern
    from ..runs import find_run, open_queue, take_back

    place = find_run(run)
    experiment = load_experiment(place.experiment)
    queue = open_queue(place, look_at_disk=True, is_mending=True)
    parsed = Pattern.parse(pattern, queue.points()[0])
    take_back(place, queue)
    with tqdm(unit="video", disable=None) as bar:
        result = take_in(
            place,
            queue,
            experiment,
            folder,
            parsed,
            dry_run=dry_run,
            on_finding=lambda _: bar.update(),
        )
    queue.close()
    counts = {fate.value: result.count(fate) for fate in Fate}
    if as_json:
        files = [finding.to_json() for finding in result.findings]
        answer = {"sweep": place.name, "dry_run": dry_run, **counts}
        print_json({**answer, "files": files, "unmatched": list(result.unmatched)})
    else:
        for finding in result.findings:
            if finding.fate in (Fate.LEFT, Fate.BROKEN, Fate.MISSING):
                told = f"{finding.file}: {finding.fate.value}: {finding.reason}"
                print_lines(f"{told} (for {finding.job.output})")
        for path in result.unmatched:
            print_lines(f"{path}: unmatched: no job's video is expected there")
        print_lines(
            f"{place.name}: {counts['adopted']} {'would be ' if dry_run else ''}adopted, "
            f"{counts['kept']} done already, {counts['left']} left, {counts['broken']} broken, "
            f"{counts['missing']} missing, {plural(len(result.unmatched), 'file')} unmatched"
        )
    if counts["broken"]:
        sys.exit(1)
