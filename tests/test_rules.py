"""Rules that cut a grid: what they leave is exactly what they say, and none is in vain."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st

from runner.disk.manifest import read_manifest
from runner.experiment.rules import Cut, Fitted

POINTS: dict[str, list[Any]] = {
    "category": ["a", "b"],
    "video": ["v", "w"],
    "cfg_scale": [3.0, 5.0],
    "prompt": [0, 1],
    "seed": [1, 2, 3],
}
RULES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            axis: st.sampled_from(values) | st.lists(st.sampled_from(values), min_size=1)
            for axis, values in POINTS.items()
        },
    ).filter(bool),
    max_size=3,
)


def fits(rule: dict[str, Any], point: dict[str, Any]) -> bool:
    return all(
        point[axis] in (value if isinstance(value, list) else [value])
        for axis, value in rule.items()
    )


@given(include=RULES, exclude=RULES)
def test_a_cut_leaves_what_the_rules_say(
    include: list[dict[str, Any]], exclude: list[dict[str, Any]]
) -> None:
    """Going from the outer axes inwards gives what looking at every point gives."""
    cut, fitted = Cut.of(include, exclude), Fitted()
    expected = set()
    found = set()
    for category in POINTS["category"]:
        for video in POINTS["video"]:
            for scale in POINTS["cfg_scale"]:
                for prompt in POINTS["prompt"]:
                    known = {"category": category, "video": video}
                    inner = {"cfg_scale": scale, "other": 1}
                    last = fitted.note(cut.given(known).given(inner).given({"prompt": prompt}))
                    kept = last.keep(POINTS["seed"], fitted)
                    assert not kept or last.may_keep
                    found |= {(category, video, scale, prompt, seed) for seed in kept}
                    for seed in POINTS["seed"]:
                        point = {**known, **inner, "prompt": prompt, "seed": seed}
                        included = not include or any(fits(rule, point) for rule in include)
                        if included and not any(fits(rule, point) for rule in exclude):
                            expected.add((category, video, scale, prompt, seed))
    assert found == expected
    assert fitted.missing(cut) == []


def outputs(project: Project) -> list[str]:
    return [job.output for job in read_manifest(project.run_folder.manifest).jobs]


def test_include_and_exclude_cut_the_grid(project: Project) -> None:
    """Over names, prompts, seeds and parameters; values or lists of them; in any spelling of
    Unicode and of numbers."""
    project.write(
        seeds=[1, 2],
        axes={"cfg_scale": [3, 5]},
        include=[{"category": "camera_motion"}, {"video": "ref 🎬 b", "prompt": [0, 2]}],
        exclude=[{"cfg_scale": 3, "seed": [2]}, {"video": "-dash", "cfg_scale": [3.0]}],
    )
    ended = project.call("plan", "experiments/x.yaml", "--json")
    assert ended.status == 0, ended.err
    found = outputs(project)
    assert len(found) == 2 * 3 + 2 + 2 * 3
    assert not any("seed_2" in name and "cfg_scale" in name for name in found)
    assert not any("-dash" in name and "cfg_scale" in name for name in found)
    assert {name.split("_prompt_")[1][0] for name in found if "🎬" in name} == {"0", "2"}


def test_what_is_taken_out_is_retired_and_put_back_is_done(project: Project) -> None:
    """A rule deletes nothing: without it the videos count again, and none is made anew."""
    project.finish()
    project.write(exclude=[{"category": "two words", "prompt": 1}])
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert (answer["changes"]["kept"], answer["changes"]["retired"]) == (5, 1)
    assert project.progress()["total"] == 5
    story = json.loads(project.call("explain", "x", "ref 🎬 b", "prompt=1", "--json").out)
    assert story["state"] == "retired"
    assert (project.run_folder.path / story["output"]).exists()
    project.write()
    assert project.call("plan", "experiments/x.yaml").status == 0
    assert project.progress()["done"] == 6


def test_a_broken_clip_that_is_cut_away_is_no_problem(project: Project) -> None:
    """Nor is one without prompts: nothing is to be made of it."""
    folder = project.root / "videos" / "camera_motion"
    (folder / "-dash.mp4").write_bytes(b"no video")
    (folder / "new.mp4").write_bytes(b"no video")
    assert project.call("plan", "experiments/x.yaml").status == 2
    project.write(exclude=[{"video": ["-dash", "new"]}])
    ended = project.call("plan", "experiments/x.yaml", "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["total"] == 5


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"exclude": [{"video": "nosuch"}]}, ["exclude.0", "fits nothing"]),
        ({"include": [{"seed": 1}, {"seed": 9}]}, ["include.1", "fits nothing"]),
        ({"exclude": [{"sed": 1}]}, ["exclude.0.sed", "did you mean seed"]),
        ({"exclude": [{}]}, ["exclude.0", "must name"]),
        ({"exclude": [{"seed": []}]}, ["exclude.0.seed", "value"]),
        ({"exclude": ["seed=1"]}, ["exclude.0", "seed=1"]),
        ({"exclude": {"seed": 1}}, ["exclude", "list"]),
        ({"exclude": [{"seed": [1, 2]}]}, ["leave no job"]),
    ],
)
def test_a_wrong_rule_is_refused_by_its_place(
    project: Project, rules: dict[str, Any], says: list[str]
) -> None:
    project.write(**rules)
    ended = project.call("plan", "experiments/x.yaml")
    assert ended.status == 2, ended.out
    assert 1 <= len(ended.err.splitlines()) <= 2
    for text in says:
        assert text in ended.err
    assert not project.run_folder.experiment.exists()
