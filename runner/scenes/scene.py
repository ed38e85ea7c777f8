"""A scene as data.

Lengths are in frame heights: the frame spans x from 0 to `WIDTH` and y from 0, at the top, to 1.
Times are in seconds from the start of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass

from .words import PERSON, held_out

WIDTH = 1.6
MOTION_SECONDS = 2.0
"""In which a motion shows whole; things turn back at the frame's edge after it."""


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
    """A move that covers `amount` in `MOTION_SECONDS`: lengths, or the factor of a zoom."""

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
