"""Where the tiny checkpoint lies."""

from __future__ import annotations

from pathlib import Path

TINY = Path(__file__).resolve().parents[1] / "runner" / "backends" / "wan" / "tiny_checkpoint"
