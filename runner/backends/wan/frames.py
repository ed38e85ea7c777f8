"""Between frames and what the VAE takes and gives: on the GPU, and with diffsynth's own numbers.

diffsynth turns bytes into pixels in host memory and back again, frame by frame, and adds up the
decoder's tiles there, while the GPU waits. The same operations on the same numbers give the same
results on the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...video import Frames

TILE_LATENT_PIXELS = (30, 52)
STRIDE_LATENT_PIXELS = (15, 26)
"""Height and width; diffsynth's own."""


def pixels_of(frames: Frames, *, device: Any, dtype: Any) -> Any:
    """Frames, uint8 (frames, height, width, 3), as (1, 3, frames, height, width) from -1 to 1."""
    import torch

    # diffsynth's steps, each rounded to the dtype, which holds every byte.
    pixels = torch.from_numpy(frames).to(device).to(dtype) * (2 / 255) - 1
    return pixels.permute(3, 0, 1, 2)[None].contiguous()


def decode_frames(vae: Any, latents: Any, *, device: Any, tiled: bool) -> Frames:
    """Frames, uint8 (frames, height, width, 3), of latents (1, 16, ...) in the VAE's dtype."""
    if tiled:
        video = _decode_tiled(vae, latents.to(device))
    else:
        video = vae.decode(latents, device=device, tiled=False)
    # diffsynth's steps, each rounded to the dtype.
    pixels = ((video[0] + 1) * 127.5).clip(0, 255)
    frames: Frames = pixels.permute(1, 2, 3, 0).byte().contiguous().cpu().numpy()
    return frames


def _decode_tiled(vae: Any, latents: Any) -> Any:
    """A video, (1, 3, frames, height, width) from -1 to 1, decoded in overlapping tiles."""
    import torch

    factor = vae.upsampling_factor
    length, height, width = latents.shape[2:]
    shape = (4 * length - 3, height * factor, width * factor)
    options = {"dtype": latents.dtype, "device": latents.device}
    values, weights = torch.zeros((1, 3, *shape), **options), torch.zeros((1, 1, *shape), **options)
    borders = tuple(
        (TILE_LATENT_PIXELS[axis] - STRIDE_LATENT_PIXELS[axis]) * factor for axis in (0, 1)
    )
    for top in _starts(height, 0):
        for left in _starts(width, 1):
            bottom, right = top + TILE_LATENT_PIXELS[0], left + TILE_LATENT_PIXELS[1]
            tile = vae.model.decode(latents[..., top:bottom, left:right], vae.scale)
            ends = (top == 0, bottom >= height, left == 0, right >= width)
            mask = vae.build_mask(tile, is_bound=ends, border_width=borders).to(**options)
            rows = slice(top * factor, top * factor + tile.shape[3])
            columns = slice(left * factor, left * factor + tile.shape[4])
            values[..., rows, columns] += tile * mask
            weights[..., rows, columns] += mask
    return (values / weights).clamp_(-1, 1)


def _starts(size: int, axis: int) -> Iterator[int]:
    """Where tiles begin along an axis: every stride, as long as the one before did not reach
    the end."""
    for start in range(0, size, STRIDE_LATENT_PIXELS[axis]):
        if (
            start < STRIDE_LATENT_PIXELS[axis]
            or start - STRIDE_LATENT_PIXELS[axis] + TILE_LATENT_PIXELS[axis] < size
        ):
            yield start
