"""A file name pattern of another script's videos: `{video}/prompt{prompt+1}_seed{seed}.mp4`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import UserError
from .job import AXES, Job

_FIELD = re.compile(r"\{([^{}]*)\}")
_POINT = re.compile(r"(category|video)|(prompt|seed)([+-]\d{1,9})?")
_PARAMETER = re.compile(r"(\w+)(?::(\.\d)?([dfg]))?")


@dataclass(frozen=True)
class Pattern:
    """Where a job's video is expected, as a path below some folder."""

    text: str

    @classmethod
    def parse(cls, text: str, parameters: Mapping[str, Any]) -> Pattern:
        """Check a pattern.

        Args:
            parameters: those that jobs have: fields too, numbers also with a format.

        Raises:
            UserError: an unknown field, a lone brace, or a path that leaves the folder.
        """
        for field in _FIELD.findall(text):
            match = _PARAMETER.fullmatch(field)
            is_parameter = match is not None and match[1] in parameters
            if not is_parameter and not _POINT.fullmatch(field):
                raise UserError(
                    f"--pattern: {{{field}}} is unknown (valid: {{category}}, {{video}}, "
                    "{prompt}, {seed}, with a number added {prompt+1} or {seed-1}, and parameters "
                    f"such as {{cfg_scale}} or {{cfg_scale:.2f}}: {', '.join(parameters)})"
                )
            if is_parameter and match and match[3] and not _is_number(parameters[match[1]]):
                raise UserError(f"--pattern: {{{field}}}: {match[1]} is no number")
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
        named = {re.split(r"[+:-]", field)[0] for field in _FIELD.findall(self.text)}
        axes = dict.fromkeys((*AXES, *one.parameters))
        differing = [name for name in axes if one.on(name) != other.on(name)]
        absent = [f"{{{name}}}" for name in differing if name not in named]
        return f"add {' and '.join(absent)}" if absent else "put something between the fields"


def _value(field: str, job: Job) -> str:
    point = _POINT.fullmatch(field)
    if point is not None and point[1]:
        return str(job.on(point[1]))
    if point is not None:
        return str(job.on(point[2]) + int(point[3] or 0))
    parameter = _PARAMETER.fullmatch(field)
    assert parameter is not None
    value = job.on(parameter[1])
    if parameter[3] is None:
        return str(value)
    return format(
        int(value) if parameter[3] == "d" else value, f"{parameter[2] or ''}{parameter[3]}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
