"""`sweep verify` and `explain`: what the files of a sweep are worth, and one job's story."""

from __future__ import annotations

import sys

import click

from ..text.terminal import print_json, print_lines, progress_bar, say
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
    from ..sweeps import checking

    with progress_bar("video") as track:
        found = checking.verify(run, track=track)
    name, broken, stale = found.run.name, found.broken, found.stale
    if broken and not found.moves:
        say(f"{name}: is not yours to write, so nothing was moved")
    if as_json:
        print_json(found.to_json())
    else:
        for job, changes in stale:
            print_lines(f"{job.output}: stale: {'; '.join(map(str, changes))}")
        for verdict in broken:
            print_lines(f"{verdict.job.output}: {verdict.problem}")
        print_lines(
            f"{name}: {found.good} good, {len(broken)} broken or missing, "
            f"{found.unmade} not made yet{f', {len(stale)} stale' if stale else ''}"
        )
        if stale:
            print_lines(f"`sweep resume {name} --stale` remakes the stale ones")
        if broken:
            print_lines(f"`sweep resume {name}` makes the broken ones again")
    if broken:
        sys.exit(1)


@click.command(short_help="Tell one job's whole story.")
@click.argument("words", nargs=-1, required=True, metavar="[RUN] JOB", shell_complete=complete_run)
@json_option
def explain(words: tuple[str, ...], as_json: bool) -> None:
    """Tell one job's story: inputs, why it is in its state, attempts with log lines, what next.

    JOB is an id (or its beginning), the path of a video or sidecar, or a point in the grid.

    \b
    sweep explain results/my/camera_motion/ref_a/seed_42_prompt_0.mp4
    sweep explain my 7c1e4f0a
    sweep explain my camera_motion/ref_a prompt=0 seed=42
    """
    from ..sweeps import checking
    from .explain_view import story_lines

    story = checking.explain(words)
    if as_json:
        print_json(story.to_json())
    else:
        for line in story_lines(story):
            print_lines(line)
