"""A backend with other axes than ours: a clip and a voice, no prompt, shapes as the inputs are."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runner.backends import Engine, Machine, OnStep, Planner
from runner.backends.section import Generation, Loss, Section, key
from runner.job import Job, Series
from runner.job.axes import AUDIO, VIDEO, Axes
from runner.job.shape import Shape
from runner.video import read_clip, write_video
from runner.video.program import ffmpeg


class DubSettings(Section):
    seconds: float = key(0.02, ge=0, description="of one step", loss=Loss.EXACT)


class DubGeneration(Generation):
    fps: float = key(10.0, gt=0, description="frames a second")
    steps: int = key(4, gt=0, description="of a video")
    brightness: float = key(1.0, ge=0, le=1, description="of its frames")


class DubPlanner(Planner[DubSettings, DubGeneration]):
    settings_type = DubSettings
    generation_type = DubGeneration
    axes = Axes((replace(VIDEO, gives_frames=False), AUDIO))
    recipe = 1
    recipe_change = ""

    def identity(self) -> dict[str, Any]:
        return {"weights": "drawn"}

    def shape(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> Shape:
        """As large as the clip, as long as the voice, with its sound."""
        clip, fps = facts[VIDEO.role], parameters["fps"]
        frames = max(1, int(facts[AUDIO.role].seconds * fps))
        return Shape(clip.width // 2 * 2, clip.height // 2 * 2, (frames, frames + 1), fps, True)

    def engine(self) -> Engine:
        return DubEngine(self.settings)


@dataclass(frozen=True)
class Pending:
    frames: Any
    fps: float
    voice: str


class DubEngine(Engine):
    def __init__(self, settings: DubSettings) -> None:
        self.settings = settings
        self.still: Any = None

    def load(self, machine: Machine) -> None:
        """Nothing is."""

    def prepare(self, series: Series) -> None:
        clip, shape = Path(series.file(VIDEO.role).path), series.shape
        self.still = read_clip(clip, replace(shape, num_frames=1, fps=1))

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> Pending:
        steps = job.parameters["steps"]
        for step in range(1, steps + 1):
            time.sleep(self.settings.seconds)
            on_step(step, steps)
        frames = self.still * job.parameters["brightness"] + np.uint8(job.seed % 8)
        whole = np.repeat(frames.astype(np.uint8), job.shape.most_frames, axis=0)
        return Pending(whole, job.shape.fps, job.series.file(AUDIO.role).path)

    def finish(self, pending: Pending, path: Path, quality: float) -> None:
        silent = path.with_name(f"{path.stem}.silent.mp4")
        write_video(silent, pending.frames, fps=pending.fps, quality=quality)
        command = [ffmpeg(), "-v", "error", "-y", "-i", str(silent), "-i", pending.voice]
        command += ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", str(path)]
        subprocess.run(command, check=True)
        silent.unlink()
