"""How much GPU memory a worker needs at its peak: weights plus the activations of one pass.

Measured on an H200 with the 14B sizes at 832x480, 81 frames (32760 tokens), bfloat16: 33.3 GiB
with DiT and VAE resident, 44.4 with the text encoder beside them, 33.8 with `vram: managed`
(docs/measurements.md), in memory that torch reserved. The activations of a pass are the difference
to the weights then on the GPU; they grow with tokens, width and bytes per number.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import PeakMemory
from ..video_parameters import VideoGeneration
from .checkpoint import Checkpoint
from .headers import parameters_in, tensors_in

GIB = 1024**3
MEASURED_TOKENS = 21 * 30 * 52
MEASURED_WIDTH = 5120
MEASURED_ACTIVATIONS_GIB = 7.1
WEIGHTS_SHARE_PER_TOKEN = 0.836
"""The share of the DiT's weights that each token is multiplied by."""


@dataclass(frozen=True)
class WeightCounts:
    """Numbers of weights, and the DiT's width; by default those of Wan2.1-T2V-14B."""

    dit: int = 14_288_491_584
    text_encoder: int = 5_680_910_336
    vae: int = 126_892_531
    width: int = MEASURED_WIDTH
    layers: int = 40
    source: str = "the published Wan2.1-T2V-14B sizes, for the files are not here"


def weights_of(checkpoint: Checkpoint) -> WeightCounts:
    """What the files hold, from their headers; the published sizes where they are absent."""
    if checkpoint.missing():
        return WeightCounts()
    width, blocks = MEASURED_WIDTH, set()
    for shard in checkpoint.dit:
        if shard.suffix == ".safetensors":
            tensors = tensors_in(shard)
            if (patches := tensors.get("patch_embedding.weight")) is not None:
                width = patches.shape[0]
            blocks |= {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    return WeightCounts(
        dit=sum(parameters_in(shard) for shard in checkpoint.dit),
        text_encoder=parameters_in(checkpoint.text_encoder),
        vae=parameters_in(checkpoint.vae),
        width=width,
        layers=len(blocks) or WeightCounts.layers,
        source="the checkpoint's files",
    )


def tokens(generation: VideoGeneration) -> int:
    """Length of the sequence that the DiT attends over."""
    frames = (generation.num_frames - 1) // 4 + 1
    return frames * (generation.height // 16) * (generation.width // 16)


def denoising_flops(weights: WeightCounts, generation: VideoGeneration) -> float:
    """Floating-point operations of all steps of a video.

    A pass multiplies each token by the linear layers' weights, of which the text's keys and
    values and the modulations, a sixth of the 14B model, are no part, and attends from every
    token to every other: 1.66e15 for 14B at 832x480, 81 frames, where counting every product of
    its layers gives 1.68e15. Guidance takes two passes a step.
    """
    length = tokens(generation)
    linear = 2 * WEIGHTS_SHARE_PER_TOKEN * weights.dit * length
    attention = 4 * length**2 * weights.width * weights.layers
    passes = generation.num_inference_steps * (1 if generation.cfg_scale == 1.0 else 2)
    return (linear + attention) * passes


def peak_memory(
    weights: WeightCounts,
    generation: VideoGeneration,
    *,
    number_bytes: int,
    managed: bool,
    limit: float | None,
    fp8: bool = False,
) -> PeakMemory:
    """Peak of one worker in GiB, and how it was come by.

    Args:
        weights: from `weights_of`.
        generation: gives the length of the sequence.
        number_bytes: bytes of a weight and of an activation.
        managed: whether models leave the GPU while another one is at work.
        limit: GiB above which a managed worker keeps no further layers on the GPU.
        fp8: whether the DiT's weights become eight-bit ones, once they are loaded.
    """
    scale = tokens(generation) / MEASURED_TOKENS * weights.width / MEASURED_WIDTH
    scale *= number_bytes / 2
    if managed:
        held = weights.dit * number_bytes / GIB
        largest = max(held, weights.text_encoder * number_bytes / GIB)
        kept = min(largest, limit) if limit is not None else largest
        gib = kept + MEASURED_ACTIVATIONS_GIB * scale
        how = (
            "an estimate: the largest model alone"
            if limit is None
            else ("an estimate: vram_limit_gb or the largest model, whichever is less")
        )
    else:
        # The text encoder comes and goes before DiT and VAE are loaded.
        loading = max(weights.dit + weights.vae, weights.text_encoder) * number_bytes / GIB
        held = (weights.dit * (1 if fp8 else number_bytes) + weights.vae * number_bytes) / GIB
        gib = max(loading, held + MEASURED_ACTIVATIONS_GIB * scale)
        how = "DiT and VAE"
    return PeakMemory(
        gib=round(gib, 1),
        source=f"{how} by {weights.source}, and activations scaled from a measurement on an H200",
    )
