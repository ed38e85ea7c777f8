"""`manifest.jsonl`: one line per job, written by plan and replaced as a whole.

Each line says the number of its job's series; what the series is stands in the first line of it
alone. Said in every line, it would be two thirds of the file, and a plan writes and flushes it all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..job import Job, Series, check_id_and_output, former_records
from ..job.record import SERIES, SHAPE, series_of, series_record
from ..job.shape import Shape
from ..text.canonical import canonical_json, json_in_order
from ..text.errors import UserError
from ..text.forms import checked, is_writable
from ..text.input_file import MOST_MANIFEST_BYTES, NotAnInput, lines_in, open_input, parse_json
from .run_folder import write_atomically

SCHEMA = 3

_MOST_SEED = 2**63


@dataclass(frozen=True)
class Manifest:
    """The jobs of a sweep in order, and those once planned that the experiment dropped."""

    jobs: tuple[Job, ...]
    retired: tuple[Job, ...] = ()

    @property
    def is_chained(self) -> bool:
        """Whether jobs are made from videos of other runs."""
        last: Series | None = None
        for job in self.jobs:
            if job.series is not last:
                last = job.series
                if last.made:
                    return True
        return False


class DamagedManifest(UserError):
    """A manifest that is not as it was written: cut short, or with a line that is no job's.

    `what` says it without the remedy.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; `sweep plan FILE` restores it from the experiment file")
        self.what = what


def write_manifest(path: Path, manifest: Manifest) -> str:
    """Write a manifest line by line; returns the hex sha256 of the file."""
    digest = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        for chunk in _in_chunks(_lines(manifest)):
            digest.update(chunk)
            yield chunk

    write_atomically(path, chunks())
    return digest.hexdigest()


def _lines(manifest: Manifest) -> Iterator[str]:
    """Each job as JSON, with its schema and whether it is retired.

    The first line also says how many there are: a file cut short where a line ends reads well.
    """
    numbers: dict[int, int] = {}
    last: Series | None = None
    count = f'"lines":{len(manifest.jobs) + len(manifest.retired)},'
    end = ""
    for jobs, retired in ((manifest.jobs, "false"), (manifest.retired, "true")):
        for job in jobs:
            told = ""
            if job.series is not last:
                last = job.series
                if id(last) not in numbers:
                    numbers[id(last)] = len(numbers)
                    told = f",{_series_text(last)}"
                end = f',"series":{numbers[id(last)]}'
            yield (
                f'{{"schema":{SCHEMA},{count}"id":"{job.id}","seed":{job.seed},"retired":{retired},'
                f'"fingerprint":"{job.fingerprint}","output":{canonical_json(job.output)}{end}{told}}}\n'
            )
            count = ""


def _series_text(series: Series) -> str:
    """What the first line of a series says of it: keys and values of JSON."""
    told = json_in_order({**series_record(series), "shape": series.shape.to_json()})
    return f'{told[1:-1]},"parameters":{canonical_json(series.parameters)}'


def _in_chunks(lines: Iterator[str], size: int = 2000) -> Iterator[bytes]:
    while chunk := "".join(islice(lines, size)):
        yield chunk.encode()


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, of this schema or a former one.

    Raises:
        DamagedManifest: a line of it is not a job's, or lines are missing.
        UserError: there is none, or it is of another version.
    """
    jobs: list[Job] = []
    retired: list[Job] = []
    wanted: int | None = None
    reader = _Reader()
    try:
        file = open_input(path, MOST_MANIFEST_BYTES)
    except NotAnInput as error:
        raise DamagedManifest(f"{path}: is damaged: {error.strerror}") from None
    except FileNotFoundError:
        raise UserError(f"{path}: there is no manifest; run `sweep plan` first") from None
    with file:
        for number, line in enumerate(lines_in(file), start=1):
            try:
                own, series = reader.read(line)
                job, is_retired = _job(own, series), own["retired"]
                wanted = own.get("lines", wanted)
            except _OtherSchema as error:
                raise UserError(
                    f"{path}:{number}: has schema {error}, this version knows up to {SCHEMA}"
                ) from None
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DamagedManifest(f"{path}:{number}: is damaged: not a job") from None
            (retired if is_retired else jobs).append(job)
    number = len(jobs) + len(retired)
    for name in ("id", "output"):
        if len({getattr(job, name) for job in (*jobs, *retired)}) < number:
            raise DamagedManifest(f"{path}: is damaged: two jobs have the same {name}")
    if number != wanted:
        raise DamagedManifest(
            f"{path}: is damaged: {number} jobs of {wanted or 'an unknown number'}"
        )
    return Manifest(tuple(jobs), tuple(retired))


class _OtherSchema(Exception):
    """A line of a schema that is not known."""


class _Reader:
    """Reads lines; what one has in common with earlier ones is held in memory once."""

    def __init__(self) -> None:
        self._series: list[Series] = []
        self._last: Series | None = None
        self._shared: dict[Any, Any] = {}
        self._parameters: list[dict[str, Any]] = []

    def read(self, line: bytes) -> tuple[dict[str, Any], Series]:
        """What a line says of its job alone, and the series that it is of.

        Raises:
            _OtherSchema: of another schema.
            ValueError, KeyError, TypeError, AttributeError: it is no job's.
        """
        record = parse_json(line)
        schema = record["schema"]
        if type(schema) is not int or not former_records.SCHEMA <= schema <= SCHEMA:
            raise _OtherSchema(f"{schema!r:.20}")
        if schema == SCHEMA:
            return record, self._numbered_series(record)
        if schema == former_records.SCHEMA:
            record = former_records.present_job(record)
        return record, self._shared_series(record)

    def _numbered_series(self, record: dict[str, Any]) -> Series:
        number = record["series"]
        if type(number) is not int or not 0 <= number <= len(self._series):
            raise ValueError(f"{number!r:.40} is the number of no series")
        if number == len(self._series):
            self._series.append(self._shared_series(record))
        return self._series[number]

    def _shared_series(self, record: dict[str, Any]) -> Series:
        told = checked({key: record[key] for key in SERIES}, SERIES)
        shape = Shape.from_json(checked(record["shape"], SHAPE))
        series = series_of(told, self._same_parameters(record["parameters"]), shape)
        series = Series(
            point={name: self._same(value) for name, value in series.point.items()},
            group=self._same(series.group),
            inputs={role: self._same(one) for role, one in series.inputs.items()},
            parameters=series.parameters,
            shape=self._same(series.shape),
        )
        # In a file of a former schema a line does not show that it is of the same one.
        if self._last == series and self._last.parameters is series.parameters:
            return self._last
        self._last = series
        return series

    def _same(self, value: Any) -> Any:
        return self._shared.setdefault((type(value), value), value)

    def _same_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The dict among the known ones that equals this one, else this one, from now on known.

        The one met last stands last: jobs with the same parameters stand next to each other.
        """
        known = self._parameters
        for index in range(len(known) - 1, -1, -1):
            if _is_same(known[index], parameters):
                if index < len(known) - 1:
                    known.append(known.pop(index))
                return known[-1]
        if not isinstance(parameters, dict):
            raise TypeError("parameters are no mapping")
        # Half a character can be in no file: a ValueError.
        canonical_json(parameters).encode()
        known.append(parameters)
        return parameters


def _job(record: dict[str, Any], series: Series) -> Job:
    """A line's job.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    check_id_and_output(record["id"], record["output"])
    seed = record["seed"]
    if type(seed) is not int or not 0 <= seed < _MOST_SEED:
        raise ValueError(f"{seed!r:.40} is no seed")
    if not is_writable(record["fingerprint"]) or not is_writable(record["output"]):
        raise ValueError("what is hashed or a path is no text")
    if not isinstance(record["retired"], bool):
        raise ValueError("neither retired nor not")  # noqa: TRY004
    return Job(record["id"], series, seed, record["fingerprint"], record["output"])


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal also in their types: to Python, 1, 1.0 and true are equal."""
    return one == other and list(map(type, one.values())) == list(map(type, other.values()))
