"""The tiny checkpoint: a trained model of Wan's architecture that ships with the package.

It is small enough for a CPU, in the real file formats, and goes through the real loader. Its
folder's README.md says what it was trained on and how well it does.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .sizes import TINY, Shapes, tensors_of


def tiny_checkpoint() -> Checkpoint:
    """The tiny checkpoint's files in the installed package."""
    return Checkpoint(Path(__file__).with_name("tiny_checkpoint"))


@functools.cache
def register() -> None:
    """Enter models of the tiny sizes in diffsynth's table of known ones."""
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
        MODEL_CONFIGS.append(configuration)
