"""`sweep report`, `export` and `sheet`: what one looks at and shows to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from ..terminal import plural, print_json, say
from .options import json_option

if TYPE_CHECKING:
    from ..report.pictures import Wanted


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--title", help="What the page is called; by default the sweep's name.")
@click.option("--preview", type=click.IntRange(min=32), help="Small videos for it, so wide.")
@click.option("--posters/--no-posters", default=True, help="A picture of each video.")
@click.option("--anonymous", is_flag=True, help="Leave out host, paths, user and commit.")
@json_option
def report(
    runs: tuple[str, ...],
    title: str | None,
    preview: int | None,
    posters: bool,
    anonymous: bool,
    as_json: bool,
) -> None:
    """Write a page that compares the videos of a sweep, or of several.

    It is one file that opens from disk: RUN/report/index.html. For several runs it is written
    into the first one's folder.
    """
    from ..report import Wish, write_report
    from ..sweep import find_run

    wish = Wish(title, preview or 0, anonymous, posters)
    made = write_report([find_run(run) for run in runs], wish, _track)
    for problem in made.problems:
        say(f"not shown: {problem}")
    if as_json:
        print_json(
            {
                "page": str(made.path),
                "cells": made.cells,
                "videos": made.videos,
                "not_shown": list(made.problems),
            }
        )
    else:
        click.echo(f"{made.path}: {plural(made.videos, 'video')} of {plural(made.cells, 'job')}")


def _track(wanted: Sequence[Wanted]) -> Callable[[], object]:
    """A bar on a terminal while pictures are made."""
    from tqdm import tqdm

    bar = tqdm(total=len(wanted), unit="picture", disable=None, leave=False)
    return bar.update
