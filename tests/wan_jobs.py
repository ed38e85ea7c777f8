"""What the tests of the Wan backend share: a moving clip, a job of it, a loaded engine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hand_made import a_job

from runner.backends import Machine
from runner.backends.wan.engine import WanEngine
from runner.backends.wan.planner import WanPlanner
from runner.backends.wan.settings import WanSettings
from runner.disk.run_folder import sha256_file
from runner.job import FileInput, Job
from runner.video import write_video

Frames = npt.NDArray[np.uint8]

GENERATION: dict[str, Any] = {
    "width": 112,
    "height": 64,
    "num_frames": 9,
    "fps": 8,
    "num_inference_steps": 3,
    "negative_prompt": "blurry",
}
PROMPT = "一只猫在夕阳下奔跑, a cat runs 🙂"


def moving_square(path: Path, speed: int) -> Path:
    """A clip of a square that moves `speed` pixels a frame over a coloured ground."""
    rows, columns = np.mgrid[:64, :112]
    frames = np.zeros((9, 64, 112, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[..., 0], frame[..., 1] = columns * 2, rows * 3
        left = 10 + speed * number
        frame[20:40, left : left + 20] = (250, 250, 40)
    write_video(path, frames, fps=8, quality=9)
    return path


def job_of(clip: Path, *, fingerprint: str = "", prompt: str = PROMPT, **parameters: Any) -> Job:
    """A job of a clip; without a fingerprint none of its latents are kept."""
    return a_job(
        "c",
        "square",
        seed=42,
        prompt_text=prompt,
        reference=FileInput(str(clip), sha256_file(clip)),
        parameters={**GENERATION, **parameters},
        fingerprint=fingerprint,
    )


def load(device: str, cache: Path, jobs: Iterable[Job] = (), **settings: Any) -> WanEngine:
    """An engine loaded for these jobs, none of them prepared."""
    engine = WanPlanner(WanSettings(**settings), cache).engine()
    engine.load(Machine(device, cache, jobs=lambda: jobs))
    return engine


def prepared(device: str, cache: Path, job: Job, **settings: Any) -> WanEngine:
    """An engine loaded for a job, with the job's group prepared."""
    engine = load(device, cache, [job], **settings)
    engine.prepare(job.series)
    return engine


def silent(_done: int, _total: int) -> None:
    """For `on_step`."""
