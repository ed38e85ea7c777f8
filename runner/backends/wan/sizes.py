"""Model sizes as data, the tensors they come to, and random weights that behave.

`FULL` is Wan2.1-T2V-14B with its UMT5-XXL text encoder and its VAE; `TINY` is the set of the
same architecture that ships with the package, small enough for a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .offline import import_torch

Shapes = dict[str, tuple[int, ...]]

_DIT = {
    "has_image_input": False,
    "patch_size": [1, 2, 2],
    "in_dim": 16,
    "out_dim": 16,
    "eps": 1e-6,
}


@dataclass(frozen=True)
class ModelSizes:
    """Constructor arguments of diffsynth's `WanModel`, `WanTextEncoder` and `VideoVAE_`."""

    dit: dict[str, Any]
    text_encoder: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)


FULL = ModelSizes(
    dit=_DIT
    | {
        "dim": 5120,
        "ffn_dim": 13824,
        "freq_dim": 256,
        "text_dim": 4096,
        "num_heads": 40,
        "num_layers": 40,
    },
    vae={"z_dim": 16},
)

TINY = ModelSizes(
    dit=_DIT
    | {
        "dim": 256,
        "ffn_dim": 1024,
        "freq_dim": 256,
        "text_dim": 128,
        "num_heads": 8,
        "num_layers": 6,
    },
    text_encoder={
        "vocab": 1024,
        "dim": 128,
        "dim_attn": 128,
        "dim_ffn": 256,
        "num_heads": 4,
        "num_layers": 2,
    },
    vae={"dim": 16, "z_dim": 16, "num_res_blocks": 1},
)


@dataclass(frozen=True)
class CheckpointShapes:
    """Names and shapes of every tensor in the three weight files of a checkpoint."""

    dit: Shapes
    text_encoder: Shapes
    vae: Shapes


def tensors_of(sizes: ModelSizes) -> CheckpointShapes:
    """Names and shapes as the files hold them; nothing is allocated. Imports torch."""
    torch = import_torch()
    from diffsynth.models.wan_video_dit import WanModel
    from diffsynth.models.wan_video_text_encoder import WanTextEncoder
    from diffsynth.models.wan_video_vae import VideoVAE_

    with torch.device("meta"):
        models = (
            WanModel(**sizes.dit),
            WanTextEncoder(**sizes.text_encoder),
            VideoVAE_(**sizes.vae),
        )
    return CheckpointShapes(
        *({name: tuple(t.shape) for name, t in model.state_dict().items()} for model in models)
    )


def spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Mean and standard deviation for a random tensor of that name, such that a bfloat16
    forward pass through any depth of the models stays finite and depends on all its inputs."""
    if name.endswith(".gamma") or (".norm" in name and name.endswith(".weight")):
        return 1.0, 0.0
    if name == "norm.weight":
        return 1.0, 0.0
    if name.endswith(".bias"):
        return 0.0, 0.02
    if name.endswith("modulation"):
        return 0.0, shape[-1] ** -0.5
    if name == "token_embedding.weight":
        return 0.0, 1.0
    if name.endswith("pos_embedding.embedding.weight"):
        return 0.0, 0.1
    deviation = math.prod(shape[1:]) ** -0.5
    if name.endswith((".attn.q.weight", ".attn.k.weight")):
        # T5 does not divide by the square root of the head size, so its weights do.
        return 0.0, deviation / 3
    return 0.0, deviation
