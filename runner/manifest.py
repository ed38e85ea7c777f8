"""`manifest.jsonl`: one line per job, written by plan and replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .job import Job, canonical_json
from .run_folder import write_atomically

SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """The jobs of a sweep in order, and those once planned that the experiment dropped."""

    jobs: tuple[Job, ...]
    retired: tuple[Job, ...] = ()

    def to_bytes(self) -> bytes:
        lines = [
            canonical_json({"schema": SCHEMA, "retired": retired, **job.to_json()})
            for jobs, retired in ((self.jobs, False), (self.retired, True))
            for job in jobs
        ]
        return "".join(f"{line}\n" for line in lines).encode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()


def write_manifest(path: Path, manifest: Manifest) -> None:
    write_atomically(path, manifest.to_bytes())


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        UserError: there is none, or a line of it is not a job's.
    """
    jobs: list[Job] = []
    retired: list[Job] = []
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no manifest; run `sweep plan` first") from None
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            schema, is_retired = record.pop("schema"), record.pop("retired")
            job = Job.from_json(record)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path}:{number}: is not a job; move the file away, and `sweep plan` makes it anew"
            ) from None
        if schema != SCHEMA:
            raise UserError(f"{path}:{number}: has schema {schema}, this version knows {SCHEMA}")
        (retired if is_retired else jobs).append(job)
    return Manifest(tuple(jobs), tuple(retired))
