"""Is this version as fast and as small as a former one?

The former commit is checked out into a git worktree of its own, which is removed in the end.
Both versions then do the same: they plan one experiment, each into a run folder of its own,
claim and finish jobs, and, with every other video on disk, tell progress and see what a resume
would start. Each is a whole command, timed from outside with its start; old and new take turns,
and so does who begins. What counts is the median of the pairs' ratios.

    python benchmarks/against.py HEAD~3                         # 100,000 and 1,000,000 jobs
    python benchmarks/against.py 476eafb --jobs 5000 --pairs 1 --only plan,claim

Exit status 1: a bar was missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

from measuring import Cost, cost_of, table, write_section
from scale import make_project
from shapes import ROOT, shape_of

TITLE = "This version against a former one"
COMMANDS = ("plan", "claim", "progress", "resume")
CLAIMS = 2000
BAR, SHORT_BAR = 1.05, 1.10
"""The largest ratio of new to old, in time and in memory."""
SHORT_SECONDS = 2.0
"""Of a command of less, the start of an interpreter is much."""

FIELDS = [field.name for field in fields(Cost)]

HALF_ON_DISK = (
    "import sys, pathlib\n"
    "benchmarks, run, clip = map(pathlib.Path, sys.argv[1:])\n"
    "sys.path.insert(0, str(benchmarks))\n"
    "import scale\n"
    "scale.put_half_on_disk(scale.RunFolder(run), clip)"
)
"""With the benchmark of the version itself: its sidecars are its own."""


@dataclass(frozen=True)
class Version:
    """A working tree of the project, and the run folder that it makes."""

    name: str
    code: Path
    run: Path

    @property
    def queue(self) -> Path:
        return self.run / "sweep.db"

    def cost(self, *command: str) -> Cost:
        """Have a Python of this version's package do something; see `cost_of`."""
        environment = {**os.environ, "PYTHONPATH": str(self.code)}
        return cost_of([sys.executable, *command], self.code, environment)

    def sweep(self, *words: str) -> Cost:
        return self.cost("-m", "runner", *words)


@dataclass(frozen=True)
class Compared:
    """The pairs of one command at one size: what each cost the old version and the new."""

    jobs: int
    command: str
    pairs: tuple[tuple[Cost, Cost], ...]

    @property
    def bar(self) -> float:
        return SHORT_BAR if median(old.seconds for old, _ in self.pairs) < SHORT_SECONDS else BAR

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Of new to old, medians: wall time, processor time, peak memory."""
        return (
            median(new.seconds / old.seconds for old, new in self.pairs),
            median(new.processor / old.processor for old, new in self.pairs),
            median(new.mib / old.mib for old, new in self.pairs),
        )

    @property
    def holds(self) -> bool:
        seconds, _, mib = self.ratios
        return max(seconds, mib) <= self.bar

    def row(self) -> list[str]:
        cells = [f"{self.jobs:,}", self.command]
        for costs in zip(*self.pairs, strict=True):
            whole = Cost(*(median(getattr(one, key) for one in costs) for key in FIELDS))
            cells.append(str(whole))
        cells += [f"{ratio:.3f}" for ratio in self.ratios]
        return [*cells, f"{self.bar:.2f}", "yes" if self.holds else "**no**"]


HEAD = ["jobs", "command", "old", "new", "time", "processor", "MiB", "bar", "held"]


def git(*words: str) -> str:
    """What git answers, told of this working tree."""
    command = ["git", *words]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        # It has said why.
        raise SystemExit(f"{' '.join(command)} ended with {result.returncode}")
    return result.stdout.strip()


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """A commit's files in a git worktree below that folder, while the block lasts."""
    place = folder / "old"
    git("worktree", "add", "--quiet", "--detach", str(place), commit)
    try:
        yield place
    finally:
        git("worktree", "remove", "--force", str(place))


def in_turn(
    versions: tuple[Version, Version], pairs: int, measured: Callable[[Version], Cost]
) -> tuple[tuple[Cost, Cost], ...]:
    """What it costs the old version and the new, as often as there are pairs."""
    found = []
    for number in range(pairs):
        old_first = number % 2 == 0
        costs = {one.name: measured(one) for one in versions[:: 1 if old_first else -1]}
        found.append((costs[versions[0].name], costs[versions[1].name]))
    return tuple(found)


def plan(version: Version, file: Path) -> Cost:
    """Plan a sweep that has not been planned before."""
    shutil.rmtree(version.run, ignore_errors=True)
    return version.sweep("plan", str(file), f"results={version.run.parent}")


def claim(version: Version, claims: int) -> Cost:
    """Claim and finish jobs of a queue as planning left it."""
    place = version.run.with_name("claims")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for part in version.run.glob(f"{version.queue.name}*"):
        shutil.copy(part, place)
    driver = Path(__file__).with_name("claim_cycles.py")
    cost = version.cost(str(driver), str(place / version.queue.name), str(claims))
    shutil.rmtree(place)
    return cost


def resume(version: Version) -> Cost:
    """All that a resume does before it starts workers."""
    return version.sweep("resume", str(version.run), "--on", "local", "--dry-run")


def compare(
    jobs: int, old: Path, folder: Path, pairs: int, claims: int, only: Sequence[str]
) -> Iterator[Compared]:
    """Every command wanted, of a sweep of so many jobs, in the order in which each needs what was
    before it.

    Args:
        old: the former version's working tree.
        folder: an empty one, for the data set and both run folders.
    """
    file = make_project(folder, jobs)
    versions = (
        Version("old", old, folder / "results_old" / "scale"),
        Version("new", ROOT, folder / "results_new" / "scale"),
    )

    def compared(command: str, measured: Callable[[Version], Cost]) -> Compared:
        found = Compared(jobs, command, in_turn(versions, pairs, measured))
        print(" | ".join(found.row()), file=sys.stderr)
        return found

    if "plan" in only:
        yield compared("plan", lambda version: plan(version, file))
    else:
        for version in versions:
            plan(version, file)
    if "claim" in only:
        count = min(claims, jobs // 2)
        yield compared(f"claim and finish {count:,}", lambda version: claim(version, count))
    if not {"progress", "resume"} & set(only):
        return
    for version in versions:
        places = (version.code / "benchmarks", version.run, folder / "clip_0.mp4")
        version.cost("-c", HALF_ON_DISK, *map(str, places))
        # The queue learns it from the disk, once.
        resume(version)
    if "progress" in only:
        yield compared("progress", lambda version: version.sweep("progress", str(version.run)))
    if "resume" in only:
        yield compared("resume, dry run", resume)


def jobs_of(text: str) -> int:
    """The number of jobs that is asked for; see `shape_of`."""
    try:
        shape_of(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return int(text)


def commands_of(text: str) -> list[str]:
    """The commands that are asked for."""
    named = text.split(",")
    if not set(named) <= set(COMMANDS):
        raise argparse.ArgumentTypeError(f"{text}: there are {', '.join(COMMANDS)}")
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="the former version")
    parser.add_argument("--jobs", type=jobs_of, action="append", help="so many; repeatable")
    parser.add_argument("--pairs", type=int, default=5, help="of old and new, each time")
    parser.add_argument("--claims", type=int, default=CLAIMS, help="claimed and finished each time")
    parser.add_argument("--only", type=commands_of, default=COMMANDS, help=",".join(COMMANDS))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    names = git("rev-parse", "--short", arguments.commit), git("describe", "--always", "--dirty")
    # Every command would compile the package anew, which no person's does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    found: list[Compared] = []
    with (
        tempfile.TemporaryDirectory() as name,
        checked_out(arguments.commit, Path(name)) as old,
    ):
        # What a person has settled for this machine is not to be found.
        machine = Path(name) / "machine.yaml"
        machine.write_text("{}\n", encoding="utf-8")
        os.environ["SWEEP_MACHINE"] = str(machine)
        for code in (old, ROOT):
            Version("", code, code).cost("-m", "compileall", "-q", "runner", "benchmarks")
        for jobs in arguments.jobs or (100_000, 1_000_000):
            # Left behind, a million files would be in the way of the next size.
            with tempfile.TemporaryDirectory(dir=name) as folder:
                wanted = (arguments.pairs, arguments.claims, arguments.only)
                found += compare(jobs, old, Path(folder), *wanted)
    body = (
        f"Old is {names[0]}, new {names[1]}. Medians (pairs: {arguments.pairs}): wall time of each "
        "whole command, the interpreter's start included, in brackets its processor time, and its "
        "peak resident memory; then the medians of the pairs' ratios of new to old. Progress and "
        "resume with every other video and sidecar on disk. Bars for time and MiB: at most "
        f"{BAR:.2f}, {SHORT_BAR:.2f} where the old takes less than {SHORT_SECONDS:g} s.\n\n"
        f"{table(HEAD, [one.row() for one in found])}"
    )
    write_section(arguments.out, TITLE, body)
    if not all(one.holds for one in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
