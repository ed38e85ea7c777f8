"""Train the tiny checkpoint: VAE, then latents of all clips, then DiT and text encoder.

    python -m training.train --work /tmp/tiny --out checkpoint

Each stage has a budget of seconds, over which its learning rate rises and falls, so that a run
ends when it should on any machine. A run that was cut off, or that ended by `--stop-after`,
goes on where its work folder's last saved state is; `log.jsonl` there is appended to.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.backends.wan.checkpoint import DIT, TEXT_ENCODER, TOKENIZER, VAE
from runner.backends.wan.offline import import_torch

from .autoencoder import bring_to_scale, loss_of, moments, new_vae
from .clips import Clips, make_clips, unwanted_ids
from .tokenizer import train_tokenizer
from .transformer import new_models, noise_levels, rotations, time_features, velocity

torch = import_torch()

EMPTY, UNWANTED_SHARE = 0.07, 0.03
"""Shares of a batch whose caption is replaced by the empty one, and by a negative prompt."""

WARM_UP = 0.04
AVERAGE = 0.9995


class StopHere(Exception):
    """The time of this call is over; the state has been saved."""


@dataclass
class Run:
    """Where a run keeps its things, what it may use, and when this call is to end."""

    work: Path
    out: Path
    device: str
    deadline: float
    arguments: argparse.Namespace
    started: float = field(default_factory=time.monotonic)

    def log(self, **entry: Any) -> None:
        entry = {"at": round(time.monotonic() - self.started, 1), **entry}
        line = json.dumps(
            {name: round(v, 5) if isinstance(v, float) else v for name, v in entry.items()}
        )
        print(line, flush=True)
        with (self.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.work / "log.jsonl", self.out / "log.jsonl")

    def save(self, name: str, state: dict[str, Any]) -> None:
        path = self.work / name
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, name: str) -> Any:
        path = self.work / name
        if not path.is_file():
            return None
        return torch.load(path, map_location=self.device, weights_only=True)


def rate(share: float, peak: float) -> float:
    """Learning rate after that share of the time: up in a line, down in a cosine."""
    if share < WARM_UP:
        return peak * max(share, 1e-3) / WARM_UP
    return peak * (0.5 + 0.5 * math.cos(math.pi * min(1.0, (share - WARM_UP) / (1 - WARM_UP))))


def write_weights(path: Path, state: Iterable[tuple[str, Any]]) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().to("cpu", torch.bfloat16).contiguous() for name, t in state}
    save_file(tensors, path, metadata={"format": "pt"})


class Stage:
    """A timed loop of steps over some parameters, with its averaged weights and its state.

    With `graph`, on a GPU, a whole step is recorded once and replayed: the VAE's thousands of
    small kernels would otherwise wait for Python. Every batch then has the first one's shape.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        modules: dict[str, Any],
        seconds: float,
        peak: float,
        *,
        graph: bool = False,
    ) -> None:
        self.run, self.name, self.seconds, self.peak = run, name, seconds, peak
        self.modules = modules
        self.parameters = [p for module in modules.values() for p in module.parameters()]
        cuda = run.device == "cuda"
        self.graphed = graph and cuda
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=torch.tensor(peak, device="cuda") if self.graphed else peak,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=cuda,
            capturable=self.graphed,
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.spent, self.step = 0.0, 0
        if state := run.load(f"{name}.pt"):
            for key, module in modules.items():
                module.load_state_dict(state["models"][key])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average = list(state["average"])
            self.spent, self.step = state["spent"], state["step"]
            run.log(stage=name, resumed_at=self.spent, step=self.step)

    def train(
        self,
        batch: Callable[[], tuple[Any, ...]],
        loss: Callable[..., tuple[Any, dict[str, Any]]],
        every: float,
    ) -> None:
        """Step until the stage's seconds are spent.

        Args:
            batch: draws the inputs of a step.
            loss: gives the loss of a batch and what to log.
            every: seconds between two lines of the log and two saved states.

        Raises:
            StopHere: this call's time ended first.
        """
        last = saved = time.monotonic()
        mark = self.step
        take = self._recorded(batch, loss) if self.graphed else self._taken(batch, loss)
        while self.spent < self.seconds:
            now_rate = rate(self.spent / self.seconds, self.peak)
            for group in self.optimiser.param_groups:
                if self.graphed:
                    group["lr"].fill_(now_rate)
                else:
                    group["lr"] = now_rate
            value, parts, norm = take()
            self.step += 1
            keep = min(AVERAGE, self.step / (self.step + 20))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - keep)
            if self.step % 10 == 0 and self.run.device == "cuda":
                torch.cuda.synchronize()
            now = time.monotonic()
            self.spent += now - last
            last = now
            if now - saved > every or self.spent >= self.seconds or now > self.run.deadline:
                shown = {name: float(part) for name, part in parts.items()}
                speed = (self.step - mark) / max(now - saved, 1e-9)
                self.run.log(
                    stage=self.name, step=self.step, seconds=self.spent,
                    loss=float(value.detach()), norm=float(norm), steps_a_second=speed, **shown,
                )  # fmt: skip
                self.save()
                last = saved = time.monotonic()
                mark = self.step
                if now > self.run.deadline and self.spent < self.seconds:
                    raise StopHere

    def _taken(self, batch: Any, loss: Any) -> Callable[[], tuple[Any, Any, Any]]:
        def take() -> tuple[Any, Any, Any]:
            value, parts = loss(*batch())
            self.optimiser.zero_grad(set_to_none=True)
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            return value, parts, norm

        return take

    def _recorded(self, batch: Any, loss: Any) -> Callable[[], tuple[Any, Any, Any]]:
        # https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
        inputs = batch()
        eager = self._taken(lambda: inputs, loss)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                eager()
        torch.cuda.current_stream().wait_stream(side)
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            value, parts = loss(*inputs)
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()

        def take() -> tuple[Any, Any, Any]:
            for old, new in zip(inputs, batch(), strict=True):
                old.copy_(new)
            graph.replay()
            return value, parts, norm

        return take

    def save(self) -> None:
        models = {key: module.state_dict() for key, module in self.modules.items()}
        self.run.save(
            f"{self.name}.pt",
            {
                "models": models,
                "optimiser": self.optimiser.state_dict(),
                "average": self.average,
                "spent": self.spent,
                "step": self.step,
            },
        )

    def take_average(self) -> None:
        """Put the averaged weights into the modules."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average, strict=True):
                parameter.copy_(average)


def train_vae(run: Run, clips: Clips) -> Any:
    """The trained VAE, its latents brought to scale; made in this call or before."""
    vae = new_vae(run.device)
    if state := run.load("vae_done.pt"):
        vae.load_state_dict(state)
        return vae
    arguments = run.arguments
    if arguments.vae_from:
        from safetensors.torch import load_file

        vae.model.load_state_dict(load_file(arguments.vae_from, device=run.device))
    stage = Stage(
        run, "vae", {"vae": vae.model}, arguments.vae_seconds, arguments.vae_rate, graph=True
    )
    pool, pooled = [], 0
    for rendered in clips.rendered(run.device, 125):
        pool.append((rendered * 127.5 + 127.5).round().to(torch.uint8))
        pooled += len(rendered)
        if pooled >= arguments.pool:
            break
    frames = torch.cat(pool)
    del pool
    run.log(stage="vae", pool=len(frames), gib=frames.numel() / 2**30)
    size = arguments.vae_batch

    def batch() -> tuple[Any, ...]:
        chosen = torch.randint(len(frames), (size,), device=run.device)
        return (frames[chosen].float() / 127.5 - 1,)

    def loss(clip: Any) -> tuple[Any, dict[str, Any]]:
        with torch.autocast(run.device, torch.bfloat16, cache_enabled=False):
            return loss_of(vae, clip)

    stage.train(batch, loss, every=15)
    stage.take_average()
    vae.model.eval()
    with torch.no_grad(), torch.autocast(run.device, torch.bfloat16, cache_enabled=False):
        # Spread over the whole pool, which is ordered by category.
        some = frames[:: max(1, len(frames) // 512)][:512].split(size)
        means = [moments(vae, part.float() / 127.5 - 1)[0] for part in some]
        mean = torch.cat(means).transpose(0, 1).flatten(1)
        bring_to_scale(vae, mean.mean(1), mean.std(1))
        errors = []
        for part in some[::8]:
            clip = part.float() / 127.5 - 1
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
    with torch.no_grad(), torch.autocast(run.device, torch.bfloat16):
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

    try:
        stage.train(batch, loss, every=20)
    finally:
        stage.take_average()
        write_weights(run.out / f"{DIT}.safetensors", dit.state_dict().items())
        write_weights(run.out / f"{TEXT_ENCODER}.safetensors", text_encoder.state_dict().items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="state and log; resumed from")
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--clips", type=int, default=120_000)
    parser.add_argument("--pool", type=int, default=16_000, help="clips that the VAE sees")
    parser.add_argument("--vae-from", type=Path, help="weights of a VAE to start from")
    parser.add_argument("--vae-seconds", type=float, default=330)
    parser.add_argument("--vae-batch", type=int, default=16)
    parser.add_argument("--vae-rate", type=float, default=1e-3)
    parser.add_argument("--dit-seconds", type=float, default=900)
    parser.add_argument("--dit-batch", type=int, default=1024)
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
    run.log(
        torch=torch.__version__, device=device, **{k: str(v) for k, v in vars(arguments).items()}
    )
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
        latents = encode(run, vae, clips)
        del vae
        train_dit(run, clips, latents)
    except StopHere:
        run.log(stopped=True)
    else:
        run.log(finished=True)


if __name__ == "__main__":
    main()
