"""What a check has found: plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

MOST_FINDINGS_ALIKE = 12
"""Findings of one kind that are listed; a person mends these first."""


class Severity(Enum):
    """RIGHT; WARNING, which may cost time or make worse videos; WRONG, with which a sweep fails."""

    RIGHT = "right"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One line of the answer. `remedy` is empty where there is nothing to do."""

    name: str
    verdict: Severity
    what: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "what": self.what,
            "remedy": self.remedy,
        }


def right(name: str, what: str) -> Finding:
    return Finding(name, Severity.RIGHT, what)


def warning(name: str, what: str, remedy: str) -> Finding:
    return Finding(name, Severity.WARNING, what, remedy)


def wrong(name: str, what: str, remedy: str) -> Finding:
    return Finding(name, Severity.WRONG, what, remedy)


def shortened(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first of them, and how many more there are."""
    everything = list(findings)
    yield from everything[:MOST_FINDINGS_ALIKE]
    if rest := everything[MOST_FINDINGS_ALIKE:]:
        worst = (
            Severity.WRONG if any(f.verdict is Severity.WRONG for f in rest) else Severity.WARNING
        )
        yield Finding(rest[0].name, worst, f"and {len(rest)} more", "the same again")
