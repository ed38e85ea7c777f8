"""Drawn scenes: the same from the same seed, and described by their captions."""

from __future__ import annotations

import numpy as np
import pytest

from runner.scenes.caption import captions, chinese, english
from runner.scenes.chance import random_scene
from runner.scenes.render import Batch, batch_of, draw, render, times_of
from runner.scenes.scene import Scene
from runner.scenes.words import CATEGORIES, PERSON, mentions


def scenes(count: int = 3, **options: object) -> list[Scene]:
    random = np.random.default_rng(1)
    return [
        random_scene(random, category, **options)  # type: ignore[arg-type]
        for category in CATEGORIES
        for _ in range(count)
    ]


def test_the_same_seed_draws_the_same_pixels() -> None:
    size = {"width": 64, "height": 40, "num_frames": 3, "fps": 8.0}
    assert scenes() == scenes()
    assert np.array_equal(render(scenes(1), **size), render(scenes(1), **size))  # type: ignore[arg-type]


def test_torch_draws_what_numpy_draws() -> None:
    """Training renders on the GPU what the sample clips are rendered with."""
    torch = pytest.importorskip("torch")
    batch = batch_of(scenes(2), times_of(3, 4))
    tensors = {name: torch.from_numpy(array) for name, array in batch.arrays().items()}
    drawn = draw(torch, Batch(**tensors), 64, 40).numpy()
    assert np.allclose(drawn, draw(np, batch, 64, 40), atol=1e-4)


def test_a_size_other_than_trained_shows_the_same_scene() -> None:
    """Twice the size, averaged, is nearly the small clip."""
    small, large = (
        render(scenes(1), width=w, height=h, num_frames=2, fps=1).astype(float)
        for w, h in ((64, 40), (128, 80))
    )
    halved = large.reshape(*small.shape[:2], 40, 2, 64, 2, 3).mean((3, 5))
    assert np.abs(halved - small).mean() < 3


@pytest.mark.parametrize("scene", scenes(6), ids=english)
def test_captions_name_every_coloured_thing(scene: Scene) -> None:
    """In both languages, in order; and the scene holds no combination that is held out."""
    wanted = [(colour, shape) for colour, shape, _ in scene.combinations()]
    for text in captions(scene):
        assert [(mention.colour, mention.shape) for mention in mentions(text)] == wanted
    assert len(captions(scene)) == 7
    assert abs(sum(captions(scene).values()) - 1) < 1e-9
    assert scene.seen()


def test_held_out_scenes_can_be_asked_for() -> None:
    assert all(scene.held_out() for scene in scenes(2, accept=Scene.held_out))


def test_text_of_another_kind_mentions_nothing() -> None:
    assert mentions("A slow pan over a Norwegian fjord, cinematic.") == []
    assert mentions("镜头平稳地向右平移，水墨画风格。") == []
    assert mentions(chinese(scenes(1)[3]))[0].shape == PERSON
