"""What a person sees of a sweep until its end, and with which status a command ends then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ..text.plain_text import plural
from ..text.terminal import say

if TYPE_CHECKING:
    from ..disk.run_folder import RunFolder
    from ..watch.progress import Snapshot


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

    from ..slots.launch import wait
    from ..text.console import PlainConsole
    from ..watch.live_view import last_failures, live_view
    from ..watch.machine_use import machine_use
    from ..watch.progress import one_line

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
        from ..disk.logs import why_ended

        logs = sorted(run.logs.glob("*.log"))
        reasons = ((log, why_ended(log)) for log in logs)
        told = next((f": {log.stem}: {reason}" for log, reason in reasons if reason), "")
        look = f"see `sweep logs {run.name}`, then " if logs else ""
        say(
            f"{run.name}: no worker is left, but the sweep has not ended{told}",
            f"{look}`sweep resume {run.name}`",
        )
        sys.exit(1)
