"""Wan video-to-video in three parts: encode the reference, denoise, decode.

Run one after the other with the same inputs, the parts give the frames of diffsynth's
`WanVideoPipeline.__call__` bit for bit. They are apart so that a reference is encoded once
for all its jobs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frames = npt.NDArray[np.uint8]

logger = logging.getLogger("sweep.wan")

# diffsynth's own, in latent pixels.
TILES = {"tile_size": (30, 52), "tile_stride": (15, 26)}


@dataclass(frozen=True)
class Request:
    """What decides a video, apart from the reference and the model."""

    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    num_frames: int
    num_inference_steps: int
    cfg_scale: float
    denoising_strength: float
    sigma_shift: float


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Log how long the enclosed stage took on this thread."""
    start = time.perf_counter()
    yield
    logger.info("%s: %.2f s", name, time.perf_counter() - start)


def encode_reference(pipe: Any, frames: Frames, *, tiled: bool) -> Any:
    """Latents of a reference clip.

    Args:
        pipe: a `WanVideoPipeline`.
        frames: uint8 (frames, height, width, 3), at the size of the video to be made.
        tiled: encode in overlapping tiles.

    Returns:
        A tensor (1, 16, (frames - 1) / 4 + 1, height / 8, width / 8) on the pipe's device.
    """
    import torch
    from PIL import Image

    with torch.no_grad(), stage("reference encode"):
        pipe.load_models_to_device(["vae"])
        video = pipe.preprocess_video([Image.fromarray(frame) for frame in frames])
        latents = pipe.vae.encode(video, device=pipe.device, tiled=tiled, **TILES)
        return latents.to(dtype=pipe.torch_dtype, device=pipe.device)


def denoise(
    pipe: Any, request: Request, reference: Any, on_step: Callable[[int, int], None]
) -> Any:
    """Latents of the finished video, of the reference's shape.

    Args:
        pipe: a `WanVideoPipeline`.
        request: the job.
        reference: what `encode_reference` gave; not changed.
        on_step: called with (steps done, steps in all) once a step's work is over; what it
            raises passes through, and the pipe can be used again.
    """
    import torch

    with torch.no_grad():
        scheduler = pipe.scheduler
        scheduler.set_timesteps(
            request.num_inference_steps,
            denoising_strength=request.denoising_strength,
            shift=request.sigma_shift,
        )
        with stage("prompt embedding"):
            shared, positive, negative = _inputs(pipe, request)
        shared["latents"] = scheduler.add_noise(
            reference, shared["noise"], timestep=scheduler.timesteps[0]
        )
        with stage("denoise"):
            pipe.load_models_to_device(pipe.in_iteration_models)
            models = {name: getattr(pipe, name) for name in pipe.in_iteration_models}
            total = len(scheduler.timesteps)
            for done, moment in enumerate(scheduler.timesteps, start=1):
                timestep = moment.unsqueeze(0).to(dtype=pipe.torch_dtype, device=pipe.device)
                velocity = pipe.model_fn(**models, **shared, **positive, timestep=timestep)
                if request.cfg_scale != 1.0:
                    without = pipe.model_fn(**models, **shared, **negative, timestep=timestep)
                    velocity = without + request.cfg_scale * (velocity - without)
                shared["latents"] = scheduler.step(velocity, moment, shared["latents"])
                if pipe.device_type == "cuda":
                    # Else a step would count as done as soon as it is queued.
                    torch.cuda.synchronize()
                on_step(done, total)
        return shared["latents"]


def decode(pipe: Any, latents: Any, *, tiled: bool) -> Frames:
    """Frames of a video, uint8 (frames, height, width, 3), from its latents."""
    import numpy as np
    import torch

    with torch.no_grad(), stage("decode"):
        pipe.load_models_to_device(["vae"])
        video = pipe.vae.decode(latents, device=pipe.device, tiled=tiled, **TILES)
        images = pipe.vae_output_to_video(video)
        pipe.load_models_to_device([])
        return np.stack([np.asarray(image) for image in images])


def _inputs(pipe: Any, request: Request) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Noise and prompt embeddings, as the arguments of the pipe's model function: those that
    both sides of the guidance share, those with the prompt, those with the negative prompt."""
    shared: dict[str, Any] = {
        # Without a video, diffsynth's units stop short of encoding and noising one.
        "input_video": None,
        "denoising_strength": request.denoising_strength,
        "seed": request.seed,
        # Noise made on the CPU is the same on every GPU.
        "rand_device": "cpu",
        "height": request.height,
        "width": request.width,
        "num_frames": request.num_frames,
        "cfg_scale": request.cfg_scale,
        "cfg_merge": False,
        "sigma_shift": request.sigma_shift,
    }
    positive: dict[str, Any] = {"prompt": request.prompt, "positive": True}
    negative: dict[str, Any] = {"negative_prompt": request.negative_prompt, "positive": False}
    for unit in pipe.units:
        shared, positive, negative = pipe.unit_runner(unit, pipe, shared, positive, negative)
    return shared, positive, negative
