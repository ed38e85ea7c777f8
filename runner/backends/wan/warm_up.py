"""Having a DiT's blocks compiled for a video's shape, before anything depends on it."""

from __future__ import annotations

from typing import Any

from .denoise import EncodedPrompts, Request, inputs, models_of, scheduled, timestep_of

BLOCKS_RUN = 3
"""The first takes its input from elsewhere; from the second on all are alike."""


class _Enough(Exception):
    """The blocks that were wanted are done."""


def warm_up(pipe: Any, request: Request, latents: Any, text_tokens: int) -> None:
    """Run a pass of the model as far as its first blocks, and forget what comes of it.

    Args:
        pipe: a `WanVideoPipeline`, with blocks that compile at their first call.
        request: gives the shape.
        latents: of the reference, as in `denoise`.
        text_tokens: the length of a prompt's embedding.
    """
    import torch

    def stop(*_: Any) -> None:
        raise _Enough

    width = pipe.dit.text_embedding[0].in_features
    empty = torch.zeros((1, text_tokens, width), dtype=pipe.torch_dtype)
    last = pipe.dit.blocks[min(BLOCKS_RUN, len(pipe.dit.blocks)) - 1]
    hook = last.register_forward_hook(stop)
    try:
        with torch.no_grad():
            moment = scheduled(pipe, request).timesteps[0]
            shared, positive, _ = inputs(pipe, request, EncodedPrompts(empty, empty))
            shared["latents"] = latents.to(pipe.device)
            timestep = timestep_of(pipe, moment)
            pipe.model_fn(**models_of(pipe), **shared, **positive, timestep=timestep)
    except _Enough:
        if pipe.device_type == "cuda":
            torch.cuda.synchronize()
    finally:
        hook.remove()
