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
from typing import TYPE_CHECKING, Any, Protocol

from .frames import STRIDE_LATENT_PIXELS, TILE_LATENT_PIXELS, decode_frames, pixels_of

if TYPE_CHECKING:
    from ...video import Frames

logger = logging.getLogger("sweep.wan")


class Keep(Protocol):
    """Takes in where a video in the making could go on from."""

    def __call__(self, step: int, latents: Any, *, is_last: bool) -> None: ...


@dataclass(frozen=True)
class Request:
    """What decides a video, apart from prompts, reference and model."""

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

    with torch.no_grad(), stage("reference encode"):
        pipe.load_models_to_device(["vae"])
        video = pixels_of(frames, device=pipe.device, dtype=pipe.torch_dtype)
        latents = pipe.vae.encode(
            video,
            device=pipe.device,
            tiled=tiled,
            tile_size=TILE_LATENT_PIXELS,
            tile_stride=STRIDE_LATENT_PIXELS,
        )
        return latents.to(dtype=pipe.torch_dtype, device=pipe.device)


@dataclass(frozen=True)
class EncodedPrompts:
    """Embeddings of a prompt and of its negative prompt, each (1, length, width) anywhere."""

    positive: Any
    negative: Any


def encode_prompt(pipe: Any, text: str) -> Any:
    """A text's embedding, (1, length, width), by the pipe's text encoder and on its device."""
    import torch
    from diffsynth.pipelines.wan_video import WanVideoUnit_PromptEmbedder

    with torch.no_grad():
        pipe.load_models_to_device(["text_encoder"])
        return WanVideoUnit_PromptEmbedder().encode_prompt(pipe, text)


def denoise(
    pipe: Any,
    request: Request,
    prompts: EncodedPrompts,
    reference: Any,
    on_step: Callable[[int, int], None],
    *,
    tea_cache: float | None = None,
    begun: tuple[int, Any] | None = None,
    keep: Keep = lambda *_, **__: None,
) -> Any:
    """Latents of the finished video, of the reference's shape.

    Args:
        pipe: a `WanVideoPipeline`; a text encoder it need not have.
        request: the job.
        prompts: the job's, by the text encoder that belongs to the model.
        reference: what `encode_reference` gave; not changed.
        on_step: called with (steps done, steps in all) once a step's work is over; what it
            raises passes through, and the pipe can be used again.
        tea_cache: TeaCache's threshold; None computes every step.
        begun: steps done before, and the latents after them: only the others are done.
        keep: handed what another call could take as `begun`, before `on_step`.
    """
    import torch

    with torch.no_grad():
        scheduler = scheduled(pipe, request)
        shared, positive, negative = inputs(pipe, request, prompts)
        before, latents = begun or (0, None)
        if latents is None:
            noise = shared["noise"]
            latents = scheduler.add_noise(reference, noise, timestep=scheduler.timesteps[0])
        shared["latents"] = latents.to(pipe.device)
        with stage("denoise"):
            models = models_of(pipe)
            total = len(scheduler.timesteps)
            caches = []
            if tea_cache is not None:
                from .tea_cache import ResumableTeaCache

                for side in (positive, negative):
                    cache = ResumableTeaCache(total, tea_cache, pipe.dit.dim, first=before)
                    side["tea_cache"] = cache
                    caches.append(cache)
            for done, moment in enumerate(scheduler.timesteps[before:], start=before + 1):
                timestep = timestep_of(pipe, moment)
                taken = shared["latents"]
                velocity = pipe.model_fn(**models, **shared, **positive, timestep=timestep)
                if request.cfg_scale != 1.0:
                    without = pipe.model_fn(**models, **shared, **negative, timestep=timestep)
                    velocity = without + request.cfg_scale * (velocity - without)
                shared["latents"] = scheduler.step(velocity, moment, shared["latents"])
                if pipe.device_type == "cuda":
                    # Else a step would count as done as soon as it is queued.
                    torch.cuda.synchronize()
                if not caches or done == total:
                    keep(done, shared["latents"], is_last=done == total)
                elif caches[0].has_computed:
                    keep(done - 1, taken, is_last=False)
                on_step(done, total)
        return shared["latents"]


def scheduled(pipe: Any, request: Request) -> Any:
    """The pipe's scheduler, with a request's moments."""
    pipe.scheduler.set_timesteps(
        request.num_inference_steps,
        denoising_strength=request.denoising_strength,
        shift=request.sigma_shift,
    )
    return pipe.scheduler


def models_of(pipe: Any) -> dict[str, Any]:
    """What the pipe's model function works with, on the device."""
    pipe.load_models_to_device(pipe.in_iteration_models)
    return {name: getattr(pipe, name) for name in pipe.in_iteration_models}


def timestep_of(pipe: Any, moment: Any) -> Any:
    """One of the scheduler's moments as the model function takes it."""
    return moment.unsqueeze(0).to(dtype=pipe.torch_dtype, device=pipe.device)


def decode(pipe: Any, latents: Any, *, tiled: bool) -> Frames:
    """Frames of a video, uint8 (frames, height, width, 3), from its latents."""
    import torch

    with torch.no_grad(), stage("decode"):
        pipe.load_models_to_device(["vae"])
        frames = decode_frames(pipe.vae, latents, device=pipe.device, tiled=tiled)
        pipe.load_models_to_device([])
        return frames


def inputs(
    pipe: Any, request: Request, prompts: EncodedPrompts
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Noise and prompt embeddings, as the arguments of the pipe's model function: those that
    both sides of the guidance share, those with the prompt, those with the negative prompt."""
    from diffsynth.pipelines.wan_video import WanVideoUnit_PromptEmbedder

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
    positive: dict[str, Any] = {"positive": True, "context": prompts.positive.to(pipe.device)}
    negative: dict[str, Any] = {"positive": False, "context": prompts.negative.to(pipe.device)}
    for unit in pipe.units:
        if not isinstance(unit, WanVideoUnit_PromptEmbedder):
            shared, positive, negative = pipe.unit_runner(unit, pipe, shared, positive, negative)
    return shared, positive, negative
