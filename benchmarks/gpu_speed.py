"""Seconds, memory and numbers of the 14B model on one GPU: diffsynth's call beside our own loop.

Random numbers in the published sizes serve as well as the published weights:

    python benchmarks/random_checkpoint.py models/random-14b
    python benchmarks/gpu_speed.py models/random-14b --parts plain compile fp8
    python benchmarks/gpu_speed.py random --parts fa4 fp8_fa4 distance

`random` in place of a folder makes the numbers on the GPU, without a text encoder; `plain` and
`managed` need the folder.

A part prints and writes what it found as soon as it has it. `benchmarks/gpu_rows.py` measures
videos in a row through the whole runner, and what a kill costs.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from gpu_clock import DEVICE, GIB, Clock, moving_square, peak_gib, random_pipe, timed
from measuring import table, write_section
from PIL import Image

from runner.backends.wan.attention import chosen
from runner.backends.wan.checkpoint import Checkpoint
from runner.backends.wan.denoise import (
    EncodedPrompts,
    Request,
    decode,
    denoise,
    encode_prompt,
    encode_reference,
)
from runner.backends.wan.frames import STRIDE_LATENT_PIXELS, TILE_LATENT_PIXELS
from runner.backends.wan.kept_latents import KeptLatents
from runner.backends.wan.pipeline import load_pipeline, speed_up
from runner.backends.wan.settings import WanSettings

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Speed of the 14B model on one GPU"
PROMPT, NEGATIVE = "a red ball rolls over grass, 一只红色的球", "blurry"
STEPS = 50
FLOPS = 168e15
"""Of a video at that size, 50 steps and guidance: linear layers and attention."""
RATE = 790e12
"""What a large bf16 product reaches on an H200."""


class Bench:
    """One loaded pipe, what is measured on it, and the section that tells it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.checkpoint = Checkpoint(arguments.checkpoint)
        self.steps: int = arguments.steps
        self.width, self.height, self.frames = map(int, arguments.size.split("x"))
        self.out: Path = arguments.out
        self.title = f"{TITLE}: {', '.join(arguments.parts)}"
        self.blocks: list[str] = []
        self.rows: list[list[str]] = []
        self.pipe: Any = None
        self.originals: list[Any] = []
        self.prompts: Any = None
        self.reference: Any = None

    def say(self, block: str) -> None:
        self.blocks.append(block)
        self.write()

    def row(self, name: str, step: float, decoding: float, peak: float, note: str = "") -> None:
        """A setting's seconds a step, and a video's of 50 steps."""
        video = STEPS * step + decoding
        cells = [name, f"{step:.2f}", f"{step / 2:.2f}", f"{decoding:.2f}", f"{video:.0f}"]
        cells += [f"{video * RATE / FLOPS:.2f}", f"{peak:.1f}", note]
        self.rows.append(cells)
        self.write()

    def write(self) -> None:
        head = ["setting", "step", "forward", "decode", "video of 50 steps", "× floor"]
        head += ["peak GiB", ""]
        floor = (
            f"{self.width}x{self.height}, {self.frames} frames, guidance 5.0, bf16, random "
            f"weights of the published sizes. Seconds; a step is the mean of {self.steps} after "
            f"one to warm up, two forwards each; a video is 50 of them and the decoding. The "
            f"floor is {FLOPS / 1e15:.0f} PFLOP at {RATE / 1e12:.0f} TFLOP/s: {FLOPS / RATE:.0f} s."
        )
        parts = [floor, *([table(head, self.rows)] if self.rows else []), *self.blocks]
        write_section(self.out, self.title, "\n\n".join(parts))

    def clip(self, frames: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return moving_square(frames, self.height, self.width)

    # Loading.

    def load(self, parts: tuple[str, ...] = ("dit", "vae"), **options: Any) -> Any:
        if str(self.checkpoint.folder) == "random":
            return random_pipe()
        options = {"dtype": "bfloat16", "managed": False, "vram_limit": None, **options}
        seconds, pipe = timed(
            lambda: load_pipeline(self.checkpoint, parts, device=DEVICE, **options)
        )
        print(f"loaded {', '.join(parts)} in {seconds:.1f} s", flush=True)
        return pipe

    def ready(self) -> None:
        """A pipe without text encoder, and the inputs of a job."""
        if self.pipe is None:
            # What they say decides no time.
            self.pipe = self.load()
            self.prompts = self.random_prompts()
        if self.reference is None:
            self.reference = encode_reference(self.pipe, self.clip(self.frames), tiled=True)
        if not self.originals:
            self.originals = list(self.pipe.dit.blocks)

    def set_speed(self, settings: WanSettings) -> None:
        for number, block in enumerate(self.originals):
            self.pipe.dit.blocks[number] = block
        speed_up(self.pipe, settings)

    def denoise(
        self, settings: WanSettings, steps: int, frames: int | None = None, **options: Any
    ) -> tuple[list[float], Any]:
        """Seconds of each step, and the final latents."""
        request = Request(
            seed=42,
            width=self.width,
            height=self.height,
            num_frames=frames or self.frames,
            num_inference_steps=steps,
            cfg_scale=5.0,
            denoising_strength=0.8,
            sigma_shift=5.0,
        )
        clock = Clock()
        with chosen(settings.attention):
            latents = denoise(
                self.pipe,
                request,
                self.prompts,
                self.reference,
                clock.step,
                tea_cache=settings.tea_cache,
                **options,
            )
        return clock.seconds(), latents

    def measure(self, name: str, note: str = "", **changes: Any) -> None:
        """A row for a setting."""
        settings = WanSettings(**changes)
        self.ready()
        self.set_speed(settings)
        peak_gib()
        seconds, latents = self.denoise(settings, 1 + self.steps)
        peak = peak_gib()
        tiled = settings.vae_tiling == "on"
        decoding, _ = timed(lambda: decode(self.pipe, latents, tiled=tiled))
        note = f"{note}; first step {seconds[0]:.0f} s".strip("; ")
        self.row(name, mean(seconds[1:]), decoding, peak, note)

    # The parts.

    def plain(self) -> None:
        """diffsynth's own call, and our loop on the same inputs: the same frames, to the bit."""
        self.pipe = self.load(("dit", "text_encoder", "vae"))
        self.prompts = EncodedPrompts(
            encode_prompt(self.pipe, PROMPT), encode_prompt(self.pipe, NEGATIVE)
        )
        clip, steps = self.clip(self.frames), 1 + self.steps
        clocks: list[Clock] = []

        def bar(moments: Any) -> Iterator[Any]:
            clocks.append(Clock())
            for moment in moments:
                yield moment
                clocks[0].step()

        from diffsynth.models import wan_video_dit

        # diffsynth takes flash-attn-4 for version 2, whose function it has not.
        wan_video_dit.FLASH_ATTN_2_AVAILABLE = False
        peak_gib()
        whole, images = timed(
            lambda: self.pipe(
                prompt=PROMPT,
                negative_prompt=NEGATIVE,
                input_video=[Image.fromarray(frame) for frame in clip],
                denoising_strength=0.8,
                seed=42,
                num_frames=self.frames,
                width=self.width,
                height=self.height,
                num_inference_steps=steps,
                progress_bar_cmd=bar,
            )
        )
        theirs = np.stack([np.asarray(image) for image in images])
        stepping = clocks[0].seconds()
        after = whole - sum(stepping)
        step, peak = mean(stepping[1:]), peak_gib()
        note = f"text, reference and decoding {after:.1f} s"
        cells = ["diffsynth's call, T5 resident", f"{step:.2f}", f"{step / 2:.2f}", "-"]
        video = STEPS * step + after
        cells += [f"{video:.0f}", f"{video * RATE / FLOPS:.2f}", f"{peak:.1f}", note]
        self.rows.append(cells)

        encoding, self.reference = timed(lambda: encode_reference(self.pipe, clip, tiled=True))
        self.originals = list(self.pipe.dit.blocks)
        settings = WanSettings()
        self.set_speed(settings)
        seconds, latents = self.denoise(settings, steps)
        decoding, ours = timed(lambda: decode(self.pipe, latents, tiled=True))
        with_t5 = peak_gib()
        same = "the same" if np.array_equal(ours, theirs) else "NOT the same"
        self.row("our loop, T5 resident", mean(seconds[1:]), decoding, with_t5)
        self.say(
            f"Frames of diffsynth's call and of our loop at full size, {steps} steps: {same}, "
            f"bit for bit. Encoding the reference, tiled: {encoding:.2f} s."
        )
        self.pipe.text_encoder = None
        self.measure("our loop (default)")
        self.tiling(latents)
        self.keeping(latents)

    def tiling(self, latents: Any) -> None:
        """Encoding and decoding, tiled and not, by diffsynth's functions and by ours."""
        rows = []
        clip = self.clip(self.frames)
        for tiled in (True, False):
            options = {
                "tiled": tiled,
                "tile_size": TILE_LATENT_PIXELS,
                "tile_stride": STRIDE_LATENT_PIXELS,
            }

            def theirs(options: Any = options) -> Any:
                with torch.no_grad():
                    video = self.pipe.vae.decode(latents, device=self.pipe.device, **options)
                    return self.pipe.vae_output_to_video(video)

            decode(self.pipe, latents, tiled=tiled)
            peak_gib()
            former, images = timed(theirs)
            peak_gib()
            base = torch.cuda.memory_reserved() / GIB if DEVICE == "cuda" else 0.0
            own, frames = timed(functools.partial(decode, self.pipe, latents, tiled=tiled))
            peak = peak_gib()
            same = all(
                np.array_equal(np.asarray(image), frame)
                for image, frame in zip(images, frames, strict=True)
            )
            encoding, _ = timed(functools.partial(encode_reference, self.pipe, clip, tiled=tiled))
            rows.append(
                [
                    "on" if tiled else "off",
                    f"{encoding:.2f}",
                    f"{former:.2f}",
                    f"{own:.2f}",
                    "the same" if same else "NOT the same",
                    f"{peak - base:+.1f}",
                ]
            )
        head = ["vae_tiling", "encode", "decode by diffsynth", "decode by us", "frames", "GiB"]
        self.say(table(head, rows))

    def keeping(self, latents: Any) -> None:
        """What it costs to write latents to disk."""
        folder = self.out.parent / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        taken = []
        for step in range(1, 11):
            kept = KeptLatents(folder, {"job": "x"}, 1)
            offer = functools.partial(kept.offer, step, latents, is_last=False)
            taken.append(timed(offer)[0])
        size = latents.numel() * latents.element_size() / 1e6
        self.say(f"Writing latents ({size:.1f} MB) with a flush: {1000 * median(taken):.0f} ms.")

    def compile(self) -> None:
        self.measure("compile", compile=True)

    def flash(self) -> None:
        self.measure("attention: flash", attention="flash")

    def fa4(self) -> None:
        kernel = "flash_attention_4"
        self.measure("compile, flash_attention_4", compile=True, attention=kernel)

    def tea(self) -> None:
        """Seconds of a step that is left out: every one but the first and the last."""
        settings = WanSettings(tea_cache=1e9)
        self.ready()
        self.set_speed(settings)
        seconds, _ = self.denoise(settings, 4)
        self.say(
            f"TeaCache: a step that is left out takes {mean(seconds[1:3]):.3f} s, one that is "
            f"computed {seconds[3]:.2f} s; how many are left out depends on the weights."
        )

    def fp8(self) -> None:
        """Last in its process: the weights are gone after it."""
        self.measure("compile, fp8", compile=True, fp8=True)

    def fp8_fa4(self) -> None:
        kernel = "flash_attention_4"
        self.measure("compile, fp8, flash_attention_4", compile=True, fp8=True, attention=kernel)

    def managed(self) -> None:
        self.pipe, self.originals = None, []
        peak_gib()
        self.pipe = self.load(managed=True)
        self.prompts = self.prompts or self.random_prompts()
        self.measure("vram: managed", vram="managed")

    def random_prompts(self) -> Any:
        width = self.pipe.dit.text_embedding[0].in_features
        return EncodedPrompts(*torch.randn(2, 1, 512, width, dtype=torch.bfloat16).unbind(0))

    def in_float32(self, steps: int, frames: int) -> Any:
        """Final latents by the same weights in float32 arithmetic."""
        self.pipe.dit.float()
        self.pipe.torch_dtype = torch.float32
        settings = WanSettings(dtype="float32")
        self.set_speed(settings)
        prompts, reference = self.prompts, self.reference
        self.prompts = EncodedPrompts(prompts.positive.float(), prompts.negative.float())
        self.reference = reference.float()
        _, exact = self.denoise(settings, steps, frames)
        self.prompts, self.reference = prompts, reference
        self.pipe.dit.bfloat16()
        self.pipe.torch_dtype = torch.bfloat16
        peak_gib()
        return exact

    def distance(self) -> None:
        """How far final latents are from a float32 run's, at a length that float32 can afford."""
        frames, steps = 5, 8
        found: dict[str, Any] = {}
        self.pipe = self.load()
        self.originals = list(self.pipe.dit.blocks)
        self.prompts = self.random_prompts()
        self.reference = encode_reference(self.pipe, self.clip(frames), tiled=True)
        exact = self.in_float32(steps, frames)
        settings = {
            "plain": WanSettings(),
            "flash": WanSettings(attention="flash"),
            "compile": WanSettings(compile=True),
            "flash_attention_4": WanSettings(attention="flash_attention_4"),
            "compile, flash_attention_4": WanSettings(compile=True, attention="flash_attention_4"),
            "tea_cache 0.1": WanSettings(tea_cache=0.1),
            "compile, fp8": WanSettings(compile=True, fp8=True),
        }
        rows = []
        for name, chosen_settings in settings.items():
            try:
                self.set_speed(chosen_settings)
                _, found[name] = self.denoise(chosen_settings, steps, frames)
            except (ImportError, RuntimeError) as error:
                print(f"{name}: {error}", flush=True)
                continue
            difference = found[name].double() - exact.double()
            far = difference.norm() / exact.double().norm()
            plain = (found[name].double() - found["plain"].double()).norm()
            rows.append(
                [name, f"{100 * far:.3f} %", f"{100 * plain / exact.double().norm():.3f} %"]
            )
            print(rows[-1], flush=True)
        head = ["setting", "from float32", "from plain bf16"]
        words = (
            f"Distance of the final latents, relative to a float32 run's, {frames} frames, "
            f"{steps} steps, the same noise:"
        )
        self.say(f"{words}\n\n{table(head, rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parts = ("plain", "compile", "flash", "fa4", "tea", "fp8", "fp8_fa4", "managed", "distance")
    parser.add_argument("--parts", nargs="+", choices=parts, default=["plain", "compile"])
    parser.add_argument("--steps", type=int, default=2, help="steps timed, after one to warm up")
    parser.add_argument("--size", default="832x480x81", help="width x height x frames")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    for part in arguments.parts:
        start = time.perf_counter()
        getattr(bench, part)()
        print(f"part {part}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
