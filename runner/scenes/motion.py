"""Where things, limbs and the camera are at given times."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

import numpy as np
import numpy.typing as npt

from .scene import MOTION_SECONDS, WIDTH, Camera, Person, Thing

Floats = npt.NDArray[np.float32]

LIMBS = 12
"""Straight pieces that a figure is made of, in the order in which they are drawn."""

SHIRT = (4, 5, 6)
"""Those of them in the colour of the shirt: the trunk and both upper arms."""


def track(thing: Thing, times: Floats) -> Floats:
    """Centre and angle of a thing, (times, 3): x, y, radians clockwise."""
    x, y = np.full_like(times, thing.x), np.full_like(times, thing.y)
    angle = np.zeros_like(times)
    motion, speed, radius = thing.motion, thing.speed, thing.radius
    if motion in ("roll_right", "roll_left", "fly_right", "fly_left"):
        way = speed * times
        x = _between(thing.x + way, radius, WIDTH - radius)
        if motion.startswith("roll"):
            angle = (x - thing.x) / radius
        else:
            y = y + 0.03 * np.sin(2 * pi * (0.7 * times + thing.phase))
    elif motion == "bounce":
        y = y - thing.reach * np.abs(np.sin(pi * (speed * times + thing.phase)))
    elif motion == "rise":
        y = np.maximum(y - speed * times, radius)
    elif motion == "fall":
        y = np.minimum(y + speed * times, 0.9 - radius)
    elif motion == "circle":
        turn = 2 * pi * (speed * times + thing.phase)
        x, y = x + thing.reach * np.cos(turn), y + thing.reach * np.sin(turn)
    return np.stack([x, y, angle], -1).astype(np.float32)


def view(camera: Camera | None, times: Floats) -> Floats:
    """Middle of the view and zoom, (times, 3)."""
    x: Any = np.full_like(times, WIDTH / 2)
    y: Any = np.full_like(times, 0.5)
    zoom: Any = np.ones_like(times)
    if camera:
        # On and on at one speed; from a little before the middle to a little after it.
        share = times / MOTION_SECONDS
        move, amount = camera.move, camera.amount
        if move.startswith("pan"):
            x = x + (share - 0.5) * amount * (1 if move == "pan_right" else -1)
        elif move == "tilt_up":
            y = 0.6 - share * amount
        elif move == "tilt_down":
            y = 0.6 - (1 - share) * amount
        elif move == "zoom_in":
            zoom = amount**share
        else:
            zoom = amount ** (1 - share)
        if move.startswith("zoom"):
            y = 0.5 + 0.12 * (1 - 1 / zoom)
    return np.stack([x, y, zoom], -1).astype(np.float32)


def limbs(person: Person, times: Floats) -> Floats:
    """The pieces of a figure, (times, `LIMBS`, 5): both ends' x and y, and the thickness.

    They are: far leg (2), near leg (2), trunk, far and near upper arm, far and near forearm,
    neck, hair and face.
    """
    pose = _POSES[person.action](2 * pi * (person.tempo * times + person.phase))
    side = -1.0 if person.action == "walk_left" else 1.0
    size = person.size
    x: Any = person.x + np.zeros_like(times)
    if person.action.startswith("walk"):
        way = side * 0.36 * person.tempo * times
        x = _between(person.x + way, 0.15, WIDTH - 0.15)
    legs = [_chain((pose[f"hip{i}"], pose[f"knee{i}"]), (0.165, 0.165), size) for i in "01"]
    foot = np.maximum(legs[0][2][1], legs[1][2][1])
    hip = person.ground - pose["hop"] * size - foot
    spread = np.zeros_like(times) + (0.0 if person.action.startswith("walk") else 0.035 * size)
    lean = pose["lean"]
    neck_x = x + 0.2 * size * np.sin(lean) * side
    neck_y = hip - 0.2 * size * np.cos(lean)
    pieces: list[tuple[Any, Any, Any, Any, float]] = []
    for i in (0, 1):
        start = x + (2 * i - 1) * spread * 0.7
        points = [(start + side * dx, hip + dy) for dx, dy in legs[i]]
        pieces += [(*points[0], *points[1], 0.043), (*points[1], *points[2], 0.037)]
    pieces.append((x, hip - 0.01, neck_x, neck_y + 0.035 * size, 0.07))
    upper, fore = [], []
    for i in (0, 1):
        arm = _chain((pose[f"arm{i}"], pose[f"elbow{i}"]), (0.12, 0.12), size)
        shoulder = neck_x + (2 * i - 1) * spread * 1.6
        points = [(shoulder + side * dx, neck_y + 0.03 * size + dy) for dx, dy in arm]
        upper.append((*points[0], *points[1], 0.04))
        fore.append((*points[1], *points[2], 0.034))
    pieces += upper + fore
    head_x, head_y = neck_x + 0.09 * size * np.sin(lean) * side, neck_y - 0.075 * size
    turned = 0.012 if person.action.startswith("walk") else 0.0
    pieces.append((neck_x, neck_y, head_x, head_y, 0.032))
    hair_x = head_x - side * turned
    pieces.append((hair_x, head_y - 0.012, hair_x, head_y - 0.012, 0.068))
    face_x = head_x + side * turned
    pieces.append((face_x, head_y + 0.012, face_x, head_y + 0.012, 0.056))
    ends = [np.stack(np.broadcast_arrays(*piece[:4], piece[4] * size), -1) for piece in pieces]
    return np.stack(ends, 1).astype(np.float32)


def _between(value: Floats, low: float, high: float) -> Floats:
    """Turned back at both ends, as a ball between walls."""
    room = high - low
    inside = np.abs((value - low) % (2 * room))
    return np.asarray(low + np.where(inside > room, 2 * room - inside, inside), np.float32)


def _chain(angles: Sequence[Any], lengths: Sequence[float], size: float) -> list[tuple[Any, Any]]:
    """Joints from (0, 0); an angle is in radians from straight down towards the front."""
    joints: list[tuple[Any, Any]] = [(0.0 * angles[0], 0.0 * angles[0])]
    for angle, length in zip(angles, lengths, strict=True):
        x, y = joints[-1]
        joints.append((x + size * length * np.sin(angle), y + size * length * np.cos(angle)))
    return joints


def _walk(phase: Floats) -> dict[str, Any]:
    pose: dict[str, Any] = {"hop": 0 * phase, "lean": 0.08 + 0 * phase}
    for i, at in (("0", phase), ("1", phase + pi)):
        pose[f"hip{i}"] = 0.5 * np.sin(at)
        pose[f"knee{i}"] = 0.5 * np.sin(at) - 0.15 - 0.7 * np.maximum(0, np.cos(at)) ** 2
        pose[f"arm{i}"] = -0.6 * np.sin(at)
        pose[f"elbow{i}"] = -0.6 * np.sin(at) + 0.5
    return pose


def _jump(phase: Floats) -> dict[str, Any]:
    open_ = (1 - np.cos(phase)) / 2
    up, apart = 0.2 + 2.5 * open_, 0.04 + 0.4 * open_
    return {
        "hop": 0.05 * np.sin(phase) ** 2, "lean": 0 * phase,
        "hip0": -apart, "knee0": -apart, "hip1": apart, "knee1": apart,
        "arm0": -up, "elbow0": -up - 0.2, "arm1": up, "elbow1": up + 0.2,
    }  # fmt: skip


def _wave(phase: Floats) -> dict[str, Any]:
    still = 0 * phase
    return {
        "hop": still, "lean": 0.04 * np.sin(phase / 2),
        "hip0": still - 0.08, "knee0": still - 0.08, "hip1": still + 0.08, "knee1": still + 0.08,
        "arm0": still - 0.25, "elbow0": still - 0.2,
        "arm1": still + 2.2, "elbow1": 2.8 + 0.65 * np.sin(1.6 * phase),
    }  # fmt: skip


def _dance(phase: Floats) -> dict[str, Any]:
    sway = np.sin(phase)
    left, right = np.maximum(0, -sway), np.maximum(0, sway)
    return {
        "hop": 0.03 * np.abs(np.sin(phase)), "lean": 0.28 * sway,
        "hip0": -0.15 - 0.7 * left, "knee0": -0.1 + 0.5 * left,
        "hip1": 0.15 + 0.7 * right, "knee1": 0.1 - 0.5 * right,
        "arm0": -1.9 + 0.7 * sway, "elbow0": -2.7 + 0.7 * sway,
        "arm1": 1.9 + 0.7 * sway, "elbow1": 2.7 + 0.7 * sway,
    }  # fmt: skip


def _squat(phase: Floats) -> dict[str, Any]:
    bent = (1 - np.cos(phase)) / 2
    return {
        "hop": 0 * phase, "lean": 0 * phase,
        "hip0": -0.12 - 1.1 * bent, "knee0": -0.08 + 0.7 * bent,
        "hip1": 0.12 + 1.1 * bent, "knee1": 0.08 - 0.7 * bent,
        "arm0": -0.2 - 1.35 * bent, "elbow0": -0.2 - 1.35 * bent,
        "arm1": 0.2 + 1.35 * bent, "elbow1": 0.2 + 1.35 * bent,
    }  # fmt: skip


_POSES = {
    "walk_right": _walk,
    "walk_left": _walk,
    "jump": _jump,
    "wave": _wave,
    "dance": _dance,
    "squat": _squat,
}
