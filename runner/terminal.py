"""What a person sees beside the answer itself: hints, progress lines, the live view."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .plain_text import json_text, plural, printable

if TYPE_CHECKING:
    from .progress import Snapshot
    from .run_folder import RunFolder


def say(*lines: str) -> None:
    """Tell a person something that is not the answer itself, on standard error.

    Each is one line, whatever names are in it.
    """
    for line in lines:
        click.echo(printable(line), err=True)


def print_lines(*lines: str) -> None:
    """The answer on standard output. Each is one line, whatever names are in it."""
    for line in lines:
        click.echo(printable(line))


def print_json(value: Any) -> None:
    """The answer as one JSON value, on standard output."""
    click.echo(json_text(value))


def print_csv(text: str) -> None:
    """The answer as CSV, whose cells were made harmless as they were written."""
    click.echo(text, nl=False)


@contextmanager
def progress_bar(
    unit: str, *, stays: bool = True
) -> Iterator[Callable[[int], Callable[[], object]]]:
    """A bar on a terminal, and nothing elsewhere, for what is told how many things will be done; 0
    where nobody knows.

    Args:
        unit: what one of them is called.
        stays: whether the bar is left there at the end.
    """
    from tqdm import tqdm

    with tqdm(unit=unit, disable=None, leave=stays) as bar:

        def begin(total: int) -> Callable[[], object]:
            if total:
                bar.reset(total)
            return bar.update

        yield begin


class ChangedLines:
    """Plain progress lines for a pipe or a log: one whenever the numbers change, at most one
    every few seconds, and always the last."""

    SECONDS = 5.0

    def __init__(self) -> None:
        self._said = ""
        self._next = 0.0

    def show(self, line: str) -> None:
        now = time.monotonic()
        if now >= self._next:
            self.last(line)
            self._next = now + self.SECONDS

    def last(self, line: str) -> None:
        if line != self._said:
            say(line)
            self._said = line


def show_until_end(run: RunFolder, *, on_stdout: bool = False) -> Snapshot:
    """Show where a sweep stands until no worker is left: in place on a terminal, else as lines.

    Returns:
        The last snapshot.
    """
    from rich.live import Live

    from .console import PlainConsole
    from .launch import wait
    from .live_view import last_failures, live_view
    from .machine_use import machine_use
    from .progress import one_line

    console = PlainConsole(stderr=not on_stdout)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:

            def show(snapshot: Snapshot) -> None:
                use, failures = machine_use(run.path), last_failures(run.attempts)
                room = console.size.height
                view = live_view(snapshot, use, failures, now=time.time(), height=room)
                live.update(view, refresh=True)

            return wait(run, show)
    lines = ChangedLines()
    snapshot = wait(run, lambda snapshot: lines.show(one_line(snapshot)))
    lines.last(one_line(snapshot))
    return snapshot


def exit_with_failures(run: RunFolder, snapshot: Snapshot) -> None:
    """Exit with status 1 where jobs have failed, or where failures have stopped the sweep."""
    failed, stopped = snapshot.counts.failed, snapshot.stopped_because
    if stopped and not snapshot.has_ended:
        say(f"{run.name}: stopped: {stopped}; `sweep resume {run.name}` goes on")
    if failed:
        say(f"{run.name}: {plural(failed, 'job')} failed; `sweep logs {run.name}` says why")
    if failed or (stopped and not snapshot.has_ended):
        sys.exit(1)


def exit_at_end(run: RunFolder, snapshot: Snapshot) -> None:
    """Exit with status 1 where jobs have failed, or no worker is left for what is undone."""
    exit_with_failures(run, snapshot)
    if not snapshot.has_ended:
        from .logs import why_ended

        logs = sorted(run.logs.glob("*.log"))
        reasons = ((log, why_ended(log)) for log in logs)
        told = next((f": {log.stem}: {reason}" for log, reason in reasons if reason), "")
        look = f"see `sweep logs {run.name}`, then " if logs else ""
        say(
            f"{run.name}: no worker is left, but the sweep has not ended{told}",
            f"{look}`sweep resume {run.name}`",
        )
        sys.exit(1)
