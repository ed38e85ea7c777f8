"""The `model` and `generation` sections of an experiment with a script of one's own."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from ..section import Loss, Section, key
from ..video_parameters import VideoGeneration

RESERVED = frozenset({"device"})
"""Keys of what `load` is given that are not a person's."""


def json_value(value: object) -> object:
    """The value, where JSON can hold it.

    Raises:
        ValueError: it cannot; YAML's dates, for one.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise ValueError(f"the key {name!r} must be text (quote it)")  # noqa: TRY004
            json_value(inner)
    elif isinstance(value, list):
        for inner in value:
            json_value(inner)
    else:
        json_scalar(value)
    return value


def json_scalar(value: object) -> object:
    """The value, where it is a number, a text, true, false or null.

    Raises:
        ValueError: it is not.
    """
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError("must be a number, a text, true, false or null (quote a date)")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Scalar = Annotated[
    Any,
    BeforeValidator(json_scalar),
    WithJsonSchema({"type": ["number", "string", "boolean", "null"]}),
]


class ScriptSettings(Section):
    """The `model` section: a script, and what it is given."""

    file: str = key(
        min_length=1,
        description="the script: defines load(settings) and generate(job, path), and where "
        "they are of use prepare(group) and close()",
        loss=Loss.ANOTHER_MODEL,
    )
    interpreter: str | None = key(
        None,
        min_length=1,
        description="the Python that runs it, 3.9 or newer: a path or a command; default: the "
        "one that runs the sweep",
        loss=Loss.SAME_ACCURACY,
    )
    settings: dict[str, Annotated[Any, BeforeValidator(json_value)]] = key(
        default_factory=dict,
        description="handed to load(settings); part of the fingerprint",
        loss=Loss.ANOTHER_MODEL,
    )
    files: dict[str, str] = key(
        default_factory=dict,
        description="name -> weights, a module, a folder: handed to load(settings) as absolute "
        "paths, and part of the fingerprint by content",
        loss=Loss.ANOTHER_MODEL,
    )
    environment: dict[str, str] = key(
        default_factory=dict,
        description="further environment variables of the script; on record, so no secrets, and "
        "not part of the fingerprint",
        loss=Loss.EXACT,
    )
    peak_memory_gb: float | None = key(
        None,
        gt=0,
        description="GPU memory of one worker at its peak in GiB, where you know it",
        loss=Loss.EXACT,
    )

    @model_validator(mode="after")
    def _names(self) -> ScriptSettings:
        for name in self.files:
            if name in self.settings:
                raise ValueError(f"{name} is in both settings and files; rename one")
        for name in RESERVED & {*self.settings, *self.files}:
            raise ValueError(f"{name} is what load(settings) is given by the runner; rename yours")
        for name in self.environment:
            if not name or "=" in name:
                raise ValueError(f"environment: {name!r} cannot be the name of a variable")
        return self


class ScriptGeneration(VideoGeneration):
    """The `generation` section: the common keys, and any of one's own.

    One's own keys reach the script in `job.parameters`; their values are numbers, texts, true,
    false or null.
    """

    # No later key: it has been on record since there were scripts.
    method: str | None = Field(None, description=VideoGeneration.model_fields["method"].description)

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]

    @model_validator(mode="after")
    def _no_slips(self) -> ScriptGeneration:
        """Refuse a key that is one of the runner's but for its spelling: it would do nothing."""
        known = {letters(name): name for name in type(self).model_fields}
        for name in self.model_extra or {}:
            if letters(name) in known:
                raise ValueError(f"unknown key {name}; did you mean {known[letters(name)]}?")
        return self


def letters(name: str) -> str:
    """What two spellings of a key have in common: `numFrame` and `num_frames`, `widht`."""
    return "".join(sorted(name.lower().replace("_", "").replace("-", "").rstrip("s")))
