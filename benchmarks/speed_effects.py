"""What each setting for speed does to the videos of the tiny checkpoint, on any machine.

The sample sweep with each setting in turn: how far its frames are from the plain path's, and what
`python -m runner.quality` measures of them. Writes its table into docs/speed.md.

    python benchmarks/speed_effects.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from measuring import command, machine, table

from runner.job.shape import Shape
from runner.machine.gpus import find_gpus
from runner.video import read_clip

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "speed.md"
STRENGTH = 0.6
"""Where the prompt's things and the reference's motion are both uncertain, so that a loss shows."""
BEGIN, END = "<!-- effects: begin -->", "<!-- effects: end -->"
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fp8: true": {"fp8": True},
    "tea_cache: 0.1": {"tea_cache": 0.1},
    "tea_cache: 0.2": {"tea_cache": 0.2},
    "compile: true": {"compile": True},
    "vae_tiling: off": {"vae_tiling": "off"},
    "tea_cache: 0.05": {"tea_cache": 0.05},
    "dtype: float32": {"dtype": "float32"},
}
ON_GPUS: dict[str, dict[str, Any]] = {
    "attention: cudnn": {"attention": "cudnn"},
    "attention: flash": {"attention": "flash"},
    "attention: flash_attention_4": {"attention": "flash_attention_4"},
}
EVERY = {**SETTINGS, **ON_GPUS}


def sweep(
    folder: Path, name: str, model: dict[str, Any], steps: int, size: str, seeds: list[int]
) -> Path:
    """Make the sample sweep with these settings; returns its run folder."""
    experiment = yaml.safe_load((ROOT / "experiments" / "quickstart.yaml").read_text("utf-8"))
    experiment |= {"name": name, "results": str(folder), "project": str(ROOT), "seeds": seeds}
    experiment["model"] |= model
    width, height, frames = map(int, size.split("x"))
    experiment["generation"] |= {"num_inference_steps": steps, "denoising_strength": STRENGTH}
    experiment["generation"] |= {"width": width, "height": height, "num_frames": frames}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(experiment, allow_unicode=True), encoding="utf-8")
    command = [sys.executable, "-m", "runner", "launch", str(file), "--on", "local", "--wait"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return folder / name


def frames_of(run: Path) -> dict[str, Any]:
    found = {}
    for sidecar in sorted(run.glob("*/*/*.json")):
        told = json.loads(sidecar.read_text(encoding="utf-8"))
        shape = Shape.from_json(told["shape"])
        found[str(sidecar.relative_to(run))] = read_clip(sidecar.with_suffix(".mp4"), shape)
    return found


def difference(run: Path, plain: Path) -> tuple[float, float]:
    """Mean absolute difference of the frames, of 255, and the share of videos that are equal."""
    ours, theirs = frames_of(run), frames_of(plain)
    apart = [np.abs(ours[key].astype(int) - theirs[key]).mean() for key in theirs]
    return float(np.mean(apart)), float(np.mean([one == 0 for one in apart]))


def quality(run: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "runner.quality", str(run), "--no-vae", "--json"]
    said = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, Any] = json.loads(said)["runs"][0]["measured"][0]
    return measured


def row(name: str, run: Path, plain: Path) -> list[str]:
    measured = quality(run)
    apart, equal = difference(run, plain)
    shares = [f"{100 * measured[key]:.0f} %" for key in ("colour", "shape")]
    motion = [f"{measured[key]:.3f}" for key in ("own", "other")]
    return [name, str(measured["videos"]), f"{apart:.2f}", f"{100 * equal:.0f} %", *shares, *motion]


def put(rows: list[list[str]], words: str) -> None:
    """Print the table, and put it between its marks in the document."""
    head = ["setting", "videos", "frames apart, of 255", "videos equal", "colour right"]
    head += ["shape right", "own motion", "other's motion"]
    body = f"{machine()}.\n\n    {command()}\n\n{words}\n\n{table(head, rows)}"
    print(body)
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", default="128x80x17", help="width x height x frames")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 142])
    parser.add_argument(
        "--only", nargs="+", choices=EVERY, default=list(EVERY if find_gpus() else SETTINGS)
    )
    arguments = parser.parse_args()
    rows: list[list[str]] = []
    how = arguments.steps, arguments.size, arguments.seeds
    words = f"{arguments.size}, {arguments.steps} steps, strength {STRENGTH}"
    words += f", seeds {arguments.seeds}:"
    with tempfile.TemporaryDirectory() as folder:
        plain = sweep(Path(folder), "plain", {}, *how)
        for number, name in enumerate(arguments.only):
            run = plain
            if model := EVERY[name]:
                run = sweep(Path(folder), f"s{number}", model, *how)
            rows.append(row(name, run, plain))
            put(rows, words)


if __name__ == "__main__":
    main()
