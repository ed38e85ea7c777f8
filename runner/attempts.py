"""`attempts.jsonl`: how every attempt ended, appended as it happens; it survives the queue."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .failures import FailureKind
from .job import Outcome, canonical_json
from .run_folder import append_line


@dataclass(frozen=True)
class Attempt:
    """One try of a job by a worker, the job's `attempt`-th since it last began anew.

    Times are Unix seconds; `seconds` are per stage. `kind` is that of a failure, else None.
    `from_step`: steps that earlier attempts had done for it, and from which it went on.
    """

    job: str
    worker: str
    outcome: Outcome
    started_at: float
    ended_at: float
    attempt: int = 1
    kind: FailureKind | None = None
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    from_step: int = 0


def record_attempt(path: Path, attempt: Attempt) -> None:
    append_line(path, canonical_json(vars(attempt)).encode("utf-8", "backslashreplace"))


def read_attempts(path: Path) -> list[dict[str, Any]]:
    """Every attempt recorded so far, oldest first; a line cut short by a power cut is left out."""
    attempts = []
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            attempts.append(json.loads(line))
        except ValueError:
            continue
    return attempts
