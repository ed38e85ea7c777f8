"""Size, frame count and frame rate that every clip of a data set can serve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..job.shape import Shape
from ..video import VideoInfo, frames_available

LOG_RATIO_TOLERANCE = 0.06
"""Two shapes are alike where the logarithms of width/height differ by less: 832x480 and 16:9."""


@dataclass(frozen=True)
class ModelLimits:
    """What a model was made for: the sizes (width, height) in pixels that suit it, the first of
    which bounds the area of others, and the most frames and frames per second."""

    sizes: tuple[tuple[int, int], ...]
    num_frames: int
    fps: float


WAN = ModelLimits(((832, 480), (480, 832)), 81, 16)
"""https://github.com/Wan-Video/Wan2.1: 480p, 81 frames, 16 frames per second."""

TINY = ModelLimits(((128, 80), (80, 128)), 17, 8)
"""What the tiny checkpoint was trained on."""


@dataclass(frozen=True)
class ProposedShape:
    """A shape that all clips serve; `notes` say by its keys how it came about."""

    shape: Shape
    notes: Mapping[str, str]


def propose_shape(clips: Mapping[str, VideoInfo], limits: ModelLimits) -> ProposedShape:
    """The largest shape within the limits that takes nothing from a clip that it does not have:
    no clip is scaled up, shown faster than it is, or drawn out.

    The frame rate is the slowest clip's, or that divided by a whole number; width and height are
    multiples of 16, the frame count is 4n+1, as Wan needs them.

    Args:
        clips: at least one, by the name that a note may call it.
    """
    width, height, size_note = propose_size(clips, limits)
    fps, frames, frame_note = propose_frames(clips, limits)
    rates = Counter(round(info.fps, 3) for info in clips.values())
    rate_note = f"frames per second; the clips have {listing(rates)}"
    notes = {"width": size_note, "height": "pixels", "num_frames": frame_note, "fps": rate_note}
    return ProposedShape(Shape(width, height, frames, fps), notes)


def propose_size(clips: Mapping[str, VideoInfo], limits: ModelLimits) -> tuple[int, int, str]:
    sizes = Counter((info.width, info.height) for info in clips.values())
    common, alike = sizes.most_common(1)[0]
    narrowest = min(info.width for info in clips.values())
    lowest = min(info.height for info in clips.values())
    others = len(clips) - alike
    note = f"pixels; {alike} of {len(clips)} clips have {common[0]}x{common[1]}"
    if others:
        note += ", the others are scaled to cover and cropped around the middle"
    for width, height in limits.sizes:
        like = abs(math.log(width / height * common[1] / common[0])) < LOG_RATIO_TOLERANCE
        if like and width <= narrowest and height <= lowest:
            return width, height, note
    area = limits.sizes[0][0] * limits.sizes[0][1]
    within = math.sqrt(area / (common[0] * common[1]))
    scale = min(1.0, narrowest / common[0], lowest / common[1], within)
    return of_16(common[0] * scale), of_16(common[1] * scale), note


def propose_frames(clips: Mapping[str, VideoInfo], limits: ModelLimits) -> tuple[float, int, str]:
    slowest = min(info.fps for info in clips.values())
    most = max(1, math.ceil(slowest / limits.fps - 1e-3))
    for divisor in range(most, 0, -1):
        fps = tidy(slowest / divisor)
        available = {name: frames_available(info, fps) for name, info in clips.items()}
        shortest = min(available, key=lambda name: available[name])
        if available[shortest] >= limits.num_frames:
            return fps, limits.num_frames, "4n+1; every clip is long enough"
    frames = four_n_plus_1(available[shortest])
    short = sum(count < limits.num_frames for count in available.values())
    note = (
        f"4n+1; {shortest} has {available[shortest]} at this rate; {limits.num_frames} would "
        f"leave out {short} of {len(clips)} clips (--skip-invalid)"
    )
    return fps, frames, note


def four_n_plus_1(frames: int) -> int:
    """The largest 4n+1 that is no more."""
    return max(1, (frames - 1) // 4 * 4 + 1)


def of_16(pixels: float) -> int:
    """The largest multiple of 16 that is no more, and at least one."""
    return max(16, int(pixels + 1e-6) // 16 * 16)


def tidy(fps: float) -> float:
    """A rate as a person writes it."""
    rounded = round(fps, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def listing(counts: Mapping[float, int]) -> str:
    """`15, 30 (3 clips)`: values by how often they are there, the most common plain."""
    ordered = sorted(counts, key=lambda value: -counts[value])[:4]
    first, *rest = ordered
    words = [f"{first:g}", *(f"{value:g} ({counts[value]})" for value in rest)]
    return ", ".join(words) + (", ..." if len(counts) > len(ordered) else "")
