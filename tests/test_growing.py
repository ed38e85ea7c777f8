"""An experiment that grows: what plan says of it, and workers that take it in as they work."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import TWO, Project, wait_for

from runner.disk.manifest import read_manifest
from runner.experiment.overrides import merged_overrides
from runner.text.errors import UserError

LAUNCH = ("--on", "local", "--wait")


def plan(project: Project, *words: str) -> str:
    ended = project.call("plan", "experiments/x.yaml", *words)
    assert ended.status == 0, ended.err
    return next(line for line in ended.out.splitlines() if line.startswith("+"))


def rewrite_prompts(project: Project, old: str, new: str) -> None:
    path = project.root / "prompts.json"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_plan_says_what_is_new_kept_stale_and_retired(project: Project) -> None:
    """And of what became stale, what has changed and where."""
    project.write(model={"seconds": 0.02})
    assert plan(project) == "+6 new, 0 kept, 0 stale, 0 retired"
    assert project.sweep("launch", "x", *LAUNCH).status == 0
    rewrite_prompts(project, "a red ball", "a blue ball")
    rewrite_prompts(project, '"one", ', "")
    project.write(model={"seconds": 0.02}, seeds=[1, 2])
    assert plan(project) == (
        "+5 new, 4 kept, 1 stale (prompt changed in camera_motion/ref_镜头仰角), 1 retired"
    )
    line = plan(project, "generation.cfg_scale=6")
    assert line == (
        "+0 new, 0 kept, 5 stale (generation.cfg_scale changed), "
        "5 changed before they were made, 0 retired"
    )
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert (answer["made_stale"], answer["reasons"], answer["stale"]["videos"]) == (0, [], 5)


def test_running_workers_take_in_a_grid_that_grows(project: Project) -> None:
    """Another seed and an axis, planned while the sweep runs: the same workers make them all."""
    # One job lasts while the rest is made and planned: its worker and those who wait for it stay.
    slow = {"kind": "slow", "video": "-dash", "seed": 1}
    model = {"seconds": 0.1, "slow_factor": 60, "faults": [slow]}
    one: dict[str, Any] = {"model": model, "placement": TWO}
    project.write(**one)
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    wait_for(lambda: project.progress()["done"] >= 1, 60)
    workers = {worker["name"]: worker["pid"] for worker in project.progress()["workers"]}
    assert len(workers) == 2
    project.write(**one, seeds=[1, 2], axes={"denoising_strength": [0.7, 0.8]})
    planned = project.call("plan", "experiments/x.yaml")
    assert "+18 new, 6 kept, 0 stale, 0 retired" in planned.out, planned.err
    wait_for(lambda: project.progress()["done"] == 24, 120)
    assert {w["name"]: w["pid"] for w in project.progress()["workers"]} == workers
    assert project.call("verify", "x").status == 0
    strengths = set()
    for job in read_manifest(project.run_folder.manifest).jobs:
        record = json.loads(project.run_folder.sidecar(job).read_text(encoding="utf-8"))
        assert record["parameters"] == job.parameters
        strengths.add(record["parameters"]["denoising_strength"])
    assert strengths == {0.7, 0.8}


def test_an_override_is_taken_back_only_where_there_is_one(project: Project) -> None:
    assert project.call("plan", "experiments/x.yaml", "output.quality=7").status == 0
    for words, says in [
        (["output.qualty="], "output.quality"),
        (["seeds="], "in force"),
        (["seeds==[1]"], "key=value"),
        (["=1"], "key=value"),
    ]:
        ended = project.call("plan", "experiments/x.yaml", *words)
        assert ended.status == 2, words
        assert words[0] in ended.err
        assert says in ended.err
    assert project.call("plan", "experiments/x.yaml", "output.quality=").status == 0
    assert project.call("plan", "experiments/x.yaml", "output.quality=").status == 2


def test_a_value_may_end_with_an_equals_sign() -> None:
    """Only KEY= takes back; text that ends so is a value."""
    assert merged_overrides(["a=1"], ["b=x="]) == ["a=1", "b=x="]
    assert merged_overrides(["a=1", "b=2"], ["a=", "b=3"]) == ["b=3"]
    with pytest.raises(UserError, match="in force"):
        merged_overrides(["a=1"], ["b="])


def test_strength_one_warns_that_the_reference_is_ignored(project: Project) -> None:
    project.write(axes={"denoising_strength": [0.8, 1]})
    ended = project.call("plan", "experiments/x.yaml", "--json")
    (problem,) = json.loads(ended.out)["problems"]
    assert "ignores the reference, in 6 of 12 jobs" in problem
