"""A hand-made list of jobs: ids and paths by the rule of the grid, mistakes by line and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from runner.disk.manifest import read_manifest

HEAD = "category,video,prompt,seed,denoising_strength\n"
RED = "ref_镜头仰角"


def listed(project: Project, text: str, name: str = "my_jobs.csv", **more: Any) -> None:
    (project.root / name).write_text(text, encoding="utf-8")
    dataset = {"videos": "videos"}
    project.write(dataset=dataset, jobs=name, seeds=[], model={"seconds": 0.02}, **more)


def planned(project: Project) -> dict[str, str]:
    ended = project.call("plan", "experiments/x.yaml")
    assert ended.status == 0, ended.err
    return {job.output: job.id for job in read_manifest(project.run_folder.manifest).jobs}


def test_a_list_is_made_like_a_grid(project: Project) -> None:
    """What the list has in common with a grid has the same ids, paths and videos."""
    project.write(axes={"denoising_strength": [0.7, 0.8]}, seeds=[1, 2])
    grid = planned(project)
    listed(
        project,
        HEAD + f"camera_motion,{RED},a red ball,2,0.7\ncamera_motion,{RED}.mp4,a red ball,2,\n"
        f'camera_motion,{RED},"一只红色的球",1,0.80\ntwo words,ref 🎬 b,"one",1,0.9\n',
    )
    found = planned(project)
    new = "two words/ref 🎬 b/seed_1_prompt_0_denoising_strength=0.9.mp4"
    assert found.keys() - grid.keys() == {new}
    assert len(found) == 4
    assert {name: grid[name] for name in found if name != new}.items() <= found.items()
    ended = project.sweep("launch", "x", "--on", "local", "--wait", "--priority", "seed")
    assert ended.status == 0, ended.err
    assert project.progress()["done"] == 4
    again = project.call("plan", "experiments/x.yaml", "--json")
    assert json.loads(again.out)["changes"]["kept"] == 4


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_every_form_says_the_same(project: Project, suffix: str) -> None:
    records = [
        {"video": RED, "prompt": 'a "red", ball', "seed": 7},
        {"video": "-dash", "prompt": "一只\t球", "seed": 8, "cfg_scale": 3},
    ]
    if suffix == "jsonl":
        text = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    else:
        mark = {"csv": ",", "tsv": "\t"}[suffix]
        rows = [[RED, '"a ""red"", ball"', "7", ""], ["-dash", '"一只\t球"', "8", "3"]]
        text = "\n".join(
            mark.join(row) for row in [["video", "prompt", "seed", "cfg_scale"], *rows]
        )
    (project.root / "videos" / "two words" / "ref 🎬 b.mp4").unlink()
    (project.root / "videos" / "two words").rmdir()
    listed(project, f"\ufeff{text}\n", f"jobs.{suffix}")
    found = planned(project)
    assert list(found) == [
        f"camera_motion/{RED}/seed_7_prompt_0.mp4",
        "camera_motion/-dash/seed_8_prompt_0_cfg_scale=3.0.mp4",
    ]
    texts = [job.series.text("prompt") for job in read_manifest(project.run_folder.manifest).jobs]
    assert texts == ['a "red", ball', "一只\t球"]


def test_rules_cut_a_list_too(project: Project) -> None:
    listed(
        project,
        HEAD + f"camera_motion,{RED},one,1,\ncamera_motion,{RED},one,2,\n",
        exclude=[{"seed": 2}],
    )
    assert list(planned(project)) == [f"camera_motion/{RED}/seed_1_prompt_0.mp4"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("video,seed\n", [":1", "no column prompt"]),
        ("video,prompt,seed,seed\n", [":1", "seed", "twice"]),
        (HEAD + "camera_motion,-dash,a,1\n", [":2", "4 cells"]),
        (HEAD + "camera_motion,-dash,a,x,\n", [":2", "seed", "whole number"]),
        (HEAD + "camera_motion,-dash,,1,\n", [":2", "prompt", "missing"]),
        (HEAD + "camera_motion,-dsh,a,1,\n", [":2", "video", "did you mean -dash"]),
        (HEAD + "camera,-dash,a,1,\n", [":2", "category", "two words"]),
        (HEAD + ",-dash,a,1,\n", [":2", "category", "missing"]),
        (HEAD + "camera_motion,-dash,a,1,2\n", [":2", "denoising_strength", "less than"]),
        (HEAD + "camera_motion,-dash,a,1,\ncamera_motion,-dash,a,01,0.8\n", [":3", ":2", "same"]),
        ("video,prompt,seed,strength\n-dash,a,1,2\n", [":2", "strength", "denoising_strength"]),
        (HEAD, ["no jobs"]),
        ("", [":1", "no column"]),
        (HEAD + 'camera_motion,"-dash,a,1,\n', ["CSV"]),
    ],
)
def test_a_wrong_line_is_named_with_its_column(
    project: Project, text: str, says: list[str]
) -> None:
    listed(project, text)
    ended = project.call("plan", "experiments/x.yaml")
    assert ended.status == 2, ended.out
    assert "my_jobs.csv" in ended.err
    assert "Traceback" not in ended.err
    for word in says:
        assert word in ended.err
    assert not project.run_folder.experiment.exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be an object"),
        ('{"video": 3, "prompt": "a", "seed": 1}', "video"),
        ('{"video": "-dash", "prompt": "a\\u0000", "seed": 1}', "prompt"),
        ('{"video": "-dash", "prompt": "a", "seed": true}', "seed"),
        ('{"video": "-dash", "prompt": "a", "seed": 1, "width": [1]}', "width"),
    ],
)
def test_a_wrong_json_line_is_named(project: Project, line: str, says: str) -> None:
    listed(project, f"\n{line}\n", "j.jsonl")
    ended = project.call("plan", "experiments/x.yaml")
    assert ended.status == 2, ended.out
    assert "j.jsonl:2: " in ended.err
    assert says in ended.err


def test_a_list_and_a_grid_do_not_mix(project: Project) -> None:
    listed(project, HEAD)
    for key, value in (
        ("seeds", "[1]"),
        ("dataset.prompts", "prompts.json"),
        ("axes", "{fps: [1]}"),
    ):
        ended = project.call("plan", "experiments/x.yaml", f"{key}={value}")
        assert ended.status == 2
        assert key in ended.err
    for name, says in (("none.csv", "no such file"), ("jobs.xlsx", ".jsonl")):
        (project.root / "jobs.xlsx").write_text("x")
        ended = project.call("plan", "experiments/x.yaml", f"jobs={name}")
        assert says in ended.err


def test_all_wrong_lines_are_named_at_once(project: Project, tmp_path: Path) -> None:
    lines = [f"camera_motion,-dash,a,x{number}," for number in range(30)]
    listed(project, HEAD + "\n".join(lines) + "\n")
    ended = project.call("plan", "experiments/x.yaml")
    assert ended.err.count("whole number") == 20
    assert "and 10 more" in ended.err
