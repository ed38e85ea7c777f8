"""Packages that bring backends, laid down as an installer does."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def install(folder: Path, name: str, entry_points: str, version: str = "1.2") -> None:
    """Lay a distribution down as an installer does."""
    own = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    own.mkdir(parents=True)
    (own / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    text = "\n".join(["[sweep_runner.backends]", *entry_points.split("; "), ""])
    (own / "entry_points.txt").write_text(text)
