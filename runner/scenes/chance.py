"""Scenes drawn from a random generator: what the tiny model is trained and judged on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .motion import track
from .scene import MOTION_SECONDS, WIDTH, Camera, Person, Scene, Thing
from .words import ACTIONS, BACKGROUNDS, CAMERAS, COLOURS, MOTIONS, THING_SHAPES

SCENERIES = 8
"""Sceneries that scenes are drawn with, of each background: a small model is to learn things and
their motions, and not countless hills."""


def random_scene(
    random: np.random.Generator,
    category: str,
    *,
    accept: Callable[[Scene], bool] = Scene.seen,
) -> Scene:
    """Draw a scene of a category, again until it is accepted: by default one to train on."""
    while True:
        scene = _DRAW[category](random)
        if accept(scene):
            return scene


def random_thing(
    random: np.random.Generator, colour: str, shape: str, motion: str, *, radius: float
) -> Thing:
    """A thing that shows its whole motion within the frame in `MOTION_SECONDS`."""
    ground = random.uniform(0.84, 0.94)
    x, y, speed, reach = random.uniform(0.35, WIDTH - 0.35), ground - radius, 0.0, 0.0
    if motion in ("roll_right", "roll_left", "fly_right", "fly_left"):
        speed = random.uniform(0.3, 0.52)
        room = WIDTH - 2 * radius - speed * MOTION_SECONDS
        x = radius + room * random.uniform(0.05, 0.95)
        if motion.endswith("left"):
            x, speed = WIDTH - x, -speed
        if motion.startswith("fly"):
            y = random.uniform(radius + 0.06, 0.5)
    elif motion == "bounce":
        speed, reach = random.uniform(0.7, 0.9), random.uniform(0.26, 0.36)
    elif motion == "rise":
        speed = (y - radius) * random.uniform(0.75, 1) / MOTION_SECONDS
    elif motion == "fall":
        y = radius + random.uniform(0, 0.06)
        speed = (0.9 - radius - y) * random.uniform(0.75, 1) / MOTION_SECONDS
    else:
        x, y = random.uniform(0.55, WIDTH - 0.55), random.uniform(0.48, 0.52)
        speed, reach = random.uniform(0.4, 0.6), random.uniform(0.16, 0.2)
    return Thing(colour, shape, motion, radius, x, y, speed, reach, random.uniform(0, 1))


def random_person(random: np.random.Generator, colour: str, action: str) -> Person:
    """A figure that stays within the frame in `MOTION_SECONDS`."""
    tempo = random.uniform(0.75, 1.1)
    x = random.uniform(0.5, WIDTH - 0.5)
    if action.startswith("walk"):
        x = random.uniform(0.25, 0.6)
        x = x if action == "walk_right" else WIDTH - x
    ground, size = random.uniform(0.88, 0.96), random.uniform(0.95, 1.15)
    return Person(colour, action, x, ground, size, tempo, random.uniform(0, 1))


def random_camera(random: np.random.Generator, move: str) -> Camera:
    """A camera that covers its whole way in `MOTION_SECONDS`."""
    low, high = {"pan": (0.45, 0.75), "til": (0.25, 0.35), "zoo": (1.4, 1.65)}[move[:3]]
    return Camera(move, random.uniform(low, high))


def _pick(random: np.random.Generator, names: object) -> str:
    return str(random.choice(list(names)))  # type: ignore[call-overload]


def _single(random: np.random.Generator) -> Scene:
    colour, shape, motion = (_pick(random, names) for names in (COLOURS, THING_SHAPES, MOTIONS))
    thing = random_thing(random, colour, shape, motion, radius=random.uniform(0.22, 0.26))
    return Scene("single_object", _pick(random, BACKGROUNDS), _scenery(random), (thing,))


def _multiple(random: np.random.Generator) -> Scene:
    colours = [str(colour) for colour in random.choice(list(COLOURS), 2, replace=False)]
    shapes = [_pick(random, THING_SHAPES) for _ in colours]
    while True:
        first, second = (
            random_thing(
                random, colour, shape, _pick(random, MOTIONS), radius=random.uniform(0.18, 0.205)
            )
            for colour, shape in zip(colours, shapes, strict=True)
        )
        if _apart(first, second):
            break
    background = _pick(random, BACKGROUNDS)
    return Scene("multiple_objects", background, _scenery(random), (first, second))


def _apart(one: Thing, other: Thing) -> bool:
    """Whether neither thing ever hides the other."""
    times = np.arange(17, dtype=np.float32) / np.float32(16 / MOTION_SECONDS)
    between = track(one, times)[:, :2] - track(other, times)[:, :2]
    return bool(np.hypot(*between.T).min() > 0.95 * (one.radius + other.radius))


def _human(random: np.random.Generator) -> Scene:
    person = random_person(random, _pick(random, COLOURS), _pick(random, ACTIONS))
    background = _pick(random, BACKGROUNDS)
    return Scene("complex_human_motion", background, _scenery(random), person=person)


def _camera(random: np.random.Generator) -> Scene:
    camera = random_camera(random, _pick(random, CAMERAS))
    radius = random.uniform(0.2, 0.24)
    thing = Thing(
        _pick(random, COLOURS),
        _pick(random, THING_SHAPES),
        None,
        radius,
        random.uniform(0.65, WIDTH - 0.65),
        random.uniform(0.76, 0.82) - radius,
        0.0,
    )
    background = _pick(random, BACKGROUNDS)
    return Scene("camera_motion", background, _scenery(random), (thing,), camera=camera)


def _scenery(random: np.random.Generator) -> int:
    return int(random.integers(SCENERIES))


_DRAW: dict[str, Callable[[np.random.Generator], Scene]] = {
    "camera_motion": _camera,
    "single_object": _single,
    "multiple_objects": _multiple,
    "complex_human_motion": _human,
}
