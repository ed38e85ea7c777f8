"""Whether state files are input: thousands of damaged ones, and what commands make of them.

    python benchmarks/fuzz_state.py                       # all of it
    python benchmarks/fuzz_state.py --seed 7 --files 300 --processes 0
    python benchmarks/fuzz_state.py --only 1234           # one case again, with what it printed

A case is a fresh copy of a finished sweep in which one file, or some, was damaged, and some
commands on it. Beside the run folder lie folders and files that must be the same afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
import random
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import state_mutations as ways
import yaml
from measuring import table, write_section
from state_mutations import Way

from runner.cli import main as run_cli
from runner.costs.calibration import Calibration, CalibrationRow, Subject, folder_of, save
from runner.disk.run_folder import RunFolder
from runner.experiment.loading import load_experiment
from runner.plan.fingerprint import identities_of
from runner.runs.runs import live_slots
from runner.video import write_video

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Damaged state files"
SECONDS = 10
STANDS_STILL = 60
"""Seconds after which a command that does not end is ended."""
MOST_BYTES = 6 << 30
"""Of memory that a command may ask for; one that asks for more ends in a traceback."""
FEW, SOME, MORE = 0.5, 0.8, 1.0
"""Shares of cases with one damaged file, up to two, up to three."""

EXPERIMENT: dict[str, Any] = {
    "name": "x",
    "backend": "fake",
    "model": {"seconds": 0.02, "faults": [{"kind": "bad_input", "video": "b", "prompt": 1}]},
    "dataset": {"videos": "videos", "prompts": "prompts.json"},
    "seeds": [1],
    "generation": {"width": 64, "height": 64, "num_frames": 5, "fps": 15, "num_inference_steps": 2},
    "axes": {"denoising_strength": [0.7, 0.8]},
    "placement": {"gpus": [0], "processes_per_gpu": 1},
    "retries": {"failures": 0, "backoff_seconds": 0},
}
PROMPTS = {"c": {"a": ["one", "一"], "b": ["two", "three"]}}
LIST = "category,video,prompt,seed\nc,a,one,1\nc,b,two,2\n"

KINDS: dict[str, tuple[tuple[str, ...], tuple[Way, ...]]] = {
    "manifest": (("results/x/manifest.jsonl",), ways.LINES),
    "queue": (("results/x/sweep.db",), ways.DATABASE),
    "files beside the queue": (
        ("results/x/sweep.db-line", "results/x/sweep.db-wal", "results/x/sweep.db-shm"),
        ways.TEXT,
    ),
    "experiment of the run": (("results/x/experiment.yaml",), ways.YAML),
    "sidecars": (("results/x/c/*/*.json", "results/x/superseded/c/*/*.json"), ways.JSON),
    "attempts": (("results/x/attempts.jsonl",), ways.LINES),
    "logs": (("results/x/logs/*.log",), ways.TEXT),
    "locks": (("results/x/work/locks/*.lock",), (*ways.TEXT, ways.json_any)),
    "end commands": (("results/x/work/at_end.json",), ways.JSON),
    "id of the run": (("results/x/run.id",), ways.TEXT),
    "kept work": (("results/x/work/*/steps",), ways.TEXT),
    "videos": (("results/x/c/*/*.mp4",), ways.TEXT),
    "report": (("results/x/report/index.html", "results/x/report/*/*"), ways.TEXT),
    "folders of the run": (
        (
            *("results/x/work", "results/x/work/locks", "results/x/logs", "results/x/c"),
            *("results/x/c/a", "results/x/superseded", "results/x/superseded/c"),
            *("results/x/report", "results/x/report/posters", "results/x/cache"),
        ),
        (ways.instead,),
    ),
    "a run beside it": (
        (
            *("results/y/manifest.jsonl", "results/y/experiment.yaml", "results/y/c/*/*.json"),
            *("results/y/sweep.db", "results/y/sweep.db", "results/y/c/*/*.mp4", "results/y/c"),
        ),
        (),
    ),
    "calibrations": (("results/.calibrations/*.json",), ways.JSON),
    "machine file": (("machine.yaml",), ways.YAML),
    "experiment file": (("experiments/x.yaml", "experiments/l.yaml"), ways.YAML),
    "prompts and lists": (("prompts.json", "list.csv"), ways.JSON),
    "clips": (("videos/c/*.mp4",), ways.TEXT),
}
"""Files by kind, as patterns, with the ways in which they are damaged."""

OWN_WORDS = frozenset({"machine file", "experiment file"})
"""A person's own files, which say where results go: what is made there was asked for."""

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("progress", "x"),
    ("progress", "x", "--json"),
    ("verify", "x"),
    ("verify", "x", "--json"),
    ("export", "x", "--csv"),
    ("export", "x", "--json"),
    ("export", "x", "y", "--json"),
    ("explain", "x", "c/a", "prompt=0", "seed=1", "denoising_strength=0.7"),
    ("explain", "x", "c/b", "prompt=1", "seed=1", "denoising_strength=0.8", "--json"),
    ("explain", "results/x/c/a/seed_1_prompt_0_denoising_strength=0.7.mp4"),
    ("plan", "experiments/x.yaml"),
    ("plan", "experiments/x.yaml", "--json"),
    ("plan", "experiments/x.yaml", "name=z"),
    ("plan", "experiments/l.yaml"),
    ("plan", "results/x/experiment.yaml"),
    ("resume", "x", "--on", "local", "--dry-run"),
    ("resume", "results/x", "--on", "local", "--dry-run", "--stale", "--json"),
    ("launch", "experiments/x.yaml", "--on", "local", "--dry-run"),
    ("launch", "x", "--on", "local", "--dry-run", "--sample", "1"),
    ("logs", "x"),
    ("logs", "x", "gpu0_process0", "--json"),
    ("stop", "x"),
    ("stop", "x", "--now"),
    ("adopt", "x", "old", "--pattern", "{video}_{prompt}_{denoising_strength}.mp4"),
    ("adopt", "x", "old", "--pattern", "{video}_{prompt}_{denoising_strength}.mp4", "--dry-run"),
    ("report", "x", "--no-posters"),
    ("report", "x", "y", "--no-posters", "--json"),
)
SLOW_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("report", "x"),
    ("report", "x", "--zip", "--anonymous"),
    ("sheet", "x", "--frames", "1", "--width", "64"),
    ("doctor", "experiments/x.yaml"),
    ("doctor", "x", "--bundle"),
)
"""Taken one in ten times: pictures are made by processes, and doctor looks at the machine."""

PROCESS_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("launch", "experiments/x.yaml", "--on", "local"),
    ("resume", "x", "--on", "local"),
    ("resume", "x", "--on", "local", "--stale"),
)
"""Of these at least one is in every case of whole commands; workers do what is left."""

WRITES_HERE = ("sweep-doctor-", "results/z", "results/l", "results/.calibrations/.")
"""What commands make beside the run folder when they are asked to."""


UNFIT = (ValueError, TypeError, LookupError, AttributeError, RecursionError, sqlite3.Error)


class TooSlow(BaseException):
    """Raised in a command that does not end; nothing of ours catches it."""


@dataclass(frozen=True)
class Finding:
    """What a command did that it must not."""

    case: int
    what: str
    command: str
    damage: str
    told: str

    def __str__(self) -> str:
        return f"case {self.case}: {self.what}: {self.command}\n  {self.damage}\n{self.told}"


@dataclass(frozen=True)
class Case:
    """What was damaged, what was run, and what was found."""

    number: int
    kinds: tuple[str, ...]
    commands: int
    slowest: float
    findings: tuple[Finding, ...]
    is_process: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=5000, help="damaged, in this process")
    parser.add_argument("--processes", type=int, default=300, help="files more, by whole commands")
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--only", type=int, help="only this case, said in full")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        template = Path(name) / "template"
        make_template(template / "a" / "b" / "项目 x")
        run = partial(run_case, arguments.seed, template, Path(name))
        if arguments.only is not None:
            case = run(arguments.only, arguments.only < 0)
            print(*case.findings, f"slowest: {case.slowest:.1f} s", sep="\n")
            return 1 if case.findings else 0
        cases = [*run_all(run, arguments, as_processes=False)]
        cases += run_all(run, arguments, as_processes=True)
    write_section(arguments.out, TITLE, body(cases, arguments))
    return 1 if any(case.findings for case in cases) else 0


def run_all(run: Any, arguments: argparse.Namespace, *, as_processes: bool) -> Iterator[Case]:
    """Run cases until so many files were damaged. A case of whole commands has a number below 0."""
    wanted = arguments.processes if as_processes else arguments.files
    number, damaged = 0, 0
    with ProcessPoolExecutor(arguments.workers) as pool:
        while damaged < wanted:
            batch = range(number, number + 100)
            number += 100
            numbers = [-1 - one for one in batch] if as_processes else batch
            for first in pool.map(run, numbers, [as_processes] * 100):
                if damaged < wanted:
                    # The machine is shared: what was slow is tried once more.
                    is_slow = any(group(one.what) == "slow" for one in first.findings)
                    case = run(first.number, as_processes) if is_slow else first
                    damaged += len(case.kinds)
                    for finding in first.findings if is_slow else case.findings:
                        print(finding, flush=True)
                    yield case


def run_case(seed: int, template: Path, folder: Path, number: int, as_process: bool) -> Case:
    """Damage a fresh copy of the template and run some commands on it."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    rng = random.Random(f"{seed} {number}")
    outer = folder / f"case_{os.getpid()}"
    shutil.rmtree(outer, ignore_errors=True)
    shutil.copytree(template, outer, symlinks=True)
    root = outer / "a" / "b" / "项目 x"
    draw = rng.random()
    kinds, told = [], []
    for _ in range(1 if draw < FEW else 2 if draw < SOME else 3):
        kind, damage = damage_one(rng, root)
        kinds.append(kind)
        told.append(damage)
    before = seen(outer, root)
    commands = rng.sample(COMMANDS, 2 if not as_process else 1)
    if rng.random() < 0.1:
        commands.append(rng.choice(SLOW_COMMANDS))
    if as_process:
        commands = [
            *commands,
            rng.choice(PROCESS_COMMANDS),
            ("progress", "x"),
            ("stop", "x", "--now"),
        ]
    findings: list[Finding] = []
    slowest = 0.0
    for words in commands:
        start = processor_seconds()
        fault = call_process(words, root) if as_process else call(words, root)
        took = processor_seconds() - start
        slowest = max(slowest, took)
        faults = [fault] if fault else []
        if took > SECONDS:
            faults.append((f"{took:.1f} s", ""))
        after = seen(outer, root)
        named = "results/y/" if "y" in words else None
        may_add = bool(OWN_WORDS & {*kinds})
        if lines := differences(before, after, named, may_add=may_add):
            faults.append(("changed outside", "\n".join(lines)))
        before = after
        said = " ".join(words)
        findings += [Finding(number, f, said, "; ".join(told), more) for f, more in faults]
    if as_process and (fault := end_workers(root)) is not None:
        findings.append(Finding(number, fault[0], "a worker", "; ".join(told), fault[1]))
    shutil.rmtree(outer, ignore_errors=True)
    return Case(number, tuple(kinds), len(commands), slowest, tuple(findings), as_process)


def processor_seconds() -> float:
    """What this process and those that it has waited for have taken: a machine may be shared."""
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usage)


def damage_one(rng: random.Random, root: Path) -> tuple[str, str]:
    """Damage a file; its kind, and what was done."""
    while True:
        kind = rng.choice(list(KINDS))
        patterns, own = KINDS[kind]
        pattern = rng.choice(patterns)
        found = sorted(path for path in root.glob(pattern))
        if not found and "*" in pattern:
            continue
        path = rng.choice(found) if found else root / pattern
        way = rng.choice(own or ways_for(path))
        if not path.parent.is_dir() or os.path.realpath(path.parent) != str(path.parent):
            continue
        if path.is_symlink() and way is not ways.instead:
            continue
        if way is not ways.instead and not path.is_file():
            if path.exists():
                continue
            path.touch()
        former = path.read_bytes() if is_small(path) else None
        if former is None and way is not ways.instead:
            continue
        try:
            told = way(rng, path, root.parents[1] / "canary")
        except UNFIT:
            # It was damaged before in another way.
            continue
        if kind in OWN_WORDS and leads_away(path, root):
            ways.remove(path)
            path.write_bytes(former or b"")
            continue
        return kind, f"{path.relative_to(root)}: {told}"


def ways_for(path: Path) -> Sequence[Way]:
    """The ways to damage a file of a run beside."""
    by_suffix = {".jsonl": ways.LINES, ".json": ways.JSON, ".yaml": ways.YAML, ".db": ways.DATABASE}
    return by_suffix.get(path.suffix, (ways.instead,) if not path.suffix else ways.TEXT)


def is_small(path: Path) -> bool:
    """Whether it is a file that can be read as a whole."""
    return path.is_file() and path.stat().st_size < 1 << 24


def leads_away(path: Path, root: Path) -> bool:
    """Whether a person's file would have results made outside this benchmark's folder."""
    if not is_small(path):
        return False
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
        places = [values.get("results"), values.get("project")] if isinstance(values, dict) else []
    except Exception:
        return False
    outer = root.parents[1]
    return any(
        isinstance(one, str) and one.startswith(("/", "~")) and not Path(one).is_relative_to(outer)
        for one in places
    )


def call(words: Sequence[str], root: Path) -> tuple[str, str] | None:
    """Run a command in this process; what was wrong with how it ended, or None."""
    out, err = Stream(), Stream()
    here = Path.cwd()
    os.chdir(root)
    former = signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, STANDS_STILL)
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run_cli(words)
    except SystemExit as error:
        if error.code not in (0, 1, 2, None):
            return f"status {error.code}", err.getvalue()[-500:]
    except TooSlow:
        return "does not end", traceback.format_exc()[-3000:]
    except BaseException:
        return "traceback", traceback.format_exc()[-3000:]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        logging.disable(logging.NOTSET)
        os.chdir(here)
    if "Traceback (most recent" in err.getvalue():
        return "traceback", err.getvalue()[-3000:]
    return None


class Stream(io.TextIOWrapper):
    """Standard output as a process has it: text that becomes bytes."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def getvalue(self) -> str:
        held = self.buffer
        assert isinstance(held, io.BytesIO)
        return held.getvalue().decode("utf-8", "replace")


def too_slow(_number: int, _frame: object) -> None:
    raise TooSlow


def call_process(words: Sequence[str], root: Path) -> tuple[str, str] | None:
    """Run a command as a process; what was wrong with how it ended, or None."""
    command = [sys.executable, "-m", "runner", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STANDS_STILL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "does not end", ""
    said = done.stderr.decode("utf-8", "replace")
    if "Traceback (most recent" in said:
        return "traceback", said[-3000:]
    return None if done.returncode in (0, 1, 2) else (f"status {done.returncode}", said[-500:])


WORKERS_FAULTS = ("the worker failed", "supervisor failed", "heartbeat failed")


def end_workers(root: Path) -> tuple[str, str] | None:
    """Wait for the end of workers that may still be; what was wrong with them, or None."""
    run = RunFolder(root / "results" / "x")
    ends = time.monotonic() + 3 * SECONDS
    try:
        while live_slots(run):
            if time.monotonic() > ends:
                return "workers do not end", ""
            time.sleep(0.1)
        logs = [path for path in run.logs.glob("*.log") if is_small(path)]
        texts = [path.read_text("utf-8", "replace") for path in logs]
    except OSError:
        return None
    for text in texts:
        for fault in WORKERS_FAULTS:
            if fault in text:
                return fault, text[text.index(fault) :][:3000]
    return None


def seen(outer: Path, root: Path) -> dict[str, tuple[Any, ...]]:
    """All that lies outside the run folder: kind, mode and content of each."""
    run = str(root / "results" / "x")
    found = {}
    waiting = [str(outer)]
    while waiting:
        here = waiting.pop()
        for entry in os.scandir(here):
            if entry.path == run:
                continue
            status = entry.stat(follow_symlinks=False)
            what: Any = None
            if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 24:
                what = hashlib.sha256(Path(entry.path).read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                what = str(Path(entry.path).readlink())
            elif stat.S_ISDIR(status.st_mode):
                waiting.append(entry.path)
            found[os.path.relpath(entry.path, root)] = (status.st_mode, what)
    return found


def differences(
    before: dict[str, Any], after: dict[str, Any], named: str | None, *, may_add: bool
) -> list[str]:
    """What was changed, taken away or added outside, a line each.

    Args:
        named: the beginning of the paths of another run that the command was given.
    """
    own = (*WRITES_HERE, *([named] if named else []))

    def is_expected(path: str) -> bool:
        # SQLite's own, of a queue that was only asked.
        return path.startswith(own) or path.startswith("results/y/sweep.db-")

    lines = [
        f"  {'changed' if path in after else 'gone'}: {path}"
        for path, was in before.items()
        if after.get(path) != was and not is_expected(path)
    ]
    if not may_add:
        new = after.keys() - before.keys()
        lines += [f"  new: {path}" for path in sorted(new) if not is_expected(path)]
    return lines


# The template.


def make_template(root: Path) -> None:
    """A project with a finished sweep that has a file of every kind, another sweep beside it, and
    folders and files around it that nobody may touch."""
    outer = root.parents[1]
    for place in (outer / "canary", root / "canary", root / "results" / "canary"):
        (place / "folder").mkdir(parents=True)
        (place / "dear.txt").write_text("dear\n")
        (place / "folder" / "dear.mp4").write_bytes(b"dear")
        (place / "folder").chmod(0o750)
    for number, video in enumerate("ab"):
        (root / "videos" / "c").mkdir(parents=True, exist_ok=True)
        field = np.random.default_rng(number).integers(0, 255, (9, 64, 64, 3), dtype=np.uint8)
        write_video(root / "videos" / "c" / f"{video}.mp4", field, fps=15, quality=5)
    (root / "prompts.json").write_text(json.dumps(PROMPTS), "utf-8")
    (root / "list.csv").write_text(LIST, "utf-8")
    (root / "machine.yaml").write_text("gpus: [0]\nprocesses_per_gpu: 1\n")
    (root / "experiments").mkdir()
    listed = {key: EXPERIMENT[key] for key in EXPERIMENT if key not in ("seeds", "axes")}
    listed |= {"name": "l", "jobs": "list.csv", "dataset": {"videos": "videos"}}
    for name, values in (("x", EXPERIMENT), ("l", listed)):
        text = yaml.safe_dump(values, allow_unicode=True)
        (root / "experiments" / f"{name}.yaml").write_text(text, "utf-8")
    start = ("--on", "local", "--wait")
    sweep(root, "launch", "experiments/x.yaml", "name=y", *start)
    sweep(root, "plan", "experiments/x.yaml")
    shutil.rmtree(root / "results" / "y")
    sweep(root, "launch", "experiments/x.yaml", *start)
    changed = json.dumps({"c": {**PROMPTS["c"], "a": ["one", "二"]}})
    (root / "prompts.json").write_text(changed, "utf-8")
    sweep(root, "plan", "experiments/x.yaml")
    sweep(root, "resume", "x", "--stale", *start)
    (root / "prompts.json").write_text(json.dumps(PROMPTS), "utf-8")
    sweep(root, "plan", "experiments/x.yaml", "reuse=false")
    sweep(root, "launch", "experiments/x.yaml", "name=y", "reuse=false", "seeds=[1,2]", *start)
    sweep(root, "report", "x", "--preview", "32")
    run = RunFolder(root / "results" / "x")
    run.at_end.write_text(json.dumps({"on_finish": ["true"], "on_failure": ["true"]}))
    job = next(iter(run.path.glob("work/locks"))).parent / ("0" * 16)
    job.mkdir(exist_ok=True)
    (job / "steps").write_text("f 1")
    run.cache.mkdir(exist_ok=True)
    old = root / "old"
    old.mkdir()
    (made,) = run.path.glob("c/a/seed_1_prompt_0_denoising_strength=0.7.mp4")
    shutil.copyfile(made, old / "b_1_0.7.mp4")
    calibrate(root)


def calibrate(root: Path) -> None:
    """A calibration that plans of the experiment find."""
    experiment = load_experiment(root / "experiments" / "x.yaml")
    parameters = experiment.parameter_sets[0].parameters
    shape = experiment.method_of(parameters).planner().shape(parameters, {})
    subject = Subject.of(experiment, identities_of(experiment)[None], parameters, shape)
    row = CalibrationRow(1, load=1.0, prepare=0.1, step=0.01, rest=0.1, finish=0.1, peak_gib=None)
    save(folder_of(experiment), Calibration(subject, "x86_64", time.time(), 2, (row,)))


def sweep(root: Path, *words: str) -> None:
    """A command that makes a part of the template."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{words}: {done.stderr}")


def body(cases: Sequence[Case], arguments: argparse.Namespace) -> str:
    head = ["damaged", "files", "by whole commands", "tracebacks", "changed outside", "over 10 s"]
    head.append("other findings")
    rows = []
    for kind in (*KINDS, None):
        own = [case for case in cases if kind is None or kind in case.kinds]
        files = [sum(kind in (None, one) for one in case.kinds) for case in own]
        whole = sum(n for n, case in zip(files, own, strict=True) if case.is_process)
        counts = Counter(group(finding.what) for case in own for finding in case.findings)
        numbers = [sum(files), whole, *(counts[one] for one in GROUPS)]
        rows.append([kind or "all", *(f"{number:,}" for number in numbers)])
    commands = sum(case.commands for case in cases)
    slowest = max(case.slowest for case in cases)
    return (
        f"Seed {arguments.seed}: {len(cases):,} fresh copies of a finished sweep, in each one file "
        f"damaged, or up to three, and {commands:,} commands on them; a case of several files "
        "counts in the row of each. Values that cannot be, keys that lack, lines twice, texts cut, "
        "noise, nesting, broken pages and tables, and pipes, folders, sockets, devices and links "
        "in a file's place. Around the run folder lie files and folders whose content, modes and "
        "names are compared after every command. Whole commands start workers, whose logs must "
        f"tell of no failure but a job's. Seconds are the processor's, of the command with all its "
        f"processes, for the machine was shared; the most were {slowest:.1f}. A command that has "
        f"not ended after {STANDS_STILL} s by the clock counts as over 10 s, too, if it does so "
        "again.\n\n"
        f"{table(head, rows)}"
    )


GROUPS = ("traceback", "changed outside", "slow", "other")


def group(what: str) -> str:
    """The column in which a finding counts."""
    if what in GROUPS:
        return what
    return "slow" if what.endswith(" s") or what.startswith("does not") else "other"


if __name__ == "__main__":
    sys.exit(main())
