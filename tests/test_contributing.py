"""What CONTRIBUTING.md names is there, and numbers of formats are as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "CONTRIBUTING.md"
ROW = re.compile(r"^\| [^|]+ \| `([^`]+)` \| `([^`]+)` \|", re.MULTILINE)


def test_every_file_it_names_is_there() -> None:
    text = FILE.read_text(encoding="utf-8")
    named = re.findall(r"[`( ]((?:runner|tests|docs|benchmarks)/[\w./-]*)", text)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name.rstrip(".")).exists()] == []


@pytest.mark.parametrize(("name", "number"), ROW.findall(FILE.read_text(encoding="utf-8")))
def test_a_format_has_the_number_that_it_says(name: str, number: str) -> None:
    assert re.search(rf"\b{re.escape(number)}\b|{re.escape(number)}\n", (ROOT / name).read_text())
