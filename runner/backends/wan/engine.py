"""Wan 2.1 at work: one model in each worker, through diffsynth."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...job import Job, Series
from ...job.axes import PROMPT
from .. import Engine, GpuMemory, Interrupted, Machine, OnStep
from ..model_file import content_of
from .attention import chosen
from .settings import WanGeneration

if TYPE_CHECKING:
    from .compiled import CompiledBlocks
    from .denoise import Request
    from .embeddings import PromptEmbeddings
    from .kept_latents import KeptLatents
    from .planner import WanPlanner
    from .references import References

logger = logging.getLogger("sweep.wan")


@dataclass(frozen=True)
class PendingFrames:
    """A video to be encoded: uint8 frames (num_frames, height, width, 3) in host memory."""

    frames: Any
    fps: float


class WanEngine(Engine):
    """Wan 2.1 text-to-video weights, denoising each job's noised reference."""

    def __init__(self, planner: WanPlanner) -> None:
        self.settings = planner.settings
        self.recipe = planner.recipe
        self._prompt_tokens = planner.prompt_tokens
        self._folder = planner.folder
        self._pipe: Any = None
        self._prompts: PromptEmbeddings | None = None
        self._references: References | None = None
        self._reference: Any = None
        self._compiled: CompiledBlocks | None = None
        self._surroundings: dict[str, str] = {}
        self._tiled = self.settings.vae_tiling == "on"
        self._device = ""

    def load(self, machine: Machine) -> None:
        """The DiT and the VAE; before them, and freed again, the text encoder where the sweep
        has prompts that are not embedded yet and no other worker is at it."""
        from .denoise import encode_reference
        from .embeddings import PromptEmbeddings
        from .pipeline import speed_up, versions_on
        from .references import References

        self._device = machine.device
        self._surroundings = versions_on(machine.device)
        model = {"recipe": self.recipe, "dtype": self.settings.dtype, **self._surroundings}
        text_encoder = {"files": self._folder.text_encoder_contents(), **model}
        vae = {"file": content_of(self._folder.vae), "tiling": self.settings.vae_tiling, **model}
        self._prompts = PromptEmbeddings(
            machine.cache / "prompts",
            text_encoder,
            self._open_text_encoder,
            lambda: texts_of(machine.jobs()),
        )
        all_there = self._prompts.make_known(wait=False)
        self._pipe = self._load(["dit", "vae"])
        speed_up(self._pipe, self.settings)
        self._compiled = self._compiled_blocks(machine.cache)
        # With `fp8` the weights that were replaced.
        free_memory(self._device)
        if not all_there:
            # Another worker was at it, and should be done by now.
            self._prompts.make_known(wait=True)
        self._references = References(
            machine.cache / "references",
            vae,
            lambda frames: encode_reference(self._pipe, frames, tiled=self._tiled),
        )

    def look_ahead(self, series: Series) -> None:
        assert self._references is not None
        self._references.look_ahead(series)

    def prepare(self, series: Series) -> None:
        assert self._references is not None
        self._reference = self._references.of(series).to(self._pipe.device)
        if self._compiled is not None:
            with chosen(self.settings.attention):
                self._compiled.make_ready(request_of(series.parameters, seed=0), self._reference)

    def reconstruct(self, series: Series) -> Any:
        assert self._references is not None
        return self.decoded(self._references.of(series).to(self._pipe.device))

    def kernels(self, job: Job) -> str | None:
        if self._compiled is None:
            return None
        return self._compiled.hash_of(request_of(job.parameters, job.seed))

    def steps_kept(self, job: Job, scratch: Path) -> int:
        held = self._kept(job, scratch).read()
        return 0 if held is None else held[0]

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> PendingFrames:
        latents = self.latents(job, scratch, on_step)
        # Here and not in `finish`: beside the next job's denoising, the decoding's many small
        # transfers each wait for a whole step, and it lasts as long as that job.
        return PendingFrames(self.decoded(latents), job.shape.fps)

    def decoded(self, latents: Any) -> Any:
        """The frames of finished latents, uint8 (num_frames, height, width, 3)."""
        from .denoise import decode

        return decode(self._pipe, latents, tiled=self._tiled)

    def latents(self, job: Job, scratch: Path, on_step: OnStep) -> Any:
        """The job's finished latents, (1, 16, frames, height, width) in latent pixels; of the
        prepared group. The rest is as in `generate`."""
        from .denoise import EncodedPrompts, denoise

        assert self._prompts is not None
        request = request_of(job.parameters, job.seed)
        positive, *negative = map(self._prompts.of, texts_of([job]))
        kept = self._kept(job, scratch)
        begun = kept.read()
        if begun is None and (refusal := kept.refusal()):
            logger.warning("%s: begins anew, kept latents are another make's: %s", job.id, refusal)
        try:
            with chosen(self.settings.attention):
                latents = denoise(
                    self._pipe,
                    request,
                    EncodedPrompts(positive, *(negative or [positive])),
                    self._reference,
                    on_step,
                    tea_cache=self.settings.tea_cache,
                    begun=begun,
                    keep=kept.offer,
                )
        except Interrupted:
            kept.write()
            raise
        if self._compiled is not None:
            self._compiled.look_again(request)
        return latents

    def finish(self, pending: PendingFrames, path: Path, quality: float) -> None:
        from ...video import write_video
        from .denoise import stage

        with stage("write"):
            write_video(path, pending.frames, fps=pending.fps, quality=quality)

    def memory(self, *, anew: bool = False) -> GpuMemory:
        """What torch reserved on the GPU, used or kept for reuse."""
        if self._device != "cuda":
            return GpuMemory()
        import torch

        held, peak = torch.cuda.memory_reserved(), torch.cuda.max_memory_reserved()
        if anew:
            torch.cuda.reset_peak_memory_stats()
        return GpuMemory(held / 1024**3, peak / 1024**3)

    def close(self) -> None:
        if self._references is not None:
            self._references.close()
        self._pipe = self._reference = self._references = self._prompts = None
        self._compiled = None
        free_memory(self._device)
        # What comes after it in this process has a peak of its own.
        self.memory(anew=True)

    def _load(self, parts: Sequence[str]) -> Any:
        from .pipeline import load_pipeline

        return load_pipeline(
            self._folder,
            parts,
            device=self._device,
            dtype=self.settings.dtype,
            managed=self.settings.vram == "managed",
            vram_limit=self.settings.vram_limit_gb,
        )

    def _compiled_blocks(self, cache: Path) -> CompiledBlocks | None:
        from .compiled import CompiledBlocks

        if not self.settings.compile:
            return None
        folder = cache / "kernels"
        tokens = self._prompt_tokens
        return CompiledBlocks(self._pipe, self.settings, self._surroundings, tokens, folder)

    @contextlib.contextmanager
    def _open_text_encoder(self) -> Iterator[Callable[[str], Any]]:
        from .denoise import encode_prompt

        if self._pipe is not None:
            # With `vram: managed` that makes room.
            self._pipe.load_models_to_device([])
        pipes = [self._load(["text_encoder"])]
        try:
            yield lambda text: encode_prompt(pipes[0], text)
        finally:
            # The caller still has what was yielded.
            pipes.clear()
            free_memory(self._device)

    def _kept(self, job: Job, scratch: Path) -> KeptLatents:
        from .kept_latents import KeptLatents

        belongs = {"job": job.fingerprint, "recipe": str(self.recipe), **self._surroundings}
        if (kernels := self.kernels(job)) is not None:
            belongs["kernels"] = kernels
        # Of a job without a fingerprint nobody can tell what is its own.
        every = self.settings.keep_latents_every if job.fingerprint else 0
        return KeptLatents(scratch, belongs, every)


def request_of(parameters: Mapping[str, Any], seed: int) -> Request:
    """What decides a video of a job's parameters, apart from prompts, reference and model."""
    from .denoise import Request

    wanted = WanGeneration.from_parameters(parameters)
    return Request(
        seed=seed,
        width=wanted.width,
        height=wanted.height,
        num_frames=wanted.num_frames,
        num_inference_steps=wanted.num_inference_steps,
        cfg_scale=wanted.cfg_scale,
        denoising_strength=wanted.denoising_strength,
        sigma_shift=wanted.sigma_shift,
    )


def texts_of(jobs: Iterable[Job]) -> Iterator[str]:
    """The texts that jobs need embedded: each one's prompt and, where there is guidance, its
    negative prompt."""
    defaults = WanGeneration()
    for job in jobs:
        yield job.series.text(PROMPT.role)
        if job.parameters.get("cfg_scale", defaults.cfg_scale) != 1.0:
            yield job.parameters.get("negative_prompt", defaults.negative_prompt)


def free_memory(device: str) -> None:
    """Give back what models that are no longer used held on the device."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
