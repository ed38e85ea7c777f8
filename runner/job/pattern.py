"""A file name pattern of another script's videos: `{video}/prompt{prompt+1}_seed{seed}.mp4`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..text.errors import UserError
from . import InGrid, Job

_FIELD = re.compile(r"\{([^{}]*)\}")
_NUMBER = re.compile(r"(\w+)([+-]\d{1,9})?")
_PARAMETER = re.compile(r"(\w+)(?::(\.\d)?([dfg]))?")


@dataclass(frozen=True)
class Pattern:
    """Where a job's video is expected, as a path below some folder."""

    text: str

    @classmethod
    def parse(cls, text: str, like: InGrid) -> Pattern:
        """Check a pattern.

        Args:
            like: one of the jobs: its point and parameters are the fields.

        Raises:
            UserError: an unknown field, a lone brace, or a path that leaves the folder.
        """
        parameters, names = like.parameters, [*like.point]
        numbers = [name for name, value in like.point.items() if isinstance(value, int)]
        for field in _FIELD.findall(text):
            match = _PARAMETER.fullmatch(field)
            is_parameter = match is not None and match[1] in parameters
            number = _NUMBER.fullmatch(field)
            is_number = number is not None and number[1] in numbers
            if not is_parameter and not is_number and field not in names:
                raise UserError(
                    f"--pattern: {{{field}}} is unknown (valid: "
                    f"{', '.join(f'{{{name}}}' for name in names)}, with a number added "
                    f"{{{numbers[0]}+1}} or {{seed-1}}, and parameters "
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
        axes = dict.fromkeys((*one.point, *one.parameters))
        differing = [name for name in axes if one.on(name) != other.on(name)]
        absent = [f"{{{name}}}" for name in differing if name not in named]
        return f"add {' and '.join(absent)}" if absent else "put something between the fields"


def _value(field: str, job: Job) -> str:
    number = _NUMBER.fullmatch(field)
    if number is not None and number[1] in job.point:
        value = job.on(number[1])
        return str(value + int(number[2] or 0)) if isinstance(value, int) else value
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
