"""The fake backend: no model, but real, decodable videos of the asked size, count and rate.

It drives most tests and benchmarks, and serves to try out an experiment file and a placement
before any weights are there: `sweep launch FILE backend=fake model={seconds: 0.2}`.
"""

from __future__ import annotations

import colorsys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ..errors import UserError
from ..job import Job
from ..video import write_video
from . import Backend, Generation, Group, Machine, OnStep, Section


class FakeSettings(Section):
    seconds: float = Field(0.2, ge=0, description="how long a job takes its worker")
    spread: float = Field(0.0, ge=0, le=1, description="durations differ by up to this share")
    load_seconds: float = Field(0.0, ge=0, description="how long loading the model takes")
    fail: list[str] = Field(default_factory=list, description="videos whose jobs fail")


@dataclass(frozen=True)
class Pending:
    """A video yet to be drawn: what it depends on."""

    hue: float
    parameters: dict[str, Any]


class FakeBackend(Backend[FakeSettings]):
    settings_type = FakeSettings
    recipe = 1

    def identity(self) -> dict[str, Any]:
        return {}

    def load(self, machine: Machine) -> None:
        time.sleep(self.settings.load_seconds)

    def prepare(self, group: Group) -> None:
        if not group.reference.is_file():
            raise UserError(f"{group.reference}: no such reference clip")

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> Pending:
        start = time.monotonic()
        seconds = duration(self.settings, job)
        steps = int(job.parameters["num_inference_steps"])
        for step in range(1, steps + 1):
            until = start + seconds * step / steps
            time.sleep(max(0.0, until - time.monotonic()))
            on_step(step, steps)
        if job.video in self.settings.fail:
            raise RuntimeError(f"asked to fail on {job.video}")
        return Pending(int(job.fingerprint[:4], 16) / 0xFFFF, job.parameters)

    def finish(self, pending: Pending, path: Path, quality: float) -> None:
        write_video(
            path,
            draw(pending.hue, Generation(**_common(pending.parameters))),
            fps=pending.parameters["fps"],
            quality=quality,
        )


def duration(settings: FakeSettings, job: Job) -> float:
    """Seconds that a job takes, the same whoever makes it."""
    share = int(job.fingerprint[4:12], 16) / 0xFFFFFFFF
    return settings.seconds * (1 + settings.spread * (2 * share - 1))


def draw(hue: float, size: Generation) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A bright bar that crosses a field of one hue: (num_frames, height, width, 3)."""
    field = np.array(colorsys.hsv_to_rgb(hue, 0.6, 0.5)) * 255
    frames = np.empty((size.num_frames, size.height, size.width, 3), np.uint8)
    frames[:] = field.astype(np.uint8)
    width = max(size.width // 8, 1)
    for number, frame in enumerate(frames):
        start = number * (size.width - width) // max(size.num_frames - 1, 1)
        frame[:, start : start + width] = 230
    return frames


def _common(parameters: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key in Generation.model_fields}


BACKEND = FakeBackend
