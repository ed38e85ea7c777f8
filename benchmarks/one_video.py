"""One video on the tiny checkpoint, from a reference clip to a file, on two cores.

17 frames of 128x80, 20 steps with guidance, through the backend as a worker calls it; the model is
loaded and one video made before the clock starts:

    python benchmarks/one_video.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from hand_made import a_job
from measuring import table, write_section

from runner.backends import Machine
from runner.backends.wan.offline import import_torch
from runner.backends.wan.planner import WanPlanner
from runner.backends.wan.settings import WanSettings
from runner.job import FileInput
from runner.job.shape import Shape
from runner.scenes.caption import english
from runner.scenes.chance import random_scene
from runner.scenes.render import render
from runner.scenes.scene import Scene
from runner.video import check_video, write_video

ROOT = Path(__file__).resolve().parents[1]
TITLE = "One video on the tiny checkpoint"
SIZE = {"width": 128, "height": 80, "num_frames": 17, "fps": 8}
GENERATION = {
    **SIZE,
    "num_inference_steps": 20,
    "cfg_scale": 3.5,
    "denoising_strength": 0.5,
}


def make_videos(folder: Path, videos: int) -> list[list[float]]:
    """Seconds of each video's parts: the reference's encoding, generation, file; and the
    processor's seconds of all three."""
    scene = random_scene(np.random.default_rng(1), "single_object", accept=Scene.held_out)
    frames = render([scene], width=128, height=80, num_frames=17, fps=8)[0]
    clip = folder / "clip.mp4"
    write_video(clip, frames, fps=8, quality=9)
    engine = WanPlanner(WanSettings(checkpoint="tiny"), folder).engine()
    engine.load(Machine("cpu", folder))
    rows = []
    for seed in range(videos + 1):
        job = a_job(
            "single_object",
            "clip",
            seed=seed,
            prompt_text=english(scene, motion=False),
            reference=FileInput(str(clip), ""),
            parameters=GENERATION,
        )
        marks, spent = [time.perf_counter()], time.process_time()
        engine.prepare(job.series)
        marks.append(time.perf_counter())
        pending = engine.generate(job, folder, lambda _done, _total: None)
        marks.append(time.perf_counter())
        path = folder / f"{seed}.mp4"
        engine.finish(pending, path, 5)
        marks.append(time.perf_counter())
        spent = time.process_time() - spent
        check_video(path, Shape(width=128, height=80, num_frames=17, fps=8))
        parts = [after - before for before, after in pairwise(marks)]
        rows.append([*parts, spent])
    engine.close()
    return rows[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import_torch().set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        rows = make_videos(Path(name), arguments.videos)
    totals = sorted(sum(row[:3]) for row in rows)
    *parts, spent = (f"{median(part):.2f}" for part in zip(*rows, strict=True))
    body = (
        f"{arguments.threads} threads, {arguments.videos} videos one after the other, medians in "
        "seconds; 17 frames of 128x80, 20 steps, guidance 3.5 (two passes a step), bfloat16.\n\n"
    )
    head = ["reference encoded", "generated and decoded", "file written", "whole"]
    head += ["fastest", "slowest", "processor's seconds, of all threads"]
    cells = [*parts, *(f"{value:.2f}" for value in (median(totals), totals[0], totals[-1])), spent]
    write_section(arguments.out, TITLE, body + table(head, [cells]))


if __name__ == "__main__":
    main()
