"""Videos in a row through the whole runner: is the GPU busy all the time, and what a kill costs.

Two groups of two videos each by one worker, once undisturbed and once with `kill -9` of the worker
at a random time in the middle of a video; then two workers that load at once, on one GPU.

    python benchmarks/random_checkpoint.py models/random-14b
    python benchmarks/gpu_rows.py models/random-14b --steps 4
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from measuring import write_section

from runner.disk.attempts import read_attempts
from runner.disk.run_folder import RunFolder, sha256_file

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("rows", "kill", "load")
_STAGE = re.compile(r"^(\S+ \d\d:\d\d:\d\d,\d{3}) INFO +([a-z ]+): ([\d.]+) s$", re.MULTILINE)
_CLAIM = re.compile(r"^(\S+ \d\d:\d\d:\d\d,\d{3}) INFO +\w{16}: (claimed|goes on)", re.MULTILINE)
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Stage:
    """A stage of a video as the worker's log tells it: Unix seconds of its begin and end."""

    name: str
    begin: float
    end: float


def unix(stamp: str) -> float:
    date, _, milliseconds = stamp.partition(",")
    return time.mktime(time.strptime(date, "%Y-%m-%d %H:%M:%S")) + int(milliseconds) / 1000


def stages_in(log: str) -> list[Stage]:
    found = []
    for stamp, name, seconds in _STAGE.findall(log):
        end = unix(stamp)
        found.append(Stage(name, end - float(seconds), end))
    return found


class BusyGpu:
    """What NVML says of a GPU's use, sampled in the background."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.samples: list[tuple[float, int]] = []
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return
        handle = pynvml.nvmlDeviceGetHandleByIndex(self.number)
        while not self._ended.wait(POLL_SECONDS):
            use = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
            self.samples.append((time.time(), int(use)))

    def share(self, *spans: tuple[float, float]) -> float | None:
        """Mean use within some spans of time, from begin to end, in per cent."""
        values = [
            use for at, use in self.samples if any(begin <= at <= end for begin, end in spans)
        ]
        return mean(values) if values else None


class Rows:
    """The experiments of this benchmark, in one folder."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder = folder
        self.arguments = arguments
        self.model = {
            "checkpoint": str(arguments.checkpoint.absolute()),
            **yaml.safe_load(arguments.model),
        }
        clips = sorted((ROOT / "reference_videos" / "camera_motion").glob("*.mp4"))
        self.videos = [clip.stem for clip in clips[: arguments.references]]

    def write(self, name: str, processes: int = 1, **model: Any) -> Path:
        size = dict(zip(("width", "height", "num_frames"), self.arguments.size, strict=True))
        experiment = {
            "name": name,
            "backend": "wan",
            "project": str(ROOT),
            "model": {**self.model, **model},
            "dataset": {
                "videos": "reference_videos",
                "prompts": "prompts/motion_transfer.json",
                "categories": ["camera_motion"],
            },
            "seeds": [42, 142][: self.arguments.seeds],
            "generation": {"num_inference_steps": self.arguments.steps, **size},
            "placement": {"gpus": [self.arguments.gpu], "processes_per_gpu": processes},
            # Apart from the other runs', since a video that one has made is not made again.
            "results": str(self.folder / name),
        }
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(experiment, allow_unicode=True), encoding="utf-8")
        return file

    def sweep(self, *words: str) -> str:
        command = [sys.executable, "-m", "runner", *words]
        return subprocess.run(
            command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def launch(self, file: Path, *words: str, references: int | None = None) -> None:
        only = [f"video={video}" for video in self.videos[:references]]
        flags = [word for word in words if word.startswith("--")]
        points = [word for word in words if not word.startswith("--")]
        self.sweep(
            "launch", str(file), "--on", "local", *flags, "--only", *only, "prompt=0", *points
        )

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.folder / name / name)

    def log(self, name: str) -> str:
        logs = sorted(self.run(name).logs.glob("*.log"))
        return "".join(path.read_text(encoding="utf-8") for path in logs)

    def hashes(self, name: str) -> dict[str, str]:
        run = self.run(name).path
        return {
            path.relative_to(run).as_posix(): sha256_file(path)
            for path in sorted(run.glob("camera_motion/*/*.mp4"))
        }


def rows(bench: Rows) -> str:
    """Videos of some groups by one worker, one after the other."""
    gpu = BusyGpu(bench.arguments.gpu)
    with gpu.watching():
        bench.launch(bench.write("rows"), "--wait")
    log = bench.log("rows")
    print(log, file=sys.stderr)
    stages = stages_in(log)
    steps = [stage for stage in stages if stage.name == "denoise"]
    begin, end = steps[0].begin, steps[-1].end
    names = ("denoise", "decode", "reference encode")
    # The last video's own decoding is not between videos.
    last = steps[-1].begin + 0.01
    spent = {
        name: sum(s.end - s.begin for s in stages if s.name == name and begin <= s.begin < last)
        for name in names
    }
    gaps = len(steps) - 1
    other = (end - begin - sum(spent.values())) / gaps
    busy = gpu.share((begin, end))
    three = gpu.share((begin, steps[2].end))
    # NVML looks back over up to a second.
    denoising = gpu.share(*((stage.begin + 1, stage.end) for stage in steps))
    sidecars = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(bench.run("rows").path.glob("camera_motion/*/*.json"))
    ]
    hidden = mean(s["seconds"]["finish"] + s["seconds"]["check"] for s in sidecars)
    peak = max(s["peak_gpu_memory_gib"] or 0 for s in sidecars)
    return "\n".join(
        [
            f"{len(steps)} videos of {len(bench.videos)} groups, {bench.arguments.steps} steps "
            f"each, from the first denoising step to the last {end - begin:.1f} s: denoising "
            f"{spent['denoise']:.1f} s, decoding {spent['decode']:.1f} s, encoding the further "
            f"references {spent['reference encode']:.1f} s. What is left, prompt, claim, "
            f"reading the clip and publishing: {other:.2f} s a video. Encoding, checking and "
            f"publishing took {hidden:.1f} s a video beside the next one's denoising.",
            "",
            f"GPU busy by NVML, sampled every {1000 * POLL_SECONDS:.0f} ms: "
            f"{_percent(three)} over three videos in a row, {_percent(busy)} over all, "
            f"{_percent(denoising)} within denoising; "
            f"peak {peak:.1f} GiB. The worker {_loads(log)}.",
        ]
    )


def kill(bench: Rows) -> str:
    """One of those videos again, its worker killed at a random time."""
    every = 2
    file = bench.write("killed", keep_latents_every=every)
    bench.launch(file, "seed=42", references=1)
    steps = bench.arguments.steps
    aim = random.uniform(2, steps - 0.5)

    def worker() -> dict[str, Any]:
        found = json.loads(bench.sweep("progress", str(bench.run("killed").path), "--json"))
        workers: list[dict[str, Any]] = found["workers"]
        return workers[0] if workers else {}

    while (worker().get("step") or 0) < int(aim):
        time.sleep(0.2)
    time.sleep(bench.arguments.step_seconds * (aim % 1))
    held = worker()
    killed_at = time.time()
    os.kill(held["pid"], signal.SIGKILL)
    bench.launch(file, "seed=42", "--wait", references=1)
    log = bench.log("killed")
    print(log, file=sys.stderr)
    attempts = read_attempts(bench.run("killed").attempts)
    from_step = max(one["from_step"] for one in attempts)
    whole, made = bench.hashes("rows"), bench.hashes("killed")
    same = bool(made) and made.items() <= whole.items()
    again = next(stage for stage in stages_in(log) if stage.name == "denoise")
    claimed = next(unix(stamp) for stamp, what in _CLAIM.findall(log) if what == "goes on")
    return (
        f"The worker was killed after step {held['step']} of a video of {steps}, or a little later "
        f"(`keep_latents_every: {every}`); the next went on after step {from_step}, "
        f"{claimed - killed_at:.1f} s later, and denoised for {again.end - again.begin:.1f} s "
        f"(workers {_loads(log)}). The videos are "
        f"{'the same' if same else 'NOT the same'}, byte for byte, as those of the undisturbed "
        "run."
    )


def load(bench: Rows) -> str:
    """Two workers that start at once, with prompts to embed."""
    bench.arguments.steps = 1
    bench.launch(bench.write("two", 2), "seed=42", "--wait", references=2)
    log = bench.log("two")
    print(log, file=sys.stderr)
    return f"Two workers that start at once: {_loads(log)}."


def _loads(log: str) -> str:
    """What a log says of loading, in words."""
    seconds = re.findall(r"model loaded in ([\d.]+) s", log)
    made = re.findall(r"(\d+) prompt embeddings made in ([\d.]+) s", log)
    embedded = "; ".join(f"{number} prompts embedded in {value} s of it" for number, value in made)
    return f"loaded in {' and '.join(seconds)} s" + (f", {embedded}" if made else "")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--references", type=int, default=2, help="groups of videos")
    parser.add_argument("--seeds", type=int, choices=(1, 2), default=2, help="videos of a group")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--step-seconds", type=float, default=6.4)
    parser.add_argument("--model", default="{}", help="settings for speed, as YAML")
    parser.add_argument(
        "--size",
        type=lambda text: tuple(map(int, text.split("x"))),
        default=(832, 480, 81),
        help="width x height x frames",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    if "kill" in arguments.parts and "rows" not in arguments.parts:
        parser.error("--parts kill compares with the videos of rows: give both")
    title = f"Videos in a row on one GPU: {', '.join(arguments.parts)}, {arguments.steps} steps"
    blocks = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Rows(Path(folder), arguments)
        for part in arguments.parts:
            blocks.append({"rows": rows, "kill": kill, "load": load}[part](bench))
            write_section(arguments.out, title, "\n\n".join(blocks))


if __name__ == "__main__":
    main()
