"""`python -m runner.backends.wan.same_bits EXPERIMENT` compares what several processes compute.

A few steps of one job of a planned sweep are made by a process of its own on each GPU, plainly and
with the experiment's settings, with the same inputs: their latents and frames should be the same,
bit for bit, and so should those that one process goes on with from half of another one's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .disk.manifest import read_manifest
from .disk.run_folder import RunFolder
from .disk.upstream import Unmade, Upstream
from .experiment.experiment import Experiment
from .experiment.loading import load_experiment
from .job import Job
from .job.record import job_record
from .machine.gpus import find_gpus
from .runs.runs import find_run, was_planned
from .text.errors import UserError
from .text.terminal import print_json, print_lines, say

PLAIN: dict[str, Any] = {"compile": False, "attention": "torch", "fp8": False, "tea_cache": None}
STEPS_COMPARED = 4
PROCESS_SECONDS = 3600


@dataclass(frozen=True)
class GpuProcess:
    """A process of its own: on which GPU ("cpu" is none), and its number there."""

    gpu: str
    process: int

    def __str__(self) -> str:
        where = "CPU" if self.gpu == "cpu" else f"GPU {self.gpu}"
        return f"{where}, process {self.process}"


@dataclass(frozen=True)
class ProcessOutput:
    """What a process made with some settings ("plain" or "the experiment's")."""

    settings: str
    gpu_process: GpuProcess
    found: dict[str, Any]

    def is_as(self, first: ProcessOutput) -> bool:
        """Whether all of it is what the first process made."""
        own = (self.found["latents"], self.found["frames"])
        resumed = self.found.get("resumed", self.found["latents"])
        return (*own, resumed) == (first.found["latents"], first.found["frames"], own[0])


def main(words: Sequence[str] | None = None) -> int:
    """Compare; return the exit status: 0 where all is the same, 1 where it is not."""
    parser = argparse.ArgumentParser(
        prog="python -m runner.backends.wan.same_bits",
        description=" ".join(str(__doc__).split("\n\n")[1:]),
    )
    parser.add_argument("run", metavar="EXPERIMENT", help="a planned experiment, run folder, name")
    parser.add_argument("--gpus", help="numbers, as 0,1, or cpu (default: all of this machine)")
    parser.add_argument("--processes", type=int, default=1, help="on each GPU, one after the other")
    parser.add_argument("--steps", type=int, default=STEPS_COMPARED, help="denoising steps")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    try:
        gpu_processes = gpu_processes_of(arguments.gpus, arguments.processes)
        run = find_run(arguments.run)
        made = compare(run, gpu_processes, max(1, arguments.steps))
    except UserError as error:
        say(f"same_bits: {error}")
        return 2
    first = {one.settings: one for one in reversed(made)}
    differing = [one for one in made if not one.is_as(first[one.settings])]
    if arguments.json:
        print_json(answer(run, made, first))
    else:
        show(made, first, len(differing))
    return 1 if differing else 0


def gpu_processes_of(gpus: str | None, processes: int) -> list[GpuProcess]:
    """The processes that are compared, at least two.

    Raises:
        UserError: there is no such GPU here, or there is only one process.
    """
    here = [str(gpu.number) for gpu in find_gpus()]
    names = gpus.split(",") if gpus else here or ["cpu"]
    known = ", ".join(here) or "none"
    for name in names:
        if name != "cpu" and name not in here:
            raise UserError(f"--gpus: there is no GPU {name} here (there are: {known})")
    if len(names) == 1 and processes == 1 and gpus is None:
        processes = 2
    gpu_processes = [GpuProcess(name, number) for number in range(processes) for name in names]
    if len(set(gpu_processes)) < 2 or processes < 1:
        raise UserError("one process has nothing to be compared with; give --processes 2")
    return gpu_processes


def compare(run: RunFolder, gpu_processes: Sequence[GpuProcess], steps: int) -> list[ProcessOutput]:
    """What each process made, the first place's first, for each kind of settings.

    Raises:
        UserError: the sweep is none of Wan, was not planned, or a process failed.
    """
    if not was_planned(run):
        raise UserError(f"{run.path} is not planned; run `sweep plan` first")
    experiment = load_experiment(run.experiment)
    methods = [one for one in experiment.every_method if one.backend == "wan"]
    if not methods:
        backends = ", ".join(one.backend for one in experiment.every_method)
        raise UserError(f"{run.experiment}: backend is {backends}, not wan")
    method = methods[0]
    jobs = [one for one in read_manifest(run.manifest).jobs if one.method == method.name]
    if not jobs:
        raise UserError(f"{run.manifest}: holds no job of wan")
    parameters = {**jobs[0].parameters, "num_inference_steps": steps}
    try:
        series = Upstream.of(run).resolved(jobs[0].series).resolved(experiment.data)
    except Unmade as error:
        raise UserError(f"{run.manifest}: {error}, of which a job is made") from None
    series = replace(series, parameters=parameters)
    job = replace(jobs[0], series=series)
    settings = method.model.model_dump(mode="json")
    kinds = {"plain": {**settings, **PLAIN}}
    if kinds["plain"] != settings:
        kinds["the experiment's"] = settings
    made = []
    with tempfile.TemporaryDirectory(prefix="sweep-same-bits-") as name:
        folder = Path(name)
        with_choices(run, folder / "cache")
        for kind, values in kinds.items():
            made += list(by_all(experiment, job, kind, values, gpu_processes, folder))
    return made


def with_choices(run: RunFolder, cache: Path) -> None:
    """A cache of our own, with the choices that the sweep's workers follow: asking changes
    nothing in the run folder."""
    (cache / "kernels").mkdir(parents=True)
    for path in (run.cache / "kernels").glob("*.json"):
        if path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):
                shutil.copy(path, cache / "kernels")


def by_all(
    experiment: Experiment,
    job: Job,
    kind: str,
    settings: dict[str, Any],
    gpu_processes: Sequence[GpuProcess],
    folder: Path,
) -> Iterator[ProcessOutput]:
    """The first place alone, which leaves half a video; then GPU beside GPU."""
    half = folder / f"half of {kind}"

    def by(gpu_process: GpuProcess, *, is_first: bool) -> ProcessOutput:
        own = folder / f"{kind}, {gpu_process}"
        if not is_first:
            shutil.copytree(half, own / "half")
        wanted = {
            "settings": {**settings, "keep_latents_every": 1},
            "root": str(experiment.root),
            "device": "cpu" if gpu_process.gpu == "cpu" else "cuda",
            "cache": str(folder / "cache"),
            "job": job_record(job),
            "scratch": str(own / "whole"),
            "leave": str(half) if is_first else None,
            "go_on": None if is_first else str(own / "half"),
        }
        say(f"{kind}: {gpu_process}")
        return ProcessOutput(kind, gpu_process, in_process(wanted, gpu_process))

    yield by(gpu_processes[0], is_first=True)
    others = [
        [gpu_process for gpu_process in gpu_processes[1:] if gpu_process.gpu == gpu]
        for gpu in gpus_of(gpu_processes)
    ]
    with ThreadPoolExecutor(len(others)) as pool:
        for row in pool.map(
            lambda row: [by(gpu_process, is_first=False) for gpu_process in row], others
        ):
            yield from row


def gpus_of(gpu_processes: Sequence[GpuProcess]) -> list[str]:
    return list(dict.fromkeys(gpu_process.gpu for gpu_process in gpu_processes))


def in_process(wanted: dict[str, Any], gpu_process: GpuProcess) -> dict[str, Any]:
    """What a process of its own answers.

    Raises:
        UserError: it failed; says its last lines.
    """
    environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    environment["CUDA_VISIBLE_DEVICES"] = (
        "" if gpu_process.gpu == "cpu" else uuid_of(gpu_process.gpu)
    )
    package = str(Path(__file__).resolve().parents[1])
    path = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "runner.backends.wan.trial"],
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=environment,
            timeout=PROCESS_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{gpu_process}: not done within {PROCESS_SECONDS} s") from None
    if done.returncode != 0:
        raise UserError(
            f"{gpu_process}: the process failed:", *done.stderr.strip().splitlines()[-3:]
        )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    for line in done.stderr.splitlines():
        if "kernels" in line or "begins anew" in line:
            say(f"    {line}")
    return found


def uuid_of(number: str) -> str:
    return next(gpu.uuid for gpu in find_gpus() if str(gpu.number) == number)


def answer(
    run: RunFolder, made: Sequence[ProcessOutput], first: dict[str, ProcessOutput]
) -> dict[str, Any]:
    """For `--json`."""
    rows = [
        {
            "settings": one.settings,
            "gpu": None if one.gpu_process.gpu == "cpu" else int(one.gpu_process.gpu),
            "process": one.gpu_process.process,
            "same": one.is_as(first[one.settings]),
            **one.found,
        }
        for one in made
    ]
    return {"sweep": run.name, "same": all(row["same"] for row in rows), "processes": rows}


def show(made: Sequence[ProcessOutput], first: dict[str, ProcessOutput], differing: int) -> None:
    print_lines(f"{'settings':18}{'process':20}{'latents':14}{'frames':14}{'half of the first':20}")
    for one in made:
        found, resumed = one.found, ""
        if "resumed" in found:
            is_same = found["resumed"] == first[one.settings].found["latents"]
            resumed = "same" if is_same else "different"
            if not found["from_step"]:
                resumed = "begins anew"
        cells = [
            one.settings,
            str(one.gpu_process),
            found["latents"][:10],
            found["frames"][:10],
            resumed,
        ]
        widths = (18, 20, 14, 14, 20)
        line = "".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        print_lines(f"{line}{'' if one.is_as(first[one.settings]) else 'DIFFERENT'}".rstrip())
    if differing:
        print_lines(f"{differing} of {len(made)} processes made other bits than the first one.")
    else:
        print_lines(
            f"All {len(made)} processes made the same bits, where the settings are the same."
        )


if __name__ == "__main__":
    raise SystemExit(main())
