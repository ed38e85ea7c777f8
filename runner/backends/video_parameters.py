"""The parameters that our own backends have in common: a video's shape and how it is denoised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ..job.axes import PROMPT, VIDEO, Axes
from ..job.shape import Shape
from .section import Generation

AXES = Axes((VIDEO, PROMPT))
"""Of a backend that denoises a reference clip as a prompt says."""


class VideoGeneration(Generation):
    """The `generation` section of a backend that denoises a reference clip."""

    width: int = Field(832, gt=0, multiple_of=2, description="pixels")
    height: int = Field(480, gt=0, multiple_of=2, description="pixels")
    num_frames: int = Field(81, gt=0, description="of the video, and read of its reference")
    fps: float = Field(15, ge=0.01, le=240, description="frames per second of video and reference")
    num_inference_steps: int = Field(50, gt=0, description="denoising steps")
    cfg_scale: float = Field(5.0, description="classifier-free guidance")
    denoising_strength: float = Field(
        0.8, gt=0, le=1, description="1 ignores the reference, less follows it more closely"
    )
    negative_prompt: str = Field("", description="what guidance leads away from")


STEPS = "num_inference_steps"
"""The parameter by which a video's time goes."""


def steps_of(parameters: Mapping[str, Any]) -> int:
    """Denoising steps of a video; 1 where its backend counts none of these."""
    steps: int = parameters.get(STEPS, 1)
    return steps


def is_guided(parameters: Mapping[str, Any]) -> bool:
    """Whether each denoising step has two passes, with the prompt and without."""
    return bool(parameters.get("cfg_scale", 1.0) != 1.0)


def shape_of(parameters: Mapping[str, Any]) -> Shape:
    """The shape that parameters say."""
    return Shape(
        width=parameters["width"],
        height=parameters["height"],
        num_frames=parameters["num_frames"],
        fps=parameters["fps"],
    )
