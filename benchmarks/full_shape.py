"""The original sweep's 680 jobs through the real pipeline on the tiny checkpoint, on a CPU.

14, 33, 13 and 8 clips, 5 prompts, 2 seeds, 8 processes; 112x64, 9 frames, 4 steps. Once in one
go, and once with workers killed by SIGKILL at random moments and the sweep resumed:

    python benchmarks/full_shape.py
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dataset import ORIGINAL, make_dataset
from measuring import table, write_section

from runner.disk.attempts import read_attempts
from runner.disk.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
TITLE = "680 jobs on the tiny checkpoint"


def sweep(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runner", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def answer(*words: str) -> Any:
    """The JSON that a verb answers; it must end with status 0."""
    process = sweep(*words, "--json")
    out, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"sweep {' '.join(words)} ended with {process.returncode}: {out}")
    return json.loads(out)


def plan(folder: Path, name: str) -> float:
    """Plan the sweep; returns the seconds that the whole command took."""
    overrides = [f"name={name}", f"project={folder}", "results=results", "reuse=false"]
    overrides += ["dataset.videos=videos", "dataset.prompts=prompts.json"]
    overrides += ["model={checkpoint: tiny}", "generation.num_inference_steps=4"]
    overrides += ["generation.width=112", "generation.height=64", "generation.num_frames=9"]
    start = time.monotonic()
    planned = answer("plan", "experiments/wan_experiment.yaml", *overrides)
    seconds = time.monotonic() - start
    assert planned["total"] == 680, planned["total"]
    return seconds


def run(folder: Path, name: str, kills: int, rng: random.Random) -> list[str]:
    """One whole sweep; `kills` workers die on the way. Returns the table's row."""
    run_folder = RunFolder(folder / "results" / name)
    start = time.monotonic()
    process = sweep("launch", str(run_folder.path), "--on", "local", "--wait")
    for number in range(kills):
        wait_for_share(run_folder, (number + 1) / (kills + 1))
        workers = answer("progress", str(run_folder.path))["workers"]
        victim = rng.choice([worker for worker in workers if worker["state"] == "working"])
        time.sleep(rng.random())
        print(f"kill -9 of {victim['name']} (pid {victim['pid']})", file=sys.stderr)
        os.kill(victim["pid"], signal.SIGKILL)
    assert process.wait() == 0
    seconds = time.monotonic() - start
    checked = answer("verify", str(run_folder.path))
    outcomes = [attempt["outcome"] for attempt in read_attempts(run_folder.attempts)]
    return [
        name,
        f"{seconds:.0f}",
        f"{seconds / 680:.3f}",
        str(outcomes.count("died")),
        str(outcomes.count("done")),
        str(checked["good"]),
        str(len(checked["broken"])),
    ]


def wait_for_share(run_folder: RunFolder, share: float) -> None:
    while len(list(run_folder.path.glob("*/*/*.json"))) < 680 * share:
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="decides when and whom to kill")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(folder, ORIGINAL, prompts=5)
        seconds = [plan(folder, "whole"), plan(folder, "killed")]
        rows = [run(folder, "whole", 0, rng), run(folder, "killed", arguments.kills, rng)]
    head = ["sweep", "seconds", "seconds a job", "attempts that died", "attempts done"]
    head += ["files verified", "broken"]
    body = (
        f"8 processes; planned in {seconds[0]:.2f} s and {seconds[1]:.2f} s; seconds are of the "
        f"whole `sweep launch --wait`, loading included. {arguments.kills} workers were killed; "
        "each holds the job it generates and, at times, the one being encoded.\n\n"
        f"{table(head, rows)}"
    )
    write_section(arguments.out, TITLE, body)


if __name__ == "__main__":
    main()
