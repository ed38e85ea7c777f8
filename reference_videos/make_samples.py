"""Draw the sample reference clips and their prompts: `python reference_videos/make_samples.py`.

Twelve clips of 81 frames at 15 fps, 256x160 pixels, in the four categories of the motion
transfer sweep, and three prompts for each. They are drawings, so they may be passed on freely,
and each shows its motion within the first two seconds. The same code writes the same files.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # also without the project installed

from runner.scenes.caption import chinese, english  # noqa: E402 - needs the path above
from runner.scenes.render import render  # noqa: E402
from runner.scenes.scene import Camera, Person, Scene, Thing  # noqa: E402
from runner.video import write_video  # noqa: E402

WIDTH, HEIGHT, NUM_FRAMES, FPS, QUALITY = 256, 160, 81, 15, 6
PROMPTS = HERE.parent / "prompts" / "motion_transfer.json"


def moving(
    colour: str,
    shape: str,
    motion: str,
    at: tuple[float, float],
    speed: float,
    radius: float = 0.24,
) -> Thing:
    reach = 0.32 if motion == "bounce" else 0.18
    return Thing(colour, shape, motion, radius, *at, speed, reach)


def resting(colour: str, shape: str) -> Thing:
    return Thing(colour, shape, None, 0.22, 0.8, 0.57, 0.0)


def person(colour: str, action: str, x: float) -> Person:
    return Person(colour, action, x, ground=0.92, size=1.05, tempo=0.9, phase=0.1)


CLIPS = {
    "ref_pan_right_256x160": Scene(
        "camera_motion", "grass", 3, (resting("red", "ball"),), camera=Camera("pan_right", 0.6)
    ),
    "ref_镜头上仰_256x160": Scene(
        "camera_motion", "sand", 4, (resting("blue", "square"),), camera=Camera("tilt_up", 0.3)
    ),
    "ref_slow zoom in_256x160": Scene(
        "camera_motion", "road", 5, (resting("yellow", "star"),), camera=Camera("zoom_in", 1.5)
    ),
    "ref_rolling_ball_256x160": Scene(
        "single_object", "grass", 6, (moving("red", "ball", "roll_right", (0.3, 0.66), 0.45),)
    ),
    "ref_方块弹跳_256x160": Scene(
        "single_object", "sand", 7, (moving("blue", "square", "bounce", (0.8, 0.66), 0.8),)
    ),
    "ref_flying_star_256x160": Scene(
        "single_object", "night", 0, (moving("yellow", "star", "fly_left", (1.3, 0.4), -0.45),)
    ),
    "ref_two_balls_256x160": Scene(
        "multiple_objects",
        "road",
        1,
        (
            moving("red", "ball", "roll_right", (0.3, 0.72), 0.42, 0.19),
            moving("blue", "ball", "fly_left", (1.3, 0.28), -0.42, 0.19),
        ),
    ),
    "ref_升与落_256x160": Scene(
        "multiple_objects",
        "sand",
        2,
        (
            moving("green", "triangle", "rise", (0.45, 0.71), 0.25, 0.19),
            moving("purple", "ring", "fall", (1.15, 0.2), 0.25, 0.19),
        ),
    ),
    "ref_circle_and_bounce_256x160": Scene(
        "multiple_objects",
        "grass",
        3,
        (
            moving("orange", "star", "circle", (0.5, 0.5), 0.5, 0.19),
            moving("purple", "square", "bounce", (1.25, 0.71), 0.8, 0.19),
        ),
    ),
    "ref_walking_256x160": Scene(
        "complex_human_motion", "grass", 4, person=person("blue", "walk_right", 0.4)
    ),
    "ref_开合跳_256x160": Scene(
        "complex_human_motion", "road", 5, person=person("orange", "jump", 0.8)
    ),
    "ref_dancing_256x160": Scene(
        "complex_human_motion", "night", 6, person=person("red", "dance", 0.8)
    ),
}

_NEXT = {
    "red": "blue", "blue": "yellow", "yellow": "purple",
    "purple": "green", "green": "orange", "orange": "red",
    "ball": "star", "star": "square", "square": "ring", "ring": "triangle", "triangle": "ball",
    "grass": "sand", "sand": "road", "road": "grass", "night": "night",
}  # fmt: skip


def other(scene: Scene) -> Scene:
    """The same motion by things of other colours and shapes, before another background."""
    things = tuple(
        replace(thing, colour=_NEXT[thing.colour], shape=_NEXT[thing.shape])
        for thing in scene.things
    )
    figure = scene.person and replace(scene.person, colour=_NEXT[scene.person.colour])
    return replace(scene, background=_NEXT[scene.background], things=things, person=figure)


def main() -> None:
    prompts: dict[str, dict[str, list[str]]] = {}
    for name, scene in CLIPS.items():
        frames = render([scene], width=WIDTH, height=HEIGHT, num_frames=NUM_FRAMES, fps=FPS)[0]
        path = HERE / scene.category / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, frames, fps=FPS, quality=QUALITY)
        first = replace(other(scene), background=scene.background)
        texts = [english(first), english(other(first)), chinese(other(other(first)))]
        prompts.setdefault(scene.category, {})[name] = texts
        print(f"{path.stat().st_size:8} bytes  {path.relative_to(HERE)}")
    text = json.dumps(prompts, ensure_ascii=False, indent=2) + "\n"
    PROMPTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
