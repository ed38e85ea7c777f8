"""Loading `WanVideoPipeline` from a checkpoint folder, and never from anywhere else."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from typing import Any

from tqdm import tqdm

from ...errors import UserError
from . import tiny
from .checkpoint import Checkpoint
from .offline import import_torch

logger = logging.getLogger("sweep.wan")


def load_pipeline(
    checkpoint: Checkpoint, *, device: str, dtype: str, managed: bool, vram_limit: float | None
) -> Any:
    """A `WanVideoPipeline` with the folder's DiT, text encoder, VAE and tokenizer.

    Args:
        checkpoint: the folder; every file is there.
        device: "cuda" or "cpu".
        dtype: "bfloat16" or "float32", for weights and arithmetic.
        managed: keep a model in host memory while another one is at work, and move its layers
            to the GPU when they are used; on a CPU there is nothing to move.
        vram_limit: GiB in use on the whole GPU above which further layers are moved for the
            time of their use only; None moves each model whole. Only for `managed`.

    Raises:
        UserError: the files hold another kind of model.
    """
    torch = import_torch()
    from diffsynth.core import ModelConfig
    from diffsynth.models import wan_video_vae
    from diffsynth.pipelines.wan_video import WanVideoPipeline

    # A bar for the tiles of every encoding and decoding would fill the log.
    wan_video_vae.tqdm = functools.partial(tqdm, disable=True)
    tiny.register()
    torch_dtype = getattr(torch, dtype)
    if managed and device == "cpu":
        logger.info("vram: managed has nothing to manage on a CPU")
    placement = _managed(torch_dtype, device) if managed and device != "cpu" else {}
    paths = ([str(p) for p in checkpoint.dit], str(checkpoint.text_encoder), str(checkpoint.vae))
    printed = io.StringIO()
    try:
        # diffsynth prints: advice on downloads, and a page for each file.
        with contextlib.redirect_stdout(printed):
            pipe = WanVideoPipeline.from_pretrained(
                torch_dtype=torch_dtype,
                device=device,
                model_configs=[ModelConfig(path=path, **placement) for path in paths],
                tokenizer_config=ModelConfig(path=str(checkpoint.tokenizer)),
                redirect_common_files=False,
                vram_limit=vram_limit if placement else None,
            )
    finally:
        logger.debug("diffsynth: %s", printed.getvalue())
    for part in ("dit", "text_encoder", "vae"):
        if getattr(pipe, part) is None:
            raise UserError(f"model.checkpoint: {checkpoint.folder} holds no Wan {part}")
    return pipe


def _managed(dtype: Any, device: str) -> dict[str, Any]:
    # Layers wait in host memory (offload, onload), and move to the GPU on first use
    # (preparing) or, above the limit, for each use (computation).
    return {
        "offload_dtype": dtype,
        "offload_device": "cpu",
        "onload_dtype": dtype,
        "onload_device": "cpu",
        "preparing_dtype": dtype,
        "preparing_device": device,
        "computation_dtype": dtype,
        "computation_device": device,
    }
