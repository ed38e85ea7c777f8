"""The axes of a grid: what any two can be put on rows and columns of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..job import canonical_json
from ..reading import PARAMETERS
from .cells import Cell, Run

Value = Any


@dataclass(frozen=True)
class Axis:
    """One axis: its name and its values in the order of the manifest."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Grid:
    """The axes of some runs, and for each cell of each run its place on every one of them."""

    axes: tuple[Axis, ...]
    places: tuple[tuple[tuple[int, ...], ...], ...]
    """Per run and cell: an index into each axis' values."""


def lay_out(runs: Sequence[Run]) -> Grid:
    """Find the axes of runs: category, video, prompt, seed, every parameter that differs within
    a run, and `run` itself where there are several.

    A parameter that differs only from run to run is no axis of its own: the runs say it.
    """
    varying = [name for name in _parameters(runs) if any(_varies(run, name) for run in runs)]
    names = ["category", "video", "prompt", "seed", *varying]
    if len(runs) > 1:
        names.append("run")
    values: list[dict[str, int]] = [{} for _ in names]
    originals: list[list[Value]] = [[] for _ in names]
    places = []
    for run in runs:
        own = []
        for cell in run.cells:
            place = []
            for number, value in enumerate(_point(run, cell, varying, len(runs) > 1)):
                key = canonical_json(value)
                index = values[number].setdefault(key, len(values[number]))
                if index == len(originals[number]):
                    originals[number].append(value)
                place.append(index)
            own.append(tuple(place))
        places.append(tuple(own))
    axes = tuple(Axis(n, tuple(v)) for n, v in zip(names, originals, strict=True))
    return Grid(axes, tuple(places))


def parameter_differences(runs: Sequence[Run]) -> list[dict[str, Value]]:
    """For each run the parameters that are one value within every run, but not the same in all."""
    result: list[dict[str, Value]] = [{} for _ in runs]
    for name in _parameters(runs):
        if any(_differs(run, name) for run in runs):
            continue
        values = [run.cells[0].job.parameters.get(name) if run.cells else None for run in runs]
        if len({canonical_json(value) for value in values}) > 1:
            for own, value in zip(result, values, strict=True):
                own[name] = value
    return result


def _point(run: Run, cell: Cell, varying: Sequence[str], several: bool) -> list[Value]:
    job = cell.job
    point = [job.category, job.video, job.prompt, job.seed]
    point += [job.parameters.get(name) for name in varying]
    return [*point, run.name] if several else point


def _parameters(runs: Sequence[Run]) -> list[str]:
    shared = {id(c.job.parameters): c.job.parameters for run in runs for c in run.cells}
    others = (name for parameters in shared.values() for name in parameters)
    return list(dict.fromkeys([*(name for run in runs for name in run.parameter_axes), *others]))


def _varies(run: Run, name: str) -> bool:
    """Whether a parameter is an axis of a run. How clips are read is none where each of them is
    read in one way: then the clip says it."""
    if not _differs(run, name):
        return False
    if name not in PARAMETERS:
        return True
    ways = {(cell.job.group, str(cell.job.parameters.get(name))) for cell in run.cells}
    return len(ways) > len({cell.job.group for cell in run.cells})


def _differs(run: Run, name: str) -> bool:
    # Jobs share their parameters, so there are few to compare, however many jobs there are.
    shared = {id(cell.job.parameters): cell.job.parameters for cell in run.cells}
    return len({canonical_json(parameters.get(name)) for parameters in shared.values()}) > 1
