"""The small VAE of Wan's class: training, and its latents brought to Wan's scale."""

from __future__ import annotations

from typing import Any

from runner.backends.wan.offline import import_torch
from runner.scenes.words import LEAST_SATURATION

torch = import_torch()

KL_WEIGHT = 4e-4
AROUND = 9
"""Pixels across what counts as near a coloured pixel: outlines are told by both of their sides."""
LEAST_SPREAD = 0.25
"""A latent channel that carries next to nothing is not blown up to a spread of one."""


def new_vae(device: str) -> Any:
    """A `TinyVAE` with fresh weights that can be trained."""
    from runner.backends.wan.tiny_vae import TinyVAE

    vae = TinyVAE().to(device)
    vae.model.requires_grad_(True)
    vae.scale = [part.to(device) for part in vae.scale]
    return vae


def moments(vae: Any, clips: Any) -> tuple[Any, Any]:
    """Mean and logarithm of the variance of each latent, at the scale of `WanVideoVAE`.

    As `VideoVAE_.encode` goes through a clip: the first frame, then four at a time.
    """
    model = vae.model
    model.clear_cache()
    parts = []
    for start in range(0, clips.shape[2], 4):
        frames = clips[:, :, :1] if start == 0 else clips[:, :, start - 3 : start + 1]
        model._enc_conv_idx = [0]
        part, model._enc_feat_map, model._enc_conv_idx = model.encoder(
            frames, feat_cache=model._enc_feat_map, feat_idx=model._enc_conv_idx
        )
        parts.append(part)
    model.clear_cache()
    mean, log_variance = model.conv1(torch.cat(parts, 2)).chunk(2, dim=1)
    shift, factor = (part.view(1, -1, 1, 1, 1) for part in vae.scale)
    return (mean.float() - shift) * factor, log_variance.float().clamp(-20, 10)


def as_in_files(clips: Any) -> Any:
    """Clips (B, 3, F, H, W) with one colour for four pixels, as the usual video files keep it.

    Brightness stays with every pixel (4:2:0; the weights are those of ITU-R BT.601).
    """
    weights = torch.tensor([0.299, 0.587, 0.114], device=clips.device).view(1, 3, 1, 1, 1)
    grey = (clips * weights).sum(1, keepdim=True)
    colour = torch.nn.functional.avg_pool3d(clips - grey, (1, 2, 2))
    colour = colour.repeat_interleave(2, 3).repeat_interleave(2, 4)
    return (grey + colour).clamp(-1, 1)


def scaled(frames: Any) -> Any:
    """Clips of uint8 as numbers from -1 to 1."""
    return frames.float() / 127.5 - 1


def as_seen(frames: Any) -> Any:
    """Clips uint8 (B, 3, F, H, W) as a VAE gets them, from -1 to 1: half of them from files."""
    clips = scaled(frames)
    half = len(clips) // 2
    return torch.cat([clips[:half], as_in_files(clips[half:])])


def near_things(clips: Any) -> Any:
    """1 where a pixel is coloured or near one that is, and 0 elsewhere: (B, 1, F, H, W)."""
    spread = clips.amax(1, keepdim=True) - clips.amin(1, keepdim=True)
    coloured = (spread >= LEAST_SATURATION / 127.5).float()
    kernel, margin = (1, AROUND, AROUND), (0, AROUND // 2, AROUND // 2)
    return torch.nn.functional.max_pool3d(coloured, kernel, 1, margin)


def loss_of(vae: Any, clips: Any, things: float) -> tuple[Any, dict[str, Any]]:
    """What is minimised, and its parts: difference of pixels, and latents kept near N(0, 1).

    Pixels near things count `things` times as much more than others.
    """
    mean, log_variance = moments(vae, clips)
    latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    decoded = vae.model.decode(latents, vae.scale).float()
    vae.model.clear_cache()
    difference = decoded - clips
    mse = difference.square().mean()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    weight = 1 + things * near_things(clips)
    counted = weight / weight.mean() * (difference.abs() + 2 * difference.square())
    loss = counted.mean() + KL_WEIGHT * divergence
    # Pixels span 2, not 1.
    psnr = -10 * torch.log10(mse.detach() / 4)
    return loss, {"psnr": psnr, "kl": divergence.detach()}


def bring_to_scale(vae: Any, mean: Any, spread: Any) -> None:
    """Change the two 1x1x1 convolutions around the latents so that, with the means and spreads
    that `WanVideoVAE` has built in, latents have mean 0 and spread 1; pixels stay as they are.

    Args:
        vae: a `WanVideoVAE`.
        mean: of each channel of the present latents at its scale, (16,).
        spread: their standard deviations, (16,).
    """
    spread, size = spread.clamp(min=LEAST_SPREAD), len(mean)
    wan_mean, wan_spread = vae.scale[0], 1 / vae.scale[1]
    middle = wan_mean + mean * wan_spread
    first, second = vae.model.conv1, vae.model.conv2
    with torch.no_grad():
        first.weight[:size] /= spread.view(-1, 1, 1, 1, 1)
        first.bias[:size] = (first.bias[:size] - middle) / spread + wan_mean
        # The spread of the noise that training adds goes with the latents.
        first.bias[size:] -= 2 * torch.log(spread)
        second.bias += second.weight[:, :, 0, 0, 0] @ (middle - wan_mean * spread)
        second.weight *= spread.view(1, -1, 1, 1, 1)
