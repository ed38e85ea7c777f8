"""What a sweep's size costs: plan, launch, progress and resume at 680 to 1,000,000 jobs.

Each command is run as a person runs it, with its start, and timed from outside. The data set
is a few real clips under many names (hard links), so that each is probed and hashed as in a
real one. "Half done" puts a real video and its sidecar for every other job on disk, as
`publish` leaves them; they are hard links to one file, since only size and time are compared.

    python benchmarks/scale.py            # 680 and 100,000 jobs
    python benchmarks/scale.py --full     # and 1,000,000
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from measuring import Cost, cost_of, table, write_section
from shapes import ROOT, parser_of_sizes, shape_of, sizes_of

from runner.disk.manifest import read_manifest
from runner.disk.publish import SCHEMA
from runner.disk.run_folder import RunFolder, sha256_file
from runner.job.record import inputs_record
from runner.video import write_video

TITLE = "What a sweep's size costs"
REAL_CLIPS = 4


def make_project(folder: Path, jobs: int) -> Path:
    """A data set and an experiment of so many jobs; returns the experiment file."""
    shape = shape_of(jobs)
    texts: dict[str, dict[str, list[str]]] = {}
    for number, (category, name) in enumerate(shape.clips()):
        texts.setdefault(category, {})[name] = shape.texts()
        path = folder / "videos" / category / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        real = folder / f"clip_{number % REAL_CLIPS}.mp4"
        if not real.exists():
            noise = np.random.default_rng(number).integers(0, 255, (9, 64, 112, 3), dtype=np.uint8)
            write_video(real, noise, fps=15, quality=5)
        os.link(real, path)
    (folder / "prompts.json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    experiment = {
        "name": "scale",
        "backend": "fake",
        "model": {"seconds": 0.0},
        "dataset": {"videos": "videos", "prompts": "prompts.json"},
        "seeds": list(range(shape.seeds)),
        "generation": {
            "width": 112,
            "height": 64,
            "num_frames": 9,
            "fps": 15,
            "num_inference_steps": 1,
            "negative_prompt": "overexposed, static, blurred details, subtitles, worst quality",
        },
        "placement": {"gpus": [0], "processes_per_gpu": 1, "device": "cpu"},
    }
    file = folder / "experiments" / "scale.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(experiment, allow_unicode=True), encoding="utf-8")
    return file


def measure(*words: str) -> Cost:
    """Run `sweep` with these words; it must end with status 0."""
    return cost_of([sys.executable, "-m", "runner", *words], ROOT)


def measure_first_claim(run: RunFolder, verb: str) -> Cost:
    """From the command's start to the first claim, by the queue's own clock; its memory."""
    start = time.time()
    cost = measure(verb, str(run.path), "--on", "local")
    claimed: float | None = None
    while claimed is None:
        time.sleep(0.02)
        with sqlite3.connect(str(run.queue)) as connection:
            claimed = connection.execute(
                "select min(coalesce(claimed_at, finished_at - seconds)) from jobs "
                "where claimed_at > ? or finished_at - seconds > ?",
                (start, start),
            ).fetchone()[0]
    measure("stop", str(run.path), "--now")
    return replace(cost, seconds=claimed - start)


def put_half_on_disk(run: RunFolder, real: Path) -> int:
    """Publish every other job's video, one file under all their names; returns how many."""
    size, sha256 = real.stat().st_size, sha256_file(real)
    done = read_manifest(run.manifest).jobs[::2]
    count = 0
    source = run.path.parent / "source.mp4"
    for job in done:
        video = run.video(job)
        video.parent.mkdir(parents=True, exist_ok=True)
        if video.exists():
            continue
        if count % 30_000 == 0:
            # A file system bounds the names of one file.
            source.unlink(missing_ok=True)
            source.write_bytes(real.read_bytes())
        os.link(source, video)
        content = {
            "schema": SCHEMA,
            "job": job.id,
            "fingerprint": job.fingerprint,
            "point": job.point,
            "inputs": inputs_record(job.series),
            "parameters": job.parameters,
            "video": {"file": video.name, "size": size, "sha256": sha256},
        }
        run.sidecar(job).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        count += 1
    return count


def measure_size(jobs: int) -> list[str]:
    """The table's row for a sweep of so many jobs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = make_project(folder, jobs)
        run = RunFolder(folder / "results" / "scale")
        cells = [f"{jobs:,}", str(measure("plan", str(file)))]
        cells.append(str(measure("progress", str(run.path), "--json")))
        cells.append(str(measure_first_claim(run, "launch")))
        put_half_on_disk(run, folder / "clip_0.mp4")
        for path in run.path.glob("sweep.db*"):
            path.unlink()
        cells.append(str(measure("progress", str(run.path), "--json")))
        cells.append(str(measure("progress", str(run.path), "--json")))
        cells.append(str(measure_first_claim(run, "resume")))
        cells.append(str(measure("plan", str(file))))
        return cells


HEAD = ["jobs", "plan", "progress", "launch to first claim", "half done: rebuild the queue"]
HEAD += ["progress", "resume to first claim", "plan again"]


def main() -> None:
    arguments = parser_of_sizes(__doc__.splitlines()[0]).parse_args()
    # Every command would compile the package anew, which no person's does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rows = []
    for jobs in sizes_of(arguments):
        rows.append(measure_size(jobs))
        print(rows[-1], file=sys.stderr)
    body = (
        "Wall time of each whole command, the interpreter's start included, in brackets its "
        "processor time, and its peak resident memory; to the first claim: from the command's "
        "start to the claim of the worker it started (fake backend, local launcher). "
        "Half done: every other job's video and sidecar are on disk; the rebuild is `progress` "
        f"after `sweep.db` was deleted, and reads every sidecar.\n\n{table(HEAD, rows)}"
    )
    write_section(arguments.out, TITLE, body)


if __name__ == "__main__":
    main()
