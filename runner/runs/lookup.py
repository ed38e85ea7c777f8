"""Looking a job up by what a person has of it: an id, a path, or its point in the grid."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..disk.run_folder import RunFolder
from ..job import CATEGORY
from ..queue import Queue
from ..queue.questions import JobRow
from ..text.errors import UserError
from .runs import find_run, open_queue, planned_runs

CANDIDATES_SHOWN = 4
_ID = re.compile(r"[0-9a-f]{4,16}")


def look_up(words: Sequence[str]) -> tuple[RunFolder, JobRow]:
    """The job that these words of a command line name.

        7c1e4f0a9b2d3c58              its id, or the beginning of one; alone or after RUN
        results/x/c/v/seed_1_prompt_0.mp4    its video or sidecar; alone, or after RUN, from
                                      the run folder; one in superseded/ names its job, too
        x c/v prompt=0 seed=1         after RUN: its group, and axes, parameters too

    Raises:
        UserError: they name none, or several.
    """
    if len(words) == 1:
        word = words[0]
        if _is_path(word):
            return _by_path(word)
        if _ID.fullmatch(word):
            return _by_id(word)
        raise UserError(f"{word!r}: which job? `sweep explain RUN JOB`, or the path of a video")
    run = find_run(words[0])
    queue = open_queue(run)
    try:
        return run, _only(run, words[1:], _find(run, queue, words[1:]))
    finally:
        queue.close()


def _by_path(word: str) -> tuple[RunFolder, JobRow]:
    path = Path(word).absolute()
    above = (RunFolder(folder) for folder in path.parents)
    run = next((run for run in above if run.experiment.exists() and run.manifest.exists()), None)
    if run is None:
        raise UserError(
            f"{word}: lies in no run folder; name a video in one, or say `sweep explain RUN JOB`"
        )
    queue = open_queue(run)
    try:
        output = output_of(path.relative_to(run.path))
        return run, _only(run, [word], queue.find(output=output))
    finally:
        queue.close()


def _by_id(word: str) -> tuple[RunFolder, JobRow]:
    """Search the sweeps of the nearest `results/`."""
    found: list[tuple[RunFolder, JobRow]] = []
    runs = planned_runs()
    for run in runs:
        if not run.queue.exists():
            continue
        queue = open_queue(run)
        found += [(run, row) for row in queue.find(id_start=word)]
        queue.close()
    if not found:
        names = ", ".join(run.name for run in runs) or "there is none here"
        raise UserError(f"{word}: no job of a sweep in results/ has this id ({names})")
    if len(found) > 1:
        ways = ", ".join(f"{run.name} {row.job.id}" for run, row in found[:CANDIDATES_SHOWN])
        raise UserError(f"{word}: names {len(found)} jobs; say `sweep explain` with one of {ways}")
    return found[0]


def _find(run: RunFolder, queue: Queue, words: Sequence[str]) -> list[JobRow]:
    axes: dict[str, set[str]] = {}
    ways: list[Callable[[], list[JobRow]]] = []
    points = queue.axis_names()
    names = {*points, *queue.parameter_names()}
    leading = points[1]
    for word in words:
        axis, equals, value = word.partition("=")
        if equals and axis in names:
            axes.setdefault(axis, set()).add(value)
            continue
        if len(words) == 1 and _ID.fullmatch(word):
            ways.append(_way(queue, id_start=word))
        if len(words) == 1:
            for output in dict.fromkeys(_outputs(run, word)):
                ways.append(_way(queue, output=output))
        category, slash, lead = word.strip("/").rpartition("/")
        if slash:
            axes.setdefault(CATEGORY, set()).add(category)
        axes.setdefault(leading, set()).add(lead)
    ways.append(_way(queue, axes=axes))
    return next((rows for way in ways if (rows := way())), [])


def _way(queue: Queue, **wanted: Any) -> Callable[[], list[JobRow]]:
    return lambda: queue.find(**wanted)


def _outputs(run: RunFolder, word: str) -> list[str]:
    """What a word may mean as a path: from this folder, or from the run folder."""
    path = Path(word).absolute()
    found = [output_of(Path(word))]
    if path.is_relative_to(run.path):
        found.append(output_of(path.relative_to(run.path)))
    return found


def output_of(path: Path) -> str:
    """The output of the job to which a video or sidecar belongs, superseded ones included.

    Args:
        path: relative to the run folder, with or without a suffix.
    """
    if path.suffix in (".mp4", ".json"):
        path = path.with_suffix("")
    if path.parts[:1] == ("superseded",):
        path = Path(*path.parts[1:]) if len(path.parts) > 1 else path
        path = path.with_name(path.name.rpartition(".")[0] or path.name)
    return f"{path.as_posix()}.mp4"


def _only(run: RunFolder, words: Sequence[str], rows: Sequence[JobRow]) -> JobRow:
    said = " ".join(words)
    if not rows:
        raise UserError(
            f"{run.name}: no job is called {said!r}; name an id, a video's path, or "
            "CATEGORY/VIDEO prompt=0 seed=42"
        )
    if len(rows) > 1:
        ways = ", ".join(f"{row.job.id} ({row.job.output})" for row in rows[:CANDIDATES_SHOWN])
        more = ", ..." if len(rows) > CANDIDATES_SHOWN else ""
        raise UserError(f"{run.name}: {said!r} names {len(rows)} jobs: {ways}{more}", "name one")
    return rows[0]


def _is_path(word: str) -> bool:
    return "/" in word or word.endswith((".mp4", ".json"))
