"""The `wan` backend: video-to-video with Wan 2.1 through diffsynth, one model in each worker."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...axes import PROMPT
from ...errors import UserError
from ...gpus import compute_capability
from ...job import Job, Series
from ...machine_file import read_machine
from ...reading import own_parameters
from .. import (
    READING_CHANGE,
    Backend,
    FileState,
    Generation,
    Interrupted,
    Machine,
    OnStep,
    PeakMemory,
)
from ..model_file import content_of
from . import tiny
from .attention import chosen, require_kernel
from .checkpoint import Checkpoint
from .finding import find_checkpoint
from .judgement import examine, refuse, require
from .memory import denoising_flops, peak_memory, weights_of
from .settings import WanGeneration, WanSettings

if TYPE_CHECKING:
    from .compiled import CompiledBlocks
    from .denoise import Request
    from .embeddings import PromptEmbeddings
    from .kept_latents import KeptLatents
    from .references import References

logger = logging.getLogger("sweep.wan")

FP8_CAPABILITY = (8, 9)
COMPILERS = ("g++", "clang++", "gcc", "clang", "cc")
"""What torch.compile builds its programs with."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pending:
    """A video to be encoded: uint8 frames (num_frames, height, width, 3) in host memory."""

    frames: Any
    fps: float


class WanBackend(Backend[WanSettings]):
    """Wan 2.1 text-to-video weights, denoising each job's noised reference."""

    settings_type = WanSettings
    generation_type = WanGeneration
    recipe = 3
    recipe_change = READING_CHANGE
    imports = ("torch", "diffsynth")
    prompt_tokens = 512

    def __init__(self, settings: WanSettings, root: Path) -> None:
        super().__init__(settings, root)
        self._machine = read_machine(root)
        self._pipe: Any = None
        self._prompts: PromptEmbeddings | None = None
        self._references: References | None = None
        self._reference: Any = None
        self._compiled: CompiledBlocks | None = None
        self._surroundings: dict[str, str] = {}
        self._tiled = settings.vae_tiling == "on"
        self._device = ""

    def identity(self) -> dict[str, Any]:
        """The weights by digest or given name, and the settings that change pixels."""
        return {
            "weights": self._weights_identity(),
            "dtype": self.settings.dtype,
            "vae_tiling": self.settings.vae_tiling,
            **self.settings.speed(),
        }

    def steps_are_alike(self) -> bool:
        """Which steps TeaCache leaves out depends on how many there are."""
        return self.settings.tea_cache is None

    def model_files(self) -> list[dict[str, Any]]:
        """Every file of the checkpoint folder that is loaded."""
        if not self._folder.folder.is_dir() or self._folder.missing():
            return []
        return self._folder.contents()

    def look_at_files(self) -> list[FileState]:
        return examine(self._folder).states

    def model_is(self) -> str | None:
        found = examine(self._folder)
        return None if found.wrong else found.what

    def tokenizer_file(self) -> Path | None:
        file = self._folder.tokenizer / "tokenizer.json"
        return file if file.is_file() else None

    def full_size(self) -> bool:
        """Whether the checkpoint is too large to be of use on a CPU."""
        return self._folder.full_size()

    def peak_memory(self, generation: Generation) -> PeakMemory | None:
        """All models and one pass, or, managed, the largest model and one pass."""
        if self._is_tiny:
            return None
        return peak_memory(
            weights_of(self._folder),
            generation,
            number_bytes=4 if self.settings.dtype == "float32" else 2,
            managed=self.settings.vram == "managed",
            limit=self.settings.vram_limit_gb,
            fp8=self.settings.fp8,
        )

    def flops(self, generation: Generation) -> float | None:
        """Of the denoising alone, which takes nearly all of the time."""
        if self._is_tiny:
            return None
        return denoising_flops(weights_of(self._folder), generation)

    def check_launch(self, device: str, *, explicit: bool) -> None:
        """Raise `UserError` where files or packages are missing, or where a full-size
        checkpoint would run on a CPU that was not asked for (`explicit`)."""
        absent = [name for name in self.imports if importlib.util.find_spec(name) is None]
        if absent:
            raise UserError(
                f"backend wan: not installed: {', '.join(absent)}; run `make setup`, "
                "or pip install 'sweep-runner[wan]'"
            )
        self._require_speed(device)
        require(self._folder, "put the files there, or set model.checkpoint")
        if device == "cpu" and not explicit and self.full_size():
            raise UserError(
                f"model.checkpoint: {self._folder.folder} is full-size and no GPU is here; set "
                "`placement.device: cpu` to run it on the CPU all the same"
            )

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

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> Pending:
        latents = self.latents(job, scratch, on_step)
        # Here and not in `finish`: beside the next job's denoising, the decoding's many small
        # transfers each wait for a whole step, and it lasts as long as that job.
        return Pending(self.decoded(latents), job.shape.fps)

    def decoded(self, latents: Any) -> Any:
        """The frames of finished latents, uint8 (num_frames, height, width, 3)."""
        from .denoise import decode

        return decode(self._pipe, latents, tiled=self._tiled)

    def latents(self, job: Job, scratch: Path, on_step: OnStep) -> Any:
        """The job's finished latents, (1, 16, frames, height, width) in latent pixels; of the
        prepared group. The rest is as in `generate`."""
        from .denoise import Prompts, denoise

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
                    Prompts(positive, *(negative or [positive])),
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

    def finish(self, pending: Pending, path: Path, quality: float) -> None:
        from ...video import write_video
        from .denoise import stage

        with stage("write"):
            write_video(path, pending.frames, fps=pending.fps, quality=quality)

    def peak_gpu_memory_gib(self) -> float | None:
        """Peak of the memory that this process held on its GPU, used or kept for reuse."""
        if self._device != "cuda":
            return None
        import torch

        peak: float = torch.cuda.max_memory_reserved() / 1024**3
        torch.cuda.reset_peak_memory_stats()
        return peak

    def gpu_memory_gib(self) -> float | None:
        if self._device != "cuda":
            return None
        import torch

        held: float = torch.cuda.memory_reserved() / 1024**3
        return held

    def close(self) -> None:
        if self._references is not None:
            self._references.close()
        self._pipe = self._reference = self._references = self._prompts = None
        self._compiled = None
        free_memory(self._device)

    def _require_speed(self, device: str) -> None:
        """Raise `UserError` where this machine cannot do what the settings for speed ask for."""
        has = compute_capability() if device == "cuda" else None
        require_kernel(self.settings.attention, device, has)
        if self.settings.fp8 and has is not None and has < FP8_CAPABILITY:
            raise UserError(
                "model.fp8: needs a GPU of compute capability 8.9 (Ada, Hopper or later), this "
                f"one has {has[0]}.{has[1]}; set model.fp8: false"
            )
        if self.settings.compile and not any(map(shutil.which, COMPILERS)):
            raise UserError(
                f"model.compile: needs one of {', '.join(COMPILERS)} to build with, and none is "
                "installed; install one, or set model.compile: false"
            )

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
        tokens = self.prompt_tokens
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

    @property
    def _is_tiny(self) -> bool:
        return self.settings.checkpoint == "tiny"

    @property
    def _folder(self) -> Checkpoint:
        if self._is_tiny:
            return tiny.tiny_checkpoint()
        folders = map(self._machine.path, self._machine.checkpoints)
        return Checkpoint(find_checkpoint(self.root, self.settings.checkpoint, folders))

    def _weights_identity(self) -> str:
        given = self.settings.identity
        if given and (not _DIGEST.fullmatch(given) or self._folder.missing()):
            # It vouches for weights, and not for another kind of model in their place.
            refuse(examine(self._folder), self._folder.folder)
            return given
        require(
            self._folder,
            "copy them here, or set model.identity to what `python -m runner.backends.wan FOLDER` "
            "prints on a machine that has them",
        )
        found = self._folder.digest()
        if given and given != found:
            raise UserError(
                f"model.identity: {given} is not the identity of {self._folder.folder}, which is "
                f"{found}; correct one of model.identity and model.checkpoint"
            )
        return found


def request_of(parameters: Mapping[str, Any], seed: int) -> Request:
    """What decides a video of a job's parameters, apart from prompts, reference and model."""
    from .denoise import Request

    wanted = WanGeneration.model_validate(own_parameters(parameters))
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


BACKEND = WanBackend
