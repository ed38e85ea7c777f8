"""A pen, some scenery and some things that move, from which the sample clips are drawn.

Lengths are in pixels of the clip, y grows downwards. A pair of colours in one text is dark and
light, or top and bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import cos, pi, radians, sin

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

WIDTH, HEIGHT = 208, 120
FINE = 3  # drawn this many times larger, then scaled down: smooth edges

Point = tuple[float, float]


class Canvas:
    """A drawing of `width` x `height` pixels, held `FINE` times as large."""

    def __init__(self, width: float = WIDTH, height: float = HEIGHT, sky: str = "") -> None:
        size = (round(width * FINE), round(height * FINE))
        self.image = Image.new("RGBA", size)
        if sky:
            self.image.paste(gradient(size, *sky.split()))
        self.pen = ImageDraw.Draw(self.image)

    def polygon(self, points: Sequence[Point], colour: str) -> None:
        self.pen.polygon([(x * FINE, y * FINE) for x, y in points], colour)

    def box(self, x: float, y: float, w: float, h: float, colour: str, round_: float = 0) -> None:
        corners = (x * FINE, y * FINE, (x + w) * FINE, (y + h) * FINE)
        self.pen.rounded_rectangle(corners, round_ * FINE, colour)

    def disc(self, x: float, y: float, rx: float, colour: str, ry: float | None = None) -> None:
        ry = rx if ry is None else ry
        corners = ((x - rx) * FINE, (y - ry) * FINE, (x + rx) * FINE, (y + ry) * FINE)
        self.pen.ellipse(corners, colour)

    def limb(self, points: Sequence[Point], thickness: float, colour: str) -> None:
        """A thick line with round ends and joints."""
        fine = [(x * FINE, y * FINE) for x, y in points]
        self.pen.line(fine, colour, round(thickness * FINE))
        for x, y in points:
            self.disc(x, y, thickness / 2, colour)

    def shadow(self, x: float, y: float, rx: float, strength: float = 0.35) -> None:
        """A soft flat shadow on the ground."""
        layer = Image.new("L", self.image.size)
        corners = [(x - rx) * FINE, (y - rx / 6) * FINE, (x + rx) * FINE, (y + rx / 6) * FINE]
        ImageDraw.Draw(layer).ellipse(corners, round(255 * strength))
        self.image.paste("#10203a", mask=layer.filter(ImageFilter.BoxBlur(FINE)))


def gradient(size: tuple[int, int], top: str, bottom: str) -> Image.Image:
    ramp = np.linspace(0, 1, size[1])[:, None, None]
    ends = [np.array(ImageColor.getrgb(colour)[:3]) for colour in (top, bottom)]
    column = (ends[0] * (1 - ramp) + ends[1] * ramp).round().astype(np.uint8)
    return Image.fromarray(np.repeat(column, size[0], 1))


# Scenery


def hills(canvas: Canvas, base: float, height: float, colour: str, seed: int, width: int) -> None:
    """A ridge line from a few sines, filled down to the lower edge."""
    waves = np.random.default_rng(seed).uniform((40, 0), (150, 2 * pi), (4, 2))
    points = [
        (x, base - height * sum(1 + sin(x * 2 * pi / length + at) for length, at in waves) / 8)
        for x in range(0, width + 4, 2)
    ]
    canvas.polygon([(0, 9999), *points, (width, 9999)], colour)


def cloud(canvas: Canvas, x: float, y: float, size: float) -> None:
    for dx, dy, r in ((-1.3, 0.2, 0.7), (-0.4, -0.2, 1.0), (0.6, 0.0, 0.9), (1.5, 0.3, 0.6)):
        canvas.disc(x + dx * size, y + dy * size, r * size, "#ffffffe6", r * size * 0.72)


def tree(canvas: Canvas, x: float, ground: float, size: float) -> None:
    canvas.box(x - size * 0.1, ground - size, size * 0.2, size, "#7a5230")
    crown = ((0, 1.45, "#2f6b3a"), (-0.4, 1.2, "#3b8047"), (0.38, 1.2, "#357541"))
    for dx, dy, colour in (*crown, (-0.1, 1.65, "#57a35d"), (-0.45, 1.35, "#4f9a57")):
        canvas.disc(x + dx * size, ground - dy * size, size * 0.48, colour)


def house(canvas: Canvas, x: float, ground: float, size: float, wall: str, roof: str) -> None:
    canvas.box(x, ground - size, size * 1.5, size, wall)
    canvas.box(x + size * 1.1, ground - size * 1.75, size * 0.18, size * 0.6, "#8d5a4a")
    eaves = ((x - size * 0.15, ground - size), (x + size * 1.65, ground - size))
    canvas.polygon([*eaves, (x + size * 0.75, ground - size * 1.7)], roof)
    canvas.box(x + size * 0.62, ground - size * 0.55, size * 0.28, size * 0.55, "#6b4226")
    for dx in (0.18, 1.05):
        canvas.box(x + size * dx, ground - size * 0.72, size * 0.28, size * 0.3, "#fff3c4")
        canvas.box(x + size * (dx + 0.12), ground - size * 0.72, size * 0.04, size * 0.3, wall)


@cache
def landscape() -> list[tuple[float, Image.Image]]:
    """The layers of a wide and high scene, far to near, each with its nearness from 0 to 1."""
    width, height, ground = 620, 340, 280
    random = np.random.default_rng(7)
    layers = [(nearness, Canvas(width, height)) for nearness in (0.15, 0.35, 0.6, 1.0)]
    sky, mountains, woods, village = (canvas for _, canvas in layers)
    sky.image.paste(gradient(sky.image.size, "#3f8fdc", "#d9eefc"))
    sky.disc(330, 95, 17, "#fff1a8")
    for x, y, size in random.uniform((20, 50, 7), (600, 190, 15), (16, 3)):
        cloud(sky, x, y, size)
    hills(mountains, 235, 105, "#8fa6c8", 3, width)
    hills(mountains, 255, 70, "#7390b2", 5, width)
    hills(woods, 262, 45, "#7fb069", 8, width)
    for x, size in random.uniform((0, 8), (width, 13), (38, 2)):
        tree(woods, x, 262 + size / 3, size)
    hills(village, ground, 18, "#8cc152", 11, width)
    for x, y in random.uniform((0, ground - 4), (width, height), (900, 2)):
        petal = ("#a7d46f", "#79ad45", "#6d9f3c", "#f7d046", "#f4f1de")[int(x * 7) % 5]
        village.disc(x, y, 1.1, petal, 0.8)
    village.polygon([(290, ground), (316, ground), (350, height), (250, height)], "#d9b98a")
    walls = ("#f4e1c1", "#f7c59f", "#dfe7fd", "#fff1e6", "#e2ece9")
    for i, x in enumerate((40, 165, 270, 395, 520)):
        roof = ("#c8553d", "#588b8b", "#b23a48", "#6d597a", "#bc6c25")[i]
        house(village, x, ground + 6, 27 + 5 * (i % 2), walls[i], roof)
    for x in (15, 118, 140, 245, 352, 372, 480, 590):
        tree(village, x, ground + 10, 21 + x % 9)
    return [(nearness, canvas.image) for nearness, canvas in layers]


def camera(x: float, y: float, zoom: float = 1.0) -> Image.Image:
    """The landscape around (x, y): what is nearer moves and grows more."""
    frame = Image.new("RGBA", (WIDTH * FINE, HEIGHT * FINE))
    for nearness, layer in landscape():
        scale = 1 + (zoom - 1) * nearness
        left = 310 + (x - 310) * nearness - WIDTH / 2 / scale
        top = 240 + (y - 240) * (0.5 + nearness / 2) - HEIGHT / 2 / scale
        data = (1 / scale, 0, left * FINE, 0, 1 / scale, top * FINE)
        view = layer.transform(frame.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        frame.alpha_composite(view)
    return frame


def meadow(canvas: Canvas, ground: float, seed: int = 2) -> None:
    hills(canvas, ground + 2, 34, "#9cc7a4", seed, WIDTH)
    hills(canvas, ground + 3, 16, "#7fb57e", seed + 1, WIDTH)
    canvas.polygon([(0, ground), (WIDTH, ground), (WIDTH, 999), (0, 999)], "#8fc866")
    for x, y in np.random.default_rng(seed).uniform((0, ground), (WIDTH, HEIGHT), (90, 2)):
        canvas.disc(x, y, 1.2, "#7bb555" if int(x) % 3 else "#b5dd8b", 0.6)


def street(canvas: Canvas) -> None:
    for i, colour in enumerate(("#e9c8a7", "#c9d6df", "#f2b5a0", "#b8c9a9", "#d9c2e0", "#f0dfae")):
        x, height = i * 36 - 4, 34 + 13 * (i * 5 % 3)
        canvas.box(x, 78 - height, 34, height, colour)
        for row in range(int(height // 13)):
            for column in (5, 14, 23):
                canvas.box(x + column, 82 - height + row * 13, 5, 7, "#5c7a99")
    canvas.box(0, 76, WIDTH, 8, "#c9c4bb")
    canvas.box(0, 83, WIDTH, 40, "#5d6370")
    for x in range(-10, WIDTH, 28):
        canvas.box(x, 100, 15, 1.6, "#f4f1de")


# Things that move


def ball(canvas: Canvas, x: float, ground: float, height: float, r: float, colour: str) -> None:
    """A ball `height` above the ground, a little flattened where it touches it."""
    squash = max(0.0, 1 - height / 6) * 0.16
    y = ground - height - r * (1 - squash)
    canvas.shadow(x, ground, r * (1.1 - height / 160), 0.45 - height / 300)
    dark, light = colour.split()
    canvas.disc(x, y, r * (1 + squash), dark, r * (1 - squash))
    canvas.disc(x - r * 0.12, y - r * 0.12, r * 0.82, light, r * (0.82 - squash))
    canvas.disc(x - r * 0.38, y - r * 0.42, r * 0.2, "#ffffffd0", r * 0.14)


def bounce(t: float, period: float, height: float) -> float:
    """Height of something thrown up again and again, on the ground at t = 0."""
    phase = t / period % 1
    return 4 * height * phase * (1 - phase)


def car(canvas: Canvas, x: float, road: float, size: float, colour: str, way: int) -> None:
    """A car whose middle is at `x`, driving right (way 1) or left (-1)."""

    def at(*points: Point) -> list[Point]:
        return [(x + way * dx * size, road + dy * size) for dx, dy in points]

    canvas.shadow(x, road, size * 1.05)
    dark, light = colour.split()
    canvas.polygon(at((-0.62, -0.5), (-0.42, -0.8), (0.2, -0.8), (0.5, -0.5)), dark)
    canvas.polygon(at((-0.5, -0.5), (-0.37, -0.73), (-0.12, -0.73), (-0.12, -0.5)), "#d7ecf5")
    canvas.polygon(at((-0.05, -0.5), (-0.05, -0.73), (0.17, -0.73), (0.38, -0.5)), "#d7ecf5")
    canvas.box(x - size, road - 0.53 * size, 2 * size, 0.37 * size, light, 0.14 * size)
    canvas.box(x - size, road - 0.3 * size, 2 * size, 0.14 * size, dark, 0.06 * size)
    canvas.disc(*at((0.92, -0.4))[0], 0.07 * size, "#fff7cc")
    for wheel in (-0.56, 0.56):
        (hub,) = at((wheel, -0.17))
        canvas.disc(*hub, 0.21 * size, "#22252b")
        canvas.disc(*hub, 0.12 * size, "#c8ccd2")
        turn = x / (0.21 * size)
        for spoke in range(3):
            dx, dy = cos(turn + spoke * pi / 1.5), sin(turn + spoke * pi / 1.5)
            tip = (hub[0] + dx * 0.12 * size, hub[1] + dy * 0.12 * size)
            canvas.limb([hub, tip], 0.05 * size, "#6a7078")


def fish(canvas: Canvas, x: float, y: float, size: float, colour: str, way: int, t: float) -> None:
    flap = 0.32 * sin(t * 11 + y)
    dark, light = colour.split()
    tail = [(-0.75, 0.0), (-1.4, -0.42 + flap), (-1.22, flap / 2), (-1.4, 0.42 + flap)]
    fin = [(-0.3, -0.4), (0.25, -0.48), (-0.45, -0.82)]
    for part in (tail, fin):
        canvas.polygon([(x + way * dx * size, y + dy * size) for dx, dy in part], dark)
    canvas.disc(x, y, size, light, size * 0.52)
    for stripe in (-0.35, 0.1):
        canvas.disc(x + way * stripe * size, y, size * 0.1, dark, size * 0.45)
    canvas.disc(x + way * size * 0.6, y - size * 0.12, size * 0.16, "#ffffff")
    canvas.disc(x + way * size * 0.64, y - size * 0.12, size * 0.09, "#1b1b1b")


def reach(start: Point, lengths: Sequence[float], angles: Sequence[float]) -> list[Point]:
    """A chain of joints; an angle is in degrees from straight down towards the right."""
    points = [start]
    for length, angle in zip(lengths, angles, strict=True):
        x, y = points[-1]
        points.append((x + length * sin(radians(angle)), y + length * cos(radians(angle))))
    return points


def person(
    canvas: Canvas,
    x: float,
    ground: float,
    *,
    arms: Sequence[Sequence[float]],
    legs: Sequence[Sequence[float]],
    lean: float = 0.0,
    hop: float = 0.0,
    front: bool = True,
    shirt: str = "#b23a48 #d1495b",
) -> None:
    """An articulated figure that stands on its lower foot, `hop` above the ground.

    Args:
        arms: far (or left) and near (or right) arm: angles of upper and lower arm.
        legs: the same of thigh, shank and foot.
        front: seen from the front, else from its right side.
    """
    half = 5.5 if front else 0.0
    chains = [reach((0, 0), (17, 17, 5), angles) for angles in legs]
    hip = ground - hop - 2 - max(chain[2][1] for chain in chains)
    canvas.shadow(x, ground + 0.5, 17 - hop / 2, 0.4 - hop / 60)
    neck = (x + 31 * sin(radians(lean)), hip - 31 * cos(radians(lean)))
    dark, light = shirt.split()

    def leg(side: int, cloth: str, shoe: str) -> None:
        start = x + (2 * side - 1) * half * 0.62
        joints = [(start + dx, hip + dy) for dx, dy in chains[side]]
        canvas.limb(joints[2:], 4.6, shoe)
        canvas.limb(joints[:3], 6.4, cloth)

    def arm(side: int, cloth: str, skin: str) -> None:
        shoulder = (neck[0] + (2 * side - 1) * half * 1.3, neck[1] + 4)
        joints = reach(shoulder, (13, 12), arms[side])
        canvas.limb(joints[1:], 4.0, skin)
        canvas.limb(joints[:2], 5.2, cloth)
        canvas.disc(*joints[2], 2.7, skin)

    leg(0, "#2d4270" if front else "#22304f", "#3a2c26")
    if not front:
        arm(0, dark, "#c98f6b")
    leg(1, "#2d4270", "#4a382f")
    if front:
        left, right = (neck[0] - 6.5, neck[1] + 4), (neck[0] + 6.5, neck[1] + 4)
        canvas.limb([left, right], 5, light)
        canvas.polygon([left, right, (x + 6, hip), (x - 6, hip)], light)
        canvas.limb([(x - 3.5, hip - 1), (x + 3.5, hip - 1)], 6, "#2d4270")
    else:
        canvas.limb([(x, hip - 2), (neck[0], neck[1] + 4)], 10, light)
    head = (neck[0] + 9 * sin(radians(lean)), neck[1] - 7)
    canvas.limb([neck, head], 4.5, "#dba47f")
    aside = 0.0 if front else 1.2
    canvas.disc(head[0] - aside, head[1] - 1.8, 6.6, "#4a2f23")
    canvas.disc(head[0] + aside, head[1] + 0.6, 5.6, "#efbf9a")
    for eye in (-2.1, 2.1) if front else (4.0,):
        canvas.disc(head[0] + eye, head[1] + 0.3, 0.8, "#3a2c26")
    if front:
        arm(0, dark, "#e4b08b")
    arm(1, dark, "#e4b08b")
