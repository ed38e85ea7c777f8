"""The `wan` backend: video-to-video with Wan 2.1 through diffsynth, one model in each worker."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...job import Job
from ...machine_file import read_machine
from .. import Backend, Generation, Group, Machine, OnStep, PeakMemory
from . import tiny
from .checkpoint import Checkpoint
from .finding import find_checkpoint
from .memory import denoising_flops, peak_memory, weights_of
from .settings import WanGeneration, WanSettings

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
    recipe = 1
    imports = ("torch", "diffsynth")

    def __init__(self, settings: WanSettings, root: Path) -> None:
        super().__init__(settings, root)
        self._machine = read_machine(root)
        self._pipe: Any = None
        self._reference: Any = None
        self._tiled = settings.vae_tiling == "on"
        self._cuda = False

    def identity(self) -> dict[str, Any]:
        """The weights by digest or given name, and the settings that change pixels."""
        return {
            "weights": self._weights_identity(),
            "dtype": self.settings.dtype,
            "vae_tiling": self.settings.vae_tiling,
        }

    def model_files(self) -> list[dict[str, Any]]:
        """Every file of the checkpoint folder that is loaded."""
        if not self._folder.folder.is_dir() or self._folder.missing():
            return []
        return self._folder.contents()

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
        self._folder.require("put the files there, or set model.checkpoint")
        if device == "cpu" and not explicit and self.full_size():
            raise UserError(
                f"model.checkpoint: {self._folder.folder} is full-size and no GPU is here; set "
                "`placement.device: cpu` to run it on the CPU all the same"
            )

    def load(self, machine: Machine) -> None:
        from .pipeline import load_pipeline

        self._cuda = machine.device == "cuda"
        self._pipe = load_pipeline(
            self._folder,
            device=machine.device,
            dtype=self.settings.dtype,
            managed=self.settings.vram == "managed",
            vram_limit=self.settings.vram_limit_gb,
        )

    def prepare(self, group: Group) -> None:
        from ...video import read_clip
        from .denoise import encode_reference

        wanted = WanGeneration.model_validate(group.parameters)
        frames = read_clip(
            group.reference,
            width=wanted.width,
            height=wanted.height,
            num_frames=wanted.num_frames,
            fps=wanted.fps,
        )
        self._reference = encode_reference(self._pipe, frames, tiled=self._tiled)

    def reconstruct(self, group: Group) -> Any:
        from .denoise import decode

        self.prepare(group)
        return decode(self._pipe, self._reference, tiled=self._tiled)

    def generate(self, job: Job, scratch: Path, on_step: OnStep) -> Pending:
        from .denoise import Request, decode, denoise

        wanted = WanGeneration.model_validate(job.parameters)
        request = Request(
            prompt=job.prompt_text,
            negative_prompt=wanted.negative_prompt,
            seed=job.seed,
            width=wanted.width,
            height=wanted.height,
            num_frames=wanted.num_frames,
            num_inference_steps=wanted.num_inference_steps,
            cfg_scale=wanted.cfg_scale,
            denoising_strength=wanted.denoising_strength,
            sigma_shift=wanted.sigma_shift,
        )
        latents = denoise(self._pipe, request, self._reference, on_step)
        # Here and not in `finish`: beside the next job's denoising, the decoding's many small
        # transfers each wait for a whole step, and it lasts as long as that job.
        return Pending(decode(self._pipe, latents, tiled=self._tiled), wanted.fps)

    def finish(self, pending: Pending, path: Path, quality: float) -> None:
        from ...video import write_video
        from .denoise import stage

        with stage("write"):
            write_video(path, pending.frames, fps=pending.fps, quality=quality)

    def peak_gpu_memory_gib(self) -> float | None:
        """Peak of the memory that this process held on its GPU, used or kept for reuse."""
        if not self._cuda:
            return None
        import torch

        peak: float = torch.cuda.max_memory_reserved() / 1024**3
        torch.cuda.reset_peak_memory_stats()
        return peak

    def gpu_memory_gib(self) -> float | None:
        if not self._cuda:
            return None
        import torch

        held: float = torch.cuda.memory_reserved() / 1024**3
        return held

    def close(self) -> None:
        self._pipe = self._reference = None
        if self._cuda:
            import gc

            import torch

            gc.collect()
            torch.cuda.empty_cache()

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
            return given
        self._folder.require(
            "copy them here, or set model.identity to what `python -m runner.backends.wan FOLDER` "
            "prints on a machine that has them"
        )
        found = self._folder.digest()
        if given and given != found:
            raise UserError(
                f"model.identity: {given} is not the identity of {self._folder.folder}, which is "
                f"{found}; correct one of model.identity and model.checkpoint"
            )
        return found


BACKEND = WanBackend
