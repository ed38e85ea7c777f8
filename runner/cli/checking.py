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

    Of a stale video it says which of its inputs have changed. What is found broken is moved to
    superseded/, so that `sweep resume` makes it again.
    """
    from tqdm import tqdm

    from ..drift import Now, drift
    from ..experiment import load_experiment
    from ..job import JobState
    from ..sweep import find_run, open_queue
    from ..verify import verify as verify_rows

    folder = find_run(run)
    queue = open_queue(folder)
    rows = [row for row in queue.rows() if row.state is not JobState.RETIRED]
    finished = [row for row in rows if row.state in (JobState.DONE, JobState.STALE)]
    with tqdm(total=len(finished), unit="video", disable=None) as bar:
        verdicts = verify_rows(folder, finished, lambda _: bar.update())
    broken = [verdict for verdict in verdicts if verdict.problem is not None]
    if broken:
        queue.close()
        open_queue(folder, look_at_disk=True).close()
    unmade = len(rows) - len(finished)
    stale = [v.job for v in verdicts if v.problem is None and v.state is JobState.STALE]
    now = Now.of(load_experiment(folder.experiment)) if stale else Now(None)
    changed = [(job, drift(folder, job, now)) for job in stale]
    if as_json:
        old = [
            {"job": job.id, "video": job.output, "changes": [c.to_json() for c in changes]}
            for job, changes in changed
        ]
        bad = [{"job": v.job.id, "video": v.job.output, "problem": v.problem} for v in broken]
        good = len(finished) - len(broken)
        answer = {"sweep": folder.name, "good": good, "unmade": unmade, "broken": bad}
        print_json({**answer, "stale": old})
    else:
        for job, changes in changed:
            click.echo(f"{job.output}: stale: {'; '.join(map(str, changes))}")
        for verdict in broken:
            click.echo(f"{verdict.job.output}: {verdict.problem}")
        click.echo(
            f"{folder.name}: {len(finished) - len(broken)} good, {len(broken)} broken or missing, "
            f"{unmade} not made yet{f', {len(stale)} stale' if stale else ''}"
        )
        if stale:
            click.echo(f"`sweep resume {folder.name} --stale` remakes the stale ones")
        if broken:
            click.echo(f"`sweep resume {folder.name}` makes the broken ones again")
    if broken:
        sys.exit(1)
