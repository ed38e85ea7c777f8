"""`sweep progress` and `logs`: what one asks a sweep at work."""

from __future__ import annotations

import click

from ..text.plain_text import plain_line
from ..text.terminal import print_json, print_lines, say
from .completing import complete_run, complete_worker
from .options import json_option
from .until_end import exit_with_failures, show_until_end


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--watch", is_flag=True, help="Refresh in place until the sweep ends.")
@json_option
def progress(run: str, watch: bool, as_json: bool) -> None:
    """Show where a sweep stands.

    \b
    sweep progress quickstart
    sweep progress quickstart --watch
    """
    from ..sweeps import asking
    from ..sweeps.opening import open_run

    opened = open_run(run)
    if watch:
        if not opened.is_running:
            say(f"{opened.name}: no worker is running")
        snapshot = show_until_end(opened.folder, on_stdout=not as_json)
    else:
        snapshot = asking.progress(opened)
    if as_json:
        print_json(snapshot.to_json())
    elif not watch:
        from ..text.console import PlainConsole
        from ..watch.progress_view import print_view

        print_view(snapshot, PlainConsole())
    exit_with_failures(opened.folder, snapshot)


@click.command(short_help="Show or follow workers' logs.")
@click.argument("run", shell_complete=complete_run)
@click.argument("worker", required=False, shell_complete=complete_worker)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are written.")
@click.option("-n", "--lines", default=20, show_default=True, type=click.IntRange(min=0))
@json_option
def logs(run: str, worker: str | None, follow: bool, lines: int, as_json: bool) -> None:
    """Show or follow workers' logs.

    \b
    sweep logs quickstart
    sweep logs quickstart gpu0_process0 --follow
    """
    from ..sweeps import asking

    found = asking.logs(run, worker, lines=lines)
    if as_json:
        print_json(
            [{"worker": o.worker, "path": str(o.path), "lines": list(o.lines)} for o in found]
        )
        return
    for one in found:
        if len(found) > 1:
            print_lines(f"==> {one.worker} <==")
        for line in one.lines:
            print_lines(plain_line(line))
    if follow:
        asking.follow(found, lambda line: print_lines(plain_line(line)))
