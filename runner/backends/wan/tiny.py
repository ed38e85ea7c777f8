"""The tiny checkpoint: real file formats and the real loader, small enough for a CPU.

Its weights follow from `SEED` alone, the same on every machine, so that its identity is
known without making it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ...job import sha256_of
from .checkpoint import Checkpoint
from .made_up import write_checkpoint
from .sizes import TINY, Shapes, spread, tensors_of

SEED = 20250227
VERSION = 1
"""Raised when the weights or the tokenizer change in any way."""


def identity() -> str:
    """Hex digest that stands for the tiny checkpoint's contents."""
    sizes = [TINY.dit, TINY.text_encoder, TINY.vae]
    return sha256_of({"tiny": VERSION, "seed": SEED, "sizes": sizes})


def cache_folder() -> Path:
    """The user's cache of made files: `$SWEEP_CACHE`, else below `$XDG_CACHE_HOME`, else
    `~/.cache/sweep`."""
    if given := os.environ.get("SWEEP_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sweep"


def tiny_checkpoint() -> Checkpoint:
    """The tiny checkpoint on this machine, made now if it is not there yet.

    Any number of processes may call this at once: each finds a whole folder.
    """
    folder = cache_folder() / f"wan-tiny-v{VERSION}"
    if folder.is_dir():
        return Checkpoint(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_tiny(making)
        # Renaming onto a folder that holds files fails: another process was first.
        with contextlib.suppress(OSError):
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Checkpoint(folder)


def write_tiny(folder: Path, suffix: str = ".safetensors") -> None:
    """Write the tiny checkpoint's files into a folder, the DiT in two of them."""
    write_checkpoint(folder, TINY, _weights, shards=2, suffix=suffix)


def register() -> None:
    """Enter the tiny models in diffsynth's table of known models; calling twice is fine."""
    tensors = tensors_of(TINY)
    from diffsynth.configs import MODEL_CONFIGS, VRAM_MANAGEMENT_MODULE_MAPS
    from diffsynth.core.loader.file import convert_keys_dict_to_single_str

    tiny_vae = f"{__package__}.tiny_vae.TinyVAE"
    vae = "diffsynth.models.wan_video_vae.WanVideoVAE"
    # Which of its layers a managed pipe moves.
    VRAM_MANAGEMENT_MODULE_MAPS[tiny_vae] = VRAM_MANAGEMENT_MODULE_MAPS[vae]
    known: list[tuple[Shapes, dict[str, Any]]] = [
        (
            tensors.dit,
            {
                "model_name": "wan_video_dit",
                "model_class": "diffsynth.models.wan_video_dit.WanModel",
                "extra_kwargs": TINY.dit,
            },
        ),
        (
            tensors.text_encoder,
            {
                "model_name": "wan_video_text_encoder",
                "model_class": "diffsynth.models.wan_video_text_encoder.WanTextEncoder",
                "extra_kwargs": TINY.text_encoder,
            },
        ),
        (
            tensors.vae,
            {
                "model_name": "wan_video_vae",
                "model_class": tiny_vae,
                "state_dict_converter": (
                    "diffsynth.utils.state_dict_converters.wan_video_vae"
                    ".WanVideoVAEStateDictConverter"
                ),
            },
        ),
    ]
    for shapes, configuration in known:
        # diffsynth recognises a file by the MD5 of its tensors' names and shapes.
        keys = convert_keys_dict_to_single_str(shapes).encode()
        configuration["model_hash"] = hashlib.md5(keys).hexdigest()
        if configuration not in MODEL_CONFIGS:
            MODEL_CONFIGS.append(configuration)


def _weights(name: str, shape: tuple[int, ...]) -> Any:
    import numpy as np
    import torch

    # A tensor's numbers follow from its name alone. NumPy promises a bit generator's raw
    # stream for ever, which it does not for its distributions, so the weights are uniform.
    entropy = int.from_bytes(hashlib.sha256(f"{SEED}/{name}".encode()).digest()[:8], "big")
    raw = np.random.PCG64(entropy).random_raw(math.prod(shape)) >> np.uint64(40)
    uniform = raw.astype(np.float64) / 2**23 - 1
    mean, deviation = spread(name, shape)
    scaled = mean + deviation * math.sqrt(3) * uniform
    return torch.from_numpy(scaled.astype(np.float32).reshape(shape)).to(torch.bfloat16)
