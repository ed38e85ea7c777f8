"""Train the tiny checkpoint: VAE, then latents of all clips, then DiT and text encoder.

    python -m training.train --work /tmp/tiny --out checkpoint

Each stage has a budget of seconds, over which its learning rate rises and falls, so that a run
ends when it should on any machine. A run that was cut off, or that ended by `--stop-after`,
goes on where its work folder's last saved state is; `log.jsonl` there is appended to.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from runner.backends.wan.checkpoint import DIT, TEXT_ENCODER, TOKENIZER, VAE
from runner.backends.wan.offline import import_torch

from .autoencoder import as_seen, bring_to_scale, loss_of, moments, new_vae, scaled
from .clips import Clips, crops, make_clips, unwanted_ids
from .stage import Run, Stage, StopHere, write_weights
from .tokenizer import train_tokenizer
from .transformer import new_models, noise_levels, rotations, time_features, velocity

torch = import_torch()

EMPTY, UNWANTED_SHARE = 0.07, 0.03
"""Shares of a batch whose caption is replaced by the empty one, and by a negative prompt."""
CROPS_THINGS, THINGS = 8.0, 3.0
"""How much more than others the VAE's pixels near things count, cut out and in whole clips: what
rounds a star off costs few decibels."""


def half_precision(run: Run, *, recorded: bool = True) -> Any:
    """bfloat16 where it is the faster. What is recorded as a graph can keep no cast weights."""
    gpu = run.device == "cuda"
    return torch.autocast(run.device, torch.bfloat16, cache_enabled=not recorded, enabled=gpu)


def vae_pool(run: Run, clips: Clips) -> Any:
    """The clips that the VAE sees: uint8 (clips, 3, F, H, W) on the device."""
    pool, pooled = [], 0
    for rendered in clips.rendered(run.device, 125):
        pool.append((rendered * 127.5 + 127.5).round().to(torch.uint8))
        pooled += len(rendered)
        if pooled >= run.arguments.pool:
            break
    frames = torch.cat(pool)
    run.log(stage="vae", pool=len(frames), gib=frames.numel() / 2**30)
    return frames


def train_vae(run: Run, clips: Clips) -> Any:
    """The trained VAE, its latents brought to scale; made in this call or before."""
    arguments = run.arguments
    vae = new_vae(run.device)
    if state := run.load("vae_done.pt"):
        vae.load_state_dict(state)
        return vae
    frames = vae_pool(run, clips)

    def whole() -> tuple[Any, ...]:
        chosen = torch.randint(len(frames), (arguments.vae_batch,), device=run.device)
        return (as_seen(frames[chosen]),)

    def cut() -> tuple[Any, ...]:
        return (as_seen(crops(frames, arguments.vae_crop_batch)),)

    def loss(clip: Any, things: float) -> tuple[Any, dict[str, Any]]:
        with half_precision(run):
            return loss_of(vae, clip, things)

    # Whole clips have more background than things, and take seven times as long.
    for name, batch, seconds, rate, things in (
        ("vae_crops", cut, arguments.vae_crop_seconds, arguments.vae_rate, CROPS_THINGS),
        ("vae", whole, arguments.vae_seconds, arguments.vae_rate / 2, THINGS),
    ):
        if seconds:
            stage = Stage(run, name, {"vae": vae.model}, seconds, rate, graph=True)
            stage.train(batch, partial(loss, things=things), every=15)
            stage.take_average()
    vae.model.eval()
    with torch.no_grad(), half_precision(run):
        # Spread over the whole pool, which is ordered by category.
        some = frames[:: max(1, len(frames) // arguments.vae_checked)].split(arguments.vae_batch)
        means = [moments(vae, scaled(part))[0] for part in some]
        mean = torch.cat(means).transpose(0, 1).flatten(1)
        bring_to_scale(vae, mean.mean(1), mean.std(1))
        errors = []
        for part in some[::8]:
            clip = scaled(part)
            decoded = vae.model.decode(vae.model.encode(clip, vae.scale), vae.scale)
            errors.append((decoded.float().clamp(-1, 1) - clip).square().mean((1, 2, 3, 4)) / 4)
        vae.model.clear_cache()
    psnr = -10 * torch.log10(torch.cat(errors)).mean()
    spread = [round(float(value), 2) for value in mean.std(1)]
    run.log(stage="vae", psnr_at_scale=float(psnr), spreads=spread)
    run.save("vae_done.pt", vae.state_dict())
    write_weights(run.out / f"{VAE}.safetensors", vae.model.state_dict().items())
    return vae


def encode(run: Run, vae: Any, clips: Clips) -> Any:
    """Latents of all clips in order, bfloat16 (clips, 16, 5, 10, 16) on the device."""
    if state := run.load("latents.pt"):
        return state["latents"]
    start = time.monotonic()
    parts = []
    with torch.no_grad(), half_precision(run, recorded=False):
        for batch in clips.rendered(run.device, 125):
            parts.append(vae.model.encode(batch, vae.scale).to(torch.bfloat16))
    vae.model.clear_cache()
    latents = torch.cat(parts)
    run.log(
        stage="encode", clips=len(latents), seconds=time.monotonic() - start,
        mean=float(latents.float().mean()), std=float(latents.float().std()),
    )  # fmt: skip
    run.save("latents.pt", {"latents": latents})
    return latents


def train_dit(run: Run, clips: Clips, latents: Any) -> None:
    """Train DiT and text encoder on the latents, and write both, averaged."""
    device, arguments = run.device, run.arguments
    dit, text_encoder = new_models(device)
    modules = {"dit": dit, "text_encoder": text_encoder}
    stage = Stage(run, "dit", modules, arguments.dit_seconds, arguments.dit_rate)
    ids, lengths = clips.ids[: len(latents)].to(device), clips.lengths[: len(latents)].to(device)
    shares = clips.shares.to(device)
    none_ids, none_lengths = (part.to(device) for part in unwanted_ids(run.out / TOKENIZER))
    levels = noise_levels(device)
    _, f, h, w = latents.shape[1:]
    turn = rotations(dit, (f, h // 2, w // 2), device)
    size = arguments.dit_batch
    which_shift = torch.arange(size, device=device) % len(levels)
    compute = torch.compile(velocity) if arguments.compile else velocity

    def batch() -> tuple[Any, ...]:
        chosen = torch.randint(len(latents), (size,), device=device)
        caption = torch.multinomial(shares, size, replacement=True)
        tokens, length = ids[chosen, caption], lengths[chosen, caption]
        dropped = torch.rand(size, device=device)
        without = torch.randint(1, len(none_ids), (size,), device=device)
        without = without * (dropped >= EMPTY)
        dropped = dropped < EMPTY + UNWANTED_SHARE
        tokens = torch.where(dropped[:, None], none_ids[without], tokens)
        length = torch.where(dropped, none_lengths[without], length)
        level = levels[which_shift, torch.randint(1000, (size,), device=device)]
        return latents[chosen].float(), level, tokens, length

    def loss(clean: Any, level: Any, tokens: Any, length: Any) -> tuple[Any, dict[str, Any]]:
        sigma = level.view(-1, 1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noised = (1 - sigma) * clean + sigma * noise
        times = time_features(level * 1000)
        with torch.autocast(device, torch.bfloat16):
            found = compute(dit, text_encoder, noised, times, tokens, length, turn)
        error = (found.float() - (noise - clean)).square().mean((1, 2, 3, 4))
        return error.mean(), {"high_noise": error[level > 0.9].mean().detach()}

    def export() -> None:
        write_weights(run.out / f"{DIT}.safetensors", stage.averages("dit").items())
        averages = stage.averages("text_encoder")
        write_weights(run.out / f"{TEXT_ENCODER}.safetensors", averages.items())

    export()
    stage.train(batch, loss, every=20, export=export)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="state and log; resumed from")
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--clips", type=int, default=64_000)
    parser.add_argument("--pool", type=int, default=16_000, help="clips that the VAE sees")
    parser.add_argument("--vae-crop-seconds", type=float, default=420, help="on cut out things")
    parser.add_argument("--vae-crop-batch", type=int, default=32)
    parser.add_argument("--vae-seconds", type=float, default=120, help="then, on whole clips")
    parser.add_argument("--vae-batch", type=int, default=8)
    parser.add_argument("--vae-checked", type=int, default=512, help="clips for scale and PSNR")
    parser.add_argument("--vae-rate", type=float, default=1e-3, help="half of it on whole clips")
    parser.add_argument("--dit-seconds", type=float, default=850)
    parser.add_argument("--dit-batch", type=int, default=512)
    parser.add_argument("--dit-rate", type=float, default=1e-3)
    parser.add_argument("--stop-after", type=float, default=1e9, help="seconds for this call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    arguments.work.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + arguments.stop_after
    run = Run(arguments.work, arguments.out, device, deadline, arguments)
    options = {k: str(v) for k, v in vars(arguments).items() if k not in ("work", "out")}
    run.log(torch=torch.__version__, device=device, **options)
    if not (run.out / TOKENIZER).is_dir():
        kept = run.work / "tokenizer"
        if not kept.is_dir():
            train_tokenizer(kept)
        shutil.copytree(kept, run.out / TOKENIZER)
    clips = make_clips(run.out / TOKENIZER, arguments.clips, arguments.seed, os.cpu_count() or 1)
    run.log(stage="clips", parts=len(clips.parts))
    torch.manual_seed(arguments.seed + int(time.time()) % 100_000)
    try:
        vae = train_vae(run, clips)
        write_weights(run.out / f"{VAE}.safetensors", vae.model.state_dict().items())
        if arguments.dit_seconds:
            latents = encode(run, vae, clips)
            del vae
            train_dit(run, clips, latents)
    except StopHere:
        run.log(stopped=True)
    else:
        run.log(finished=True)


if __name__ == "__main__":
    main()
