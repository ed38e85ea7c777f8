"""What a sweep of Wan is and takes, by the headers of a checkpoint's files."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...job.shape import Shape
from ...machine.gpus import compute_capability
from ...machine.machine_file import read_machine
from ...text.errors import UserError
from .. import READING_CHANGE, Examined, PeakMemory, Planner
from ..settings import deciding_settings
from ..video_parameters import AXES, shape_of
from . import tiny
from .attention import require_kernel
from .checkpoint import Checkpoint
from .finding import find_checkpoint
from .judgement import JudgedCheckpoint, judge, refuse, require
from .memory import WeightCounts, denoising_flops, peak_memory, weights_of
from .settings import WanGeneration, WanSettings

if TYPE_CHECKING:
    from .engine import WanEngine

FP8_CAPABILITY = (8, 9)
COMPILERS = ("g++", "clang++", "gcc", "clang", "cc")
"""What torch.compile builds its programs with."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class WanPlanner(Planner[WanSettings, WanGeneration]):
    """Wan 2.1 text-to-video weights, denoising each job's noised reference."""

    settings_type = WanSettings
    generation_type = WanGeneration
    axes = AXES
    recipe = 3
    recipe_change = READING_CHANGE
    imports = ("torch", "diffsynth")
    prompt_tokens = 512

    def __init__(self, settings: WanSettings, root: Path) -> None:
        super().__init__(settings, root)
        self._machine = read_machine(root)

    def identity(self) -> dict[str, Any]:
        """The weights by digest or given name, and the settings that change pixels."""
        return {
            "weights": self._weights_identity(),
            **deciding_settings(self.settings),
        }

    def steps_are_alike(self) -> bool:
        """Which steps TeaCache leaves out depends on how many there are."""
        return self.settings.tea_cache is None

    def model_files(self) -> list[dict[str, Any]]:
        """Every file of the checkpoint folder that is loaded."""
        if not self.folder.folder.is_dir() or self.folder.missing():
            return []
        return self.folder.contents()

    def examine(self) -> Examined:
        tokenizer = self.folder.tokenizer / "tokenizer.json"
        return Examined(
            what=None if self._judged.wrong else self._judged.what,
            files=tuple(self._judged.states),
            tokenizer=tokenizer if tokenizer.is_file() else None,
        )

    def full_size(self) -> bool:
        """Whether the checkpoint is too large to be of use on a CPU."""
        return self.folder.full_size()

    def peak_memory(self, generation: WanGeneration) -> PeakMemory | None:
        """All models and one pass, or, managed, the largest model and one pass."""
        if self._is_tiny:
            return None
        return peak_memory(
            self._weights,
            generation,
            number_bytes=4 if self.settings.dtype == "float32" else 2,
            managed=self.settings.vram == "managed",
            limit=self.settings.vram_limit_gb,
            fp8=self.settings.fp8,
        )

    def flops(self, generation: WanGeneration) -> float | None:
        """Of the denoising alone, which takes nearly all of the time."""
        if self._is_tiny:
            return None
        return denoising_flops(self._weights, generation)

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
        self._require("put the files there, or set model.checkpoint")
        if device == "cpu" and not explicit and self.full_size():
            raise UserError(
                f"model.checkpoint: {self.folder.folder} is full-size and no GPU is here; set "
                "`placement.device: cpu` to run it on the CPU all the same"
            )

    def shape(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> Shape:
        return shape_of(parameters)

    def engine(self) -> WanEngine:
        from .engine import WanEngine

        return WanEngine(self)

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

    def _require(self, remedy: str) -> None:
        require(self._judged, self.folder.folder, remedy)

    @cached_property
    def _judged(self) -> JudgedCheckpoint:
        """The headers of a large checkpoint may lie on a slow disk: they are read once."""
        return judge(self.folder)

    @cached_property
    def _weights(self) -> WeightCounts:
        return weights_of(self.folder)

    @property
    def _is_tiny(self) -> bool:
        return self.settings.checkpoint == "tiny"

    @cached_property
    def folder(self) -> Checkpoint:
        """Where the checkpoint is, or would be."""
        if self._is_tiny:
            return tiny.tiny_checkpoint()
        folders = map(self._machine.path, self._machine.checkpoints)
        return Checkpoint(find_checkpoint(self.root, self.settings.checkpoint, folders))

    def _weights_identity(self) -> str:
        given = self.settings.identity
        if given and (not _DIGEST.fullmatch(given) or self.folder.missing()):
            # It vouches for weights, and not for another kind of model in their place.
            refuse(self._judged, self.folder.folder)
            return given
        self._require(
            "copy them here, or set model.identity to what `python -m runner.backends.wan FOLDER` "
            "prints on a machine that has them",
        )
        found = self.folder.digest()
        if given and given != found:
            raise UserError(
                f"model.identity: {given} is not the identity of {self.folder.folder}, which is "
                f"{found}; correct one of model.identity and model.checkpoint"
            )
        return found
