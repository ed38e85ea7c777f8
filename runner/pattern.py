"""A file name pattern of another script's videos: `{video}/prompt{prompt+1}_seed{seed}.mp4`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import UserError
from .job import Job

FIELDS = ("category", "video", "prompt", "seed")
_FIELD = re.compile(r"\{([^{}]*)\}")
_KNOWN = re.compile(r"(category|video)|(prompt|seed)([+-]\d{1,9})?")


@dataclass(frozen=True)
class Pattern:
    """Where a job's video is expected, as a path below some folder."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Check a pattern.

        Raises:
            UserError: an unknown field, a lone brace, or a path that leaves the folder.
        """
        for field in _FIELD.findall(text):
            if not _KNOWN.fullmatch(field):
                raise UserError(
                    f"--pattern: {{{field}}} is unknown (valid: {{category}}, {{video}}, "
                    "{prompt}, {seed}, and with a number added {prompt+1} or {seed-1})"
                )
        if set(_FIELD.sub("", text)) & set("{}"):
            raise UserError(f"--pattern {text!r}: has a brace without its partner")
        parts = text.split("/")
        if not text or "\0" in text or any(part in ("", ".", "..") for part in parts):
            raise UserError(
                f"--pattern {text!r}: must be a path below FOLDER, such as "
                "{video}/prompt{prompt+1}_seed{seed}.mp4"
            )
        return cls(text)

    def path(self, job: Job) -> str:
        """The path at which a job's video is expected."""
        return _FIELD.sub(lambda field: _value(field[1], job), self.text)

    def paths(self, jobs: Sequence[Job]) -> dict[str, Job]:
        """Each job by its path.

        Raises:
            UserError: the pattern does not tell two jobs apart.
        """
        found: dict[str, Job] = {}
        for job in jobs:
            path = self.path(job)
            other = found.setdefault(path, job)
            if other is not job:
                raise UserError(
                    f"--pattern {self.text!r}: {other.output} and {job.output} would both be "
                    f"{path!r}; {self._missing(other, job)}"
                )
        return found

    def _missing(self, one: Job, other: Job) -> str:
        named = {field.rstrip("0123456789").rstrip("+-") for field in _FIELD.findall(self.text)}
        differing = [name for name in FIELDS if getattr(one, name) != getattr(other, name)]
        absent = [f"{{{name}}}" for name in differing if name not in named]
        return f"add {' and '.join(absent)}" if absent else "put something between the fields"


def _value(field: str, job: Job) -> str:
    known = _KNOWN.fullmatch(field)
    assert known is not None
    if known[1]:
        return str(getattr(job, known[1]))
    return str(getattr(job, known[2]) + int(known[3] or 0))
