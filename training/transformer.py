"""The small DiT and its text encoder: their velocity for whole batches, and its error.

The velocity is that of diffsynth's model function in the pipeline; `tests/test_training.py`
compares the two. It is written out here because the original rotates in complex double
precision and attends to 512 tokens of text, of which all but a few are the same empty one.
"""

from __future__ import annotations

from math import log
from typing import Any

from runner.backends.wan.offline import import_torch
from runner.backends.wan.sizes import TINY

from .tokenizer import TOKENS

torch = import_torch()

CONTEXT = 512
"""Tokens of text that the pipeline hands to the DiT."""

SHIFTS = (5.0, 1.0)
"""Shifts of the noise schedule in training, each for half of a batch: the one that `Wan` is
made with, and none, since small pictures need the low noise too."""


def new_models(device: str) -> tuple[Any, Any]:
    """A `WanModel` and a `WanTextEncoder` with fresh weights."""
    from diffsynth.models.wan_video_dit import WanModel
    from diffsynth.models.wan_video_text_encoder import WanTextEncoder

    dit, text_encoder = WanModel(**TINY.dit), WanTextEncoder(**TINY.text_encoder, dropout=0.0)
    torch.nn.init.zeros_(dit.head.head.weight)
    torch.nn.init.zeros_(dit.head.head.bias)
    return dit.to(device), text_encoder.to(device)


def noise_levels(device: str) -> Any:
    """The scheduler's 1000 levels for training at each of `SHIFTS`: (shifts, 1000)."""
    from diffsynth.diffusion.flow_match import FlowMatchScheduler

    scheduler = FlowMatchScheduler("Wan")
    levels = []
    for shift in SHIFTS:
        scheduler.set_timesteps(1000, training=True, shift=shift)
        levels.append(scheduler.sigmas)
    return torch.stack(levels).to(device)


def time_features(timesteps: Any) -> Any:
    """What the pipeline hands to the time embedding, for timesteps from 0 to 1000."""
    from diffsynth.models.wan_video_dit import sinusoidal_embedding_1d

    # In the pipeline a timestep is rounded to bfloat16 first.
    rounded = timesteps.to(torch.bfloat16).float()
    return sinusoidal_embedding_1d(TINY.dit["freq_dim"], rounded)


def rotations(dit: Any, grid: tuple[int, int, int], device: str) -> tuple[Any, Any]:
    """Cosines and sines of the rotary embedding of every token, (tokens, 1, head size / 2)."""
    f, h, w = grid
    angles = torch.cat(
        [
            dit.freqs[0][:f].view(f, 1, 1, -1).expand(f, h, w, -1),
            dit.freqs[1][:h].view(1, h, 1, -1).expand(f, h, w, -1),
            dit.freqs[2][:w].view(1, 1, w, -1).expand(f, h, w, -1),
        ],
        dim=-1,
    ).reshape(f * h * w, 1, -1)
    return angles.real.float().to(device), angles.imag.float().to(device)


def velocity(
    dit: Any, text_encoder: Any, latents: Any, times: Any, ids: Any, lengths: Any, turn: Any
) -> Any:
    """The velocity from clean latents to noise.

    Args:
        dit, text_encoder: the models.
        latents: noised, (B, 16, F, H, W).
        times: `time_features` of each, (B, freq_dim).
        ids: token ids, (B, TOKENS), of which `lengths` count.
        lengths: (B,).
        turn: `rotations` of the latents' grid of tokens.
    """
    real = torch.arange(TOKENS, device=ids.device)[None] < lengths[:, None]
    context = text_encoder(ids, real.long()) * real[..., None]
    # All empty tokens are alike: one of them, with the weight of those that are not here.
    context = torch.nn.functional.pad(context, (0, 0, 0, 1))
    weight = torch.zeros(TOKENS + 1, device=ids.device)
    weight[-1] = log(CONTEXT - TOKENS)
    context = dit.text_embedding(context)
    embedded = dit.time_embedding(times)
    modulation = dit.time_projection(embedded).unflatten(1, (6, dit.dim))
    x = dit.patch_embedding(latents)
    grid = x.shape[2:]
    x = x.flatten(2).transpose(1, 2)
    for block in dit.blocks:
        x = _block(block, x, context, modulation, turn, weight)
    return dit.unpatchify(dit.head(x, embedded), grid)


def _block(block: Any, x: Any, context: Any, modulation: Any, turn: Any, weight: Any) -> Any:
    shift, scale, gate, shift_2, scale_2, gate_2 = (block.modulation + modulation).chunk(6, 1)
    own = block.self_attn
    y = block.norm1(x) * (1 + scale) + shift
    query = _turned(own.norm_q(own.q(y)), turn, own.num_heads)
    key = _turned(own.norm_k(own.k(y)), turn, own.num_heads)
    x = x + gate * own.o(_attend(query, key, _heads(own.v(y), own.num_heads), None))
    text = block.cross_attn
    query = _heads(text.norm_q(text.q(block.norm3(x))), text.num_heads)
    key = _heads(text.norm_k(text.k(context)), text.num_heads)
    x = x + text.o(_attend(query, key, _heads(text.v(context), text.num_heads), weight))
    return x + gate_2 * block.ffn(block.norm2(x) * (1 + scale_2) + shift_2)


def _heads(x: Any, heads: int) -> Any:
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _turned(x: Any, turn: Any, heads: int) -> Any:
    cosine, sine = turn
    even, odd = x.float().unflatten(2, (heads, -1, 2)).unbind(-1)
    pairs = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1)
    return pairs.flatten(3).to(x.dtype).transpose(1, 2)


def _attend(query: Any, key: Any, value: Any, weight: Any) -> Any:
    key, value = key.to(query.dtype), value.to(query.dtype)
    mask = None if weight is None else weight.to(query.dtype)[None, None, None]
    if mask is not None:
        mask = mask.expand(query.shape[0], 1, query.shape[2], -1)
    x = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return x.transpose(1, 2).flatten(2)
