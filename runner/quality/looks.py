"""What a frame shows: the coloured things in it, told by saturation, hue and outline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..scenes.chance import random_scene
from ..scenes.render import render
from ..scenes.scene import Scene
from ..scenes.words import COLOURS, PERSON, SHAPES, Mention

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

SATURATED = 96
"""Difference of a pixel's largest and smallest channel that no background reaches."""
LEAST_SHARE = 0.0025
"""Of a frame's pixels, for a thing to be seen."""
WIDTH, HEIGHT = 128, 80

_HUES = {
    name: float(cv2.cvtColor(np.array([[rgb]], np.uint8), cv2.COLOR_RGB2HSV)[0, 0, 0])
    for name, rgb in COLOURS.items()
}


def colour_masks(frame: Frames) -> dict[str, npt.NDArray[np.bool_]]:
    """The saturated pixels nearest in hue to each colour; uint8 RGB frame in."""
    strong = frame.max(-1).astype(int) - frame.min(-1) >= SATURATED
    hue = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)[..., 0].astype(float)
    distance = np.stack(
        [np.minimum(np.abs(hue - own), 180 - np.abs(hue - own)) for own in _HUES.values()]
    )
    nearest = distance.argmin(0)
    return {name: strong & (nearest == number) for number, name in enumerate(_HUES)}


def outline(mask: npt.NDArray[np.bool_]) -> Floats | None:
    """Numbers that tell outlines apart whatever their size and turn; None where the mask's
    largest piece is too small or cut by the frame's edge."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h, area = (int(value) for value in stats[largest])
    height, width = mask.shape
    if area < LEAST_SHARE * mask.size or x == 0 or y == 0 or x + w == width or y + h == height:
        return None
    piece = (labels == largest).astype(np.uint8)
    contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    filled = np.zeros_like(piece)
    cv2.drawContours(filled, [contour], -1, 1, cv2.FILLED)
    whole = float(filled.sum())
    hull = np.zeros_like(piece)
    cv2.drawContours(hull, [cv2.convexHull(contour)], -1, 1, cv2.FILLED)
    (_, _), (across, along), _ = cv2.minAreaRect(contour)
    _, radius = cv2.minEnclosingCircle(contour)
    triangle, _ = cv2.minEnclosingTriangle(contour.astype(np.float32))
    around = cv2.arcLength(contour, True)
    return np.array(
        [
            1 - area / whole,
            whole / hull.sum(),
            whole / ((across + 1) * (along + 1)),
            whole / (np.pi * (radius + 0.5) ** 2),
            whole / max(triangle, 1.0),
            4 * np.pi * whole / (around + 1) ** 2,
        ]
    )


@dataclass(frozen=True)
class Outlines:
    """A linear discriminant of outlines, fitted to drawn clips.

    `means` is (shapes, features), `precision` the inverse of their shared covariance.
    """

    means: Floats
    precision: Floats

    def shape_of(self, outlines: Sequence[Floats]) -> str | None:
        """The likeliest shape of the same thing in several frames; None without a frame."""
        if not outlines:
            return None
        away = np.stack(outlines)[:, None] - self.means
        # The median, so that a few odd frames decide nothing.
        distance = np.median(np.einsum("nsf,fg,nsg->ns", away, self.precision, away), 0)
        return list(SHAPES)[int(distance.argmin())]


def fit_outlines(clips: int = 160, seed: int = 11) -> Outlines:
    """Fit the discriminant to drawn clips of one thing, blurred a little or not."""
    random = np.random.default_rng(seed)
    found: dict[str, list[Floats]] = {name: [] for name in SHAPES}
    for scene, frames in drawn_clips("single_object", clips, random):
        thing = scene.things[0]
        for frame in frames:
            blurred = cv2.GaussianBlur(frame, (0, 0), random.uniform(0.3, 1.6))
            if (features := outline(colour_masks(np.asarray(blurred))[thing.colour])) is not None:
                found[thing.shape].append(features)
    means = np.stack([np.mean(rows, 0) for rows in found.values()])
    away = np.concatenate([np.stack(rows) - np.mean(rows, 0) for rows in found.values()])
    covariance = away.T @ away / len(away) + 1e-5 * np.eye(away.shape[1])
    return Outlines(means, np.linalg.inv(covariance))


def drawn_clips(
    category: str, count: int, random: np.random.Generator, *, held_out: bool = False
) -> Iterable[tuple[Scene, Frames]]:
    """Real clips of known content: five frames over two seconds."""
    accept = Scene.held_out if held_out else Scene.seen
    for _ in range(count):
        scene = random_scene(random, category, accept=accept)
        yield scene, render([scene], width=WIDTH, height=HEIGHT, num_frames=5, fps=2.5)[0]


@dataclass(frozen=True)
class Judged:
    """Whether one thing that a prompt speaks of is there in its colour, and in its shape.

    `shape` is None where the shape cannot be judged: a person, or no frame shows it whole.
    """

    mention: Mention
    colour: bool
    shape: bool | None


def judge(frames: Frames, mentions: Sequence[Mention], outlines: Outlines) -> list[Judged]:
    """Judge each thing of a prompt by the frames of its video.

    Its colour is right where it is among the strongest colours of the video, as many as the
    prompt speaks of.
    """
    masks = [colour_masks(frame) for frame in frames]
    total = {name: sum(int(mask[name].sum()) for mask in masks) for name in COLOURS}
    wanted = len({mention.colour for mention in mentions})
    strongest = sorted(total, key=lambda name: -total[name])[:wanted]
    least = LEAST_SHARE * frames[..., 0].size
    judged = []
    for mention in mentions:
        colour = mention.colour in strongest and total[mention.colour] >= least
        shape: bool | None = None
        if mention.shape != PERSON:
            # In the colour that it has, so that a wrong colour is one mistake and not two.
            name = mention.colour if colour else strongest[0]
            seen = [features for mask in masks if (features := outline(mask[name])) is not None]
            found = outlines.shape_of(seen)
            shape = None if found is None else found == mention.shape
        judged.append(Judged(mention, colour, shape))
    return judged


def share(values: Iterable[bool | None]) -> float | None:
    """The share of those that are true, of those that could be judged."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def validate(outlines: Outlines, clips: int = 60, seed: int = 12) -> dict[str, Any]:
    """How often real clips of held-out combinations are judged right."""
    random = np.random.default_rng(seed)
    judged = []
    for scene, frames in drawn_clips("single_object", clips, random, held_out=True):
        thing = scene.things[0]
        judged += judge(frames, [Mention(thing.colour, thing.shape)], outlines)
    return {
        "clips": clips,
        "colour": share(one.colour for one in judged),
        "shape": share(one.shape for one in judged),
    }
