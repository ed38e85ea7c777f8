"""A sidecar's keys beside those that the documentation promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "sidecar.md"
ON_A_CPU = (
    "nothing was compiled",
    "without a GPU",
    "on a CPU",
    "outside git",
    "where we made it",
    "/proc",
)
OPEN = {
    "point",
    "inputs",
    "shape",
    "parameters",
    "model",
    "settings",
    "model_identity",
    "seconds",
    "versions",
}
"""Mappings whose keys are the experiment's, the backend's or the machine's."""


def documented() -> dict[str, str]:
    """Each key of the document, and when it is null."""
    rows = re.findall(r"^\| `([a-z_0-9.]+)` \|.*\| ([^|]+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {key: null.strip() for key, null in rows}


def keys_of(sidecar: dict[str, Any]) -> set[str]:
    found = set()
    for key, value in sidecar.items():
        if isinstance(value, dict) and key == "video":
            found |= {f"{key}.{inner}" for inner in value}
        else:
            found.add(key)
    return found


def assert_documented(sidecar: dict[str, Any], *nulls: str) -> None:
    """All documented keys and no other; null only where the document allows it for one of these
    reasons."""
    promised = documented()
    assert len(promised) > 30
    assert keys_of(sidecar) == set(promised)
    for key, value in sidecar.items():
        if value is None:
            assert any(reason in promised[key] for reason in nulls), key
