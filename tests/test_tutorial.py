"""The tutorial's commands do what it says, in its order."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import Project, needs_tmux

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (sweep .*)$", TUTORIAL, re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder as the tutorial begins with it."""
    folder = tmp_path / "我的 project"
    shutil.copytree(ROOT / "reference_videos" / "complex_human_motion", folder / "clips")
    (table,) = re.findall(r"```csv\n(.*?)```", TUTORIAL, re.DOTALL)
    (folder / "prompts.csv").write_text(table, encoding="utf-8")
    # A worker loads its model for eight seconds, and eight videos need no second one.
    (folder / "machine.yaml").write_text("processes_per_gpu: 1\n", encoding="utf-8")
    return folder


def test_the_clips_that_it_names_are_the_samples(place: Path) -> None:
    named = re.findall(r"^    clips/(.*)$", TUTORIAL, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (place / "clips").iterdir())


def shorten(experiment: Path) -> None:
    """Two steps and five frames a video: what the commands do depends on neither."""
    text = experiment.read_text(encoding="utf-8")
    for key, value in (("num_inference_steps", 2), ("num_frames", 5)):
        text, count = re.subn(rf"(?m)^(  {key}:) \d+", rf"\1 {value}", text)
        assert count == 1
    experiment.write_text(text, encoding="utf-8")


@needs_tmux
def test_every_command_does_what_it_says(place: Path, private_tmux: dict[str, str]) -> None:
    """From clips and prompts to a report, and on to another seed."""
    project = Project(place, private_tmux)
    said = {}
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        verb, *words = shlex.split(command)[1:]
        starts_workers = verb in ("launch", "resume")
        done = (project.sweep if starts_workers else project.call)(verb, *words)
        assert done.status == 0, f"{command}\n{done.out}\n{done.err}"
        said[command] = done.out + done.err
        if verb == "init":
            shorten(place / "experiments" / "dances.yaml")
    assert "4 prompts x 1 seed: 4 videos" in said[COMMANDS[0]]
    assert "+4 new, 4 kept" in said["sweep plan experiments/dances.yaml seeds=[42,142]"]
    assert "8 good" in said[COMMANDS[-1]]
    assert (place / "results" / "dances" / "report" / "index.html").is_file()
    assert list((place / "results" / "dances" / "report" / "sheets").iterdir())
    assert (place / "dances.csv").is_file()
