"""`manifest.jsonl`: one line per job, written by plan and replaced as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .errors import UserError
from .forms import Form, checked, is_fps, is_size, is_writable
from .input_file import MOST_MANIFEST, NotAnInput, lines_in, open_input, parse_json
from .job import Job, Reference, canonical_json, check_place
from .run_folder import write_atomically

SCHEMA = 1

PARAMETERS: Form = {"width": is_size, "height": is_size, "num_frames": is_size, "fps": is_fps}
"""What every job's parameters have."""


@dataclass(frozen=True)
class Manifest:
    """The jobs of a sweep in order, and those once planned that the experiment dropped."""

    jobs: tuple[Job, ...]
    retired: tuple[Job, ...] = ()


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
    """Each job as the canonical JSON of its record, its schema and whether it is retired.

    The first line also says how many there are: one cut short where a line ends reads well.
    What neighbouring jobs share is put into JSON once: most of a line is parameters.
    """
    last: list[object] = [None] * 5
    count = f'"lines":{len(manifest.jobs) + len(manifest.retired)},'
    start = middle = end = video = ""
    for jobs, retired in ((manifest.jobs, "false"), (manifest.retired, "true")):
        for job in jobs:
            shared = [job.category, job.video, job.prompt_text, job.reference, job.parameters]
            if any(one is not other for one, other in zip(shared, last, strict=True)):
                last = shared
                start = f'{{"category":{canonical_json(job.category)},"fingerprint":"'
                middle = f'"parameters":{canonical_json(job.parameters)},"prompt":'
                reference = {"path": job.reference.path, "sha256": job.reference.sha256}
                end = (
                    f',"prompt_text":{canonical_json(job.prompt_text)},'
                    f'"reference":{canonical_json(reference)},"retired":'
                )
                video = f',"video":{canonical_json(job.video)}}}\n'
            yield (
                f'{start}{job.fingerprint}","id":"{job.id}",{count}"output":{canonical_json(job.output)},'
                f'{middle}{job.prompt}{end}{retired},"schema":{SCHEMA},"seed":{job.seed}{video}'
            )
            count = ""


def _in_chunks(lines: Iterator[str], size: int = 2000) -> Iterator[bytes]:
    while chunk := "".join(islice(lines, size)):
        yield chunk.encode()


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        DamagedManifest: a line of it is not a job's, or lines are missing.
        UserError: there is none, or it is of another version.
    """
    jobs: list[Job] = []
    retired: list[Job] = []
    shared: dict[Any, Any] = {}
    wanted: int | None = None
    try:
        file = open_input(path, MOST_MANIFEST)
    except NotAnInput as error:
        raise DamagedManifest(f"{path}: is damaged: {error.strerror}") from None
    except FileNotFoundError:
        raise UserError(f"{path}: there is no manifest; run `sweep plan` first") from None
    with file:
        for number, line in enumerate(lines_in(file), start=1):
            try:
                record = parse_json(line)
                wanted = record.pop("lines", wanted)
                schema, is_retired = record.pop("schema"), record.pop("retired")
                job = _job(record, shared)
                if type(schema) is not int or not isinstance(is_retired, bool):
                    raise ValueError("neither of a version nor retired or not")  # noqa: TRY301
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DamagedManifest(f"{path}:{number}: is damaged: not a job") from None
            if schema != SCHEMA:
                raise UserError(
                    f"{path}:{number}: has schema {schema}, this version knows {SCHEMA}"
                )
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


def _job(record: dict[str, Any], shared: dict[Any, Any]) -> Job:
    """A line's job; what it has in common with earlier ones is held in memory once.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    check_place(record["id"], record["output"])
    for name, most in (("seed", 2**63), ("prompt", 2**31)):
        if type(record[name]) is not int or not 0 <= record[name] < most:
            raise ValueError(f"{record[name]!r:.40} is no {name}")
    if not is_writable(record["fingerprint"]) or not is_writable(record["output"]):
        raise ValueError("what is hashed or a path is no text")
    record["parameters"] = _same(record["parameters"], shared.setdefault("parameters", []))
    record["reference"] = Reference(**record["reference"])
    for name in ("category", "video", "prompt_text", "reference"):
        key = name, record[name]
        if key not in shared:
            told = record[name]
            texts = (told.path, told.sha256) if isinstance(told, Reference) else (told,)
            if not all(map(is_writable, texts)):
                raise ValueError(f"{told!r:.40} is no {name}")
            shared[key] = told
        record[name] = shared[key]
    return Job(**record)


def _same(parameters: dict[str, Any], known: list[dict[str, Any]]) -> dict[str, Any]:
    """The dict among the known ones that equals this one, else this one, from now on known.

    The one met last stands last: jobs with the same parameters stand next to each other.
    """
    for place in range(len(known) - 1, -1, -1):
        if _is_same(known[place], parameters):
            if place < len(known) - 1:
                known.append(known.pop(place))
            return known[-1]
    checked({name: parameters[name] for name in PARAMETERS}, PARAMETERS)
    # Half a character can be in no file: a ValueError.
    canonical_json(parameters).encode()
    known.append(parameters)
    return parameters


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal also in their types: to Python, 1, 1.0 and true are equal."""
    return one == other and list(map(type, one.values())) == list(map(type, other.values()))
