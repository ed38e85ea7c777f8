"""Bad input gets one or two lines, exit status 2, no traceback, and starts nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project, write_clip

from runner.cli import main
from runner.machine.gpus import Gpu
from runner.sweeps.planned import plan_sweep
from runner.text.errors import UserError

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `sweep` in this process: (exit status, standard error)."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.chdir(project.root)
        with pytest.raises(SystemExit) as ended:
            main(words)
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


def refused(run: Run, *words: str, says: list[str], lines: int = 2) -> None:
    """The command is refused with status 2, in so many lines, which say all of this."""
    status, error = run(*words)
    assert status == 2, error
    assert "Traceback" not in error
    assert 1 <= len(error.splitlines()) <= lines, error
    for text in says:
        assert text in error


def wan(**generation: Any) -> dict[str, Any]:
    return {"backend": "wan", "model": {"checkpoint": "tiny"}, "generation": generation}


def test_a_good_experiment_is_not_refused(run: Run) -> None:
    """The base of all cases below is itself fine."""
    assert run("plan", "experiments/x.yaml")[0] == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"sedes": [1]}, ["sedes", "seeds", "valid:"], id="unknown key"),
        pytest.param(
            {"generation": {"widht": 112}}, ["generation.widht", "width"], id="unknown inner key"
        ),
        pytest.param(
            {"model": {"checkpoint": "x"}}, ["model.checkpoint"], id="other backend's key"
        ),
        pytest.param({"backend": "wann"}, ["wann", "fake, script, wan"], id="unknown backend"),
        pytest.param({"seeds": "many"}, ["seeds", "many"], id="wrong type"),
        pytest.param(
            {"generation": {"width": "wide"}}, ["generation.width"], id="wrong inner type"
        ),
        pytest.param(
            {"generation": {"num_inference_steps": True}},
            ["generation.num_inference_steps", "True: must be a number"],
            id="switch for a number",
        ),
        pytest.param({"dataset": [1]}, ["dataset"], id="value for a section"),
        pytest.param({"dataset": {"videos": "videos"}}, ["dataset.prompts"], id="missing key"),
        pytest.param({"seeds": [42, 142, 42]}, ["seeds", "42 is there twice"], id="repeated seed"),
        pytest.param({"seeds": []}, ["seeds"], id="no seed"),
        pytest.param({"seeds": [-1]}, ["seeds"], id="negative seed"),
        pytest.param({"name": "a.b"}, ["name", "letters"], id="name that tmux cannot take"),
        pytest.param({"name": 7}, ["name"], id="name that is a number"),
        pytest.param({"placement": {"gpus": [0, 0]}}, ["gpus", "twice"], id="repeated GPU"),
        pytest.param({"placement": {"gpus": "all"}}, ["gpus", "auto"], id="wrong GPUs"),
        pytest.param(wan(num_frames=10), ["num_frames", "4n+1", "9", "13"], id="not 4n+1 frames"),
        pytest.param(wan(width=100, num_frames=9), ["width", "16"], id="width not of 16"),
        pytest.param(wan(height=70, num_frames=9), ["height", "16"], id="height not of 16"),
        pytest.param({"dataset": {"videos": "nowhere", "prompts": "prompts.json"}}, ["nowhere"]),
        pytest.param({"dataset": {"videos": "videos", "prompts": "no.json"}}, ["no.json"]),
        pytest.param(
            {"dataset": {"videos": "videos", "prompts": "prompts.json", "categories": ["nope"]}},
            ["nope", "camera_motion"],
            id="category that is not there",
        ),
    ],
)
def test_a_wrong_experiment_is_refused_by_key(
    project: Project, run: Run, changes: dict[str, Any], says: list[str]
) -> None:
    """The message names the file or key, the value, and what would be right."""
    project.write(**changes)
    refused(run, "plan", "experiments/x.yaml", says=says)
    assert not project.run_folder.path.exists()


def test_no_such_file(run: Run) -> None:
    refused(run, "plan", "experiments/none.yaml", says=["experiments/none.yaml", "no such"])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: [1\nseeds: 2", "x.yaml:2:"),
        ("name: x\n\tseeds: 2", "x.yaml:2:1"),
        ("name: x\nname: y", "x.yaml:2:1"),
        ("", "mapping"),
        ("- a", "mapping"),
        ("!!python/object/apply:os.system ['true']", "YAML"),
    ],
)
def test_yaml_that_does_not_parse_is_placed(
    project: Project, run: Run, text: str, place: str
) -> None:
    """Line and column are named where the parser knows them."""
    project.file.write_text(text)
    refused(run, "plan", "experiments/x.yaml", says=[place])


def test_a_file_that_is_not_text(project: Project, run: Run) -> None:
    project.file.write_bytes(b"name: \xff\xfe")
    refused(run, "plan", "experiments/x.yaml", says=["UTF-8"])


def test_an_empty_category(project: Project, run: Run) -> None:
    (project.root / "videos" / "nothing").mkdir()
    refused(run, "plan", "experiments/x.yaml", says=["nothing", "empty"])


def test_a_category_named_like_a_folder_of_the_run(project: Project, run: Run) -> None:
    """Outputs can never land among the run folder's own files."""
    write_clip(project.root / "videos" / "logs" / "a.mp4")
    refused(run, "plan", "experiments/x.yaml", says=["logs", "rename"])


def test_a_video_with_no_prompts(project: Project, run: Run) -> None:
    write_clip(project.root / "videos" / "camera_motion" / "新.mp4")
    refused(run, "plan", "experiments/x.yaml", says=["camera_motion/新.mp4", "no prompts"])


def test_prompts_for_no_video(project: Project, run: Run) -> None:
    (project.root / "videos" / "camera_motion" / "-dash.mp4").unlink()
    refused(run, "plan", "experiments/x.yaml", says=["camera_motion/-dash", "no video"])


def test_prompts_for_no_category(project: Project, run: Run) -> None:
    path = project.root / "prompts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "gone": {"a": ["b"]}}))
    refused(run, "plan", "experiments/x.yaml", says=["gone", "no folder"])


def test_prompts_that_do_not_parse(project: Project, run: Run) -> None:
    (project.root / "prompts.json").write_text('{"a":\n {"b": [}')
    refused(run, "plan", "experiments/x.yaml", says=["prompts.json:2:", "JSON"])


def test_the_same_prompt_twice(project: Project, run: Run) -> None:
    path = project.root / "prompts.json"
    path.write_text(json.dumps({"two words": {"ref 🎬 b": ["one", "one"]}}))
    refused(run, "plan", "experiments/x.yaml", says=["'one'", "twice"])


def test_two_clips_with_one_stem(project: Project, run: Run) -> None:
    write_clip(project.root / "videos" / "camera_motion" / "-dash.mov")
    refused(run, "plan", "experiments/x.yaml", says=["-dash.mov", "-dash.mp4", "rename"])


def test_a_clip_that_cannot_be_decoded(project: Project, run: Run) -> None:
    (project.root / "videos" / "camera_motion" / "-dash.mp4").write_bytes(b"no video" * 99)
    refused(run, "plan", "experiments/x.yaml", says=["camera_motion/-dash.mp4", "decoded"])


def test_all_short_clips_are_named_at_once_with_both_counts(project: Project, run: Run) -> None:
    """Nobody finds the second short clip only after mending the first."""
    project.write(generation={"width": 112, "height": 64, "num_frames": 13, "fps": 15})
    says = ["-dash.mp4", "ref_镜头仰角.mp4", "ref 🎬 b.mp4", "9 frames", "13", "--skip-invalid"]
    refused(run, "plan", "experiments/x.yaml", says=says, lines=4)


def test_skip_invalid_leaves_short_clips_out_and_says_so(project: Project) -> None:
    write_clip(project.root / "videos" / "camera_motion" / "-dash.mp4", frames=5)
    finished = project.call("plan", "experiments/x.yaml", "--skip-invalid", "--json")
    assert finished.status == 0, finished.err
    answer = json.loads(finished.out)
    assert answer["total"] == 5
    assert len(answer["left_out"]) == 1
    assert "-dash.mp4: has 5 frames" in answer["left_out"][0]


def test_a_run_folder_of_another_experiment(project: Project, run: Run) -> None:
    """Nothing of the other experiment is touched."""
    assert run("plan", "experiments/x.yaml")[0] == 0
    before = project.run_folder.manifest.read_bytes()
    project.write(seeds=[7])
    refused(run, "plan", "experiments/x.yaml", says=["another experiment", "name"])
    assert project.run_folder.manifest.read_bytes() == before


def test_a_folder_that_is_no_run_folder(project: Project, run: Run) -> None:
    project.run_folder.path.mkdir(parents=True)
    (project.run_folder.path / "thesis.tex").write_text("mine")
    refused(run, "plan", "experiments/x.yaml", says=["no run folder"])


def test_a_plan_that_failed_does_not_spoil_the_run_folder(project: Project, run: Run) -> None:
    """A checkpoint's name is corrected, and the same plan goes through."""
    keys = ["backend=wan", "model={checkpoint: nosuch}", "generation.num_frames=9"]
    refused(run, "plan", "experiments/x.yaml", *keys, says=["nosuch"], lines=3)
    assert run("plan", "experiments/x.yaml")[0] == 0


def test_an_override_is_kept_until_it_is_taken_back(project: Project, run: Run) -> None:
    from runner.experiment.loading import load_experiment

    assert run("plan", "experiments/x.yaml", "output.quality=7")[0] == 0
    assert run("plan", "experiments/x.yaml", "seeds=[1, 2]")[0] == 0
    assert load_experiment(project.run_folder.experiment).output.quality == 7
    assert run("plan", "experiments/x.yaml", "output.quality=")[0] == 0
    planned = load_experiment(project.run_folder.experiment)
    assert (planned.output.quality, planned.seeds) == (5, [1, 2])


@pytest.mark.parametrize(
    "override",
    [
        "seeds=2020-13-45",
        f"seeds={'[' * 5000}",
        f"name={'x' * 300}",
        f"dataset.videos={'x' * 300}",
        "results=prompts.json",
        'results="a\\0b"',
        'generation.negative_prompt="\\ud800"',
        "placement.assign={nosuch: [0]}",
        "placement.assign={camera_motion: [0, 0]}",
        "generation.width=113",
        "name=-x",
    ],
)
def test_odd_values_are_refused_before_anything_is_written(
    project: Project, run: Run, override: str
) -> None:
    status, error = run("plan", "experiments/x.yaml", override)
    assert status == 2, error
    assert "Traceback" not in error
    assert not project.run_folder.experiment.exists()


def test_yaml_merge_keys_are_not_repeats(project: Project, run: Run) -> None:
    text = project.file.read_text()
    assert run("plan", "experiments/x.yaml", "generation={<<: {num_frames: 9}, width: 64}")[0] == 0
    assert project.file.read_text() == text


def test_no_such_run(run: Run) -> None:
    refused(run, "progress", "nowhere", says=["nowhere", "no such run"])
    refused(run, "launch", "experiments", says=["experiments", "no run folder"])


@pytest.mark.parametrize("words", [["seeds"], ["=1"], ["seeds=["], ["name.x=1"], ["seed=42"]])
def test_overrides_that_are_none(run: Run, words: list[str]) -> None:
    refused(run, "launch", "experiments/x.yaml", *words, says=[words[0]])


def test_a_part_of_nothing(run: Run) -> None:
    words = ("launch", "experiments/x.yaml", "--dry-run", "--on", "local", "--only")
    refused(run, *words, "video=none", says=["no job matches video=none"])
    refused(run, *words, "colour=red", says=["colour=red", "category, video, prompt, seed"])


def test_an_unknown_launcher_option_or_verb(run: Run) -> None:
    refused(run, "launch", "experiments/x.yaml", "--on", "slurm", says=["slurm", "tmux, local"])
    refused(run, "plan", "--fast", says=["--fast"])
    refused(run, "paln", says=["paln"])


def test_a_checkpoint_folder_with_files_missing_names_each(project: Project, run: Run) -> None:
    folder = project.root / "weights"
    folder.mkdir()
    (folder / "Wan2.1_VAE.safetensors").write_bytes(b"\0" * 16)
    project.write(
        backend="wan",
        model={"checkpoint": "weights"},
        generation={"width": 112, "height": 64, "num_frames": 9, "fps": 15},
    )
    says = ["weights", "diffusion_pytorch_model", "models_t5_umt5-xxl-enc-bf16", "umt5-xxl"]
    refused(run, "plan", "experiments/x.yaml", says=says)


def test_a_model_that_is_not_here_is_told_by_plan_though_its_identity_is_given(
    project: Project, run: Run
) -> None:
    """Planning may happen elsewhere; a launch here is refused."""
    size = {"width": 112, "height": 64, "num_frames": 9, "fps": 15}
    model = {"checkpoint": "weights", "identity": "Wan2.1-T2V-14B"}
    project.write(backend="wan", model=model, generation=size)
    planned = project.call("plan", "experiments/x.yaml", "--json")
    assert planned.status == 0, planned.err
    (line,) = (one for one in json.loads(planned.out)["problems"] if "launch" in one)
    assert "diffusion_pytorch_model*.safetensors (or .pth): is missing" in line
    refused(run, "launch", "experiments/x.yaml", "--on", "local", says=["weights"])


def test_cuda_is_asked_for_where_there_is_no_gpu(project: Project, run: Run) -> None:
    from runner.machine.gpus import find_gpus

    if find_gpus():
        pytest.skip("this machine has GPUs")
    project.write(placement={"device": "cuda"})
    refused(run, "launch", "experiments/x.yaml", "--on", "local", says=["placement.device", "GPU"])


def test_a_gpu_that_is_not_there_is_named_by_plan(project: Project) -> None:
    """On a machine with GPUs; one without any may plan for another."""
    gpus = [Gpu(number, f"GPU-{number}", "A800", 79.3, 79.0) for number in range(4)]
    project.write(placement={"gpus": [0, 1, 2, 3, 4, 5, 6, 7]})

    def plan(*overrides: str) -> None:
        plan_sweep(project.file, overrides, skip_invalid=False, take_changes=True, gpus=gpus)

    with pytest.raises(UserError) as error:
        plan()
    said = r"experiments/x.yaml: placement.gpus: GPU 4, 5, 6, 7 is not there \(.* 0, 1, 2, 3\);"
    assert re.search(said, str(error.value))
    machine = project.root / "machine.yaml"
    machine.write_text("gpus: [9]")
    with pytest.raises(UserError, match=r"machine.yaml: placement.gpus: GPU 9 is not there"):
        plan()
    machine.unlink()
    assert not project.run_folder.path.exists()
    plan("placement.gpus=[0, 3]")
    plan("placement.gpus=auto")


def test_an_assignment_to_a_gpu_that_is_not_used_is_told(project: Project) -> None:
    assign = {"camera_motion": [0, 2], "two words": [5]}
    project.write(placement={"gpus": [0, 1], "assign": assign})
    some, none = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)["problems"]
    assert "camera_motion: GPU 2 is not among" in some
    assert "it starts on the others" in some
    assert "two words: GPU 5 is not among the GPUs that are used (0, 1): any GPU may" in none
    project.write(placement={"gpus": [0, 1], "assign": assign, "balance": "static"})
    said = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)["problems"]
    assert "nothing makes it" in said[1]


def test_every_tracked_experiment_is_fine() -> None:
    """The experiments that ship can be planned on the clips that ship."""
    from runner.dataset.dataset import read_dataset
    from runner.experiment.loading import load_experiment

    root = Path(__file__).resolve().parents[1]
    files = sorted((root / "experiments").glob("*.yaml"))
    assert files
    for path in files:
        assert read_dataset(load_experiment(path)).leads


def test_the_resolved_experiment_means_the_same(project: Project) -> None:
    """What a run folder keeps can be read back, wherever the shell stands."""
    from runner.experiment.loading import load_experiment

    experiment = load_experiment(project.file, ["seeds=[3]"])
    folder = experiment.run_folder.path
    folder.mkdir(parents=True)
    path = folder / "experiment.yaml"
    path.write_text(experiment.to_yaml(folder), encoding="utf-8")
    again = load_experiment(Path(os.path.relpath(path)))
    assert again.differences(experiment) == []
    assert again.root == experiment.root
    assert yaml.safe_load(path.read_text())["overrides"] == ["seeds=[3]"]
