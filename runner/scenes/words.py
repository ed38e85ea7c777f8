"""The vocabulary of scenes: every name with its words in English and Chinese."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Word:
    """A name's words. `chinese` follows the noun or verb order of the captions."""

    english: str
    chinese: str


COLOURS: dict[str, Rgb] = {
    "red": (214, 40, 44),
    "orange": (240, 134, 26),
    "yellow": (244, 214, 44),
    "green": (34, 160, 64),
    "blue": (40, 84, 214),
    "purple": (146, 52, 186),
}
"""Far more saturated than any background, so that a thing can be told from it by that alone."""

LEAST_SATURATION = 96
"""Difference of a pixel's largest and smallest channel, of 255, that no background reaches."""

COLOUR_WORDS = {
    "red": Word("red", "红色"),
    "orange": Word("orange", "橙色"),
    "yellow": Word("yellow", "黄色"),
    "green": Word("green", "绿色"),
    "blue": Word("blue", "蓝色"),
    "purple": Word("purple", "紫色"),
}

THING_SHAPES = {
    "ball": Word("ball", "球"),
    "square": Word("square", "方块"),
    "triangle": Word("triangle", "三角形"),
    "star": Word("star", "星星"),
    "ring": Word("ring", "圆环"),
}

PERSON = "person"

MOTIONS = {
    "roll_right": Word("rolling to the right", "向右滚动"),
    "roll_left": Word("rolling to the left", "向左滚动"),
    "fly_right": Word("flying to the right", "向右飞行"),
    "fly_left": Word("flying to the left", "向左飞行"),
    "bounce": Word("bouncing up and down", "上下弹跳"),
    "rise": Word("rising", "上升"),
    "fall": Word("falling", "下落"),
    "circle": Word("moving in a circle", "绕圈移动"),
}

ACTIONS = {
    "walk_right": Word("walking to the right", "向右走"),
    "walk_left": Word("walking to the left", "向左走"),
    "jump": Word("doing jumping jacks", "做开合跳"),
    "wave": Word("waving", "挥手"),
    "dance": Word("dancing", "跳舞"),
    "squat": Word("doing squats", "做深蹲"),
}

CAMERAS = {
    "pan_right": Word("pans to the right past", "向右平移"),
    "pan_left": Word("pans to the left past", "向左平移"),
    "tilt_up": Word("tilts up over", "向上仰起"),
    "tilt_down": Word("tilts down to", "向下俯下"),
    "zoom_in": Word("zooms in on", "推近"),
    "zoom_out": Word("zooms out from", "拉远"),
}

BACKGROUNDS = {
    "grass": Word("on grass", "草地上"),
    "sand": Word("on sand", "沙地上"),
    "road": Word("on a road", "马路上"),
    "night": Word("at night", "夜里"),
}

CATEGORIES = ("camera_motion", "single_object", "multiple_objects", "complex_human_motion")


def held_out(colour: str, shape: str, motion: str) -> bool:
    """Whether training leaves a combination out: about a sixth of all, fixed for ever."""
    return hashlib.sha256(f"{colour} {shape} {motion}".encode()).digest()[0] % 6 == 0


@dataclass(frozen=True)
class Mention:
    """A thing that a text speaks of; `shape` is one of `THING_SHAPES`, or `PERSON` with a shirt."""

    colour: str
    shape: str


def mentions(text: str) -> list[Mention]:
    """The coloured things of a caption in their order; empty for text of another kind."""
    shapes = {word.english: name for name, word in THING_SHAPES.items()}
    shapes |= {word.chinese: name for name, word in THING_SHAPES.items()}
    shapes |= {"shirt": PERSON, "衣服": PERSON}
    colours = {word.english: name for name, word in COLOUR_WORDS.items()}
    colours |= {word.chinese: name for name, word in COLOUR_WORDS.items()}
    pattern = rf"({'|'.join(colours)})(?:\s+|的|)({'|'.join(shapes)})"
    found = re.findall(pattern, text.lower())
    return [Mention(colours[colour], shapes[shape]) for colour, shape in found]
