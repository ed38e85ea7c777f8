"""What the benchmarks share: the machine in words, what a command costs, and a section of
`docs/measurements.md`."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from runner.machine.gpus import find_gpus

PACKAGES = ("torch", "diffsynth", "SQLAlchemy", "av", "imageio-ffmpeg", "decord")


@dataclass(frozen=True)
class Cost:
    """Seconds of a whole command, those of them that it had of processors (which other load on
    the machine hardly changes), and the most memory it had at a time."""

    seconds: float
    processor: float
    mib: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.processor:.2f}), {self.mib:.0f} MiB"


def cost_of(command: Sequence[str], cwd: Path, environment: Mapping[str, str] = os.environ) -> Cost:
    """Run a command, of which nothing is shown; it must end with status 0.

    Between us and the command stands a small process that waits for it alone, since the system
    tells the peak memory only of all children together; a process that goes on is not in it.
    """
    code = (
        "import resource, subprocess, sys\n"
        "status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(status, used.ru_utime + used.ru_stime, used.ru_maxrss)"
    )
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-S", "-c", code, *command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.monotonic() - start
    status, processor, kib = result.stdout.split()
    if status != "0":
        raise SystemExit(f"{shlex.join(command)} ended with {status}")
    return Cost(seconds, float(processor), int(kib) / 1024)


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
