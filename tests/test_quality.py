"""The measures of quality, on drawn clips of which everything is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import Project

pytest.importorskip("cv2")

from runner.quality.__main__ import main
from runner.quality.looks import Outlines, fit_outlines, judge, validate
from runner.quality.movement import agreement, flow_of
from runner.scenes.chance import random_scene
from runner.scenes.render import render
from runner.scenes.scene import Scene
from runner.scenes.words import COLOURS, THING_SHAPES, Mention

if TYPE_CHECKING:
    from runner.video import Frames

SIZE = {"width": 128, "height": 80, "num_frames": 9, "fps": 4.0}


@pytest.fixture(scope="module")
def outlines() -> Outlines:
    return fit_outlines(100)


def clip(scene: Scene) -> Frames:
    return np.asarray(render([scene], **SIZE)[0])  # type: ignore[arg-type]


def test_real_clips_are_judged_right(outlines: Outlines) -> None:
    """Or nothing that is said of generated ones would mean anything."""
    found = validate(outlines, 40)
    assert found["colour"] >= 0.97
    assert found["shape"] >= 0.95


def test_a_wrong_colour_or_shape_is_seen(outlines: Outlines) -> None:
    scene = random_scene(np.random.default_rng(3), "single_object")
    thing = scene.things[0]
    frames = clip(scene)
    for colour in COLOURS:
        for shape in THING_SHAPES:
            (judged,) = judge(frames, [Mention(colour, shape)], outlines)
            assert judged.colour == (colour == thing.colour)
            assert judged.shape == (shape == thing.shape)


def test_a_clip_without_things_has_no_colour(outlines: Outlines) -> None:
    grey = np.full((5, 80, 128, 3), 120, np.uint8)
    (judged,) = judge(grey, [Mention("red", "ball")], outlines)
    assert not judged.colour
    assert judged.shape is None


def test_motion_agrees_with_itself_in_another_colour_and_not_with_another() -> None:
    """The flow of a clip in grey is its own; that of another scene is not."""
    random = np.random.default_rng(5)
    one, other = (clip(random_scene(random, "single_object")) for _ in range(2))
    flow = flow_of(one)
    assert agreement(flow, flow) == pytest.approx(1)
    assert agreement(flow, flow_of(255 - one)) > 0.9
    assert agreement(flow, flow_of(other)) < 0.4
    still = flow_of(np.repeat(one[:1], 9, 0))
    assert agreement(flow, still) == pytest.approx(0, abs=0.1)


def test_a_runs_videos_are_measured(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """With the fake backend: no thing is there in its colour, and two seeds differ."""
    project.write(seeds=[1, 2])
    words = [str(project.run_folder.path), "--json"]
    project.call("plan", "experiments/x.yaml")
    assert main(words) == 2
    assert "no finished video" in capsys.readouterr().err
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait").status == 0
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["validation"]["colour"] >= 0.97
    (measured,) = answer["runs"][0]["measured"]
    assert measured["videos"] == 12
    assert not measured["colour"]
    assert measured["seeds"] > 0
    assert answer["runs"][0]["vae_psnr"] is None
