"""What a GPU benchmark is made of: a clip, a clock that waits for the GPU, its memory, a pipe."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from runner.backends.wan.offline import import_torch
from runner.backends.wan.sizes import FULL, TINY

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GIB = 1024**3


def moving_square(frames: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, columns = np.mgrid[:height, :width]
    made = np.zeros((frames, height, width, 3), np.uint8)
    for number, frame in enumerate(made):
        frame[..., 0], frame[..., 1] = columns * 255 // width, rows * 255 // height
        frame[height // 3 : 2 * height // 3, 6 * number : 6 * number + width // 4] = 250
    return made


class Clock:
    """Times of steps, from one to the next, each once the GPU has done it."""

    def __init__(self) -> None:
        self.at = [self._now()]

    def step(self, *_: int) -> None:
        self.at.append(self._now())

    def seconds(self) -> list[float]:
        return [after - before for before, after in zip(self.at, self.at[1:], strict=False)]

    def _now(self) -> float:
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    clock = Clock()
    answer = call()
    clock.step()
    return clock.seconds()[0], answer


def peak_gib() -> float:
    """Peak of reserved GPU memory since the last call."""
    if DEVICE == "cpu":
        return 0.0
    peak = torch.cuda.max_memory_reserved() / GIB
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


def random_pipe(layers: int | None = None, *, tiny: bool = False) -> Any:
    """A pipe with a DiT and a VAE of the published sizes, their numbers made on the device.

    Args:
        layers: of the DiT; None makes all of them.
        tiny: the tiny checkpoint's sizes instead.
    """
    import_torch()
    from diffsynth.models.wan_video_dit import WanModel
    from diffsynth.models.wan_video_vae import WanVideoVAE
    from diffsynth.pipelines.wan_video import WanVideoPipeline

    from runner.backends.wan.tiny_vae import TinyVAE

    torch.manual_seed(0)
    sizes = (TINY if tiny else FULL).dit
    sizes = {**sizes, "num_layers": layers or sizes["num_layers"]}
    pipe = WanVideoPipeline(device=DEVICE, torch_dtype=torch.bfloat16)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(DEVICE), torch.no_grad():
            pipe.dit = WanModel(**sizes).eval().requires_grad_(False)
            pipe.vae = (TinyVAE if tiny else WanVideoVAE)().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)
    return pipe
