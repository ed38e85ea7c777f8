"""Overrides: keys of an experiment that the command line sets, `seeds=[1,2,3]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from ..text.errors import UserError
from ..text.yaml_file import UniqueKeyLoader


def merged_overrides(former: Sequence[str], later: Sequence[str]) -> list[str]:
    """Both lists in order, without those whose key a later one sets again.

    A later override without a value (`seeds=`) takes a former one back.

    Raises:
        UserError: one is no `key=value`, or takes back what was not given.
    """
    merged = {override.partition("=")[0]: override for override in former}
    for override in later:
        key, _, value = override.partition("=")
        if not key or value.startswith("="):
            raise UserError(
                f"{override!r}: an override is key=value, such as seeds=[1,2,3] (quote a value "
                "that begins with =)"
            )
        if takes_back(override) and key not in merged:
            there = ", ".join(merged) or "none"
            raise UserError(f"{override!r}: no such override is in force (there are: {there})")
        merged.pop(key, None)
        if not takes_back(override):
            merged[key] = override
    return list(merged.values())


def takes_back(override: str) -> bool:
    """Whether it is `KEY=`, which takes a former override back."""
    return override.endswith("=") and override.count("=") == 1


def apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.split(".")
    if not equals or not all(names):
        raise UserError(
            f"{override!r}: an override is key=value, such as generation.num_inference_steps=20"
        )
    try:
        value = yaml.load(text, UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"{override!r}: the value is not YAML (quote it?)") from None
    section = values
    for number, name in enumerate(names[:-1]):
        rest = ".".join(names[number:])
        if rest in section:
            # An axis is named after a parameter, which may be a section's.
            section[rest] = value
            return
        inner = section.get(name)
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise UserError(f"{override!r}: {name} is a value, not a section")
        section[name] = inner = dict(inner)
        section = inner
    section[names[-1]] = value
