"""Jobs, their states and their outcomes: plain data that knows nothing of files or queues."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class JobState(str, Enum):
    """Where a job stands. Only `done` jobs have a proven video under their fingerprint."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STALE = "stale"
    """Its video is on disk, but was made from inputs that have changed since."""
    RETIRED = "retired"
    """Taken out of the experiment: kept on disk, not counted."""


class Outcome(str, Enum):
    """How one attempt of a job ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The worker was asked to stop; the job went back unharmed."""
    DIED = "died"
    """The worker was killed or crashed; this does not use up the job's retries."""
    LOST_CLAIM = "lost_claim"
    """The claim was no longer the worker's own, so nothing was published."""


@dataclass(frozen=True)
class Reference:
    """A reference clip: its path relative to the project root, and what is in it."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Job:
    """One point of the grid: immutable inputs, parameters, seed and output path.

    `output` is the video's path relative to the run folder, with forward slashes;
    `parameters` is the experiment's `generation` section as the backend resolved it.
    """

    id: str
    category: str
    video: str
    prompt: int
    seed: int
    prompt_text: str
    reference: Reference
    parameters: dict[str, Any]
    fingerprint: str
    output: str

    @property
    def group(self) -> str:
        """The key of the jobs that share this job's reference video."""
        return f"{self.category}/{self.video}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Job:
        return cls(**{**record, "reference": Reference(**record["reference"])})


def canonical_json(value: Any) -> str:
    """The one text form of a value: sorted keys, no spaces, non-ASCII kept as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON in UTF-8."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def job_id(category: str, video: str, prompt: int, seed: int) -> str:
    """A job's id: 16 hex digits that stay the same whatever else the experiment gains."""
    point = {"category": category, "video": video, "prompt": prompt, "seed": seed}
    return sha256_of(point)[:16]
