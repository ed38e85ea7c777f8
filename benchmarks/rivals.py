"""Other tools that run many small jobs on one machine, each timed on jobs that do nothing.

They are no dependencies: each Python one gets an environment of its own, in a folder that may be
kept for the next time. One that cannot be installed or finishes no job is left out, and why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

INSTALL_SECONDS = 600
RUN_SECONDS = 180


class Unusable(Exception):
    """A tool cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Rival:
    """A tool, and how it is timed.

    Args:
        package: its name at PyPI; None for one that must be installed already.
        jobs: so many take it some seconds to a minute.
        measure: runs so many jobs, `workers` at once, with the programs of a folder (those of
            its environment), in an empty folder; returns seconds.
        keeps: what is on disk afterwards.
    """

    name: str
    package: str | None
    jobs: int
    measure: Callable[[int, int, Path, Path], float]
    keeps: str


def measure_rivals(workers: int, environments: Path, scratch: Path) -> list[list[str]]:
    """A row for each: name, jobs, milliseconds a job, and what it keeps or why it is left out."""
    rows = []
    for rival in RIVALS:
        folder = scratch / rival.name.replace(" ", "_")
        folder.mkdir(parents=True)
        try:
            seconds = rival.measure(rival.jobs, workers, _programs(rival, environments), folder)
        except (Unusable, OSError, subprocess.SubprocessError) as error:
            rows.append([rival.name, "-", "-", f"left out: {error}"])
        else:
            each = f"{1000 * seconds / rival.jobs:.2f}"
            rows.append([rival.name, f"{rival.jobs:,}", each, rival.keeps])
        print(rows[-1], file=sys.stderr)
    return rows


def _programs(rival: Rival, environments: Path) -> Path:
    """The folder of a tool's programs, installed where they are missing."""
    if rival.package is None:
        return environments
    programs = environments / rival.package / "bin"
    done = programs.parent / "installed"
    if not done.exists():
        commands = (
            [sys.executable, "-m", "venv", str(programs.parent)],
            [str(programs / "pip"), "install", "--quiet", rival.package],
        )
        for command in commands:
            _run(command, environments, INSTALL_SECONDS)
        done.touch()
    return programs


def _run(
    command: list[str], folder: Path, seconds: float = RUN_SECONDS, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its good end; Unusable where it has none."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise Unusable(f"`{Path(command[0]).name}` took more than {seconds:.0f} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip()).splitlines()[-1:]
        name = Path(command[0]).name
        raise Unusable(f"`{name}` ended with {error.returncode}: {' '.join(last)}") from None


def _parallel(jobs: int, workers: int, _programs: Path, folder: Path) -> float:
    if shutil.which("parallel") is None:
        raise Unusable("it is not installed")
    (folder / "jobs").write_text("".join(f"{number}\n" for number in range(jobs)))
    command = ["parallel", "--will-cite", "-j", str(workers), "--joblog", "joblog", "--resume"]
    start = time.monotonic()
    _run([*command, "-a", "jobs", "true"], folder)
    return time.monotonic() - start


RAY = """
import sys, time, ray
jobs, workers = int(sys.argv[1]), int(sys.argv[2])
ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
@ray.remote(num_cpus=1)
def job(number):
    return number
ray.get([job.remote(number) for number in range(10 * workers)])
start = time.monotonic()
assert ray.get([job.remote(number) for number in range(jobs)]) == list(range(jobs))
print(time.monotonic() - start)
"""
"""Its worker processes are started and imported before the clock runs."""


def _ray(jobs: int, workers: int, programs: Path, folder: Path) -> float:
    command = [str(programs / "python"), "-c", RAY, str(jobs), str(workers)]
    return float(_run(command, folder, RAY_USAGE_STATS_ENABLED="0").stdout.split()[-1])


def _gpusched(jobs: int, workers: int, programs: Path, folder: Path) -> float:
    (folder / "jobs.txt").write_text("[vram=1G] true\n" * jobs)
    # Its simulated GPUs, one job on each at a time; it looks for ended jobs at each poll.
    options = ["--sim", str(workers), "--exclusive", "--poll", "0.01", "--log-dir", "logs"]
    start = time.monotonic()
    said = _run([str(programs / "gpusched"), "jobs.txt", *options], folder).stdout
    seconds = time.monotonic() - start
    if f"{jobs} ok" not in said:
        raise Unusable(f"not all of its jobs ended well: {said.strip().splitlines()[-1:]}")
    return seconds


def _gflow(jobs: int, workers: int, programs: Path, folder: Path) -> float:
    if shutil.which("tmux") is None:
        raise Unusable("it needs tmux")
    # Everything of its own stays in the folder: settings, state and the tmux server.
    places = {"HOME": "home", "XDG_RUNTIME_DIR": "run", "TMUX_TMPDIR": "tmux"}
    places |= {"XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_STATE_HOME": "state"}
    environment = {name: str(folder / place) for name, place in places.items()}
    for place in environment.values():
        Path(place).mkdir()
    path = f"{programs}:{os.environ['PATH']}"
    # A job tells of its end by a program of the tool, and runs in a login shell.
    for profile in (".bash_profile", ".bashrc"):
        (folder / "home" / profile).write_text(f'export PATH="{path}"\n')
    environment |= {"PATH": path, "TMUX": "", "SHELL": "/bin/bash"}

    def call(program: str, *words: str) -> str:
        command = [str(programs / program), *words]
        return _run(command, folder, 120, **environment).stdout

    call("gflowd", "start")
    try:
        start = time.monotonic()
        array = ["--array", f"1-{jobs}", "--max-concurrent", str(workers), "--auto-close"]
        call("gbatch", *array, "true")
        while (done := _count(call("gqueue", "-a", "-s", "Finished", "-o", "csv"))) < jobs:
            if time.monotonic() - start > RUN_SECONDS:
                raise Unusable(f"only {done} of {jobs} jobs ended in {RUN_SECONDS} s")
            time.sleep(1.0)
        return time.monotonic() - start
    finally:
        call("gflowd", "stop")
        subprocess.run(
            ["tmux", "kill-server"],
            env={**os.environ, **environment},
            capture_output=True,
            check=False,
        )


def _count(csv: str) -> int:
    """Rows of a table with a head."""
    return max(0, len(csv.strip().splitlines()) - 1)


RIVALS = (
    Rival("GNU parallel", None, 2000, _parallel, "a line a job in its job log, not flushed"),
    Rival("Ray tasks", "ray", 10_000, _ray, "nothing"),
    Rival("gpusched", "gpusched", 1000, _gpusched, "lines in its journal and a log file a job"),
    Rival("gflow", "runqd", 40, _gflow, "lines in its journal and a log file a job"),
)
