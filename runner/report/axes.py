"""The axes of a grid: what any two can be put on rows and columns of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..job import CATEGORY, METHOD, SEED
from ..text.canonical import canonical_json
from ..video.reading import PARAMETERS
from .cells import Run

AxisValue = Any

_ABSENT = ""
"""In the place of a value's JSON, which is never empty."""


class AxisKind(str, Enum):
    """What the values of an axis are."""

    CATEGORY = "category"
    LEADING = "leading"
    FILE = "file"
    TEXT = "text"
    SEED = "seed"
    PARAMETER = "parameter"
    RUN = "run"


@dataclass(frozen=True)
class Axis:
    """One axis: its name and its values in the order of the manifest.

    `absent` is the index of the jobs whose method has no such parameter, where there are any; its
    value is None.
    """

    name: str
    kind: AxisKind
    values: tuple[AxisValue, ...]
    absent: int | None = None


@dataclass(frozen=True)
class Grid:
    """The axes of some runs. `indices` has, for each cell of each run, the index of its value on
    every axis."""

    axes: tuple[Axis, ...]
    indices: tuple[tuple[tuple[int, ...], ...], ...]
    """Per run and cell: an index into each axis' values."""


def lay_out(runs: Sequence[Run]) -> Grid:
    """Find the axes of runs: those of their grids, every parameter that differs within a method of
    a run, and `run` itself where there are several.

    A parameter that differs only from run to run, or from method to method, is no axis of its own:
    the run or the method says it.
    """
    varying = [name for name in _parameters(runs) if any(_varies(run, name) for run in runs)]
    kinds = {**_of_grids(runs), **dict.fromkeys(varying, AxisKind.PARAMETER)}
    if len(runs) > 1:
        kinds["run"] = AxisKind.RUN
    names = list(kinds)
    values: list[dict[str, int]] = [{} for _ in names]
    originals: list[list[AxisValue]] = [[] for _ in names]
    indices = []
    for run in runs:
        own = []
        known = _of_methods(run)
        for cell in run.cells:
            cell_indices = []
            for number, name in enumerate(names):
                value = run.name if kinds[name] is AxisKind.RUN else run.value_on(cell.job, name)
                is_own = kinds[name] is not AxisKind.PARAMETER or name in known[cell.job.method]
                key = canonical_json(value) if is_own else _ABSENT
                index = values[number].setdefault(key, len(values[number]))
                if index == len(originals[number]):
                    originals[number].append(value)
                cell_indices.append(index)
            own.append(tuple(cell_indices))
        indices.append(tuple(own))
    own_axes = zip(kinds.items(), originals, values, strict=True)
    axes = tuple(
        Axis(name, kind, tuple(own), index.get(_ABSENT)) for (name, kind), own, index in own_axes
    )
    return Grid(axes, tuple(indices))


def _of_grids(runs: Sequence[Run]) -> dict[str, AxisKind]:
    """The axes of runs that are no parameters; several runs need not have the same ones."""
    kinds = {CATEGORY: AxisKind.CATEGORY}
    for run in runs:
        for axis in run.axes.inputs:
            own = AxisKind.FILE if axis.kind.is_file else AxisKind.TEXT
            kinds.setdefault(axis.name, AxisKind.LEADING if axis is run.axes.leading else own)
    there = {id(c.job.series): c.job.series.point for run in runs for c in run.cells}
    used = {CATEGORY, *(axis for point in there.values() for axis in point)}
    return {**{axis: kind for axis, kind in kinds.items() if axis in used}, SEED: AxisKind.SEED}


def parameter_differences(runs: Sequence[Run]) -> list[dict[str, AxisValue]]:
    """For each run the parameters that are one value within every run, but not the same in all."""
    result: list[dict[str, AxisValue]] = [{} for _ in runs]
    for name in _parameters(runs):
        if any(_differs(run, name) for run in runs):
            continue
        values = [run.value_on(run.cells[0].job, name) if run.cells else None for run in runs]
        if len({canonical_json(value) for value in values}) > 1:
            for own, value in zip(result, values, strict=True):
                own[name] = value
    return result


def _parameters(runs: Sequence[Run]) -> list[str]:
    others = (name for run in runs for parameters in run.parameters for name in parameters)
    return list(dict.fromkeys([*(name for run in runs for name in run.parameter_axes), *others]))


def _varies(run: Run, name: str) -> bool:
    """Whether a parameter is an axis of a run. How clips are read is none where each of them is
    read in one way: then the clip says it."""
    if not _differs(run, name):
        return False
    if name not in PARAMETERS:
        return name in (METHOD, *run.parameter_axes) or _differs_within_a_method(run, name)
    ways = {(cell.job.group, str(cell.job.parameters.get(name))) for cell in run.cells}
    return len(ways) > len({cell.job.group for cell in run.cells})


def _differs_within_a_method(run: Run, name: str) -> bool:
    values: dict[Any, set[str]] = {}
    for parameters in run.parameters:
        own = canonical_json(parameters.get(name))
        values.setdefault(parameters.get(METHOD), set()).add(own)
    return any(len(own) > 1 for own in values.values())


def _of_methods(run: Run) -> dict[Any, set[str]]:
    """The parameters that the jobs of each method have; `method` itself is every method's."""
    found: dict[Any, set[str]] = {}
    for parameters in run.parameters:
        method = parameters.get(METHOD)
        found.setdefault(method, {METHOD, *run.unsaid.get(method, ())}).update(parameters)
    return found


def _differs(run: Run, name: str) -> bool:
    values = {canonical_json(parameters.get(name)) for parameters in run.parameters}
    return len(values) > 1
