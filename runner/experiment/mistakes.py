"""What is wrong with an experiment, as a person is told it: key, value and remedy in two lines."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..backends import Section


def describe(error: ValidationError, schema: type[Section]) -> list[str]:
    """A line on the first mistake with its key and remedy, and one on the keys of the others."""
    details = error.errors(include_url=False, include_context=False)
    first = _describe_one(details[0], schema)
    if len(details) == 1:
        return [first]
    others = ", ".join(dict.fromkeys(dotted(detail["loc"]) for detail in details[1:]))
    return [first, f"also wrong: {others}"]


def _describe_one(detail: ErrorDetails, schema: type[Section]) -> str:
    loc, kind = detail["loc"], detail["type"]
    key = dotted(loc)
    if kind == "extra_forbidden":
        # `overrides` is written by plan, not by a person.
        valid = sorted(set(valid_keys(schema, loc[:-1])) - {"overrides"})
        near = difflib.get_close_matches(str(loc[-1]), valid, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{key}: unknown key{hint} (valid: {', '.join(valid)})"
    if kind == "missing":
        return f"{key}: this key is missing"
    if kind == "string_pattern_mismatch" and key == "name":
        return f"name: {detail['input']!r} may have letters, digits, _ and - (1 to 100, no - first)"
    message = detail["msg"].removeprefix("Value error, ")
    message = f"{message[:1].lower()}{message[1:]}"
    if kind == "value_error" and isinstance(detail["input"], dict):
        # Of several keys together, which it names itself.
        return f"{key}: {message}"
    return f"{key}: {shown(detail['input'])}: {message}"


def valid_keys(schema: type[Section], loc: Sequence[int | str]) -> list[str]:
    for name in loc:
        inner = schema.model_fields[str(name)].annotation
        if not isinstance(inner, type) or not issubclass(inner, Section):
            return []
        schema = inner
    return list(schema.model_fields)


def dotted(loc: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in loc) or "experiment"


def shown(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
