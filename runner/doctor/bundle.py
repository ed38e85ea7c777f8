"""What a report of a fault needs, as one zip, with secrets left out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..disk.logs import last_lines
from ..disk.run_folder import RunFolder
from ..plan.provenance import versions
from ..runs.runs import open_queue
from ..text.input_file import MIB, lines_in, open_input
from ..watch.progress import take_snapshot
from .finding import Finding
from .masking import masked

MANIFEST_LINES_PACKED = 20
LOG_LINES_PACKED = 200
MOST_TEXT = MIB
"""Bytes of one text, or of one line."""


def write_bundle(
    target: Path, experiment: Path | None, run: RunFolder | None, findings: Iterable[Finding]
) -> list[str]:
    """Write the zip; returns the names of what is in it. No environment variable is."""
    home = str(Path.home())
    names = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in contents(experiment, run, findings):
            archive.writestr(name, masked(text, home).encode("utf-8", "backslashreplace"))
            names.append(name)
    return names


def contents(
    experiment: Path | None, run: RunFolder | None, findings: Iterable[Finding]
) -> Iterator[tuple[str, str]]:
    """Names and texts of what goes in, not yet masked."""
    yield "doctor.json", as_json([finding.to_json() for finding in findings])
    yield "versions.json", as_json(versions())
    if experiment is not None and experiment.is_file():
        yield "experiment.yaml", text_of(experiment)
    if run is None or not run.path.is_dir():
        return
    for name, path in (("run/experiment.yaml", run.experiment), ("run/at_end.json", run.at_end)):
        if path.is_file() and path != experiment:
            yield name, text_of(path)
    if run.manifest.is_file():
        with open_input(run.manifest) as file:
            head = b"".join(islice(lines_in(file, MOST_TEXT), MANIFEST_LINES_PACKED))
        yield "run/manifest_head.jsonl", head.decode("utf-8", "backslashreplace")
    if run.queue.exists() and run.manifest.exists():
        yield "run/queue.json", as_json(queue_state(run))
    if run.attempts.is_file():
        yield (
            "run/attempts_tail.jsonl",
            "\n".join(last_lines(run.attempts, LOG_LINES_PACKED)) + "\n",
        )
    if run.logs.is_dir():
        for log in sorted(run.logs.glob("*.log")):
            yield f"run/logs/{log.name}", "\n".join(last_lines(log, LOG_LINES_PACKED)) + "\n"


def text_of(path: Path) -> str:
    """The beginning of a text file."""
    with open_input(path) as file:
        return file.read(MOST_TEXT).decode("utf-8", "backslashreplace")


def queue_state(run: RunFolder) -> Any:
    """Where the sweep stands, or why that cannot be told: it is the fault, maybe."""
    try:
        queue = open_queue(run)
        try:
            return take_snapshot(run.name, queue).to_json()
        finally:
            queue.close()
    except Exception as error:
        # A damaged queue is what a report may be about.
        return {"problem": f"{type(error).__name__}: {error}"}


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
