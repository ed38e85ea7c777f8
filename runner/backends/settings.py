"""The settings of a model that are not their default: what is said of them, and what they
decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..text.canonical import canonical_json
from .section import Loss, Section, defaults, is_default, leaves

VALUE_CHARACTERS = 40
"""Of a setting's value, in a line."""


@dataclass(frozen=True)
class Setting:
    """A key of a `model` section that is not its default: its value as JSON has it, and what a
    video loses by it."""

    name: str
    value: Any
    loss: Loss

    def __str__(self) -> str:
        text = self.value if isinstance(self.value, str) else canonical_json(self.value)
        if len(text) > VALUE_CHARACTERS:
            text = f"{text[: VALUE_CHARACTERS - 3]}..."
        return f"{self.name}={text}"


def settings_set(section: Section) -> list[Setting]:
    """The settings of a `model` section that are not their default, in the schema's order."""
    return [
        Setting(leaf.name, leaf.value, leaf.loss or Loss.ANOTHER_MODEL)
        for leaf in leaves(section)
        if not is_default(leaf, type(section))
    ]


def settings_record(settings: Iterable[Setting]) -> dict[str, dict[str, Any]]:
    """Of these settings by name `value` and `loss`, as JSON."""
    return {one.name: {"value": one.value, "loss": one.loss.value} for one in settings}


def settings_line(settings: Iterable[Setting]) -> str:
    """These settings for a person, what loses most first, such as
    `checkpoint=models/a (another model); compile=true (same accuracy)`; "" for none."""
    said: dict[Loss, list[str]] = {}
    for one in settings:
        said.setdefault(one.loss, []).append(str(one))
    return "; ".join(
        f"{', '.join(said[loss])} ({loss.value})" for loss in reversed(Loss) if loss in said
    )


def deciding_settings(section: Section) -> Mapping[str, Any]:
    """Those settings that change a model's videos, if only in their last bits, for its identity:
    all that are neither exact nor name another model, which is told by its content. Later ones
    are left out where they are their default."""
    decisive = (Loss.SAME_ACCURACY, Loss.APPROXIMATE)
    return {
        leaf.name: leaf.value
        for leaf in leaves(section)
        if leaf.loss in decisive and not (leaf.is_later and is_default(leaf, type(section)))
    }


def without_loss(schema: type[Section]) -> list[str]:
    """The keys of a `model` section that do not say what is lost by them."""
    return [name for name, leaf in defaults(schema).items() if leaf.loss is None]
