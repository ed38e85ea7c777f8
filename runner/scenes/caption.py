"""Captions of scenes, in the words of `words`."""

from __future__ import annotations

from .scene import Scene
from .words import ACTIONS, BACKGROUNDS, CAMERAS, COLOUR_WORDS, MOTIONS, THING_SHAPES


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _things(scene: Scene, *, motion: bool) -> str:
    parts = []
    for thing in scene.things:
        words = (
            f"{_article(COLOUR_WORDS[thing.colour].english)} {THING_SHAPES[thing.shape].english}"
        )
        if motion and thing.motion:
            words += f" {MOTIONS[thing.motion].english}"
        parts.append(words)
    if scene.person:
        words = f"a person in {_article(COLOUR_WORDS[scene.person.colour].english)} shirt"
        parts.append(words + (f" {ACTIONS[scene.person.action].english}" if motion else ""))
    return " and ".join(parts)


def english(scene: Scene, *, motion: bool = True, background: bool = True) -> str:
    """`a red ball rolling to the right on grass`, with or without its motion and its place."""
    words = _things(scene, motion=motion)
    if scene.camera and motion:
        words = f"the camera {CAMERAS[scene.camera.move].english} {words}"
    return f"{words} {BACKGROUNDS[scene.background].english}" if background else words


def turned(scene: Scene) -> str:
    """The same facts in another order, as a sentence."""
    background = BACKGROUNDS[scene.background].english
    return f"{background.capitalize()}, {english(scene, background=False)}."


def chinese(scene: Scene, *, motion: bool = True) -> str:
    """`草地上一个红色的球向右滚动`, with or without its motion."""
    parts = []
    for thing in scene.things:
        words = f"一个{COLOUR_WORDS[thing.colour].chinese}的{THING_SHAPES[thing.shape].chinese}"
        parts.append(words + (MOTIONS[thing.motion].chinese if motion and thing.motion else ""))
    if scene.person:
        words = f"一个穿{COLOUR_WORDS[scene.person.colour].chinese}衣服的人"
        parts.append(words + (ACTIONS[scene.person.action].chinese if motion else ""))
    text = BACKGROUNDS[scene.background].chinese + "和".join(parts)
    if scene.camera and motion:
        text = f"镜头{CAMERAS[scene.camera.move].chinese}，{text}"
    return text


def captions(scene: Scene) -> dict[str, float]:
    """Every caption that training gives a scene, with its share."""
    return {
        english(scene): 0.4,
        turned(scene): 0.1,
        chinese(scene): 0.2,
        english(scene, motion=False): 0.12,
        english(scene, background=False): 0.08,
        chinese(scene, motion=False): 0.06,
        english(scene, motion=False, background=False): 0.04,
    }
