"""Full-size videos through `sweep launch --on local --wait`, in several configurations.

For each of one and two processes on GPU 0, models resident and managed: seconds per stage of
a video, peak memory of each process, and videos per hour. A checkpoint of random numbers
serves as well as the published one:

    python benchmarks/random_checkpoint.py models/random-14b
    python benchmarks/gpu_sweep.py models/random-14b
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from measuring import table, write_section

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Wan2.1-T2V-14B through the whole runner"
CONFIGURATIONS = ("resident-1", "resident-2", "managed-1", "managed-2")


@dataclass(frozen=True)
class Measured:
    """One configuration's sweep: seconds of loading, and each video's sidecar."""

    name: str
    load_seconds: list[float]
    sidecars: list[dict[str, Any]]

    def stage(self, name: str) -> float:
        """Mean seconds of a stage over the videos that had it."""
        values = [s["seconds"][name] for s in self.sidecars if name in s["seconds"]]
        return float(mean(values))

    @property
    def videos_per_hour(self) -> float:
        """From the first claim to the last publication: loading is left out."""
        start: float = min(sidecar["claimed_at"] for sidecar in self.sidecars)
        end: float = max(sidecar["finished_at"] for sidecar in self.sidecars)
        return 3600 * len(self.sidecars) / (end - start)

    def row(self) -> list[str]:
        seconds = [self.stage(name) for name in ("prepare", "generate", "finish", "check")]
        peak = max(sidecar["peak_gpu_memory_gib"] or 0 for sidecar in self.sidecars)
        return [
            self.name,
            str(len(self.sidecars)),
            ", ".join(f"{value:.0f}" for value in self.load_seconds),
            *(f"{value:.2f}" for value in seconds),
            f"{peak:.1f}",
            f"{self.videos_per_hour:.1f}",
        ]


def measure(checkpoint: Path, configuration: str, arguments: argparse.Namespace) -> Measured:
    vram, _, processes = configuration.partition("-")
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        experiment = {
            "name": "gpu",
            "backend": "wan",
            "project": str(ROOT),
            "model": {"checkpoint": str(checkpoint.absolute()), "vram": vram},
            "dataset": {
                "videos": "reference_videos",
                "prompts": "prompts/motion_transfer.json",
                "categories": ["camera_motion"],
            },
            "seeds": [42, 142],
            "generation": {"num_inference_steps": arguments.steps},
            "placement": {"gpus": [0], "processes_per_gpu": int(processes)},
            "results": str(results),
        }
        file = Path(folder) / "gpu.yaml"
        file.write_text(yaml.safe_dump(experiment))
        # Each process has one reference video to itself, and its jobs in a row.
        clips = sorted((ROOT / "reference_videos" / "camera_motion").glob("*.mp4"))
        words = [f"video={clip.stem}" for clip in clips[: int(processes)]]
        words += [f"prompt={number}" for number in range((arguments.jobs + 1) // 2)]
        command = [sys.executable, "-m", "runner", "launch", str(file), "--on", "local", "--wait"]
        subprocess.run([*command, "--only", *words], cwd=ROOT, check=True)
        run = results / "gpu"
        logs = "".join(path.read_text() for path in sorted((run / "logs").glob("*.log")))
        print(logs, file=sys.stderr)
        subprocess.run([sys.executable, "-m", "runner", "verify", str(run)], cwd=ROOT, check=True)
        return Measured(
            configuration,
            [float(value) for value in re.findall(r"model loaded in ([\d.]+) s", logs)],
            [json.loads(path.read_text()) for path in sorted(run.glob("camera_motion/*/*.json"))],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--steps", type=int, default=4, help="denoising steps of each video")
    parser.add_argument("--jobs", type=int, default=2, help="videos per process")
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=CONFIGURATIONS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    measured = []
    for configuration in arguments.only:
        measured.append(measure(arguments.checkpoint, configuration, arguments))
        head = [
            "vram-processes",
            "videos",
            "load",
            "prepare",
            f"generate ({arguments.steps} steps)",
        ]
        head += ["finish", "check", "peak GiB a process", "videos an hour"]
        body = (
            f"832x480, 81 frames, {arguments.steps} steps, guidance 5.0, tiled VAE, two seeds a "
            "prompt; seconds are means a video (prepare: once a reference video).\n\n"
            + table(head, [one.row() for one in measured])
        )
        # After each, so that a time limit costs only the configuration it cuts short.
        write_section(arguments.out, TITLE, body)


if __name__ == "__main__":
    main()
