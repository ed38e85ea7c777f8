"""A snapshot on a terminal: totals, a row per category, a row per worker."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..text.console import plain
from ..text.plain_text import printable, tail
from .progress import Counts, Snapshot, duration, one_line

BAR_WIDTH = 16


def view(snapshot: Snapshot) -> Group:
    """The snapshot as a person reads it, at 80 columns and more."""
    parts: list[Table | Text] = [plain(one_line(snapshot), "bold"), categories(snapshot)]
    if snapshot.workers:
        parts.append(workers(snapshot))
    if snapshot.busy:
        parts.append(plain(effort(snapshot), "dim"))
    return Group(*parts, *notices(snapshot))


def notices(snapshot: Snapshot, *, now: float | None = None) -> list[Text]:
    """What a person should know or do about the sweep at a Unix time, by default now."""
    parts = [
        plain(f"{name} is set aside: {reason}", "yellow")
        for name, reason in snapshot.set_aside.items()
    ]
    if snapshot.stopped_because:
        parts.append(plain(f"stopped: {snapshot.stopped_because}", "bold red"))
    if snapshot.awaiting:
        noun, verb = ("job", "awaits") if snapshot.awaiting == 1 else ("jobs", "await")
        told = f"{snapshot.awaiting} {noun} {verb} videos of another sweep"
        parts.append(Text(told, style="yellow"))
    if snapshot.waiting and snapshot.next_try_at is not None:
        moment = time.time() if now is None else now
        wait = duration(max(0.0, snapshot.next_try_at - moment))
        noun, verb = ("job", "waits") if snapshot.waiting == 1 else ("jobs", "wait")
        told = f"{snapshot.waiting} {noun} {verb} for another attempt, the next in {wait}"
        parts.append(Text(told, style="yellow"))
    if snapshot.draining and snapshot.alive:
        parts.append(Text("stopping: each worker ends after its job", style="yellow"))
    if not snapshot.alive and not snapshot.has_ended:
        parts.append(plain(f"no worker is running; sweep resume {snapshot.sweep}", "yellow"))
    if snapshot.counts.failed:
        parts.append(Text("see failed jobs: sweep logs; once more: sweep resume", style="red"))
    return parts


def effort(snapshot: Snapshot) -> str:
    """Seconds per job, how busy each GPU is, and the makespan against the ideal."""
    parts = []
    if snapshot.seconds_per_job is not None:
        parts.append(f"{duration(snapshot.seconds_per_job)} a job")
    shares = ", ".join(f"{gpu}: {100 * share:.0f} %" for gpu, share in snapshot.busy.items())
    parts.append(f"GPUs busy {shares}")
    makespan = snapshot.makespan
    if makespan is not None and makespan.ideal_seconds:
        parts.append(f"makespan {duration(makespan.seconds)}, {makespan.ratio:.2f} x the ideal")
    return "; ".join(parts)


def categories(snapshot: Snapshot) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("category", no_wrap=True, max_width=28)
    table.add_column("")
    for name in ("done", "running", "pending", "failed"):
        table.add_column(name, justify="right")
    if any(counts.stale for counts in snapshot.categories.values()):
        table.add_column("stale", justify="right")
    for name, counts in snapshot.categories.items():
        row = [f"{counts.done}/{counts.total}", counts.running, counts.pending, counts.failed]
        if len(table.columns) > 6:
            row.append(counts.stale)
        table.add_row(plain(name), bar(counts), *(str(value) for value in row))
    return table


def bar(counts: Counts) -> Text:
    """Done, running and failed as shares of one bar."""
    text = Text()
    drawn = 0
    for number, style in (
        (counts.done, "green"),
        (counts.running, "cyan"),
        (counts.failed, "red"),
    ):
        width = round(BAR_WIDTH * number / counts.total) if counts.total else 0
        width = min(width, BAR_WIDTH - drawn)
        text.append("█" * width, style=style)
        drawn += width
    text.append("░" * (BAR_WIDTH - drawn), style="dim")
    return text


def workers(snapshot: Snapshot) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("worker", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("job", no_wrap=True, overflow="ellipsis", max_width=34)
    for name in ("step", "s/job", "done"):
        table.add_column(name, justify="right", no_wrap=True)
    for worker in snapshot.workers:
        mean = worker.seconds_per_job
        table.add_row(
            plain(worker.name),
            worker.state,
            Text(tail(printable(worker.note or worker.video or ""), 34)),
            f"{worker.step}/{worker.steps}" if worker.job and worker.steps else "",
            "" if mean is None else f"{mean:.1f}",
            str(worker.jobs_done),
        )
    return table


def print_view(snapshot: Snapshot, console: Console) -> None:
    console.print(view(snapshot))
