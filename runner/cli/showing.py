"""`sweep report`, `export` and `sheet`: what one looks at and shows to others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..text.errors import UserError
from ..text.plain_text import plural
from ..text.terminal import print_csv, print_json, print_lines, progress_bar, say
from .completing import complete_run
from .options import json_option, values_by_axis

if TYPE_CHECKING:
    from ..report.server import Server


@click.command(short_help="Write a page that compares the videos.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_run)
@click.option("--title", help="What the page is called; by default the sweep's name.")
@click.option(
    "--preview", type=click.IntRange(min=32), metavar="WIDTH", help="Small videos for the page."
)
@click.option("--posters/--no-posters", default=True, help="A picture of each video.")
@click.option("--anonymous", is_flag=True, help="Leave out host, paths, user and commit.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Into this folder.")
@click.option("--zip", "as_zip", is_flag=True, help="Page and videos as one zip.")
@click.option("--watch", is_flag=True, help="Serve the page; cells fill in as they finish.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --watch: address.")
@click.option("--port", type=click.IntRange(0, 65535), help="With --watch: port.")
@json_option
def report(
    runs: tuple[str, ...],
    title: str | None,
    preview: int | None,
    posters: bool,
    anonymous: bool,
    out: Path | None,
    as_zip: bool,
    watch: bool,
    host: str,
    port: int | None,
    as_json: bool,
) -> None:
    """Write a page that compares the videos of a sweep, or of several.

    It is one file that opens from disk: RUN/report/index.html. For several runs it is written
    into the first one's folder. Runs that are not yours to write need --out.

    \b
    sweep report quickstart
    sweep report baseline ours --preview 320 --zip --anonymous
    sweep report quickstart --watch
    """
    from ..sweeps import showing

    wish = showing.wish_of(title, preview or 0, posters=posters, anonymous=anonymous, out=out)
    if watch:
        if as_zip:
            raise UserError("--watch serves a page and --zip packs one; choose one of them")
        with showing.serving(runs, wish, host, port) as server:
            serve(server, host, as_json=as_json)
        return
    with progress_bar("picture", stays=False) as track:
        made = showing.report(runs, wish, as_zip=as_zip, track=track)
    for problem in made.problems:
        say(f"not shown: {problem}")
    if as_json:
        print_json(
            {
                "report": str(made.path),
                "cells": made.cells,
                "videos": made.videos,
                "not_shown": list(made.problems),
            }
        )
    else:
        print_lines(f"{made.path}: {plural(made.videos, 'video')} of {plural(made.cells, 'job')}")


def serve(server: Server, host: str, *, as_json: bool) -> None:
    """Say where the page is, and serve it until interrupted."""
    if as_json:
        print_json({"url": server.url})
        sys.stdout.flush()
    say(f"watch: {server.url}   end: Ctrl-C")
    if not server.is_loopback:
        say(f"{host}: whoever can reach this machine can see the videos")
    server.serve_forever()


@click.command(short_help="Write one row per job, as CSV or JSON.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_run)
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values (the default).")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Into this file.")
@json_option
def export(runs: tuple[str, ...], as_csv: bool, out: Path | None, as_json: bool) -> None:
    """Write one row per job: its axes, its state, its paths and its measures.

    \b
    sweep export quickstart --csv --out quickstart.csv
    sweep export quickstart --json
    """
    import io

    from ..disk.run_folder import write_atomically
    from ..report.table import write_csv
    from ..sweeps import asking

    if as_csv and as_json:
        raise UserError("--csv and --json are two answers; choose one of them")
    rows = asking.export(runs)
    if as_json:
        print_json(rows)
        return
    text = io.StringIO(newline="")
    write_csv(rows, text)
    if out is None:
        print_csv(text.getvalue())
    else:
        write_atomically(out.absolute(), text.getvalue().encode("utf-8", "backslashreplace"))
        say(f"{out}: {plural(len(rows), 'row')}")


@click.command(short_help="Write a contact sheet per reference video.")
@click.argument("run", shell_complete=complete_run)
@click.option(
    "--only", multiple=True, metavar="AXIS=VALUE", help="Only these, such as seed=42; repeatable."
)
@click.option("--mp4", "as_mp4", is_flag=True, help="A video, side by side, instead of a picture.")
@click.option("--frames", default=6, show_default=True, type=click.IntRange(min=1, max=64))
@click.option("--width", default=208, show_default=True, type=click.IntRange(min=32, max=2048))
@click.option("--font", type=click.Path(dir_okay=False, path_type=Path), help="For the labels.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Into this folder.")
@json_option
def sheet(
    run: str,
    only: tuple[str, ...],
    as_mp4: bool,
    frames: int,
    width: int,
    font: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write a contact sheet per reference video: frames across time, a row per prompt.

    They go to RUN/report/sheets; a run that is not yours to write needs --out. What the fonts that
    come with sweep do not have, such as Korean and emoji, needs a font of the system, or --font.

    \b
    sweep sheet quickstart --only seed=42
    sweep sheet quickstart --mp4 --only video=ref_a --only seed=42
    """
    from ..report.sheet import Style
    from ..sweeps import showing

    with progress_bar("sheet", stays=False) as track:
        written = showing.sheets(
            run,
            only=values_by_axis(only),
            as_mp4=as_mp4,
            style=Style(width, frames, font),
            out=out,
            track=track,
        )
    if written.left_out:
        say(
            "left out of the labels, for no font on this machine has them: "
            f"{written.left_out}; install one (Debian, Ubuntu: apt-get install "
            "fonts-noto-color-emoji), or name one with --font FILE"
        )
    if as_json:
        print_json([str(path) for path in written.paths])
    else:
        print_lines(f"{written.folder}: {plural(len(written.paths), 'sheet')}")
