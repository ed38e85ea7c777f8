"""What a frame shows: the coloured things in it, told by saturation, hue and outline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from ..scenes.chance import random_scene
from ..scenes.render import render
from ..scenes.scene import Scene
from ..scenes.words import COLOURS, LEAST_SATURATION, PERSON, THING_SHAPES, Mention

if TYPE_CHECKING:
    from ..video import Frames

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LEAST_SHARE_OF_FRAME = 0.0025
"""Of a frame's pixels, for a thing to be seen."""
WIDTH, HEIGHT = 128, 80

_HUES = {
    name: float(cv2.cvtColor(np.array([[rgb]], np.uint8), cv2.COLOR_RGB2HSV)[0, 0, 0])
    for name, rgb in COLOURS.items()
}


def colour_masks(frame: Frames) -> dict[str, Mask]:
    """The saturated pixels nearest in hue to each colour; uint8 RGB frame in."""
    strong = frame.max(-1).astype(int) - frame.min(-1) >= LEAST_SATURATION
    hue = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)[..., 0].astype(float)
    distance = np.stack(
        [np.minimum(np.abs(hue - own), 180 - np.abs(hue - own)) for own in _HUES.values()]
    )
    nearest = distance.argmin(0)
    return {name: strong & (nearest == number) for number, name in enumerate(_HUES)}


def piece_of(masks: dict[str, Mask], colour: str) -> Mask | None:
    """The largest saturated piece of which most is of that colour; None without one.

    The whole piece, so that a tinge of another hue at its rim does not change its outline.
    """
    strong = np.any(list(masks.values()), axis=0)
    count, labels = cv2.connectedComponents(strong.astype(np.uint8))
    areas = np.bincount(labels.ravel(), minlength=count)
    own = np.bincount(labels[masks[colour]], minlength=count)
    fitting = [number for number in range(1, count) if 2 * own[number] > areas[number]]
    if not fitting:
        return None
    return np.asarray(labels == max(fitting, key=lambda number: areas[number]))


def outline(piece: Mask | None) -> Doubles | None:
    """Numbers that tell outlines apart whatever their size and turn; None for no piece, and for
    one that is too small or cut by the frame's edge."""
    if piece is None:
        return None
    edges = (piece[0], piece[-1], piece[:, 0], piece[:, -1])
    if piece.sum() < LEAST_SHARE_OF_FRAME * piece.size or any(edge.any() for edge in edges):
        return None
    area, shown = float(piece.sum()), piece.astype(np.uint8)
    contours, _ = cv2.findContours(shown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    filled = np.zeros_like(shown)
    cv2.drawContours(filled, [contour], -1, 1, cv2.FILLED)
    whole = float(filled.sum())
    hull = np.zeros_like(shown)
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
    """A quadratic discriminant of outlines, fitted to drawn clips.

    Of each shape: `means` (shapes, features), `precisions`, the inverses of the covariances, and
    `volumes`, the logarithms of their determinants. A covariance for each shape, since balls are
    all alike and dented stars are not.
    """

    means: Doubles
    precisions: Doubles
    volumes: Doubles

    def shape_of(self, outlines: Sequence[Doubles]) -> str | None:
        """The likeliest shape of the same thing in several frames; None without a frame."""
        if not outlines:
            return None
        away = np.stack(outlines)[:, None] - self.means
        distance = np.einsum("nsf,sfg,nsg->ns", away, self.precisions, away) + self.volumes
        # The median, so that a few odd frames decide nothing.
        return list(THING_SHAPES)[int(np.median(distance, 0).argmin())]


def fit_outlines(clips: int = 160, seed: int = 11) -> Outlines:
    """Fit the discriminant to drawn clips of one and of two things, as they are and dented.

    What a model makes of a shape is seldom as clean as its drawing. Half of the frames are bent
    smoothly and blurred, so that a dent tells less than what makes a shape.
    """
    random = np.random.default_rng(seed)
    found: dict[str, list[Doubles]] = {name: [] for name in THING_SHAPES}
    for category in ("single_object", "multiple_objects"):
        for scene, frames in drawn_clips(category, clips // 2, random):
            for number, frame in enumerate(frames):
                masks = colour_masks(dented(frame, random) if number % 2 else frame)
                for thing in scene.things:
                    if (features := outline(piece_of(masks, thing.colour))) is not None:
                        found[thing.shape].append(features)
    rows = [np.stack(features) for features in found.values()]
    covariances = [np.cov(some.T) + 1e-4 * np.eye(some.shape[1]) for some in rows]
    return Outlines(
        np.stack([some.mean(0) for some in rows]),
        np.stack([np.linalg.inv(covariance) for covariance in covariances]),
        np.array([np.linalg.slogdet(covariance)[1] for covariance in covariances]),
    )


def dented(frame: Frames, random: np.random.Generator) -> Frames:
    """The frame bent by up to about three pixels in waves of ten or more, and blurred."""
    height, width = frame.shape[:2]
    bent = random.normal(size=(2, height, width)).astype(np.float32)
    wave, depth = random.uniform(4, 7), random.uniform(0.5, 2.2)
    smooth = [cv2.GaussianBlur(part, (0, 0), wave) for part in bent]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = (part * (depth / part.std()) for part in smooth)
    moved = cv2.remap(
        frame, columns + dx, rows + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(cv2.GaussianBlur(moved, (0, 0), random.uniform(0.3, 2.0)), np.uint8)


def drawn_clips(
    category: str, count: int, random: np.random.Generator, *, held_out: bool = False
) -> Iterable[tuple[Scene, Frames]]:
    """Real clips of known content: five frames over two seconds."""
    accept = Scene.held_out if held_out else Scene.seen
    for _ in range(count):
        scene = random_scene(random, category, accept=accept)
        yield scene, render([scene], width=WIDTH, height=HEIGHT, num_frames=5, fps=2.5)[0]


@dataclass(frozen=True)
class JudgedMention:
    """Whether one thing that a prompt speaks of is there in its colour, and in its shape.

    `shape` is None where the shape cannot be judged: a person, or no frame shows it whole.
    """

    mention: Mention
    colour: bool
    shape: bool | None


def judge(frames: Frames, mentions: Sequence[Mention], outlines: Outlines) -> list[JudgedMention]:
    """Judge each thing of a prompt by the frames of its video.

    Its colour is right where it is among the strongest colours of the video, as many as the
    prompt speaks of.
    """
    masks = [colour_masks(frame) for frame in frames]
    total = {name: sum(int(mask[name].sum()) for mask in masks) for name in COLOURS}
    wanted = len({mention.colour for mention in mentions})
    strongest = sorted(total, key=lambda name: -total[name])[:wanted]
    least = LEAST_SHARE_OF_FRAME * frames[..., 0].size
    judged = []
    for mention in mentions:
        colour = mention.colour in strongest and total[mention.colour] >= least
        shape: bool | None = None
        if mention.shape != PERSON:
            # In the colour that it has, so that a wrong colour is one mistake and not two.
            name = mention.colour if colour else strongest[0]
            seen = [
                features
                for mask in masks
                if (features := outline(piece_of(mask, name))) is not None
            ]
            found = outlines.shape_of(seen)
            shape = None if found is None else found == mention.shape
        judged.append(JudgedMention(mention, colour, shape))
    return judged


def share(values: Iterable[bool | None]) -> float | None:
    """The share of those that are true, of those that could be judged."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def validate(outlines: Outlines, clips: int = 60, seed: int = 12) -> dict[str, Any]:
    """How often real clips of held-out combinations are judged right, as they are and dented."""
    random = np.random.default_rng(seed)
    clean, bent = [], []
    for category in ("single_object", "multiple_objects"):
        for scene, frames in drawn_clips(category, clips // 2, random, held_out=True):
            mentioned = [Mention(thing.colour, thing.shape) for thing in scene.things]
            clean += judge(frames, mentioned, outlines)
            worse = np.stack([dented(frame, random) for frame in frames])
            bent += judge(worse, mentioned, outlines)
    return {
        "clips": clips,
        "colour": share(one.colour for one in clean),
        "shape": share(one.shape for one in clean),
        "dented_shape": share(one.shape for one in bent),
    }
