"""`attempts.jsonl`: how every attempt ended, appended as it happens; it survives the queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..job import Outcome
from ..job.failures import FailureKind
from ..text.canonical import canonical_json
from ..text.forms import Form, is_count, is_moment, is_number, is_text, mapping_of, misfit, or_none
from ..text.input_file import MOST_RECORDS_BYTES, NotAnInput, lines_in, open_input, parse_json
from .run_folder import append_line

FORM: Form = {
    "job": is_text,
    "worker": is_text,
    "outcome": is_text,
    "started_at": is_moment,
    "ended_at": is_moment,
    "attempt": is_count,
    "kind": or_none(is_text),
    "error": or_none(is_text),
    "seconds": or_none(mapping_of(is_number)),
    "from_step": is_count,
}
"""Of a line: what each key must be where it is there."""
NEEDED = frozenset({"job", "worker", "outcome", "started_at", "ended_at"})
"""Keys that every line has."""


@dataclass(frozen=True)
class AttemptRecord:
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


def record_attempt(path: Path, attempt: AttemptRecord) -> None:
    append_line(path, canonical_json(vars(attempt)).encode("utf-8", "backslashreplace"))


def read_attempts(path: Path, job: str | None = None) -> list[dict[str, Any]]:
    """The attempts recorded so far, of one job or of all, oldest first. A line that is damaged, or
    has a value that its key cannot have, is left out.

    A death is recorded before the job goes back, so that none is lost. Where a process was killed
    between the two, the death is recorded a second time, and counts once.
    """
    attempts = []
    deaths: set[str] = set()
    wanted = (job or "").encode()
    try:
        file = open_input(path, MOST_RECORDS_BYTES)
    except (FileNotFoundError, IsADirectoryError, NotAnInput):
        return []
    with file:
        for line in lines_in(file):
            # A look before the parsing: a hundred thousand jobs have as many lines.
            if wanted not in line:
                continue
            try:
                attempt = parse_json(line)
            except ValueError:
                continue
            if not isinstance(attempt, dict) or not attempt.keys() >= NEEDED:
                continue
            if misfit(attempt, FORM) is not None:
                continue
            if job is not None and attempt.get("job") != job:
                continue
            if attempt.get("outcome") == Outcome.DIED:
                death = canonical_json(
                    [attempt.get(key) for key in ("job", "worker", "started_at")]
                )
                if death in deaths:
                    continue
                deaths.add(death)
            attempts.append(attempt)
    return attempts
