"""`sweep init`: from a folder of clips to an experiment that can be planned at once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from conftest import Finished, write_clip
from conftest import run_here as run
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from runner.backends.wan.settings import WanGeneration
from runner.backends.wan.tiny import tiny_checkpoint
from runner.experiment.loading import load_experiment
from runner.experiment.schema import experiment_schema
from runner.proposal.former_config import read_config
from runner.proposal.shape import WAN, propose_shape
from runner.video import VideoInfo, frames_available, write_video

CONFIG = {
    "model_path": "/data/models/Wan2.1-T2V-14B",
    "video_dir": "Final_Dataset",
    "generation": {
        "Num-Inference-Steps": 30,
        "guidance_scale": "4.5",
        "denoising_strength": 0.7,
        "resolution": "112x64",
        "frame_num": 9,
        "fps": 15.0,
        "negativePrompt": "模糊: # 'bad'",
    },
    "seeds": [42, 142],
    "num_gpus": 4,
    "processes_per_gpu": 2,
    "gpu_assignment": {"运镜": 0, "b": [1, 2]},
    "quality": 9,
    "output_dir": "results",
    "tea_cache": True,
}


def make_original(root: Path) -> None:
    """The layout of the scripts that this project grew from."""
    prompts = {"运镜": {"ref_镜头仰角_832x480": ["a", "一"]}, "b": {"x": ["c"], "y": ["d"]}}
    for category, videos in prompts.items():
        for video in videos:
            write_clip(root / "Final_Dataset" / category / f"{video}.mp4")
    text = json.dumps(prompts, ensure_ascii=False)
    (root / "prompt.json").write_text(text, encoding="utf-8")
    (root / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")


def written(root: Path, name: str = "my") -> dict[str, Any]:
    text = (root / "experiments" / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    jsonschema.validate(values, experiment_schema(), jsonschema.Draft202012Validator)
    return values


def planned(root: Path, name: str = "my") -> dict[str, Any]:
    finished = run(["plan", f"experiments/{name}.yaml", "--json"], root)
    assert finished.status == 0, finished.err
    answer: dict[str, Any] = json.loads(finished.out)
    return answer


def init(root: Path, *words: str) -> Finished:
    return run(["init", "my", *words], root)


def test_the_original_layout_is_understood_as_it_is(tmp_path: Path) -> None:
    """Nothing but the folder of clips is named, and the file can be planned at once."""
    make_original(tmp_path)
    made = init(tmp_path, "--videos", "Final_Dataset")
    assert made.status == 0, made.err
    assert "4 prompts x 1 seed: 4 videos" in made.out
    values = written(tmp_path)
    assert values["dataset"] == {"videos": "Final_Dataset", "prompts": "prompt.json"}
    shape = {key: values["generation"][key] for key in ("width", "height", "num_frames", "fps")}
    assert shape == {"width": 112, "height": 64, "num_frames": 9, "fps": 15}
    assert planned(tmp_path)["jobs_per_category"] == {"b": 2, "运镜": 2}


def test_a_former_config_is_read_by_its_usual_spellings(tmp_path: Path) -> None:
    """What is recognisable is taken, wherever it stands; what is not is told of."""
    make_original(tmp_path)
    made = init(tmp_path, "--config", "config.json")
    assert made.status == 0, made.err
    assert "not understood: output_dir" in made.err
    assert "not understood: tea_cache" in made.err
    experiment = load_experiment(tmp_path / "experiments" / "my.yaml")
    assert experiment.seeds == [42, 142]
    generation = experiment.generation
    assert isinstance(generation, WanGeneration)
    assert (generation.num_inference_steps, generation.cfg_scale) == (30, 4.5)
    assert (generation.denoising_strength, generation.num_frames) == (0.7, 9)
    assert generation.negative_prompt == "模糊: # 'bad'"
    assert experiment.output.quality == 9
    assert experiment.placement.gpus == [0, 1, 2, 3]
    assert experiment.placement.processes_per_gpu == 2
    assert experiment.placement.assign == {"运镜": [0], "b": [1, 2]}
    (method,) = experiment.every_method
    assert method.model.model_dump()["checkpoint"] == "/data/models/Wan2.1-T2V-14B"
    assert planned(tmp_path)["total"] == 8


def test_what_a_config_asks_of_too_short_clips_is_found(tmp_path: Path) -> None:
    """81 frames that one clip does not have cost a minute, not a night."""
    make_original(tmp_path)
    write_clip(tmp_path / "Final_Dataset" / "b" / "y.mp4", frames=5)
    made = init(tmp_path, "--config", "config.json")
    assert made.status == 1
    assert "b/y.mp4: has 5 frames at 15 fps" in made.err
    assert written(tmp_path)["generation"]["num_frames"] == 9
    assert run(["plan", "experiments/my.yaml"], tmp_path).status == 2


def test_wan_s_rules_are_kept_where_a_config_breaks_them(tmp_path: Path) -> None:
    make_original(tmp_path)
    config = {"video_dir": "Final_Dataset", "size": [100, 64], "num_frames": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = init(tmp_path, "--config", "config.json")
    assert made.status == 0
    assert "generation.width: 100 is not a multiple of 16; 96 is written" in made.err
    assert "generation.num_frames: 8 is not 4n+1; 5 is written" in made.err
    assert planned(tmp_path)["total"] == 4


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"steps": "many"}, "steps: many: is no value for steps"),
        ({"steps": True}, "steps"),
        ({"cfg": float("nan")}, "cfg"),
        ({"seed": -1}, "seed"),
        ({"seeds": []}, "seeds"),
        ({"size": "832"}, "size"),
        ({"dtype": "float8"}, "dtype"),
        ({"num_gpus": 10**9}, "num_gpus"),
        ({"model_path": 7}, "model_path"),
        ({"strength": 1.5}, "strength"),
        ({"steps": 20, "inner": {"num_inference_steps": 30}}, "steps says otherwise"),
    ],
)
def test_a_setting_that_makes_no_sense_is_said(
    tmp_path: Path, setting: dict[str, Any], says: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(setting))
    (line,) = read_config(path).not_understood
    assert says in line


def test_clips_without_folders(tmp_path: Path) -> None:
    """They are one category, called as their folder; the experiment says so."""
    for video in ("a", "镜头"):
        write_clip(tmp_path / "clips 片段" / f"{video}.mp4")
    (tmp_path / "p.csv").write_text("video,prompt\na.mp4,one\n镜头,二\n", encoding="utf-8")
    made = init(tmp_path, "--videos", "clips 片段", "--prompts", "p.csv")
    assert made.status == 0, made.err
    assert written(tmp_path)["dataset"]["categories"] == ["clips 片段"]
    text = (tmp_path / "experiments" / "my.yaml").read_text(encoding="utf-8")
    # A comment stands in its column, whatever the width of what is before it.
    (line,) = (line for line in text.splitlines() if line.startswith("  videos: "))
    assert cell_len(line.partition("# ")[0]) == 36
    assert planned(tmp_path)["jobs_per_category"] == {"clips 片段": 2}


def test_text_files_beside_the_clips_are_found(tmp_path: Path) -> None:
    for video in ("a", "b"):
        write_clip(tmp_path / "clips" / f"{video}.mp4")
        (tmp_path / "clips" / f"{video}.txt").write_text("one\ntwo\n")
    made = init(tmp_path, "--videos", "clips")
    assert made.status == 0, made.err
    assert planned(tmp_path)["total"] == 4


def test_the_prompts_that_fit_most_clips_are_taken(tmp_path: Path) -> None:
    make_original(tmp_path)
    (tmp_path / "prompts.json").write_text('{"b": {"x": ["other"]}}')
    assert init(tmp_path, "--videos", "Final_Dataset").status == 0
    assert written(tmp_path)["dataset"]["prompts"] == "prompt.json"


def test_what_does_not_match_names_the_nearest(tmp_path: Path) -> None:
    """The file is written all the same; the status says that something is to be mended."""
    make_original(tmp_path)
    clip = tmp_path / "Final_Dataset" / "运镜" / "ref_镜头仰角_832x480.mp4"
    clip.rename(clip.with_name("ref_镜头仰角_832×480.mp4"))
    made = init(tmp_path, "--videos", "Final_Dataset")
    assert made.status == 1
    assert "运镜/ref_镜头仰角_832×480.mp4: has no prompts" in made.err
    assert "the nearest name is 'ref_镜头仰角_832x480'" in made.err
    assert "2 things to mend" in made.err
    assert run(["plan", "experiments/my.yaml"], tmp_path).status == 2
    skipped = run(["plan", "experiments/my.yaml", "--skip-invalid"], tmp_path)
    assert skipped.status == 0, skipped.err


def test_a_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    make_original(tmp_path)
    file = tmp_path / "experiments" / "my.yaml"
    file.parent.mkdir()
    file.write_text("mine")
    refused = init(tmp_path, "--videos", "Final_Dataset")
    assert refused.status == 2
    assert "--force" in refused.err
    assert file.read_text() == "mine"
    assert init(tmp_path, "--videos", "Final_Dataset", "--force").status == 0
    assert planned(tmp_path)["total"] == 4


def test_it_is_written_below_the_project_root(tmp_path: Path) -> None:
    """Wherever the shell stands in a project; clips elsewhere are named in full."""
    make_original(tmp_path / "data")
    project = tmp_path / "project"
    (project / "experiments").mkdir(parents=True)
    made = run(["init", "my", "--videos", "../../data/Final_Dataset"], project / "experiments")
    assert made.status == 0, made.err
    assert written(project)["dataset"]["videos"] == f"{tmp_path}/data/Final_Dataset"
    assert planned(project)["total"] == 4


def test_what_a_machine_file_says_holds(tmp_path: Path) -> None:
    """Clips are named from where this machine keeps data; weights are found by their name."""
    make_original(tmp_path / "data")
    root = tmp_path / "project"
    weights = tmp_path / "weights" / "Wan2.1-T2V-14B"
    shutil.copytree(tiny_checkpoint().folder, weights)
    root.mkdir()
    (root / "machine.yaml").write_text("data: ../data\ncheckpoints: [../weights]\n")
    made = run(["init", "my", "--videos", "../data/Final_Dataset"], root)
    assert made.status == 0, made.err
    values = written(root)
    assert values["dataset"] == {"videos": "Final_Dataset", "prompts": "prompt.json"}
    assert values["model"] == {"checkpoint": "models/Wan2.1-T2V-14B"}
    assert planned(root)["total"] == 4


def test_names_that_yaml_reads_as_something_else(tmp_path: Path) -> None:
    """Quotes, hashes, colons, line ends and markup stay text, in values and comments alike."""
    root = tmp_path / "a: #b 'c' \"d\" [e] {f}"
    videos = "x: {y}\n# 'z'"
    for category in ("null", "1e5", "k: #l\u2028m"):
        write_clip(root / videos / category / "- [v] & *.mp4")
    (root / videos / "empty\nlogs: x").mkdir()
    (root / "p.txt").write_text("one\n")
    made = init(root, "--videos", videos, "--prompts", "p.txt")
    assert made.status == 0, made.err
    assert "empty" in made.err
    assert written(root)["dataset"]["videos"] == videos
    assert set(planned(root)["jobs_per_category"]) == {"null", "1e5", "k: #l\u2028m"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--videos", "nowhere"], ["nowhere", "no such folder"]),
        ([], ["--videos"]),
        (["--videos", "empty"], ["empty", "no clips"]),
        (["--videos", "Final_Dataset", "--prompts", "none.json"], ["none.json", "--prompts"]),
        (["--videos", "lonely"], ["lonely", "--prompts"]),
        (["--videos", "broken", "--prompts", "p.txt"], ["no clip can be decoded", "a.mp4"]),
        (["--config", "list.json"], ["list.json", "mapping"]),
        (["--config", "none.json"], ["none.json", "no such"]),
        (["--videos", "reserved", "--prompts", "p.txt"], ["'logs'", "rename"]),
    ],
)
def test_what_cannot_be_begun_is_refused(tmp_path: Path, words: list[str], says: list[str]) -> None:
    """With status 2, in a few lines, and nothing is written."""
    root = tmp_path / "p"
    make_original(root)
    write_clip(root / "lone" / "lonely" / "z.mp4")
    (root / "lonely").mkdir()
    write_clip(root / "lonely" / "q.mp4")
    (root / "empty").mkdir()
    (root / "broken").mkdir()
    (root / "broken" / "a.mp4").write_bytes(b"no video" * 99)
    write_clip(root / "reserved" / "logs" / "a.mp4")
    (root / "p.txt").write_text("one")
    (root / "list.json").write_text("[]")
    refused = init(root, *words)
    assert refused.status == 2
    for text in says:
        assert text in refused.err
    assert not (root / "experiments").exists()


def test_a_name_that_cannot_be_one(tmp_path: Path) -> None:
    make_original(tmp_path)
    refused = run(["init", "a.b", "--videos", "Final_Dataset"], tmp_path)
    assert refused.status == 2
    assert "letters" in refused.err


def test_every_key_is_there_with_a_comment_and_its_default(tmp_path: Path) -> None:
    """With every # before a key taken away, the file still means the same."""
    make_original(tmp_path)
    assert init(tmp_path, "--videos", "Final_Dataset").status == 0
    file = tmp_path / "experiments" / "my.yaml"
    before = load_experiment(file)
    text = file.read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (file.parent / first.partition("=")[2]).is_file()
    bare = re.sub(r"^( *)# ( *[a-z0-9_]+:( |$))", r"\1\2", text.partition("\n\n")[2], flags=re.M)
    file.write_text(bare, encoding="utf-8")
    after = load_experiment(file)
    assert after.differences(before) == []
    values = yaml.safe_load(bare)
    for key, field in type(after).model_fields.items():
        if key not in ("project", "overrides"):
            assert key in values
            inner = getattr(after, key)
            if hasattr(type(inner), "model_fields") and field.annotation is not None:
                assert set(values[key]) == set(type(inner).model_fields)
    for line, above in zip(bare.splitlines()[1:], bare.splitlines(), strict=False):
        assert not line.strip() or "#" in line or "#" in above, line


def test_a_tiny_experiment_suits_the_tiny_checkpoint(tmp_path: Path) -> None:
    """Clips that are long enough get what that model was trained on."""
    frames = np.zeros((81, 160, 256, 3), np.uint8)
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "a.mp4", frames, fps=15, quality=5)
    (tmp_path / "p.txt").write_text("one")
    made = init(tmp_path, "--videos", "clips", "--prompts", "p.txt", "--checkpoint", "tiny")
    assert made.status == 0, made.err
    generation = written(tmp_path)["generation"]
    assert (generation["width"], generation["height"]) == (128, 80)
    assert (generation["num_frames"], generation["fps"]) == (17, 7.5)
    assert planned(tmp_path)["peak_memory"] is None


RATES = st.sampled_from([8, 12, 15, 16, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 119.88])
INFOS = st.builds(
    VideoInfo.steady, st.integers(16, 4096), st.integers(16, 4096), st.integers(1, 400), RATES
)


@given(st.lists(INFOS, min_size=1, max_size=6))
def test_every_clip_serves_what_is_proposed(infos: list[VideoInfo]) -> None:
    """No clip is scaled up, shown faster than it is, or too short; Wan's rules are kept."""
    clips = {str(number): info for number, info in enumerate(infos)}
    shape = propose_shape(clips, WAN).shape
    assert shape.width % 16 == shape.height % 16 == 0
    assert shape.most_frames % 4 == 1
    assert shape.most_frames <= 81
    assert shape.width * shape.height <= 832 * 480
    for info in infos:
        assert shape.width <= info.width
        assert shape.height <= info.height
        assert shape.fps <= info.fps + 1e-3
        assert frames_available(info, shape.fps) >= shape.most_frames


@pytest.mark.parametrize(
    ("size", "frames", "fps", "proposed"),
    [
        ((832, 480), 81, 15, (832, 480, 81, 15)),
        ((1920, 1080), 300, 30, (832, 480, 81, 15)),
        ((1080, 1920), 300, 29.97, (480, 832, 81, 14.985)),
        ((640, 480), 100, 16, (640, 480, 81, 16)),
        ((1280, 720), 90, 30, (832, 480, 81, 30)),
        ((1280, 720), 60, 30, (832, 480, 57, 30)),
        ((256, 160), 200, 24, (256, 160, 81, 12)),
    ],
)
def test_what_is_proposed_for_common_clips(
    size: tuple[int, int], frames: int, fps: float, proposed: tuple[int, int, int, float]
) -> None:
    shape = propose_shape({"a": VideoInfo.steady(*size, frames, fps)}, WAN).shape
    assert (shape.width, shape.height, shape.num_frames, shape.fps) == proposed
