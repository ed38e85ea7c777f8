"""`include` and `exclude`: rules that cut a grid, `{category: camera_motion, seed: [42, 142]}`.

A point of the grid stays where some rule of `include` fits it (or there is none) and no rule of
`exclude` does. A rule fits where all it names is so; for each name it gives a value or a list.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..text.errors import UserError
from .grid import unknown_parameter


@dataclass(frozen=True)
class Rule:
    """One rule: for each axis that it names the values that fit.

    Args:
        name: where it stands, `exclude.0`.
    """

    name: str
    wanted: Mapping[str, tuple[Any, ...]]

    @property
    def is_include(self) -> bool:
        return self.name.startswith("include")

    def given(self, known: Mapping[str, Any]) -> Rule | None:
        """What the rule still asks of other axes where these axes have these values; None where it
        does not fit."""
        for axis, values in self.wanted.items():
            if axis in known and not any(is_same(known[axis], value) for value in values):
                return None
        rest = {axis: values for axis, values in self.wanted.items() if axis not in known}
        return self if len(rest) == len(self.wanted) else Rule(self.name, rest)


@dataclass(frozen=True)
class Cut:
    """The rules that may still fit, as a grid is gone through from its outer axes inwards."""

    rules: tuple[Rule, ...]
    has_include: bool

    @classmethod
    def of(cls, include: Sequence[Mapping[str, Any]], exclude: Sequence[Mapping[str, Any]]) -> Cut:
        rules = [
            Rule(f"{kind}.{number}", {axis: as_tuple(value) for axis, value in rule.items()})
            for kind, given in (("include", include), ("exclude", exclude))
            for number, rule in enumerate(given)
        ]
        return cls(tuple(rules), bool(include))

    def given(self, known: Mapping[str, Any]) -> Cut:
        """The cut where these axes have these values."""
        if not self.rules:
            return self
        left = (rule.given(known) for rule in self.rules)
        return Cut(tuple(rule for rule in left if rule is not None), self.has_include)

    @property
    def may_keep(self) -> bool:
        """Whether a point with these values may be in the grid, for some values on the axes that
        are not yet known."""
        excluded = any(not rule.wanted for rule in self.rules if not rule.is_include)
        return not excluded and (not self.has_include or any(r.is_include for r in self.rules))

    def keep(self, seeds: Sequence[int], fitted: Fitted) -> Sequence[int]:
        """The seeds that stay where all but the seed is known; notes which rules fit."""
        if not self.rules:
            return () if self.has_include else seeds
        return [seed for seed in seeds if self._keeps(seed, fitted)]

    def _keeps(self, seed: int, fitted: Fitted) -> bool:
        fitting = [rule for rule in self.rules if rule.given({"seed": seed}) is not None]
        fitted.names.update(rule.name for rule in fitting)
        included = not self.has_include or any(rule.is_include for rule in fitting)
        return included and all(rule.is_include for rule in fitting)


@dataclass
class Fitted:
    """Which rules have fitted some point of the grid."""

    names: set[str] = field(default_factory=set)

    def note(self, cut: Cut) -> Cut:
        """Note the rules of a cut that fit whatever comes; returns the cut."""
        self.names.update(rule.name for rule in cut.rules if not rule.wanted)
        return cut

    def missing(self, cut: Cut) -> list[str]:
        """The rules that fit nothing."""
        return [rule.name for rule in cut.rules if rule.name not in self.names]


def check_rules(
    kind: str, rules: Iterable[Any], axes: Sequence[str], parameters: Sequence[str]
) -> None:
    """Check the rules of `include` or `exclude`.

    Args:
        axes: of the grid.
        parameters: those that a backend has.

    Raises:
        UserError: a rule is empty, or names what is no axis.
    """
    for number, rule in enumerate(rules):
        where = f"{kind}.{number}"
        if not isinstance(rule, dict) or not rule:
            raise UserError(f"{where}: must name axes and values, such as {{seed: [42, 142]}}")
        for axis, value in rule.items():
            if axis not in axes and axis not in parameters:
                raise UserError(unknown_parameter(f"{where}.{axis}", axis, [*axes, *parameters]))
            if value in (None, []) or isinstance(value, dict):
                raise UserError(f"{where}.{axis}: must have a value, or a list of values")


def as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def is_same(value: Any, wanted: Any) -> bool:
    """Whether a point's value is the rule's; names compare in Unicode's NFC form."""
    if isinstance(value, str) and isinstance(wanted, str):
        return unicodedata.normalize("NFC", value) == unicodedata.normalize("NFC", wanted)
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
