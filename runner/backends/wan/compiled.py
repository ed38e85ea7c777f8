"""A loaded model's blocks under torch.compile: for each shape of video, which kernels they are."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ...text.canonical import sha256_of
from . import inductor
from .denoise import Request
from .kernel_choices import Choices, Config, KernelChoices
from .settings import WanSettings
from .warm_up import warm_up

logger = logging.getLogger("sweep.wan")

LatentShape = tuple[int, int, int]


class CompiledBlocks:
    """What a pipe's blocks are compiled to, the same in every worker on the same kind of GPU.

    Args:
        pipe: its DiT's blocks compile at their first call with a new shape.
        settings: the experiment's.
        surroundings: device and versions.
        text_tokens: the length of a prompt's embedding.
        folder: where choices are kept; shared by all workers of a sweep.
    """

    def __init__(
        self,
        pipe: Any,
        settings: WanSettings,
        surroundings: Mapping[str, str],
        text_tokens: int,
        folder: Path,
    ) -> None:
        self._pipe = pipe
        self._text_tokens = text_tokens
        self._facts = {
            **surroundings,
            **_more_versions(),
            **_device_facts(pipe),
            "model": _sizes(pipe.dit),
            "text_tokens": text_tokens,
            "settings": {
                "compile": settings.compile,
                "fp8": settings.fp8,
                "attention": settings.attention,
                "dtype": settings.dtype,
            },
        }
        self._choices = KernelChoices(folder)
        self._made: dict[LatentShape, tuple[Path, Choices]] = {}

    def make_ready(self, request: Request, latents: Any) -> None:
        """Compile the blocks for a shape, unless that is done.

        Args:
            request: gives the shape.
            latents: of a reference of that shape.
        """
        shape = _shape_of(request)
        if shape in self._made:
            return
        facts = {**self._facts, "shape": list(shape)}

        def make(configs: Mapping[str, Config]) -> Choices:
            self._folder = inductor.begin(sha256_of(facts), configs)
            warm_up(self._pipe, request, latents, self._text_tokens)
            return inductor.chosen_in(self._folder)

        made = self._choices.settle(facts, make)
        self._made[shape] = (self._folder, made)

    def hash_of(self, request: Request) -> str:
        """Of the kernels that a shape's videos are made with; `make_ready` came before."""
        return self._made[_shape_of(request)][1].hash

    def look_again(self, request: Request) -> None:
        """Note what was compiled since: for inputs that a first pass did not have."""
        shape = _shape_of(request)
        folder, made = self._made[shape]
        now = inductor.chosen_in(folder)
        if now.hash != made.hash:
            logger.warning(
                "kernels were compiled in the middle of a video (%s): its last bits may be "
                "another worker's or not",
                made.difference(now),
            )
            self._made[shape] = (folder, now)


def _shape_of(request: Request) -> LatentShape:
    return request.width, request.height, request.num_frames


def _more_versions() -> dict[str, str]:
    import torch

    found = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}
    for package in ("triton", "pytorch-triton"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _device_facts(pipe: Any) -> dict[str, Any]:
    import torch

    if pipe.device_type != "cuda":
        # Sums are split among threads.
        return {"threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(torch.device(pipe.device))
    return {
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
    }


def _sizes(dit: Any) -> dict[str, Any]:
    feed = dit.blocks[0].sizes()
    return {"width": dit.dim, "layers": len(dit.blocks), **feed}
