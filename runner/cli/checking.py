"""`sweep verify` and `explain`: what the files of a sweep are worth, and one job's story."""

from __future__ import annotations

import sys

import click

from ..terminal import print_json, print_lines, say
from .completing import complete_run
from .options import json_option


@click.command(short_help="Check every finished video.")
@click.argument("run", shell_complete=complete_run)
@json_option
def verify(run: str, as_json: bool) -> None:
    """Check every finished video: size, sha256, and a strict decoding of every frame.

    Of a stale video it says which of its inputs have changed. What is found broken is moved to
    superseded/, so that `sweep resume` makes it again, and stays in a run that is not yours to
    write.

    \b
    sweep verify quickstart
    """
    from tqdm import tqdm

    from ..borrowed import is_ours_to_write
    from ..drift import Now, drift
    from ..experiment import load_experiment
    from ..job import JobState
    from ..runs import find_run, live_slots, open_queue
    from ..verify import forgotten
    from ..verify import verify as verify_rows

    folder = find_run(run)
    queue = open_queue(folder)
    rows = [row for row in queue.rows() if row.state is not JobState.RETIRED]
    finished = [row for row in rows if row.state in (JobState.DONE, JobState.STALE)]
    if not live_slots(folder):
        finished += forgotten(folder, rows)
    moves = is_ours_to_write(folder)
    with tqdm(total=len(finished), unit="video", disable=None) as bar:
        verdicts = verify_rows(folder, finished, lambda _: bar.update(), moves=moves)
    broken = [verdict for verdict in verdicts if verdict.problem is not None]
    queue.close()
    if broken and not moves:
        say(f"{folder.name}: is not yours to write, so nothing was moved")
    if broken and moves:
        open_queue(folder, look_at_disk=True).close()
    unmade = len(rows) - len(finished)
    stale = [v.job for v in verdicts if v.problem is None and v.state is JobState.STALE]
    now = Now.of(load_experiment(folder.experiment)) if stale else Now({})
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
            print_lines(f"{job.output}: stale: {'; '.join(map(str, changes))}")
        for verdict in broken:
            print_lines(f"{verdict.job.output}: {verdict.problem}")
        print_lines(
            f"{folder.name}: {len(finished) - len(broken)} good, {len(broken)} broken or missing, "
            f"{unmade} not made yet{f', {len(stale)} stale' if stale else ''}"
        )
        if stale:
            print_lines(f"`sweep resume {folder.name} --stale` remakes the stale ones")
        if broken:
            print_lines(f"`sweep resume {folder.name}` makes the broken ones again")
    if broken:
        sys.exit(1)


@click.command(short_help="Tell one job's whole story.")
@click.argument("words", nargs=-1, required=True, metavar="[RUN] JOB", shell_complete=complete_run)
@json_option
def explain(words: tuple[str, ...], as_json: bool) -> None:
    """Tell one job's story: inputs, why it is in its state, attempts with log lines, what next.

    JOB is an id (or its beginning), the path of a video or sidecar, or a place in the grid.

    \b
    sweep explain results/my/camera_motion/ref_a/seed_42_prompt_0.mp4
    sweep explain my 7c1e4f0a
    sweep explain my camera_motion/ref_a prompt=0 seed=42
    """
    from ..explain import explain as gather
    from ..explain_view import story_lines
    from ..lookup import look_up
    from ..runs import open_queue, take_back

    folder, row = look_up(words)
    queue = open_queue(folder)
    take_back(folder, queue)
    row = next(iter(queue.find(id_start=row.job.id)), row)
    story = gather(folder, queue, row)
    queue.close()
    if as_json:
        print_json(story.to_json())
    else:
        for line in story_lines(story):
            print_lines(line)
