"""The `model` and `generation` sections of a Wan experiment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ..section import Loss, Section, key
from ..video_parameters import VideoGeneration
from .attention import Kernel


class WanSettings(Section):
    """The `model` section of a Wan experiment."""

    checkpoint: str = key(
        "tiny",
        description="a folder in the published layout, relative to the project root, or tiny: "
        "a small trained model that ships with the package",
        loss=Loss.ANOTHER_MODEL,
    )
    identity: str | None = key(
        None,
        min_length=1,
        description="stands for the weights where their files are absent: the digest that "
        "`python -m runner.backends.wan FOLDER` prints, checked where the files are there, or "
        "a name, which is trusted",
        loss=Loss.EXACT,
    )
    dtype: Literal["bfloat16", "float32"] = key(
        "bfloat16", description="of weights and arithmetic", loss=Loss.SAME_ACCURACY
    )
    vram: Literal["resident", "managed"] = key(
        "resident",
        description="resident keeps all models on the GPU; managed keeps only the one at work",
        loss=Loss.EXACT,
    )
    vram_limit_gb: float | None = key(
        None,
        gt=0,
        description="GiB in use on the whole GPU above which managed layers stay in host memory",
        loss=Loss.EXACT,
    )
    vae_tiling: Literal["on", "off"] = key(
        "on",
        description="encode and decode in overlapping tiles: less memory, other pixels",
        loss=Loss.APPROXIMATE,
    )
    compile: bool = key(
        False,
        description="run the blocks under torch.compile: faster, with other last bits",
        loss=Loss.SAME_ACCURACY,
        later=True,
    )
    attention: Kernel = key(
        "torch",
        description="the attention kernel: torch leaves the choice to torch, cudnn and flash are "
        "torch's own, flash_attention_4 comes with the extra `fast`; each has other last bits",
        loss=Loss.SAME_ACCURACY,
        later=True,
    )
    fp8: bool = key(
        False,
        description="multiply eight-bit floats in the blocks' linear layers: faster, half the "
        "memory, and another output",
        loss=Loss.APPROXIMATE,
        later=True,
    )
    tea_cache: float | None = key(
        None,
        gt=0,
        description="leave steps out up to such a change (0.05 to 0.3): faster, and another output",
        loss=Loss.APPROXIMATE,
        later=True,
    )
    keep_latents_every: int = key(
        5,
        ge=0,
        description="steps after which a video's latents are written to disk, to go on from "
        "after a kill; 0 never; no pixel depends on it",
        loss=Loss.EXACT,
    )

    @field_validator("vae_tiling", mode="before")
    @classmethod
    def _yaml_switch(cls, value: object) -> object:
        # YAML 1.1 reads a bare on or off as a boolean.
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _fit_together(self) -> WanSettings:
        if self.vram_limit_gb is not None and self.vram != "managed":
            raise ValueError("vram_limit_gb has a meaning only with vram: managed")
        if self.vram == "managed" and (self.compile or self.fp8):
            raise ValueError("compile and fp8 need vram: resident, for managed layers move")
        if self.dtype == "float32" and (self.fp8 or self.attention != "torch"):
            raise ValueError("fp8 and attention kernels other than torch need dtype: bfloat16")
        return self


class WanGeneration(VideoGeneration):
    """The `generation` section of a Wan experiment."""

    sigma_shift: float = Field(
        5.0, gt=0, description="shifts the noise schedule: more steps at high noise above 1"
    )

    @field_validator("num_frames")
    @classmethod
    def _whole_latent_frames(cls, value: int) -> int:
        # The VAE turns the first frame into one latent frame and every four more into another.
        if value % 4 != 1:
            below = max(1, (value - 1) // 4 * 4 + 1)
            raise ValueError(
                f"must be 4n+1 (5, 9, ..., 81); nearest to {value} are {below} and {below + 4}"
            )
        return value

    @field_validator("width", "height")
    @classmethod
    def _whole_patches(cls, value: int) -> int:
        # 8 pixels to a latent pixel, 2 latent pixels to a token.
        if value % 16:
            below = value // 16 * 16
            nearest = f"{below} and {below + 16}" if below else "16"
            raise ValueError(f"must be divisible by 16; nearest to {value}: {nearest}")
        return value
