"""Run folders that former versions made are read for ever: `data/` has them as they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Project

from runner.disk.run_folder import RESERVED_LATER

DATA = Path(__file__).with_name("data")
VIDEOS = ["seed_1_prompt_0", "seed_1_prompt_1"]


@pytest.fixture
def former(tmp_path: Path) -> Project:
    """A finished sweep of two videos, of manifest and sidecar schema 1, recipe 1 of `fake`."""
    shutil.copytree(DATA / "schema_1", tmp_path / "项目")
    return Project(tmp_path / "项目")


def test_a_former_run_is_read_as_it_is(former: Project) -> None:
    """Whole videos that vouch for themselves, told as stale for the recipe alone, in one line."""
    verified = json.loads(former.call("verify", "former", "--json").out)
    assert (verified["good"], verified["broken"]) == (2, [])
    planned = former.call("plan", "experiments/former.yaml")
    assert planned.status == 0, planned.err
    assert "+0 new, 0 kept, 2 stale" in planned.out
    (line,) = (line for line in planned.out.splitlines() if line.startswith("  2: "))
    assert line.startswith("  2: recipe: 1 -> 2: clips are read by the times of their frames")
    assert planned.out.count("stale") == 3  # in the counts, in the summary, in its remedy
    again = former.call("plan", "experiments/former.yaml", "--json")
    assert json.loads(again.out)["stale"]["videos"] == 2


def test_its_stale_videos_are_remade_and_none_is_lost(former: Project) -> None:
    folder = former.root / "results" / "former"
    before = {name: (folder / "动作" / "ref_左" / f"{name}.mp4").read_bytes() for name in VIDEOS}
    assert former.call("plan", "experiments/former.yaml").status == 0
    made = former.sweep("resume", "former", "--stale", "--on", "local", "--wait")
    assert made.status == 0, made.err
    for name, content in before.items():
        (kept,) = (folder / "superseded" / "动作" / "ref_左").glob(f"{name}.*.mp4")
        assert kept.read_bytes() == content
        assert kept.with_suffix(".json").exists()
        sidecar = json.loads((folder / "动作" / "ref_左" / f"{name}.json").read_text("utf-8"))
        assert sidecar["recipe"] == 2
    verified = json.loads(former.call("verify", "former", "--json").out)
    assert (verified["good"], verified["broken"]) == (2, [])
    assert json.loads(former.call("progress", "former", "--json").out)["done"] == 2


@pytest.mark.parametrize("name", sorted(RESERVED_LATER))
def test_a_category_that_is_a_reserved_name_by_now_is_kept_where_it_was(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New sweeps cannot have it, since such files and folders lie there."""
    (project.root / "videos" / "camera_motion").rename(project.root / "videos" / name)
    prompts = project.root / "prompts.json"
    prompts.write_text(prompts.read_text("utf-8").replace("camera_motion", name), "utf-8")
    with monkeypatch.context() as before_it_was_reserved:
        for module in ("experiment.sections", "dataset.files"):
            before_it_was_reserved.setattr(f"runner.{module}.RESERVED_LATER", frozenset())
        assert project.call("plan", "experiments/x.yaml").status == 0
    kept = project.call("plan", "experiments/x.yaml", "seeds=[1,2]")
    assert kept.status == 0, kept.err
    assert "+6 new, 6 kept" in kept.out
    if name == "scores":
        made = project.sweep("resume", "x", "--on", "local", "--wait")
        assert made.status == 0, made.err
        assert json.loads(project.call("verify", "x", "--json").out)["good"] == 12
    refused = project.call("plan", "experiments/x.yaml", "name=new")
    assert refused.status == 2
    assert f"'{name}' is a folder of the run folder itself; rename the category" in refused.err
