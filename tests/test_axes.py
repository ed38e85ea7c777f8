"""Parameter axes: they multiply the grid, name what differs, and rename nothing that was there."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import FRAMES, Project, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.backends.fake.planner import FakePlanner
from runner.backends.video_parameters import VideoGeneration
from runner.dataset.dataset import Item, Lead
from runner.disk.manifest import Manifest, read_manifest
from runner.experiment.experiment import Experiment
from runner.experiment.grid import checked_axes, parameter_sets_of
from runner.experiment.loading import load_experiment
from runner.job import FileInput
from runner.job.naming import job_ids, path_suffix, path_word
from runner.plan.expansion import expand
from runner.plan.fingerprint import MethodIdentity
from runner.text.errors import UserError
from runner.video import VideoInfo

LAUNCH = ("--on", "local", "--wait")
STRENGTHS = {"denoising_strength": [0.7, 0.8]}
RECIPE = MethodIdentity("fake", 1, {}, 5.0)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "denoising_strength": st.sampled_from([0.5, 0.7, 0.8, 0.9, 1.0]),
    "cfg_scale": st.sampled_from([1, 3, 5, 5.5, 1e-05]),
    "num_inference_steps": st.integers(1, 9),
    "negative_prompt": st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5),
    "width": st.sampled_from([832, 112]),
}
AXES = st.fixed_dictionaries(
    {},
    optional={
        name: st.lists(own, min_size=1, max_size=3, unique=True) for name, own in VALUES.items()
    },
)


def planned(tmp: Path, axes: dict[str, list[Any]], seeds: list[int]) -> Manifest:
    """The manifest of two clips with these axes, without a disk to look at."""
    file = tmp / "x.yaml"
    dataset = {"videos": "v", "prompts": "p"}
    values = {"name": "x", "backend": "fake", "dataset": dataset, "seeds": seeds, "axes": axes}
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    experiment = load_experiment(file)
    info = VideoInfo.steady(832, 480, num_frames=99, fps=15.0)
    clips = [
        Lead("c", Item(v, FileInput(f"v/c/{v}.mp4", v * 64), info), ("red", "blue")) for v in "ab"
    ]
    return expand(experiment, clips, {None: RECIPE}, Manifest(()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("axes")


@settings(max_examples=50)
@given(axes=AXES, more=AXES, seeds=st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True))
def test_adding_axes_values_and_seeds_changes_no_id_and_no_path(
    folder: Path, axes: dict[str, list[Any]], more: dict[str, list[Any]], seeds: list[int]
) -> None:
    """A job that is still in the grid, by all that decides it, keeps its id and its path; where
    the generation's own value stays among a new axis' values, every job is still in it."""
    own = VideoGeneration().model_dump()
    larger = {name: list(axes.get(name, [])) for name in {**axes, **more}}
    for name, values in larger.items():
        for value in (*more.get(name, []), own[name]):
            if value not in values:
                values.append(value)
    before = planned(folder, axes, seeds)
    after = planned(folder, larger, [*seeds, 77])
    names = {job.id: job.output for job in after.jobs}
    assert {job.id: job.output for job in before.jobs}.items() <= names.items()
    inputs = {job.fingerprint: (job.id, job.output) for job in after.jobs}
    for job in before.jobs:
        assert inputs[job.fingerprint] == (job.id, job.output)


@settings(max_examples=50)
@given(axes=AXES, seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3, unique=True))
def test_no_two_jobs_share_an_id_a_path_or_a_fingerprint(
    folder: Path, axes: dict[str, list[Any]], seeds: list[int]
) -> None:
    jobs = planned(folder, axes, seeds).jobs
    number = 2 * 2 * len(seeds)
    for values in axes.values():
        number *= len(values)
    for what in ("id", "output", "fingerprint"):
        assert len({getattr(job, what) for job in jobs}) == number
    for job in jobs:
        assert len(job.output.rpartition("/")[2].encode()) < 220


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["1", "1.0", "true", "null", "h0123456789ab", "a=b", "a_b", "../x", "-1"]),
    st.lists(st.integers(), max_size=2),
)


@given(one=SCALARS, other=SCALARS)
def test_two_values_never_share_a_word_of_a_file_name(one: Any, other: Any) -> None:
    """Whatever a parameter's value is, its word is a harmless part of a name and its own."""
    for value in (one, other):
        word = path_word(value)
        assert not set(word) & set("/_=\0 ")
        assert 0 < len(word) <= 400
    if json.dumps(one) != json.dumps(other):
        assert path_word(one) != path_word(other)


@given(
    st.dictionaries(st.sampled_from(["a", "a_b", "b", "c", "a_b_c"]), SCALARS, max_size=5),
    st.dictionaries(st.sampled_from(["a", "a_b", "b", "c", "a_b_c"]), SCALARS, max_size=5),
)
def test_two_sets_of_parameters_never_share_a_suffix(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    for own in (one, other):
        assert len(path_suffix(own)) <= 160
    if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):
        assert path_suffix(one) != path_suffix(other)


def test_ids_and_paths_with_an_axis_are_a_contract(folder: Path) -> None:
    """The same for ever: what differs is in the JSON under `parameters`, and in the name."""
    jobs = planned(folder, STRENGTHS, [42]).jobs
    assert [job.output for job in jobs[:4]] == [
        "c/a/seed_42_prompt_0_denoising_strength=0.7.mp4",
        "c/a/seed_42_prompt_1_denoising_strength=0.7.mp4",
        "c/a/seed_42_prompt_0.mp4",
        "c/a/seed_42_prompt_1.mp4",
    ]
    assert jobs[0].id == "cdad8a4498fdccc0"
    assert jobs[2].id == next(job_ids({"category": "c", "video": "a", "prompt": 0}, [42]))


def test_values_are_as_the_schema_has_them() -> None:
    """5 is 5.0, so that one value has one id however it is written."""
    assert checked_axes(
        {None: VideoGeneration()}, {"cfg_scale": [5, 3]}, FakePlanner.axes.names
    ) == {"cfg_scale": [5.0, 3.0]}
    settings = parameter_sets_of(
        {None: VideoGeneration()}, {"cfg_scale": [5.0, 3.0], "num_frames": [81, 49]}
    )
    assert [setting.differing for setting in settings] == [
        {},
        {"num_frames": 49},
        {"cfg_scale": 3.0},
        {"cfg_scale": 3.0, "num_frames": 49},
    ]
    with pytest.raises(UserError, match=r"axes.cfg_scale.1: 5.0 is there twice"):
        checked_axes({None: VideoGeneration()}, {"cfg_scale": [5, 5.0]}, FakePlanner.axes.names)


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"denoisng_strength": [1]}, ["axes.denoisng_strength", "did you mean", "cfg_scale"]),
        ({"seed": [1]}, ["axes.seed", "valid"]),
        ({"cfg_scale": []}, ["axes.cfg_scale", "at least one"]),
        ({"cfg_scale": 3}, ["axes", "list of values"]),
        ({"cfg_scale": ["much"]}, ["axes.cfg_scale.0", "much"]),
        ({"num_frames": [9, 0]}, ["axes.num_frames.1", "0"]),
        ({"num_frames": [9, 21]}, ["axes.num_frames has 21", "9 frames at 15 fps"]),
        ([1], ["axes", "dictionary"]),
    ],
)
def test_a_wrong_axis_is_refused_by_its_place(project: Project, axes: Any, says: list[str]) -> None:
    project.write(axes=axes)
    ended = project.call("plan", "experiments/x.yaml")
    assert ended.status == 2, ended.out
    assert "Traceback" not in ended.err
    for text in says:
        assert text in ended.err


def test_wan_values_are_checked_by_wans_schema(project: Project) -> None:
    project.write(backend="wan", model={"checkpoint": "tiny"}, axes={"num_frames": [9, 10]})
    ended = project.call("plan", "experiments/x.yaml")
    assert ended.status == 2
    assert "axes.num_frames.1: num_frames=10: must be 4n+1" in ended.err


def test_a_clip_too_short_for_one_value_is_left_out_of_that_value(project: Project) -> None:
    write_clip(project.root / "videos" / "two words" / "ref 🎬 b.mp4", frames=13)
    project.write(axes={"num_frames": [FRAMES, 13]})
    ended = project.call("plan", "experiments/x.yaml", "--skip-invalid", "--json")
    assert ended.status == 0, ended.err
    answer = json.loads(ended.out)
    assert len(answer["left_out"]) == 2
    assert answer["jobs_per_category"] == {"camera_motion": 3, "two words": 6}


def test_an_axis_added_to_a_finished_sweep_makes_what_is_new_alone(project: Project) -> None:
    """The videos that are there keep name and content; estimates count what the axes add."""
    project.finish()
    before = {
        path: path.stat().st_ino
        for path in project.run_folder.path.rglob("*.mp4")
        if "superseded" not in path.parts
    }
    project.write(axes=STRENGTHS, seeds=[1, 2])
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert answer["total"] == 24
    assert answer["changes"] == {"added": 18, "kept": 6, "changed": 0, "retired": 0}
    ended = project.sweep("resume", "x", *LAUNCH)
    assert ended.status == 0, ended.err
    assert project.progress()["done"] == 24
    assert {path: path.stat().st_ino for path in before} == before
    for job in read_manifest(project.run_folder.manifest).jobs:
        record = json.loads(project.run_folder.sidecar(job).read_text(encoding="utf-8"))
        assert record["parameters"] == job.parameters
    assert project.call("verify", "x").status == 0


def test_every_command_knows_the_axes(project: Project) -> None:
    """--only, --priority, explain, export, sheet and adopt take a parameter's value as a place
    in the grid, however its number is written."""
    project.write(axes=STRENGTHS, model={"seconds": 0.02})
    file = "experiments/x.yaml"
    assert project.call("plan", file).status == 0
    part = ("--only", "denoising_strength=0.70", "video=-dash", *LAUNCH)
    ended = project.sweep("launch", "x", *part, "--priority", "denoising_strength")
    assert ended.status == 0, ended.err
    (video,) = project.run_folder.path.rglob("*.mp4")
    assert video.name == "seed_1_prompt_0_denoising_strength=0.7.mp4"
    answer = json.loads(
        project.call("explain", "x", "video=-dash", "denoising_strength=.7", "--json").out
    )
    assert (answer["state"], answer["parameters"]["denoising_strength"]) == ("done", 0.7)
    by_path = json.loads(project.call("explain", str(video), "--json").out)
    assert by_path["job"] == answer["job"]
    rows = list(csv.DictReader(io.StringIO(project.call("export", "x", "--csv").out)))
    assert [row["denoising_strength"] for row in rows].count("0.7") == 6
    sheet = project.call("sheet", "x", "--only", "denoising_strength=0.7", "--json")
    assert sheet.status == 0, sheet.err
    assert "denoising_strength_0.7" in json.loads(sheet.out)[0]
    for words, says in [
        (("launch", "x", "--only", "colour=red"), ["colour", "seed", "cfg_scale"]),
        (("launch", "x", "--only", "denoising_strength=0.75"), ["no job matches"]),
        (("launch", "x", "--on", "local", "--priority", "cfg_scale"), ["denoising_strength"]),
        (("sheet", "x", "--only", "denoising_strength=0.5"), ["0.7, 0.8"]),
    ]:
        ended = project.sweep(*words)
        assert ended.status == 2, ended.out
        for text in says:
            assert text in ended.err


def test_adopt_finds_videos_by_a_parameter(project: Project) -> None:
    """`{denoising_strength}` in a pattern, with a format where the other script had its own."""
    project.write(axes=STRENGTHS)
    assert project.call("plan", "experiments/x.yaml").status == 0
    old = project.root / "old"
    for job in read_manifest(project.run_folder.manifest).jobs:
        strength = job.parameters["denoising_strength"]
        write_clip(old / f"s{strength:.2f}" / f"{job.on('video')}_{job.on('prompt')}.mp4")
    without = project.call("adopt", "x", str(old), "--pattern", "{video}_{prompt}.mp4")
    assert "add {denoising_strength}" in without.err
    wrong = project.call("adopt", "x", str(old), "--pattern", "{strength}/{video}_{prompt}.mp4")
    assert "{strength} is unknown" in wrong.err
    assert "denoising_strength" in wrong.err
    pattern = "s{denoising_strength:.2f}/{video}_{prompt}.mp4"
    ended = project.call("adopt", "x", str(old), "--pattern", pattern, "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["adopted"] == 12


def test_what_changes_generation_under_an_axis_is_told(project: Project) -> None:
    """A parameter that no axis sets drifts as ever, of every value of the axis."""
    project.write(axes=STRENGTHS, model={"seconds": 0.02})
    assert project.sweep("launch", "experiments/x.yaml", *LAUNCH).status == 0
    ended = project.call("plan", "experiments/x.yaml", "generation.cfg_scale=6")
    assert "12: generation.cfg_scale: 5.0 -> 6.0" in ended.out


def test_experiments_keep_their_axes(project: Project) -> None:
    """As resolved in the run folder, and by override."""
    project.write()
    assert project.call("plan", "experiments/x.yaml", "axes.cfg_scale=[3, 5]").status == 0
    again: Experiment = load_experiment(project.run_folder.experiment)
    assert again.axes == {"cfg_scale": [3.0, 5.0]}
    assert len(again.parameter_sets) == 2
    assert project.call("plan", "experiments/x.yaml", "axes.cfg_scale=").status == 0
    assert len(read_manifest(project.run_folder.manifest).jobs) == 6
