"""Sweep held-out scenes over `denoising_strength` and measure the videos.

    python -m training.evaluate FOLDER

FOLDER becomes a project: clips of combinations that training left out, and for each the things and
the motion of another such scene. One sweep, `text`, is given all of the other's caption and no
reference; one sweep for each strength is given the reference and a prompt without the motion, so
that motion can come from the reference alone. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from runner.disk.manifest import read_manifest
from runner.experiment.experiment import Experiment
from runner.experiment.loading import load_experiment
from runner.quality.looks import fit_outlines, judge, share
from runner.quality.measure import fidelity, reconstructed
from runner.scenes.caption import english
from runner.scenes.chance import random_scene
from runner.scenes.render import render
from runner.scenes.scene import Scene
from runner.scenes.words import CATEGORIES, mentions
from runner.video import write_video

SIZE = {"width": 128, "height": 80, "num_frames": 17, "fps": 8}


def make_project(folder: Path, clips: int, seed: int) -> None:
    """Write that many clips of each category, and their prompts."""
    random = np.random.default_rng(seed)
    things: dict[str, dict[str, list[str]]] = {}
    captions: dict[str, dict[str, list[str]]] = {}
    shown_as: dict[str, str] = {}
    for category in CATEGORIES:
        for number in range(clips):
            shown, wanted = (
                random_scene(random, category, accept=Scene.held_out) for _ in range(2)
            )
            path = folder / "videos" / category / f"clip_{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            frames = render([shown], width=128, height=80, num_frames=17, fps=8)[0]
            write_video(path, frames, fps=8, quality=9)
            shown_as[path.relative_to(folder).as_posix()] = english(shown)
            wanted = replace(wanted, background=shown.background)
            things.setdefault(category, {})[path.stem] = [english(wanted, motion=False)]
            captions.setdefault(category, {})[path.stem] = [english(wanted)]
    for name, texts in (("captions", captions), ("things", things), ("shown", shown_as)):
        text = json.dumps(texts, indent=1)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def through_the_vae(folder: Path, experiment: Experiment) -> str:
    """What the VAE alone leaves of the references, and of their things' colours and shapes."""
    jobs = read_manifest(experiment.run_folder.manifest).jobs
    (method,) = experiment.every_method
    given_back = list(reconstructed(method.planner().engine(), folder, jobs))
    captions = json.loads((folder / "shown.json").read_text(encoding="utf-8"))
    outlines = fit_outlines()
    judged = [
        one
        for job, frames in given_back
        for one in judge(frames, mentions(captions[job.series.file("reference").path]), outlines)
    ]
    colour, shape = share(one.colour for one in judged), share(one.shape for one in judged)
    return (
        f"references after the VAE: {fidelity(folder, given_back):.1f} dB, "
        f"colour right {colour:.0%}, shape right {shape:.0%}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--clips", type=int, default=4, help="of each category")
    parser.add_argument("--seed", type=int, default=100, help="of the clips")
    parser.add_argument("--strengths", type=float, nargs="*", default=[0.4, 0.5, 0.6, 0.8, 1.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=3.5)
    parser.add_argument("--shift", type=float, default=5.0, help="of the noise schedule")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    if not (folder / "things.json").is_file():
        make_project(folder, arguments.clips, arguments.seed)
    sweeps = [("text", "captions", 1.0)]
    sweeps += [(f"strength_{round(100 * s):03}", "things", s) for s in arguments.strengths]
    runs = []
    for name, prompts, strength in sweeps:
        experiment = {
            "name": name,
            "backend": "wan",
            "model": {"checkpoint": arguments.checkpoint},
            "dataset": {"videos": "videos", "prompts": f"{prompts}.json"},
            "seeds": [1, 2],
            "generation": {
                **SIZE,
                "num_inference_steps": arguments.steps,
                "cfg_scale": arguments.cfg,
                "sigma_shift": arguments.shift,
                "denoising_strength": strength,
            },
            "placement": {"gpus": [0], "processes_per_gpu": 2},
            "output": {"quality": 9},
        }
        file = folder / "experiments" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        launch = [sys.executable, "-m", "runner", "launch", str(file), "--on", "local", "--wait"]
        subprocess.run(launch, check=True)
        runs.append(str(folder / "results" / name))
    print(through_the_vae(folder, load_experiment(folder / "experiments" / "text.yaml", [])))
    measures = [sys.executable, "-m", "runner.quality", "--no-vae", *runs]
    return subprocess.run(measures, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
