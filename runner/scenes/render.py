"""Scenes as pictures: every pixel from distances to the edges of what is drawn.

The drawing is arithmetic on whole batches through a module with NumPy's functions, so the same
code runs in NumPy and, on a GPU, in torch. Distance functions of circle, box, triangle, star and
capsule follow https://iquilezles.org/articles/distfunctions2d/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import cos, pi, sin
from typing import Any

import numpy as np

from .motion import LIMBS, SHIRT, Floats, limbs, track, view
from .scene import WIDTH, Scene
from .words import COLOURS, THING_SHAPES

CLOUDS, PLANTS, THINGS = 3, 4, 2
_GROUNDS = {
    # sky above and at the horizon, hills, ground, plants, clouds
    "grass": ((168, 200, 224), (222, 232, 236), (150, 176, 160), (158, 188, 138), (96, 128, 92),
              (244, 246, 248)),
    "sand": ((206, 214, 222), (240, 230, 214), (206, 184, 158), (222, 204, 168), (134, 146, 110),
             (250, 246, 240)),
    "road": ((184, 192, 200), (220, 222, 224), (164, 160, 166), (132, 134, 140), (104, 96, 100),
             (240, 240, 242)),
    "night": ((26, 28, 48), (58, 58, 84), (40, 42, 60), (62, 68, 76), (34, 48, 50),
              (84, 86, 108)),
}  # fmt: skip
_SKIN, _HAIR, _TROUSERS = (214, 178, 156), (66, 50, 44), (56, 60, 78)
_CLOTHES = (_TROUSERS,) * 4 + (None,) * 3 + (_SKIN,) * 3 + (_HAIR, _SKIN)
_FAR, _SKY = 0.5, 0.3
"""How much hills and clouds follow the camera, where 1 is the foreground."""


@dataclass(frozen=True)
class Batch:
    """Scenes at times as arrays: of B scenes and F frames, in lengths and colours of 0 to 1."""

    view: Any  # (B, F, 3)
    colours: Any  # (B, 6, 3)
    horizon: Any  # (B,)
    clouds: Any  # (B, CLOUDS, 3): x, y, size
    hills: Any  # (B, 4): two phases, wave number, height
    texture: Any  # (B, 2): phases
    plants: Any  # (B, PLANTS, 3): x, ground, size
    things: Any  # (B, THINGS, F, 3): x, y, angle
    shapes: Any  # (B, THINGS): index into SHAPES, or -1
    radii: Any  # (B, THINGS)
    paint: Any  # (B, THINGS, 3)
    limbs: Any  # (B, F, LIMBS, 5)
    clothes: Any  # (B, LIMBS, 3)

    def arrays(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def times_of(num_frames: int, fps: float) -> Floats:
    return np.arange(num_frames, dtype=np.float32) / np.float32(fps)


def batch_of(scenes: Sequence[Scene], times: Floats) -> Batch:
    """The scenes as arrays of 32-bit floats."""
    rows: dict[str, list[Any]] = {field.name: [] for field in fields(Batch)}
    for scene in scenes:
        random = np.random.default_rng(scene.scenery)
        light = random.uniform(-0.035, 0.035)
        colours = np.array(_GROUNDS[scene.background]) / 255 + light
        rows["view"].append(view(scene.camera, times))
        rows["colours"].append(colours)
        rows["horizon"].append(random.uniform(0.56, 0.64))
        rows["clouds"].append(random.uniform((-0.3, 0.02, 0.05), (1.9, 0.32, 0.09), (CLOUDS, 3)))
        rows["hills"].append(random.uniform((0, 0, 3, 0.06), (2 * pi, 2 * pi, 5, 0.14)))
        rows["texture"].append(random.uniform(0, 2 * pi, 2))
        plants = random.uniform((0, 0.64, 0.09), (0.62, 0.72, 0.14), (PLANTS, 3))
        plants[:, 0] += -0.45 + 0.65 * np.arange(PLANTS)
        rows["plants"].append(plants)
        tracks = np.zeros((THINGS, len(times), 3), np.float32)
        shapes, radii, paint = [-1] * THINGS, [0.1] * THINGS, np.zeros((THINGS, 3))
        for i, thing in enumerate(scene.things):
            tracks[i] = track(thing, times)
            shapes[i], radii[i] = list(THING_SHAPES).index(thing.shape), thing.radius
            paint[i] = np.array(COLOURS[thing.colour]) / 255
        rows["things"].append(tracks)
        rows["shapes"].append(shapes)
        rows["radii"].append(radii)
        rows["paint"].append(paint)
        pieces = np.zeros((len(times), LIMBS, 5), np.float32)
        clothes = np.zeros((LIMBS, 3))
        if person := scene.person:
            pieces = limbs(person, times)
            worn = [COLOURS[person.colour] if i in SHIRT else _CLOTHES[i] for i in range(LIMBS)]
            clothes = np.array(worn) / 255
        rows["limbs"].append(pieces)
        rows["clothes"].append(clothes)
    return Batch(**{name: np.asarray(row, np.float32) for name, row in rows.items()})


def render(scenes: Sequence[Scene], *, width: int, height: int, num_frames: int, fps: float) -> Any:
    """Clips of scenes, uint8 (scenes, frames, height, width, 3)."""
    batch = batch_of(scenes, times_of(num_frames, fps))
    picture = draw(np, batch, width, height)
    return (picture * 255 + 0.5).astype(np.uint8)


def draw(xp: Any, batch: Batch, width: int, height: int) -> Any:
    """Colours from 0 to 1 of every pixel, (B, F, height, width, 3).

    Args:
        xp: `numpy` or `torch`, whichever made the batch's arrays.
        batch: the scenes.
        width, height: of the frames; the scene's height fills the frame's.
    """
    like = batch.view
    across = _line(xp, like, width) / height + (WIDTH - width / height) / 2
    down = _line(xp, like, height) / height
    u, v = across[None, None, None, :] - WIDTH / 2, down[None, None, :, None] - 0.5
    middle_x, middle_y, zoom = (batch.view[..., i, None, None] for i in range(3))

    def at(follow: float) -> tuple[Any, Any, Any]:
        """World coordinates of each pixel, and pixels to a length, of a layer."""
        scale = 1 + (zoom - 1) * follow
        x = WIDTH / 2 + (middle_x - WIDTH / 2) * follow + u / scale
        return x, 0.5 + (middle_y - 0.5) * follow + v / scale, scale * height

    def one(values: Any, *index: int) -> Any:
        """A number of each scene, to stand beside (B, F, height, width)."""
        return values[(slice(None), *index)][:, None, None, None]

    x, y, fine = at(1.0)
    horizon = one(batch.horizon)
    picture = _mix(
        batch.colours[:, 0][:, None, None, None],
        batch.colours[:, 1][:, None, None, None],
        xp.clip((y + 0.2) / (horizon + 0.2), 0, 1),
    )
    far_x, far_y, far_fine = at(_SKY)
    for i in range(CLOUDS):
        px, py, size = (one(batch.clouds, i, k) for k in range(3))
        puff = xp.sqrt(((far_x - px) / 2.2) ** 2 + (far_y - py) ** 2) - size
        picture = _mix(picture, _tint(batch, 5), 0.8 * xp.clip(0.5 - puff * far_fine / 3, 0, 1))
    far_x, _, _ = at(_FAR)
    first, second, waves, high = (one(batch.hills, k) for k in range(4))
    ridge = xp.sin(far_x * waves + first) + 0.6 * xp.sin(far_x * waves * 2.3 + second)
    picture = _mix(
        picture, _tint(batch, 2), _cover(xp, (horizon - high * (1 + 0.5 * ridge) - y) * fine)
    )
    grain = xp.sin(x * 9 + one(batch.texture, 0)) * xp.sin(y * 16 + one(batch.texture, 1))
    ground = _tint(batch, 3) * (1 + 0.07 * grain)[..., None]
    picture = _mix(picture, ground, _cover(xp, (horizon - y) * fine))
    for i in range(PLANTS):
        px, py, size = (one(batch.plants, i, k) for k in range(3))
        trunk = _capsule(xp, x, y, px, py, px, py - 1.4 * size) - 0.14 * size
        crown = xp.sqrt((x - px) ** 2 + (y - py + 1.9 * size) ** 2) - 0.75 * size
        plant = _cover(xp, xp.minimum(trunk, crown) * fine)
        picture = _mix(picture, _tint(batch, 4), plant)
    for i in range(THINGS):
        px, py, angle = (batch.things[:, i, :, k, None, None] for k in range(3))
        sine, cosine = xp.sin(angle), xp.cos(angle)
        dx, dy = x - px, y - py
        size = one(batch.radii, i)
        across_, along = cosine * dx + sine * dy, cosine * dy - sine * dx
        edge = _shape(xp, across_ / size, along / size, one(batch.shapes, i)) * size
        light = 1 - 0.16 * xp.clip((dx + dy) / size, -1, 1)
        paint = batch.paint[:, i][:, None, None, None] * light[..., None]
        picture = _mix(picture, paint, _cover(xp, edge * fine))
    if (batch.limbs != 0).any():
        for i in range(LIMBS):
            ends = [batch.limbs[:, :, i, k, None, None] for k in range(5)]
            piece = _capsule(xp, x, y, *ends[:4]) - ends[4]
            covered = _cover(xp, piece * fine) * (ends[4] > 0)
            picture = _mix(picture, batch.clothes[:, i][:, None, None, None], covered)
    return xp.clip(picture, 0, 1)


def _line(xp: Any, like: Any, count: int) -> Any:
    """The middles of `count` pixels, in pixels, where `like` is."""
    if xp is np:
        return np.arange(count, dtype=np.float32) + np.float32(0.5)
    return xp.arange(count, dtype=like.dtype, device=like.device) + 0.5


def _tint(batch: Batch, index: int) -> Any:
    return batch.colours[:, index][:, None, None, None]


def _mix(under: Any, over: Any, share: Any) -> Any:
    return under + (over - under) * share[..., None]


def _cover(xp: Any, pixels: Any) -> Any:
    """The share of a pixel that lies inside an edge, from its distance to it in pixels."""
    return xp.clip(0.5 - pixels, 0, 1)


def _capsule(xp: Any, x: Any, y: Any, ax: Any, ay: Any, bx: Any, by: Any) -> Any:
    dx, dy = bx - ax, by - ay
    along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9)
    along = xp.clip(along, 0, 1)
    return xp.sqrt((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2 + 1e-12)


def _shape(xp: Any, x: Any, y: Any, shape: Any) -> Any:
    """Distance to the edge of each scene's shape, of radius 1 around the middle."""
    around = xp.sqrt(x * x + y * y + 1e-12)
    edges = {
        "ball": around - 0.92,
        "square": _box(xp, x, y),
        "triangle": _triangle(xp, x, y),
        "star": _star(xp, x, y),
        "ring": xp.abs(around - 0.74) - 0.2,
    }
    distance = 0 * around + 9.0
    for number, name in enumerate(THING_SHAPES):
        distance = xp.where(shape == number, edges[name], distance)
    return distance


def _box(xp: Any, x: Any, y: Any) -> Any:
    return xp.maximum(xp.abs(x), xp.abs(y)) - 0.76


def _triangle(xp: Any, x: Any, y: Any) -> Any:
    """Equilateral, a corner at the top; its middle a little lower, so that it looks centred."""
    low = y - 0.1
    slanted = xp.abs(x) * cos(pi / 6) - low * sin(pi / 6)
    return xp.maximum(slanted - 0.55, low - 0.55)


def _star(xp: Any, x: Any, y: Any) -> Any:
    """Five points of radius 1, a point at the top."""
    turn, inner = pi / 5, 0.44
    px, py = xp.abs(x), -y
    for nx, ny in ((cos(turn), -sin(turn)), (-cos(turn), -sin(turn))):
        # Folded twice about the lines through the inner corners, one point is left.
        over = xp.clip(nx * px + ny * py, 0, None)
        px, py = px - 2 * over * nx, py - 2 * over * ny
    px = xp.abs(px)
    py = py - 1.0
    # The side from the point (0, 0) down to the inner corner.
    side = (inner * sin(turn), inner * cos(turn) - 1.0)
    length = (side[0] ** 2 + side[1] ** 2) ** 0.5
    return (px * -side[1] + py * side[0]) / length
