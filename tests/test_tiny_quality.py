"""What the shipped checkpoint can do, on a few held-out scenes: bars with room below its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("modelscope")
pytest.importorskip("cv2")

from hand_made import a_job  # noqa: E402 - after the packages are known

from runner.backends import Machine  # noqa: E402
from runner.backends.wan.engine import WanEngine  # noqa: E402
from runner.backends.wan.planner import WanPlanner  # noqa: E402
from runner.backends.wan.settings import WanSettings  # noqa: E402
from runner.job import FileInput  # noqa: E402
from runner.job.shape import Shape  # noqa: E402
from runner.quality.looks import fit_outlines, judge, share  # noqa: E402
from runner.quality.movement import agreement, flow_of  # noqa: E402
from runner.scenes.caption import english  # noqa: E402
from runner.scenes.chance import random_scene  # noqa: E402
from runner.scenes.render import render  # noqa: E402
from runner.scenes.scene import Scene  # noqa: E402
from runner.scenes.words import CATEGORIES, mentions  # noqa: E402
from runner.video import read_clip, write_video  # noqa: E402

if TYPE_CHECKING:
    from runner.video import Frames

SIZE: dict[str, Any] = {"width": 128, "height": 80, "num_frames": 17, "fps": 8}


def held_out(category: str, count: int, seed: int) -> list[Scene]:
    random = np.random.default_rng(seed)
    return [random_scene(random, category, accept=Scene.held_out) for _ in range(count)]


def write_scene(path: Path, scene: Scene) -> Frames:
    """The clip as it is read back from its file."""
    write_video(path, render([scene], **SIZE)[0], fps=8, quality=9)
    return read_clip(path, Shape(**SIZE))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> WanEngine:
    root = tmp_path_factory.mktemp("project")
    engine = WanPlanner(WanSettings(checkpoint="tiny"), root).engine()
    engine.load(Machine("cpu", root))
    return engine


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Frames]]:
    """A held-out clip of each category, from its file."""
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for category in CATEGORIES:
        (scene,) = held_out(category, 1, 4)
        path = folder / f"{category}.mp4"
        made.append((path, write_scene(path, scene)))
    return made


def parameters(strength: float) -> dict[str, Any]:
    return {
        **SIZE,
        "num_inference_steps": 12,
        "cfg_scale": 3.5,
        "denoising_strength": strength,
    }


def video(engine: WanEngine, clip: Path, prompt: str, strength: float) -> Frames:
    wanted = parameters(strength)
    job = a_job(prompt_text=prompt, reference=FileInput(str(clip), ""), parameters=wanted)
    engine.prepare(job.series)
    return np.asarray(engine.generate(job, Path(), lambda _done, _total: None).frames)


def test_what_a_prompt_names_is_there(engine: WanEngine, clips: list[tuple[Path, Frames]]) -> None:
    """Colour and shape of combinations that training left out, from the prompt alone."""
    outlines = fit_outlines(80)
    scenes = held_out("single_object", 2, 1) + held_out("multiple_objects", 1, 1)
    judged = []
    for scene in scenes:
        text = english(scene)
        frames = video(engine, clips[0][0], text, 1.0)
        judged += judge(frames, mentions(text), outlines)
    assert (share(one.colour for one in judged) or 0) >= 0.9
    assert (share(one.shape for one in judged) or 0) >= 0.8


def test_motion_is_the_references(engine: WanEngine, clips: list[tuple[Path, Frames]]) -> None:
    """The prompt names other things in the clip's place, and no motion: the clip's is taken."""
    flows = [flow_of(frames) for _, frames in clips]
    own: list[float] = []
    other: list[float] = []
    for number, (path, _) in enumerate(clips):
        category = CATEGORIES[number]
        (shown,), (wanted,) = held_out(category, 1, 4), held_out(category, 1, 5)
        prompt = english(replace(wanted, background=shown.background), motion=False)
        flow = flow_of(video(engine, path, prompt, 0.5))
        for at, reference in enumerate(flows):
            (own if at == number else other).append(agreement(flow, reference))
    assert np.mean(own) > 0.3
    assert np.mean(own) > np.mean(other) + 0.2


def test_the_vae_gives_clips_back(engine: WanEngine, clips: list[tuple[Path, Frames]]) -> None:
    """Their pixels nearly, and all shapes: what a VAE rounds off no DiT can draw."""
    outlines = fit_outlines(80)
    psnr = []
    judged = []
    for number, (path, frames) in enumerate(clips):
        again = engine.reconstruct(
            a_job(
                "c", "clip", reference=FileInput(str(path), ""), parameters=parameters(1.0)
            ).series
        )
        (shown,) = held_out(CATEGORIES[number], 1, 4)
        judged += judge(again, mentions(english(shown)), outlines)
        error = np.mean((again.astype(np.float64) - frames) ** 2)
        psnr.append(10 * np.log10(255**2 / error))
    assert np.mean(psnr) >= 30
    assert share(one.shape for one in judged) == 1
