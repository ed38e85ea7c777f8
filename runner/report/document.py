"""The page's data: some runs as one JSON value, in which whatever cells share stands once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..backends.section import Loss
from ..disk.publish import inputs_of
from ..job import JobState
from ..text.canonical import canonical_json
from .anonymous import hidden_effort, hidden_record, values_without_paths, without_paths
from .axes import AxisKind, Grid, lay_out, parameter_differences
from .cells import Cell, Run
from .effort import dashboard, kind_of
from .pictures import Seen, seen_of

SCHEMA = 2
SHARED_TEXT_CHARACTERS = 24
"""Texts from this length on are put among the shared values."""


@dataclass(frozen=True)
class Look:
    """What of a run the page shows, and how the page calls it.

    Args:
        bases: for each run, the URL of its folder as seen from the page, with a `/` at its end.
        assets: the URL of the folder of posters and clips, likewise.
        posters: sha256 of a video -> file in `assets`.
        previews: sha256 of a video -> file in `assets`.
        references: file in `assets`, or None and why.
        is_anonymous: leave out what tells who made it and where.
        watch_seconds: how often the page asks for new data; 0 is never.
    """

    title: str
    bases: Sequence[str]
    assets: str
    posters: Mapping[str, str] = field(default_factory=dict)
    previews: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[Seen, tuple[str | None, str | None]] = field(default_factory=dict)
    has_videos: bool = True
    is_anonymous: bool = False
    watch_seconds: float = 0.0


def document(runs: Sequence[Run], look: Look) -> dict[str, Any]:
    """Everything the page knows, as JSON."""
    return _Writer(look).write(runs)


class _Shared:
    """Values that many cells have in common, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, value: Any) -> int:
        key = canonical_json(value)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


class _Writer:
    def __init__(self, look: Look) -> None:
        self.look = look
        self.shared = _Shared()
        self.keys = _Shared()
        self.references: list[dict[str, Any]] = []
        self._reference_numbers: dict[object, int] = {}

    def write(self, runs: Sequence[Run]) -> dict[str, Any]:
        grid = lay_out(runs)
        cells = self._cells(runs, grid)
        look = self.look
        efforts = []
        first = 0
        for run in runs:
            numbers = {cell.job.id: first + n for n, cell in enumerate(run.cells)}
            effort = dashboard(run, numbers, by_error=not look.is_anonymous)
            efforts.append(hidden_effort(effort) if look.is_anonymous else effort)
            first += len(run.cells)
        different = parameter_differences(runs)
        values = [list(axis.values) for axis in grid.axes]
        if look.is_anonymous:
            different = [without_paths(own) for own in different]
            values = [
                values_without_paths(own) if axis.kind is AxisKind.PARAMETER else own
                for axis, own in zip(grid.axes, values, strict=True)
            ]
        return {
            "schema": SCHEMA,
            "title": look.title,
            "made_at": None if look.is_anonymous else round(time.time()),
            "anonymous": look.is_anonymous,
            "watch_seconds": look.watch_seconds,
            "assets": look.assets,
            "runs": [
                {
                    **{"name": run.name, "folder": run.folder.name, "base": base},
                    **{"differs": own, "models": models_of(run), "settings": settings_of(run)},
                }
                for run, base, own in zip(runs, look.bases, different, strict=True)
            ],
            "axes": [
                {"name": axis.name, "kind": axis.kind.value, "values": own, "absent": axis.absent}
                for axis, own in zip(grid.axes, values, strict=True)
            ],
            "references": self.references,
            "efforts": efforts,
            "cells": cells,
            "record_keys": self.keys.values,
            "shared": self.shared.values,
        }

    def _cells(self, runs: Sequence[Run], grid: Grid) -> list[dict[str, Any]]:
        return [
            self._cell(number, run, cell, cell_indices)
            for number, (run, indices) in enumerate(zip(runs, grid.indices, strict=True))
            for cell, cell_indices in zip(run.cells, indices, strict=True)
        ]

    def _cell(
        self, number: int, run: Run, cell: Cell, cell_indices: Sequence[int]
    ) -> dict[str, Any]:
        job, look = cell.job, self.look
        value: dict[str, Any] = {
            "id": job.id,
            "run": number,
            "at": list(cell_indices),
            "state": cell.state.value,
            "text": self.shared.number(cell.text),
            "reference": self._reference(cell),
            "shape": self.shared.number(cell.shape.to_json()),
        }
        if cell.reason is not None:
            value["reason"] = self._reason(cell)
        retry_at = cell.row.retry_at
        if cell.state is JobState.PENDING and retry_at is not None and not look.is_anonymous:
            value["retry_at"] = retry_at
        sha256 = cell.video_sha256
        if sha256 is not None:
            if look.has_videos:
                value["video"] = quoted(job.output)
            if sha256 in look.posters:
                value["poster"] = look.posters[sha256]
            if sha256 in look.previews:
                value["preview"] = look.previews[sha256]
        value["record"] = self._record(cell)
        if cell.record is not None:
            value["made"] = True
            value["seconds"] = round(sum((cell.record.get("seconds") or {}).values()), 2)
        if cell.attempts and (len(cell.attempts) > 1 or cell.state is not JobState.DONE):
            value["attempts"] = [self._attempt(one) for one in cell.attempts]
        return value

    def _reason(self, cell: Cell) -> str:
        assert cell.reason is not None
        if not self.look.is_anonymous or cell.state is JobState.STALE:
            return cell.reason
        if cell.state is JobState.PENDING:
            return "not made yet"
        # Error texts name paths and hosts.
        told = (kind_of(one, by_error=False) for one in cell.attempts)
        kinds = [kind for kind in told if kind]
        return kinds[-1] if cell.state is JobState.FAILED and kinds else cell.state.value

    def _attempt(self, attempt: Mapping[str, Any]) -> list[Any]:
        """[outcome, worker, started at, seconds, error, kind]."""
        start, end = attempt.get("started_at") or 0.0, attempt.get("ended_at") or 0.0
        hidden = self.look.is_anonymous
        return [
            attempt.get("outcome"),
            attempt.get("worker"),
            None if hidden else start,
            round(end - start, 2),
            None if hidden else attempt.get("error"),
            kind_of(attempt, by_error=not hidden),
        ]

    def _reference(self, cell: Cell) -> int | None:
        if cell.clip is None:
            return None
        key = seen_of(cell.clip, cell.job.parameters, cell.shape)
        if key not in self._reference_numbers:
            clip, problem = self.look.references.get(key, (None, None))
            path = cell.clip.path
            if self.look.is_anonymous:
                path, problem = path.rpartition("/")[2], problem and "the clip is not here"
            self._reference_numbers[key] = len(self.references)
            self.references.append({"clip": clip, "path": path, "problem": problem})
        return self._reference_numbers[key]

    def _record(self, cell: Cell) -> list[Any]:
        """The sidecar, or what is planned, as [number of its keys, value, value, ...].

        A value that is a list of one number stands for that shared value.
        """
        record = planned(cell) if cell.record is None else cell.record
        if self.look.is_anonymous:
            record = hidden_record(record)
        return [self.keys.number(list(record)), *(self._value(v) for v in record.values())]

    def _value(self, value: Any) -> Any:
        if isinstance(value, (dict, list)) or (
            isinstance(value, str) and len(value) >= SHARED_TEXT_CHARACTERS
        ):
            return [self.shared.number(value)]
        return value


def models_of(run: Run) -> list[str]:
    """What the models are that made a run's videos, as far as their records tell."""
    told = [cell.record.get("model_is") for cell in run.cells if cell.record is not None]
    return sorted({one for one in told if isinstance(one, str)})


def settings_of(run: Run) -> list[str]:
    """The settings by which a run's videos lose something, as their records tell, each with what:
    `tea_cache (approximate)`. Values, and settings that lose nothing, are in the records."""
    told = [cell.record.get("settings") or {} for cell in run.cells if cell.record is not None]
    losses = {(name, own["loss"]) for one in told for name, own in one.items()}
    return sorted(f"{name} ({loss})" for name, loss in losses if loss != Loss.EXACT.value)


def planned(cell: Cell) -> dict[str, Any]:
    """What a sidecar would say of a job, as far as it is known before it is made."""
    return {"job": cell.job.id, "fingerprint": cell.job.fingerprint, **inputs_of(cell.job)}


def quoted(path: str) -> str:
    """A relative path as a URL: every segment percent-encoded."""
    return "/".join(
        quote(segment, safe="", errors="surrogateescape") for segment in path.split("/")
    )
