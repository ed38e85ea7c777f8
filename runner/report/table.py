"""One row per job, with its axes, paths and measures."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from ..job import Job, Outcome, TextInput
from ..text.plain_text import printable
from .axes import lay_out
from .cells import Cell, Run
from .effort import kind_of

MEASURES = ("peak_gpu_memory_gib", "attempt", "claimed_at", "finished_at", "host", "device")

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠﹦﹢﹣﹫]")
"""OWASP, CSV injection: it may stand behind spaces, and full-width forms count."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def table(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every job of some runs as a flat row; every row has the same columns.

    Paths are relative: `video_file` to the run folder, `reference_path` to the project.
    """
    grid = lay_out(runs)
    stages = list(
        dict.fromkeys(
            stage
            for run in runs
            for cell in run.cells
            for stage in (cell.record or {}).get("seconds") or {}
        )
    )
    rows = []
    for run, indices in zip(runs, grid.indices, strict=True):
        for cell, cell_indices in zip(run.cells, indices, strict=True):
            point = {a.name: a.values[i] for a, i in zip(grid.axes, cell_indices, strict=True)}
            rows.append({**point, **dict(_of_cell(run, cell)), **dict(_seconds(cell, stages))})
    return rows


def write_csv(rows: Sequence[dict[str, Any]], file: TextIO) -> None:
    """Write rows as CSV (RFC 4180) with a line of names; what is not known is empty.

    Control characters but line ends are written as escapes: the table may be for a terminal. A
    text that a spreadsheet would take for a formula begins with an apostrophe, a number does not.
    """
    writer = csv.writer(file)
    names = list(rows[0]) if rows else []
    writer.writerow(map(_field, names))
    for row in rows:
        writer.writerow([_field(row[name]) for name in names])


def _of_cell(run: Run, cell: Cell) -> Iterator[tuple[str, Any]]:
    job, record = cell.job, cell.record or {}
    video = record.get("video") or {}
    outcomes = [one.get("outcome") for one in cell.attempts]
    kinds = [kind for kind in map(kind_of, cell.attempts) if kind]
    yield from (("sweep", run.folder.name), ("job", job.id), ("state", cell.state.value))
    yield from _inputs(job)
    yield "reason", cell.reason
    yield "video_file", job.output if cell.record is not None else None
    yield "fingerprint", job.fingerprint
    yield from (("sha256", video.get("sha256")), ("bytes", video.get("size")))
    yield from cell.shape.to_json().items()
    yield from (("attempts", len(outcomes)), ("failures", outcomes.count(Outcome.FAILED.value)))
    yield from (
        ("deaths", outcomes.count(Outcome.DIED.value)),
        ("last_failure", kinds[-1] if kinds else None),
    )
    yield "worker", record.get("worker")
    for name in MEASURES:
        yield name, record.get(name)


def _inputs(job: Job) -> Iterator[tuple[str, Any]]:
    """What it is made from: `prompt_text`, `reference_path`."""
    for role, one in job.inputs.items():
        yield (
            (f"{role}_text", one.text) if isinstance(one, TextInput) else (f"{role}_path", one.path)
        )


def _seconds(cell: Cell, stages: Sequence[str]) -> Iterator[tuple[str, Any]]:
    own = (cell.record or {}).get("seconds") or {}
    for stage in stages:
        yield f"seconds_{stage}", own.get(stage)


def _field(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    text = "\n".join(map(printable, value.replace("\r\n", "\n").split("\n")))
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
