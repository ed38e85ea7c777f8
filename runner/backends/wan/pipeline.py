"""Loading `WanVideoPipeline` from a checkpoint folder, and never from anywhere else."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from tqdm import tqdm

from ...text.errors import UserError
from . import tiny
from .attention import attend_with, use_kernel
from .checkpoint import Checkpoint
from .offline import import_torch
from .settings import WanSettings
from .wide import is_needed, widen

logger = logging.getLogger("sweep.wan")

PARTS = ("dit", "text_encoder", "vae")

COMPUTING = (
    "torch",
    "diffsynth",
    "flash-attn-4",
    "transformers",
    "tokenizers",
    "ftfy",
    "av",
)
"""Packages that decide latents: attention, text in tokens, a reference's frames."""


def load_pipeline(
    checkpoint: Checkpoint,
    parts: Sequence[str] = PARTS,
    *,
    device: str,
    dtype: str,
    managed: bool,
    vram_limit: float | None,
) -> Any:
    """A `WanVideoPipeline` with models of the folder; a text encoder comes with its tokenizer.

    Args:
        checkpoint: the folder; every file is there.
        parts: which of its models; the pipe's others are None.
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
    files = {
        "dit": [str(path) for path in checkpoint.dit],
        "text_encoder": str(checkpoint.text_encoder),
        "vae": str(checkpoint.vae),
    }
    tokenizer = ModelConfig(path=str(checkpoint.tokenizer)) if "text_encoder" in parts else None
    printed = io.StringIO()
    try:
        # diffsynth prints: advice on downloads, and a page for each file.
        with contextlib.redirect_stdout(printed):
            pipe = WanVideoPipeline.from_pretrained(
                torch_dtype=torch_dtype,
                device=device,
                model_configs=[ModelConfig(path=files[part], **placement) for part in parts],
                tokenizer_config=tokenizer,
                redirect_common_files=False,
                vram_limit=vram_limit if placement else None,
            )
    finally:
        logger.debug("diffsynth: %s", printed.getvalue())
    for part in parts:
        if getattr(pipe, part) is None:
            raise UserError(f"model.checkpoint: {checkpoint.folder} holds no Wan {part}")
        if is_needed(device, torch_dtype):
            widen(getattr(pipe, part))
    return pipe


def speed_up(pipe: Any, settings: WanSettings) -> None:
    """Have a pipe's DiT compute as the settings for speed say; by default the plain way."""
    # diffsynth copies them to the device for every forward, which then waits.
    pipe.dit.freqs = tuple(part.to(pipe.device) for part in pipe.dit.freqs)
    if settings.compile or settings.fp8:
        from .fast_blocks import use_fast_blocks

        attend = attend_with(settings.attention)
        use_fast_blocks(pipe.dit, attend, compiled=settings.compile, fp8=settings.fp8)
    else:
        use_kernel(pipe.dit, settings.attention)


def versions_on(device: str) -> dict[str, str]:
    """What decides a number's last bits beside model and input: the device, by the GPU's name
    where it is one, and those of `COMPUTING` that are installed."""
    torch = import_torch()
    if device == "cuda":
        found = {"device": torch.cuda.get_device_name()}
    else:
        found = {"device": f"{device} {torch.backends.cpu.get_cpu_capability()}"}
    for package in COMPUTING:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


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
