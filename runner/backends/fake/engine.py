"""Fake videos: drawn, encoded, and going wrong on command."""

from __future__ import annotations

import colorsys
import errno
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...disk.run_folder import append_line, write_atomically
from ...job import FileInput, Job, Series
from ...job.failures import BadInput, GpuError, OutOfGpuMemory
from ...job.shape import Shape
from ...text.errors import UserError
from ...video import write_video
from .. import Engine, Machine, OnStep

if TYPE_CHECKING:
    from .planner import FakePlanner, FakeSettings, Fault

LARGEST_FILLED_DISK_BYTES = 1 << 30
"""A larger disk is not filled: it may be a person's."""


KEPT = "steps"
"""The file in a job's scratch that says how many of its steps are done."""


@dataclass(frozen=True)
class PendingDrawing:
    """A video yet to be drawn: what it depends on."""

    hue: float
    shape: Shape
    truncated: bool


class FakeEngine(Engine):
    """A worker's pretence: it waits, and draws."""

    def __init__(self, planner: FakePlanner) -> None:
        self.settings = planner.settings

    def load(self, machine: Machine) -> None:
        self._machine = machine
        time.sleep(self.settings.load_seconds)

    def prepare(self, series: Series) -> None:
        for one in series.inputs.values():
            if isinstance(one, FileInput) and not Path(one.path).is_file():
                raise UserError(f"{one.path}: no such file")

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> PendingDrawing:
        kinds = {fault.kind for fault in self.settings.faults if self._strikes(fault, job)}
        start = time.monotonic()
        seconds = duration(self.settings, job)
        if "slow" in kinds:
            seconds *= self.settings.slow_factor
        steps = int(job.parameters["num_inference_steps"])
        done = self.steps_kept(job, scratch)
        for step in range(done + 1, steps + 1):
            until = start + seconds * (step - done) / steps
            time.sleep(max(0.0, until - time.monotonic()))
            if self.settings.keep_every and step % self.settings.keep_every == 0:
                write_atomically(scratch / KEPT, f"{job.fingerprint} {step}".encode())
            on_step(step, steps)
            if step == (steps + 1) // 2:
                for kind in kinds:
                    go_wrong(kind, job, scratch)
        hue = int(job.fingerprint[:4], 16) / 0xFFFF
        return PendingDrawing(hue, job.shape, "truncate" in kinds)

    def steps_kept(self, job: Job, scratch: Path) -> int:
        try:
            fingerprint, step = (scratch / KEPT).read_text().split()
        except FileNotFoundError:
            return 0
        return int(step) if fingerprint == job.fingerprint else 0

    def finish(self, pending: PendingDrawing, path: Path, quality: float) -> None:
        write_video(
            path,
            draw(pending.hue, pending.shape),
            fps=pending.shape.fps,
            quality=quality,
        )
        if pending.truncated:
            os.truncate(path, path.stat().st_size // 2)

    def _strikes(self, fault: Fault, job: Job) -> bool:
        """Whether a fault befalls this attempt; `times` is counted over all processes."""
        if not fault.matches(job, self._machine.gpu):
            return False
        if fault.times is None:
            return True
        number = self.settings.faults.index(fault)
        struck = self._machine.cache / "faults" / f"{number}-{job.id}"
        if struck.exists() and len(struck.read_bytes().splitlines()) >= fault.times:
            return False
        struck.parent.mkdir(parents=True, exist_ok=True)
        append_line(struck, b"struck")
        return True


def go_wrong(kind: str, job: Job, scratch: Path) -> None:
    """Do what a fault of that kind does in the middle of a job, where it does anything then."""
    if kind == "fail":
        raise RuntimeError(f"asked to fail on {job.group.rpartition('/')[2]}")
    if kind == "bad_input":
        raise BadInput("asked to find this job's input bad")
    if kind == "out_of_gpu_memory":
        raise OutOfGpuMemory("asked to run out of GPU memory")
    if kind == "out_of_host_memory":
        raise MemoryError("asked to run out of host memory")
    if kind == "gpu_error":
        raise GpuError("asked for a CUDA error: an illegal memory access was encountered")
    if kind == "hang":
        while True:
            time.sleep(3600)
    if kind == "exit":
        sys.stderr.flush()
        os._exit(7)
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "fill_disk":
        fill_disk(scratch)


def fill_disk(scratch: Path) -> None:
    """Write until the disk is full, and fail as one does then."""
    free = os.statvfs(scratch)
    if free.f_bavail * free.f_frsize > LARGEST_FILLED_DISK_BYTES:
        raise UserError(f"{scratch}: the fault fill_disk is for a disk of less than 1 GiB")
    block = bytes(1 << 16)
    with (scratch / "filling").open("wb") as file:
        while file.write(block):
            file.flush()
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def duration(settings: FakeSettings, job: Job) -> float:
    """Seconds that a job takes, the same whoever makes it."""
    share = int(job.fingerprint[4:12], 16) / 0xFFFFFFFF
    return settings.seconds * (1 + settings.spread * (2 * share - 1))


def draw(hue: float, shape: Shape) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A bright bar that crosses a field of one hue: (num_frames, height, width, 3)."""
    field = np.array(colorsys.hsv_to_rgb(hue, 0.6, 0.5)) * 255
    count = shape.most_frames
    frames = np.empty((count, shape.height, shape.width, 3), np.uint8)
    frames[:] = field.astype(np.uint8)
    width = max(shape.width // 8, 1)
    for number, frame in enumerate(frames):
        start = number * (shape.width - width) // max(count - 1, 1)
        frame[:, start : start + width] = 230
    return frames
