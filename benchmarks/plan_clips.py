"""How long `sweep plan` takes over 680 clips of 1080p, beside another checkout of this project.

    python benchmarks/plan_clips.py                       # this checkout alone
    git worktree add ../other 065a9b8
    python benchmarks/plan_clips.py --against ../other    # both in turn, and the ratio

A few clips of five seconds with B-frames are drawn and encoded, the others are copies of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import imageio_ffmpeg
import yaml
from measuring import table, write_section

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Planning over 680 clips"
WIDTH, HEIGHT, FPS, SECONDS, DISTINCT = 1920, 1080, 30, 5, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=680)
    parser.add_argument("--runs", type=int, default=5, help="of each, in turn")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    checkouts = {"this": ROOT}
    if arguments.against is not None:
        checkouts["the other"] = arguments.against.resolve()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        size = make_project(root, arguments.clips)
        seconds: dict[str, list[float]] = {which: [] for which in checkouts}
        for number in range(arguments.runs + 1):
            for which, checkout in checkouts.items():
                took = plan(root, checkout)
                # The first reading brings the clips from the disk.
                if number:
                    seconds[which].append(took)
    rows = [
        [
            name_of(checkout) if which != "this" else "this checkout",
            f"{median(seconds[which]):.2f}",
            f"{min(seconds[which]):.2f}",
            f"{max(seconds[which]):.2f}",
            f"{median(seconds['this']) / median(seconds[which]):.2f}",
        ]
        for which, checkout in checkouts.items()
    ]
    body = (
        f"{arguments.clips} clips of {WIDTH}x{HEIGHT}, {SECONDS} s at {FPS} frames a second, "
        f"{size / 2**20:.1f} MiB each, in four categories, one prompt each, `backend: fake`; a "
        f"new run folder each time. {arguments.runs} runs in turn, in seconds.\n\n"
        + table(["checkout", "median", "fastest", "slowest", "this one's share of it"], rows)
    )
    write_section(arguments.out, TITLE, body)


def name_of(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def make_project(root: Path, clips: int) -> float:
    """Write clips, prompts and experiment; the mean size of a clip in bytes."""
    sources = []
    for number in range(DISTINCT):
        path = root / f"source_{number}.mp4"
        picture = f"testsrc2=size={WIDTH}x{HEIGHT}:rate={FPS}:duration={SECONDS}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", picture]
        command += ["-vf", f"hue=h={60 * number}", "-c:v", "libx264", "-preset", "fast"]
        subprocess.run([*command, "-pix_fmt", "yuv420p", str(path)], check=True)
        sources.append(path)
    prompts: dict[str, dict[str, list[str]]] = {}
    for number in range(clips):
        category, name = f"category_{number % 4}", f"ref_{number:03}"
        target = root / "videos" / category / f"{name}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sources[number % DISTINCT], target)
        prompts.setdefault(category, {})[name] = ["a prompt"]
    (root / "prompts.json").write_text(json.dumps(prompts))
    experiment = {
        "name": "x",
        "backend": "fake",
        "dataset": {"videos": "videos", "prompts": "prompts.json"},
        "seeds": [1],
        "generation": {"width": 832, "height": 480, "num_frames": 73, "fps": 15},
    }
    (root / "x.yaml").write_text(yaml.safe_dump(experiment))
    return sum(path.stat().st_size for path in sources) / DISTINCT


def plan(root: Path, checkout: Path) -> float:
    """Seconds of one `sweep plan` by a checkout's own code."""
    shutil.rmtree(root / "results", ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "runner", "plan", "x.yaml"]
    start = time.perf_counter()
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
