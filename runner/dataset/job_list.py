"""A hand-made list of jobs in the place of a grid: a CSV, TSV or JSONL file, one job per line.

Its columns (keys, in JSONL) are `category`, the backend's input axes (`video`, `prompt`), `seed`,
any parameter of the backend, and `start` and `fit` of the clip. `category` may be absent where
there is only one; an empty cell is as in the experiment.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..experiment.experiment import Experiment, refuse_unwritable
from ..experiment.grid import ParameterSet, shown
from ..job import CATEGORY, SEED
from ..job.axes import PROMPT
from ..text.canonical import canonical_json
from ..text.errors import UserError
from ..text.text_file import read_text
from ..video.reading import KEYS, checked_fit, checked_start

DELIMITERS = {".csv": ",", ".tsv": "\t"}
MOST_PROBLEMS_TOLD = 20


@dataclass(frozen=True)
class ListedJob:
    """One line of a list of jobs.

    Args:
        where: its file and line, for a person.
        category: None where the line names none.
        names: of its files, by axis.
        reading: what the line says of `Reading`.
    """

    where: str
    category: str | None
    names: Mapping[str, str]
    prompt: str | None
    seed: int
    parameter_set: ParameterSet
    reading: Mapping[str, Any] = field(default_factory=dict)


def read_job_list(experiment: Experiment) -> list[ListedJob]:
    """Read the experiment's list.

    Raises:
        UserError: it cannot be read, or lines are wrong: each by file, line and column.
    """
    assert experiment.jobs is not None
    path = experiment.data / experiment.jobs
    parameters = experiment.parameter_names
    parameter_sets: dict[str, ParameterSet] = {}
    found: list[ListedJob] = []
    problems: list[str] = []
    first: dict[tuple[Any, ...], str] = {}
    for line, record in read_records(experiment, path):
        where = f"{experiment.jobs}:{line}"
        try:
            refuse_unknown(where, record, experiment.input_axes.names, parameters)
            job = _listed(experiment, where, record, parameter_sets)
        except UserError as error:
            problems.append(str(error))
            continue
        read = tuple(job.reading.items())
        names = tuple(job.names.items())
        key = (job.category, names, job.prompt, job.seed, id(job.parameter_set), read)
        if first.setdefault(key, where) != where:
            problems.append(f"{where}: is the same job as {first[key]}; take one of them out")
        found.append(job)
    if problems:
        more = (
            [f"and {len(problems) - MOST_PROBLEMS_TOLD} more"]
            if len(problems) > MOST_PROBLEMS_TOLD
            else []
        )
        raise UserError(*problems[:MOST_PROBLEMS_TOLD], *more)
    if not found:
        raise UserError(f"{experiment.jobs}: has no jobs; it needs a line for each")
    return found


def _listed(
    experiment: Experiment,
    where: str,
    record: Mapping[str, Any],
    parameter_sets: dict[str, ParameterSet],
) -> ListedJob:
    axes = experiment.input_axes
    category = record.get(CATEGORY)
    for column in (CATEGORY, *(axis.name for axis in axes.inputs)):
        if record.get(column) is not None:
            text_of(where, column, record[column])
    for column in needed(experiment):
        if record.get(column) is None:
            raise UserError(f"{where}: {column}: is missing; every job needs one")
    values = {n: v for n, v in record.items() if n not in axes.names and v is not None}
    own = experiment.parameter_names
    reading = {key: values.pop(key) for key in KEYS if key in values and key not in own}
    key = canonical_json(values)
    if key not in parameter_sets:
        parameter_set = experiment.parameter_set_of(values, where)
        # However a value is written, jobs of the same parameters share their set.
        whole = canonical_json(parameter_set.parameters)
        parameter_sets[key] = parameter_sets.setdefault(f"whole {whole}", parameter_set)
    return ListedJob(
        where,
        category,
        {axis.name: record[axis.name] for axis in axes.files if record.get(axis.name) is not None},
        record.get(PROMPT.name),
        seed_of(where, record[SEED]),
        parameter_sets[key],
        reading_of(where, reading),
    )


def needed(experiment: Experiment) -> list[str]:
    """The columns without which a line names no job."""
    axes = experiment.input_axes
    inputs = [axis.name for axis in axes.inputs if not axis.is_optional]
    return [*inputs, SEED]


def reading_of(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a line says of how its clip is read: in a CSV it is text."""
    checked: dict[str, Any] = {}
    for key, value in given.items():
        try:
            checked[key] = checked_start(value) if key == "start" else checked_fit(value)
        except ValueError as error:
            raise UserError(f"{where}: {key}: {shown(value)} {error}") from None
    return checked


def text_of(where: str, column: str, value: Any) -> str:
    """A text that can stand in a file and says something."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: {column}: {shown(value)} must be text")
    try:
        refuse_unwritable(value)
    except ValueError as error:
        raise UserError(f"{where}: {column}: {error}") from None
    return value


def seed_of(where: str, value: Any) -> int:
    """A seed as a number: in a CSV it is text."""
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if type(number) is not int or not 0 <= number < 2**63:
        raise UserError(f"{where}: seed: {shown(value)} must be a whole number from 0")
    return number


def refuse_unknown(
    where: str, record: Mapping[str, Any], axes: Sequence[str], parameters: Sequence[str]
) -> None:
    columns = (*axes, *KEYS)
    for column in record:
        if column not in columns and column not in parameters:
            near = difflib.get_close_matches(str(column), [*columns, *parameters], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(
                f"{where}: {column}: no such column{hint} (valid: {', '.join(columns)}, and the "
                f"parameters {', '.join(sorted(parameters))})"
            )


def read_records(experiment: Experiment, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and what it says, by column; None for an empty cell."""
    suffix = path.suffix.lower()
    absent = (
        f"{experiment.file}: jobs: no such file: {path} (relative paths start at {experiment.data})"
    )
    text = read_text(path, "list of jobs", absent=absent)
    if suffix == ".jsonl":
        yield from _json_lines(str(experiment.jobs), text)
    elif suffix in DELIMITERS:
        yield from _rows(str(experiment.jobs), text, DELIMITERS[suffix], needed(experiment))
    else:
        valid = ", ".join([*DELIMITERS, ".jsonl"])
        raise UserError(f"{experiment.file}: jobs: {path.name} must end in one of {valid}")


def _json_lines(name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(f"{name}:{number}: not valid JSON: {said}") from None
        if not isinstance(record, dict):
            raise UserError(f'{name}:{number}: must be an object such as {{"video": "a", ...}}')
        yield number, record


def _rows(
    name: str, text: str, delimiter: str, wanted: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    try:
        head = [column.strip() for column in next(reader, [])]
        missing = [column for column in wanted if column not in head]
        if missing:
            raise UserError(
                f"{name}:1: has no column {' and no column '.join(missing)} (its first line names "
                f"the columns; needed: {', '.join(wanted)})"
            )
        repeated = [column for column in head if head.count(column) > 1]
        if repeated:
            raise UserError(f"{name}:1: {repeated[0]}: this column is there twice")
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(head):
                raise UserError(
                    f"{name}:{line}: has {len(cells)} cells, the first line {len(head)}; quote a "
                    "cell that has the delimiter in it"
                )
            yield line, {c: v if v.strip() else None for c, v in zip(head, cells, strict=True)}
    except csv.Error as error:
        raise UserError(f"{name}:{reader.line_num}: not valid CSV: {error}") from None
