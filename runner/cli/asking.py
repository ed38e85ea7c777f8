"""`sweep progress` and `logs`: what one asks a sweep at work."""

from __future__ import annotations

import click

from ..plain_text import plain_line
from ..terminal import exit_with_failures, print_json, print_lines, say, show_until_end
from .completing import complete_run, complete_worker
from .options import json_option


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
    from ..progress import take_snapshot
    from ..runs import find_run, live_slots, open_queue, take_back

    folder = find_run(run)
    if watch:
        if not live_slots(folder):
            say(f"{folder.name}: no worker is running")
        snapshot = show_until_end(folder, on_stdout=not as_json)
    else:
        queue = open_queue(folder)
        take_back(folder, queue)
        snapshot = take_snapshot(folder.name, queue)
    if as_json:
        print_json(snapshot.to_json())
    elif not watch:
        from ..console import PlainConsole
        from ..progress_view import print_view

        print_view(snapshot, PlainConsole())
    exit_with_failures(folder, snapshot)


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
    from ..logs import choose_logs, follow_logs, last_lines
    from ..runs import find_run

    paths = choose_logs(find_run(run), worker)
    if as_json:
        print_json(
            [{"worker": p.stem, "path": str(p), "lines": last_lines(p, lines)} for p in paths]
        )
        return
    for path in paths:
        if len(paths) > 1:
            print_lines(f"==> {path.stem} <==")
        for line in last_lines(path, lines):
            print_lines(plain_line(line))
    if follow:
        follow_logs(paths, lambda line: print_lines(plain_line(line)))
