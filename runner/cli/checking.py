"""`sweep verify`: what the files of a sweep are worth."""

from __future__ import annotations

import sys

import click

from ..terminal import print_json
from .options import json_option


@click.command()
@click.argument("run")
@json_option
def verify(run: str, as_json: bool) -> None:
    """Check every finished video: size, sha256, and a strict decoding of every frame.

    What is found broken is moved to superseded/, so that `sweep resume` makes it again.
    """
    from tqdm import tqdm

    from ..job import JobState
    from ..sweep import find_run, live_slots, open_queue
    from ..verify import forgotten
    from ..verify import verify as verify_rows

    folder = find_run(run)
    queue = open_queue(folder)
    rows = [row for row in queue.rows() if row.state is not JobState.RETIRED]
    finished = [row for row in rows if row.state in (JobState.DONE, JobState.STALE)]
    if not live_slots(folder):
        finished += forgotten(folder, rows)
    with tqdm(total=len(finished), unit="video", disable=None) as bar:
        verdicts = verify_rows(folder, finished, lambda _: bar.update())
    broken = [verdict for verdict in verdicts if verdict.problem is not None]
    if broken:
        queue.close()
        open_queue(folder, look_at_disk=True).close()
    unmade = len(rows) - len(finished)
    if as_json:
        bad = [{"job": v.job.id, "video": v.job.output, "problem": v.problem} for v in broken]
        good = len(finished) - len(broken)
        print_json({"sweep": folder.name, "good": good, "unmade": unmade, "broken": bad})
    else:
        for verdict in broken:
            click.echo(f"{verdict.job.output}: {verdict.problem}")
        click.echo(
            f"{folder.name}: {len(finished) - len(broken)} good, {len(broken)} broken or missing, "
            f"{unmade} not made yet"
        )
        if broken:
            click.echo(f"`sweep resume {folder.name}` makes the broken ones again")
    if broken:
        sys.exit(1)
