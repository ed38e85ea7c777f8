"""A sweep at work, on a terminal that one leaves open; readable from 80 columns on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..job import Outcome
from ..queue.worker_table import WorkerState
from ..text.console import plain
from ..text.input_file import open_input, parse_json
from ..text.plain_text import printable, tail
from .machine_use import GpuUse, MachineUse
from .progress import Counts, Snapshot, WorkerStatus, duration
from .progress_view import notices

TAIL_BYTES = 1 << 16
FAILURES_SHOWN = 3
STATE_STYLES = {
    WorkerState.WORKING.value: "cyan",
    WorkerState.LOADING.value: "yellow",
    WorkerState.RESTARTING.value: "yellow",
    WorkerState.GONE.value: "red",
}


@dataclass(frozen=True)
class Failure:
    """The end of an attempt that did not end well."""

    job: str
    worker: str
    at: float
    error: str


def last_failures(attempts: Path, most: int = FAILURES_SHOWN) -> list[Failure]:
    """The failures among the last attempts of `attempts.jsonl`, newest first.

    Only the file's end is read, however long it has grown.
    """
    try:
        with open_input(attempts) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in reversed(lines):
        try:
            one = parse_json(line)
            if one["outcome"] in (Outcome.FAILED.value, Outcome.DIED.value):
                error = printable(" ".join(str(one["error"]).split()))
                found.append(Failure(str(one["job"]), str(one["worker"]), one["ended_at"], error))
        except (ValueError, KeyError, TypeError):
            # The first line read may be half of one.
            continue
        if len(found) == most:
            break
    return found


def live_view(
    snapshot: Snapshot,
    use: MachineUse,
    failures: Sequence[Failure],
    *,
    now: float,
    height: int | None = None,
) -> LiveView:
    """The sweep at the Unix time `now`, in at most `height` lines."""
    return LiveView(snapshot, use, tuple(failures), now, height)


@dataclass(frozen=True)
class LiveView:
    """What is on the terminal. Where it has too few lines the older failures go first, then
    workers and categories, with a word on how many there are more."""

    snapshot: Snapshot
    use: MachineUse
    failures: tuple[Failure, ...]
    now: float
    height: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        failures = len(self.failures)
        most = (len(self.snapshot.workers), len(self.snapshot.categories))
        rows, names = most

        def excess() -> int:
            if self.height is None:
                return 0
            view = self._group(failures, rows, names)
            return len(console.render_lines(view, options, pad=False)) - self.height

        while failures > 1 and excess() > 0:
            failures -= 1
        left = excess()
        while left > 0 and max(rows, names) > 1:
            # The first that goes is no gain: a line says that there is more.
            if rows >= names:
                left -= rows < most[0]
                rows -= 1
            else:
                left -= names < most[1]
                names -= 1
        yield self._group(failures, rows, names)

    def _group(self, failures: int, rows: int, names: int) -> Group:
        snapshot = self.snapshot
        parts: list[RenderableType] = [head(snapshot), whole(snapshot, self.use, self.now), Text()]
        parts += [
            categories(snapshot, names),
            *more(len(snapshot.categories) - names, "categories"),
        ]
        if snapshot.workers:
            parts += [Text(), workers(snapshot, self.use, rows)]
            parts += more(len(snapshot.workers) - rows, "workers")
        parts += notices(snapshot, now=self.now)
        if failures:
            shown = self.failures[:failures]
            parts += [Text(), failure_list(snapshot.sweep, shown, self.now)]
        return Group(*parts)


def more(number: int, noun: str) -> list[Text]:
    return [Text(f"… {number} more {noun}", style="dim")] if number > 0 else []


def head(snapshot: Snapshot) -> Text:
    counts = snapshot.counts
    line = Text(printable(snapshot.sweep), style="bold", no_wrap=True, overflow="ellipsis")
    line.append(f"  {counts.done}/{counts.total} done", style="default")
    for number, word, style in (
        (counts.running, "running", "cyan"),
        (counts.pending, "pending", "default"),
        (counts.failed, "failed", "red"),
        (counts.stale, "stale", "yellow"),
    ):
        if number:
            line.append(f" · {number} {word}", style=style)
    return line


def whole(snapshot: Snapshot, use: MachineUse, now: float) -> Group:
    """One bar for all, and below it when it ends, how fast it goes, and the room on the disk."""
    counts = snapshot.counts
    row = Table.grid(expand=True, padding=(0, 1))
    row.add_column(ratio=1)
    row.add_column(justify="right", width=5)
    share = counts.done / counts.total if counts.total else 1.0
    row.add_row(Bar(counts), f"{100 * share:.0f} %")
    said = []
    if snapshot.alive and snapshot.eta_seconds is not None and not snapshot.has_ended:
        said.append(f"{duration(snapshot.eta_seconds)} left, ends {clock(snapshot, now)}")
    mean = snapshot.seconds_per_job
    if mean:
        said.append(f"{duration(mean)} a video")
        if snapshot.alive:
            said.append(f"{3600 * snapshot.alive / mean:,.0f}/h")
    if snapshot.busy:
        shares = snapshot.busy.values()
        said.append(f"busy {100 * sum(shares) / len(shares):.0f} %")
    if use.disk_free_gib is not None:
        said.append(f"{use.disk_free_gib:,.0f} GiB free")
    return Group(row, plain(" · ".join(said), "dim"))


def clock(snapshot: Snapshot, now: float) -> str:
    """When it ends, with the day unless that is today."""
    end = time.localtime(now + (snapshot.eta_seconds or 0.0))
    same_day = end[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if same_day else "%a %H:%M", end)


class Bar:
    """Done, running and failed as shares of a bar as wide as there is room."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield line(self.counts, options.max_width)


class Ending:
    """The end of a text, as much of it as there is room for."""

    def __init__(self, text: str, style: str) -> None:
        self.text, self.style = text, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(tail(self.text, options.max_width), style=self.style, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(8, max(8, cell_len(self.text)))


def line(counts: Counts, width: int) -> Text:
    text, drawn = Text(no_wrap=True), 0
    for number, style in (
        (counts.done, "green"),
        (counts.running, "cyan"),
        (counts.failed, "red"),
        (counts.stale, "yellow"),
    ):
        length = round(width * number / counts.total) if counts.total else 0
        # However few there are, they are seen.
        length = min(max(length, 1 if number else 0), width - drawn)
        text.append("━" * length, style=style)
        drawn += length
    text.append("━" * (width - drawn), style="bright_black")
    return text


def categories(snapshot: Snapshot, most: int) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, counts in islice(snapshot.categories.items(), most):
        rest = [
            f"{number} {word}"
            for number, word in ((counts.failed, "failed"), (counts.stale, "stale"))
            if number
        ]
        done = Text(f"{counts.done}/{counts.total}", style="green" if is_done(counts) else "")
        table.add_row(plain(name), Bar(counts), done, Text(", ".join(rest), style="red"))
    return table


def is_done(counts: Counts) -> bool:
    return counts.done == counts.total


def workers(snapshot: Snapshot, use: MachineUse, most: int) -> Table:
    """A row per worker; a GPU's use stands with the first worker on it."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim", expand=True)
    table.add_column("worker", no_wrap=True)
    has_gpus = any(worker.gpu in use.gpus for worker in snapshot.workers)
    if has_gpus:
        table.add_column("GPU", no_wrap=True, justify="right")
        table.add_column("GiB", no_wrap=True, justify="right")
    table.add_column("job", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("step", no_wrap=True)
    for name in ("s/job", "done"):
        table.add_column(name, justify="right", no_wrap=True)
    former = None
    for worker in snapshot.workers[:most]:
        row: list[RenderableType] = [plain(worker.name)]
        if has_gpus:
            row += gpu_cells(use.gpus.get(worker.gpu) if worker.gpu != former else None)
        former = worker.gpu
        mean = worker.seconds_per_job
        row += [
            Ending(
                printable(worker.note or (worker.video or "").rpartition(".")[0] or worker.state),
                "" if worker.video and not worker.note else STATE_STYLES.get(worker.state, "dim"),
            ),
            step(worker),
            Text("" if mean is None else f"{mean:.0f}" if mean >= 100 else f"{mean:.1f}", "dim"),
            str(worker.jobs_done),
        ]
        table.add_row(*row)
    return table


def gpu_cells(gpu: GpuUse | None) -> list[RenderableType]:
    """Its share of time at work, and its memory; `?` for what NVML does not tell."""
    if gpu is None:
        return ["", ""]
    busy = "?" if gpu.busy is None else f"{100 * gpu.busy:.0f} %"
    if gpu.used_gib is None or gpu.memory_gib is None:
        return [busy, "?"]
    return [busy, f"{gpu.used_gib:.0f}/{gpu.memory_gib:.0f}"]


def step(worker: WorkerStatus, width: int = 6) -> Text:
    if not worker.job or not worker.steps:
        return Text()
    length = round(width * worker.step / worker.steps)
    text = Text("━" * length, style="cyan")
    text.append("━" * (width - length), style="bright_black")
    text.append(f" {worker.step}/{worker.steps}", style="default")
    return text


def failure_list(sweep: str, failures: Sequence[Failure], now: float) -> Table:
    """The last failures, each with the command that tells its story."""
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for failure in failures:
        ago = duration(max(0.0, now - failure.at))
        table.add_row(Text.assemble((f"{ago} ago  ", "dim"), (failure.error, "red")))
        command = printable(f"  sweep explain {sweep} {failure.job}")
        table.add_row(Text.assemble((command, "bold"), (f"  {printable(failure.worker)}", "dim")))
    return table
