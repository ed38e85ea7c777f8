"""Draw the sample reference clips: `python reference_videos/make_samples.py`.

Twelve clips of 81 frames at 15 fps, 208x120 pixels, in the four categories of the motion
transfer sweep. They are drawings, so they may be passed on freely, and each shows its motion
within the first second. The same code writes the same files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import cos, pi, sin
from pathlib import Path

from drawing import (
    HEIGHT,
    WIDTH,
    Canvas,
    Point,
    ball,
    bounce,
    camera,
    car,
    cloud,
    fish,
    hills,
    meadow,
    person,
    street,
    tree,
)
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # also without the project installed

from runner.video import write_video  # noqa: E402 - needs the path above

NUM_FRAMES, FPS, QUALITY = 81, 15, 6
SECONDS = NUM_FRAMES / FPS


def ease(t: float) -> float:
    """From 0 to 1 over the clip, faster at first, so that the motion shows at once."""
    return 1.0 - float((1 - t / SECONDS) ** 1.5)


def bouncing_ball(t: float) -> Image.Image:
    canvas = Canvas(sky="#8fd0f5 #eef8ff")
    cloud(canvas, 45, 24, 10)
    cloud(canvas, 160, 34, 12)
    meadow(canvas, 80)
    ball(canvas, 22 + 30 * t, 104, bounce(t + 0.35, 0.9, 62), 13, "#a4161a #e5383b")
    return canvas.image


def driving_car(t: float) -> Image.Image:
    canvas = Canvas(sky="#a9d6f5 #fdf3dd")
    street(canvas)
    car(canvas, 16 + 33 * t, 108 - 0.4 * abs(sin(9 * t)), 27, "#1d4e89 #2f7fd1", 1)
    return canvas.image


def flying_kite(t: float) -> Image.Image:
    canvas = Canvas(sky="#58aeea #dff2ff")
    for start, high, size in ((60, 30, 9), (150, 20, 11), (220, 52, 8)):
        cloud(canvas, (start - 9 * t) % 270 - 30, high, size)
    meadow(canvas, 98, 6)

    def at(time: float) -> Point:
        return 110 + 62 * sin(1.5 * time), 46 + 22 * sin(3 * time)

    x, y = at(t)
    canvas.limb([(104, 112), ((104 + x) / 2 + 5, (112 + y) / 2 + 6), (x, y)], 0.6, "#ffffff")
    tail = [(at(t - 0.06 * k)[0], at(t - 0.06 * k)[1] + 14 + 3.2 * k) for k in range(9)]
    canvas.limb(tail, 1.1, "#7a5230")
    for k, (bow_x, bow_y) in enumerate(tail[2::2]):
        wings = [(bow_x - 4, bow_y - 2.5), (bow_x + 4, bow_y + 2.5)]
        wings += [(bow_x + 4, bow_y - 2.5), (bow_x - 4, bow_y + 2.5)]
        canvas.polygon(wings, ("#f7d046", "#d1495b")[k % 2])
    tilt = 0.45 * cos(1.5 * t)
    right, down = (cos(tilt), sin(tilt)), (-sin(tilt), cos(tilt))
    corners = [
        (x + a * right[0] + b * down[0], y + a * right[1] + b * down[1])
        for a, b in ((0, -19), (13, -3), (0, 17), (-13, -3))
    ]
    for i, colour in enumerate(("#f4a259", "#e4572e") * 2):
        canvas.polygon([corners[i - 1], corners[i], (x, y)], colour)
    return canvas.image


def three_balls(t: float) -> Image.Image:
    canvas = Canvas(sky="#f6d6ad #fff4e0")
    canvas.box(0, 74, WIDTH, 50, "#c98f5f")
    for x in range(-40, WIDTH + 40, 22):
        canvas.limb([(x, 74), (x * 1.6 - 62, 122)], 0.7, "#b57b4c")
    canvas.box(0, 71, WIDTH, 3.5, "#fffaf0")
    ball(canvas, 40 + 10 * sin(1.2 * t), 92, bounce(t, 0.8, 52), 11, "#0b7a75 #19c2b4")
    ball(canvas, 168 - 14 * t, 99, bounce(t + 0.3, 1.0, 66), 14, "#c77d0a #ffb627")
    ball(canvas, 84 + 20 * t, 109, bounce(t + 0.55, 0.7, 40), 9, "#6a2c91 #a855d8")
    return canvas.image


def school_of_fish(t: float) -> Image.Image:
    canvas = Canvas(sky="#2aa7c9 #0b3c6f")
    rays, pale = Canvas(), "#ffffff1c"
    for x in (20, 80, 150):
        drift = x + 6 * sin(0.8 * t + x)
        rays.polygon([(drift, 0), (drift + 16, 0), (drift - 6, 120), (drift - 40, 120)], pale)
    canvas.image.alpha_composite(rays.image)
    hills(canvas, 118, 14, "#d8b778", 4, WIDTH)
    for x in (14, 24, 128, 188, 197):
        sway = [(x + 0.0016 * k**3 * sin(2 * t + x), 116 - k * 3) for k in range(13)]
        canvas.limb(sway, 3, ("#2f8f5b", "#3fb06f")[x % 2])
    for x, speed in ((60, 17), (100, 23), (170, 20)):
        canvas.disc(x + 2 * sin(3 * t + x), 120 - (speed * t + x) % 130, 1.6, "#ffffff70")
    for x, y, size, colour, speed in (
        (15, 30, 11, "#d9480f #ff922b", 26),
        (-8, 62, 13, "#b8860b #ffd43b", 32),
        (40, 92, 9, "#1864ab #74c0fc", 22),
        (195, 46, 10, "#862e9c #da77f2", -30),
        (222, 84, 14, "#c2255c #ff8fab", -27),
    ):
        where = (x + speed * t, y + 4 * sin(1.7 * t + x))
        fish(canvas, *where, size, colour, 1 if speed > 0 else -1, t)
    return canvas.image


def two_cars(t: float) -> Image.Image:
    canvas = Canvas(sky="#ffd9b8 #fff1dc")
    street(canvas)
    car(canvas, 185 - 33 * t, 98, 22, "#9a031e #e63946", -1)
    car(canvas, 20 + 33 * t, 114, 26, "#3a7d44 #6fbf73", 1)
    return canvas.image


def walking(t: float) -> Image.Image:
    canvas = Canvas(sky="#9bd3f0 #f3fbff")
    meadow(canvas, 84, 9)
    tree(canvas, 34, 90, 25)
    tree(canvas, 172, 88, 22)
    canvas.box(0, 98, WIDTH, 13, "#e0c79a")
    swing = 2 * pi * 0.68 * t

    def leg(phase: float) -> tuple[float, float, float]:
        thigh = 27 * sin(phase)
        knee = 8 + 42 * max(0.0, cos(phase)) ** 2
        return thigh, thigh - knee, thigh - knee + 84

    def arm(phase: float) -> tuple[float, float]:
        return 30 * sin(phase), 30 * sin(phase) + 28

    person(
        canvas, 24 + 30 * t, 104, front=False, lean=4,
        legs=(leg(swing + pi), leg(swing)), arms=(arm(swing), arm(swing + pi)),
    )  # fmt: skip
    return canvas.image


def jumping_jacks(t: float) -> Image.Image:
    canvas = Canvas(sky="#cfe3e8 #eef5f3")
    for x in (14, 78, 142):
        canvas.box(x, 14, 52, 42, "#fffdf5", 2)
        canvas.box(x + 2, 16, 48, 38, "#9fd0ea", 1)
        canvas.box(x + 25, 16, 2, 38, "#fffdf5")
    canvas.box(0, 82, WIDTH, 40, "#d9a066")
    canvas.box(0, 80, WIDTH, 3, "#fffdf5")
    canvas.box(56, 96, 96, 17, "#5e8c9a", 5)
    phase = 2 * pi * t / 1.1
    spread = (1 - cos(phase)) / 2
    up, apart = 12 + 150 * spread, 2 + 24 * spread
    person(
        canvas, 104, 105, hop=6 * sin(phase) ** 2, shirt="#d17b0f #f4a259",
        legs=((-apart, 3 - apart, -75), (apart, apart - 3, 75)),
        arms=((-up, -up - 12), (up, up + 12)),
    )  # fmt: skip
    return canvas.image


def dancing(t: float) -> Image.Image:
    canvas = Canvas(sky="#2b1d52 #7b3fa0")
    lights = Canvas()
    for i, colour in enumerate(("#ff8fab40", "#ffd43b40", "#74c0fc40")):
        foot = 104 + 60 * sin(1.6 * t + 2 * i)
        lights.polygon([(40 + 64 * i, 0), (foot - 26, 112), (foot + 26, 112)], colour)
    canvas.box(0, 88, WIDTH, 40, "#3c2a63")
    for x in range(-80, WIDTH + 80, 26):
        canvas.limb([(x * 0.7 + 31, 88), (x, 122)], 0.6, "#5b4391")
    canvas.image.alpha_composite(lights.image)
    beat = 2 * pi * t / 1.2
    sway, wave = sin(beat), sin(2 * beat)
    left, right = max(0.0, -sway), max(0.0, sway)
    person(
        canvas, 104 + 13 * sway, 106, lean=-9 * sway, shirt="#0b7a75 #2ec4b6",
        legs=((-9 - 26 * left, 20 * left - 6, -75), (9 + 26 * right, 6 - 20 * right, 75)),
        arms=((-120 + 40 * sway, -165 + 40 * wave), (110 + 40 * sway, 165 + 40 * wave)),
    )  # fmt: skip
    return canvas.image


CLIPS: dict[str, Callable[[float], Image.Image]] = {
    "camera_motion/ref_pan_right_208x120": lambda t: camera(130 + 67 * t, 262),
    "camera_motion/ref_镜头仰角旋转_208x120": lambda t: camera(300, 275 - 190 * ease(t)),
    "camera_motion/ref_slow zoom in_208x120": lambda t: camera(297, 264, 1 + 1.6 * ease(t)),
    "single_object/ref_bouncing_ball_208x120": bouncing_ball,
    "single_object/ref_汽车行驶_208x120": driving_car,
    "single_object/ref_flying_kite_208x120": flying_kite,
    "multiple_objects/ref_three_balls_208x120": three_balls,
    "multiple_objects/ref_鱼群游动_208x120": school_of_fish,
    "multiple_objects/ref_two_cars_208x120": two_cars,
    "complex_human_motion/ref_walking_208x120": walking,
    "complex_human_motion/ref_开合跳_208x120": jumping_jacks,
    "complex_human_motion/ref_dancing_208x120": dancing,
}


def main() -> None:
    for name, draw in CLIPS.items():
        frames = [
            draw(i / FPS).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
            for i in range(NUM_FRAMES)
        ]
        path = HERE / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, frames, fps=FPS, quality=QUALITY)
        print(f"{path.stat().st_size:8} bytes  {path.relative_to(HERE)}")


if __name__ == "__main__":
    main()
