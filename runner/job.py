"""Jobs, their states and their outcomes: plain data that knows nothing of files or queues."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Protocol

AXES = ("category", "video", "prompt", "seed")
"""The axes of every grid; an experiment may add parameters."""

LONGEST_SUFFIX = 120
"""Characters that axes may add to a file name, which can have 255 bytes in all."""


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


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference clip: its path relative to the project root, and what is in it."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Job:
    """One point of the grid: immutable inputs, parameters, seed and output path.

    `output` is the video's path relative to the run folder, with forward slashes;
    `parameters` is the experiment's `generation` section as the backend resolved it, with this
    job's values of the parameter axes; jobs share such dicts, so nobody changes them.
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

    def on(self, axis: str) -> Any:
        """Its value on an axis of the grid, a parameter too; None where it has no such one."""
        return getattr(self, axis) if axis in AXES else self.parameters.get(axis)

    def to_json(self) -> dict[str, Any]:
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        reference = {"path": self.reference.path, "sha256": self.reference.sha256}
        return {**record, "reference": reference}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Job:
        return cls(**{**record, "reference": Reference(**record["reference"])})


_ID = re.compile(r"[0-9a-f]{16}")


def check_place(job_id: Any, output: Any) -> None:
    """Raise ValueError where these are no job's id and no path of a video below the run folder.

    What a manifest or a queue says is input like any other: folders are named after the id, and
    files are written and moved at the path.
    """
    if not isinstance(job_id, str) or not _ID.fullmatch(job_id):
        raise ValueError(f"{job_id!r:.60} is no job's id")
    parts = output.split("/") if isinstance(output, str) else []
    if len(parts) < 2 or "\0" in output or not output.endswith(".mp4"):
        raise ValueError(f"{output!r:.60} is no video's path")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{output!r:.60} leads out of the run folder")


class Point(Protocol):
    """Where in the grid something stands: a job, or the little of one that a choice needs."""

    @property
    def id(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def video(self) -> str: ...
    @property
    def prompt(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def group(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...


def canonical_json(value: Any) -> str:
    """The one text form of a value: sorted keys, no spaces, non-ASCII kept as it is."""
    return _encode(value)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def sha256_of(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON in UTF-8."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def job_id(
    category: str, video: str, prompt: int, seed: int, differing: Mapping[str, Any] | None = None
) -> str:
    """A job's id: 16 hex digits that stay the same whatever else the experiment gains.

    Args:
        differing: the parameters that an axis sets differently from `generation`.
    """
    return next(job_ids(category, video, prompt, [seed], differing))


def job_ids(
    category: str,
    video: str,
    prompt: int,
    seeds: Sequence[int],
    differing: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """The ids of the jobs that differ in nothing but the seed.

    Each is of the canonical JSON of {category, prompt, seed, video}, with `parameters` where
    some differ; what stands before the seed is hashed once.
    """
    point: dict[str, Any] = {"category": category, "video": video, "prompt": prompt}
    if differing:
        point["parameters"] = dict(differing)
    return (digest[:16] for digest in sha256_of_each(point, "seed", seeds))


def path_suffix(differing: Mapping[str, Any]) -> str:
    """What differing parameters add to the name of a video: `_cfg_scale=3.0_num_frames=49`.

    Two sets of them never share a suffix: names come in one order, no value has a `_` or a `=`,
    and what would be too long is the hash of all of it.
    """
    words = [f"_{name}={path_word(differing[name])}" for name in sorted(differing)]
    suffix = "".join(words)
    if len(suffix) > LONGEST_SUFFIX:
        return f"_parameters={_hashed(dict(differing))}"
    return suffix


_PLAIN = re.compile(r"[A-Za-z0-9+-]{1,32}")
_HASHED = re.compile(r"h[0-9a-f]{12}")


def path_word(value: Any) -> str:
    """A parameter's value in a file name: a number as it is, so a short plain text; else a hash.

    A text that reads like a number or a hash is hashed, so that no two values share a word.
    """
    if not isinstance(value, str):
        return _hashed(value) if isinstance(value, (list, dict)) else canonical_json(value)
    is_plain = _PLAIN.fullmatch(value) and not _HASHED.fullmatch(value)
    return value if is_plain and not _is_json(value) else _hashed(value)


def _hashed(value: Any) -> str:
    return f"h{sha256_of(value)[:12]}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def sha256_of_each(common: dict[str, Any], key: str, values: Sequence[int]) -> Iterator[str]:
    """`sha256_of({**common, key: value})` for each value, hashing the common beginning once."""
    before = canonical_json({k: v for k, v in common.items() if k < key})
    after = canonical_json({k: v for k, v in common.items() if k > key})
    comma = "," if before != "{}" else ""
    head = f"{before[:-1]}{comma}{json.dumps(key)}:".encode("utf-8", "surrogatepass")
    tail = (f",{after[1:]}" if after != "{}" else "}").encode("utf-8", "surrogatepass")
    prefix = hashlib.sha256(head)
    for value in values:
        digest = prefix.copy()
        digest.update(b"%d" % value + tail)
        yield digest.hexdigest()


def is_said(value: Any, text: str) -> bool:
    """Whether a word of the command line means this value: `5`, `5.0` and `5.00` mean 5.0."""
    if text in (str(value), canonical_json(value)):
        return True
    if isinstance(value, str):
        return False
    try:
        said = json.loads(text)
    except ValueError:
        try:
            said = float(text)
        except ValueError:
            return False
    return isinstance(said, bool) == isinstance(value, bool) and bool(said == value)
