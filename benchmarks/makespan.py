"""How long a sweep takes against the ideal: stealing, and categories pinned to their GPUs.

The original sweep's 680 jobs on 4 GPU slots x 2 processes with the fake backend, at 1/500 of
the seconds that a 14B video takes, durations drawn with +-20 %:

    python benchmarks/makespan.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from dataset import ORIGINAL, make_dataset
from measuring import table, write_section

from runner.backends.fake.engine import duration
from runner.backends.fake.planner import FakeSettings
from runner.disk.attempts import read_attempts
from runner.disk.manifest import read_manifest
from runner.disk.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Makespan against the ideal"
WORKERS = 8


def run(folder: Path, balance: str, seconds: float) -> list[str]:
    """One whole sweep; returns the table's row."""
    settings = {"seconds": seconds, "spread": 0.2}
    experiment = {
        "name": balance,
        "backend": "fake",
        "model": settings,
        "dataset": {
            "videos": "videos",
            "prompts": "prompts.json",
            "categories": list(ORIGINAL),
        },
        "seeds": [42, 142],
        # Each placement makes every video itself.
        "reuse": False,
        "generation": {
            "width": 64,
            "height": 32,
            "num_frames": 5,
            "fps": 15,
            "num_inference_steps": 10,
        },
        "placement": {"gpus": [0, 1, 2, 3], "processes_per_gpu": 2, "balance": balance},
    }
    file = folder / f"{balance}.yaml"
    file.write_text(yaml.safe_dump(experiment))
    command = [sys.executable, "-m", "runner", "launch", str(file), "--on", "local", "--wait"]
    subprocess.run(command, cwd=ROOT, check=True)
    run_folder = RunFolder(folder / "results" / balance)
    jobs = read_manifest(run_folder.manifest).jobs
    total = sum(duration(FakeSettings(**settings), job) for job in jobs)
    done = read_attempts(run_folder.attempts)
    assert len(done) == len(jobs)
    assert all(attempt["outcome"] == "done" for attempt in done)
    makespan = max(a["ended_at"] for a in done) - min(a["started_at"] for a in done)
    ends: dict[str, float] = {}
    for attempt in done:
        gpu = attempt["worker"].partition("_")[0]
        ends[gpu] = max(ends.get(gpu, 0.0), attempt["ended_at"])
    spread = max(ends.values()) - min(ends.values())
    ideal = total / WORKERS
    overhead = makespan * WORKERS - total
    return [
        balance,
        f"{ideal:.1f}",
        f"{makespan:.1f}",
        f"{makespan / ideal:.3f}",
        f"{spread:.1f}",
        f"{1000 * overhead / len(jobs):.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=332 / 500, help="mean of a job")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(folder, ORIGINAL, prompts=5)
        rows = [run(folder, balance, arguments.seconds) for balance in ("steal", "static")]
    head = ["balance", "ideal s", "makespan s", "ratio", "first to last GPU's end s"]
    head += ["idle or overhead, ms a job"]
    body = (
        f"680 jobs of {arguments.seconds:.3f} s +-20 % on 4 GPU slots x "
        "2 processes; makespan from the first claim to the last publication, encoding and "
        "checking included; "
        f"the ideal is the sum of all durations over {WORKERS} workers.\n\n{table(head, rows)}"
    )
    write_section(arguments.out, TITLE, body)


if __name__ == "__main__":
    main()
