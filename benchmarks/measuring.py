"""What the benchmarks share: the machine in words, and a section of `docs/measurements.md`."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from runner.gpus import find_gpus

PACKAGES = ("torch", "diffsynth", "SQLAlchemy", "av", "imageio-ffmpeg", "decord")


def machine() -> str:
    """Date, processors, GPUs and versions, as one line."""
    gpus = [f"{gpu.name} ({gpu.memory_gib:.0f} GiB)" for gpu in find_gpus()]
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    hardware = [f"{os.cpu_count()} cores", *gpus]
    return f"{time.strftime('%Y-%m-%d')}; {', '.join(hardware)}; {', '.join(versions)}"


def command() -> str:
    """The command that this process was started with, from the project's folder."""
    script = Path(sys.argv[0]).name
    return shlex.join(["python", f"benchmarks/{script}", *sys.argv[1:]])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(title: str, body: str) -> str:
    return f"## {title}\n\n{machine()}.\n\n    {command()}\n\n{body}\n"


def write_section(path: Path, title: str, body: str) -> None:
    """Print a section, and put it into a Markdown file in place of the one of that title."""
    text = section(title, body)
    print(text)
    former = path.read_text(encoding="utf-8") if path.exists() else "# Measurements\n"
    head, *sections = former.split("\n## ")
    kept = [part for part in sections if part.partition("\n")[0] != title]
    parts = [head.rstrip(), *(f"## {part.rstrip()}" for part in kept), text.rstrip()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
