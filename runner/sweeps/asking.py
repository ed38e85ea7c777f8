"""What one asks a sweep: where it stands, its jobs, its logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk.logs import choose_logs, follow_logs, last_lines
from ..runs.runs import open_queue, take_back
from ..watch.progress import Snapshot, take_snapshot
from .opening import Named, folder_of


def progress(run: Named) -> Snapshot:
    """Where a sweep stands. Jobs of workers that are gone are given back on the way.

    Raises:
        UserError: there is no such run.
    """
    folder = folder_of(run)
    with closing(open_queue(folder)) as queue:
        take_back(folder, queue)
        return take_snapshot(folder.name, queue)


def jobs(run: Named) -> list[dict[str, Any]]:
    """A flat record for each job, as `pandas.DataFrame` takes them: the columns of `sweep export`,
    and behind them `output`, where its video lies or will lie in the run folder, and each
    parameter that has no column of its own yet. All records have the same keys.

    Raises:
        UserError: there is no such run.
    """
    from ..report.cells import read_run
    from ..report.table import table

    read = read_run(folder_of(run))
    rows = table([read])
    names = dict.fromkeys(name for cell in read.cells for name in cell.job.parameters)
    columns = {name: None for row in rows for name in row}
    own = [name for name in names if name not in columns]
    return [
        {
            **columns,
            **row,
            "output": cell.job.output,
            **{name: read.value_on(cell.job, name) for name in own},
        }
        for row, cell in zip(rows, read.cells, strict=True)
    ]


def export(runs: Sequence[Named]) -> list[dict[str, Any]]:
    """A flat row for each job of one run, or of several: axes, state, paths and measures.

    Raises:
        UserError: there is no such run, or one is named twice.
    """
    from ..report.table import table
    from ..report.writing import read_runs

    return table(read_runs([folder_of(run) for run in runs]))


@dataclass(frozen=True)
class Log:
    """The end of a worker's log."""

    worker: str
    path: Path
    lines: tuple[str, ...]


def logs(run: Named, worker: str | None = None, *, lines: int = 20) -> list[Log]:
    """The last lines of the log of one worker, or of each.

    Raises:
        UserError: there is no such run, or no such log.
    """
    paths = choose_logs(folder_of(run), worker)
    return [Log(path.stem, path, tuple(last_lines(path, lines))) for path in paths]


def follow(found: Sequence[Log], show: Callable[[str], None]) -> None:
    """Show what is written to these logs from now on, until interrupted."""
    follow_logs([log.path for log in found], show)
