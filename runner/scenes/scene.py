"""A scene as data, and scenes drawn from a random generator.

Lengths are in frame heights: the frame spans x from 0 to `WIDTH` and y from 0, at the top, to 1.
Times are in seconds from the start of the clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .words import ACTIONS, BACKGROUNDS, CAMERAS, COLOURS, MOTIONS, PERSON, SHAPES, held_out

WIDTH = 1.6
SECONDS = 2.0
"""The time in which a motion shows whole; things turn back at the frame's edge after it."""


@dataclass(frozen=True)
class Thing:
    """A shape of one colour that moves, or rests where `motion` is None.

    `radius` is of the circle around it. `x` and `y` are where it starts (where it turns, for a
    circle). `speed` is in lengths a second, in turns a second for a circle, in bounces a second.
    """

    colour: str
    shape: str
    motion: str | None
    radius: float
    x: float
    y: float
    speed: float
    reach: float = 0.0
    phase: float = 0.0


@dataclass(frozen=True)
class Person:
    """A figure in a shirt; `x` and `ground` are where its feet start, `tempo` in steps a second."""

    colour: str
    action: str
    x: float
    ground: float
    size: float
    tempo: float
    phase: float


@dataclass(frozen=True)
class Camera:
    """A move that covers `amount` in `SECONDS`: lengths, or the factor of a zoom."""

    move: str
    amount: float


@dataclass(frozen=True)
class Scene:
    """All that decides a clip but its size and rate; `scenery` seeds clouds, hills and plants."""

    category: str
    background: str
    scenery: int
    things: tuple[Thing, ...] = ()
    person: Person | None = None
    camera: Camera | None = None

    def combinations(self) -> list[tuple[str, str, str]]:
        """Colour, shape and motion of everything coloured in it."""
        if self.person:
            return [(self.person.colour, PERSON, self.person.action)]
        move = self.camera.move if self.camera else ""
        return [(thing.colour, thing.shape, thing.motion or move) for thing in self.things]

    def held_out(self) -> bool:
        """Whether every combination in it is one that training leaves out."""
        return all(held_out(*combination) for combination in self.combinations())

    def seen(self) -> bool:
        """Whether no combination in it is one that training leaves out."""
        return not any(held_out(*combination) for combination in self.combinations())


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
    """A thing that shows its whole motion within the frame in `SECONDS`."""
    ground = random.uniform(0.8, 0.92)
    x, y, speed, reach = random.uniform(0.35, WIDTH - 0.35), ground - radius, 0.0, 0.0
    if motion in ("roll_right", "roll_left", "fly_right", "fly_left"):
        speed = random.uniform(0.3, 0.52)
        room = WIDTH - 2 * radius - speed * SECONDS
        x = radius + room * random.uniform(0.05, 0.95)
        if motion.endswith("left"):
            x, speed = WIDTH - x, -speed
        if motion.startswith("fly"):
            y = random.uniform(0.22, 0.5)
    elif motion == "bounce":
        speed, reach = random.uniform(0.9, 1.4), random.uniform(0.28, 0.45)
    elif motion == "rise":
        speed = random.uniform(0.2, 0.3)
    elif motion == "fall":
        y, speed = radius + random.uniform(0, 0.08), random.uniform(0.2, 0.32)
    else:
        x, y = random.uniform(0.55, WIDTH - 0.55), random.uniform(0.42, 0.52)
        speed, reach = random.uniform(0.4, 0.6), random.uniform(0.18, 0.26)
    return Thing(colour, shape, motion, radius, x, y, speed, reach, random.uniform(0, 1))


def random_person(random: np.random.Generator, colour: str, action: str) -> Person:
    """A figure that stays within the frame in `SECONDS`."""
    tempo = random.uniform(0.75, 1.1)
    x = random.uniform(0.5, WIDTH - 0.5)
    if action.startswith("walk"):
        x = random.uniform(0.25, 0.6)
        x = x if action == "walk_right" else WIDTH - x
    ground, size = random.uniform(0.88, 0.96), random.uniform(0.95, 1.15)
    return Person(colour, action, x, ground, size, tempo, random.uniform(0, 1))


def random_camera(random: np.random.Generator, move: str) -> Camera:
    """A camera that covers its whole way in `SECONDS`."""
    low, high = {"pan": (0.45, 0.75), "til": (0.25, 0.35), "zoo": (1.45, 1.8)}[move[:3]]
    return Camera(move, random.uniform(low, high))


def _pick(random: np.random.Generator, names: object) -> str:
    return str(random.choice(list(names)))  # type: ignore[call-overload]


def _single(random: np.random.Generator) -> Scene:
    colour, shape, motion = (_pick(random, names) for names in (COLOURS, SHAPES, MOTIONS))
    thing = random_thing(random, colour, shape, motion, radius=random.uniform(0.16, 0.21))
    return Scene("single_object", _pick(random, BACKGROUNDS), _seed(random), (thing,))


def _multiple(random: np.random.Generator) -> Scene:
    colours = random.choice(list(COLOURS), 2, replace=False)
    things = tuple(
        random_thing(
            random,
            str(colour),
            _pick(random, SHAPES),
            _pick(random, MOTIONS),
            radius=random.uniform(0.13, 0.17),
        )
        for colour in colours
    )
    return Scene("multiple_objects", _pick(random, BACKGROUNDS), _seed(random), things)


def _human(random: np.random.Generator) -> Scene:
    person = random_person(random, _pick(random, COLOURS), _pick(random, ACTIONS))
    background = _pick(random, BACKGROUNDS)
    return Scene("complex_human_motion", background, _seed(random), person=person)


def _camera(random: np.random.Generator) -> Scene:
    camera = random_camera(random, _pick(random, CAMERAS))
    radius = random.uniform(0.16, 0.21)
    thing = Thing(
        _pick(random, COLOURS),
        _pick(random, SHAPES),
        None,
        radius,
        random.uniform(0.65, WIDTH - 0.65),
        random.uniform(0.78, 0.84) - radius,
        0.0,
    )
    background = _pick(random, BACKGROUNDS)
    return Scene("camera_motion", background, _seed(random), (thing,), camera=camera)


def _seed(random: np.random.Generator) -> int:
    return int(random.integers(2**31))


_DRAW: dict[str, Callable[[np.random.Generator], Scene]] = {
    "camera_motion": _camera,
    "single_object": _single,
    "multiple_objects": _multiple,
    "complex_human_motion": _human,
}
