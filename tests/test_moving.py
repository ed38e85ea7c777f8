"""A run folder on another machine: what lies elsewhere there is found, and nothing made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import Project
from tiny import TINY

from runner.backends.wan.finding import find_checkpoint
from runner.experiment.loading import load_experiment
from runner.job.slot_names import Slot
from runner.machine.machine_file import read_machine
from runner.machine.processes import ProcessId
from runner.plan.fingerprint import identities_of
from runner.queue import Queue
from runner.queue.worker_table import WorkerState
from runner.text.errors import UserError


def machine(path: Path, **keys: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(keys, allow_unicode=True), encoding="utf-8")
    return path


def videos(project: Project) -> dict[str, bytes]:
    return {
        str(path.relative_to(project.run_folder.path)): path.read_bytes()
        for path in project.run_folder.path.glob("*/*/*.mp4")
    }


def test_a_copied_run_goes_on_where_data_and_gpus_are_others(project: Project) -> None:
    """Path, data folder and number of GPUs differ; what was made stays as it is."""
    project.write(placement={"gpus": [0, 1, 2, 3], "processes_per_gpu": 1})
    assert project.sweep("launch", "experiments/x.yaml", "--only", "seed=1", "prompt=0", *LOCAL)
    before = videos(project)
    assert 0 < len(before) < 6
    there = Project(project.root.parent / "其他 machine" / "work", project.environment)
    shutil.copytree(project.root / "results", there.root / "results")
    shutil.move(project.root / "videos", there.root.parent / "data" / "videos")
    machine(there.root / "machine.yaml", data="../data", gpus=[0], processes_per_gpu=2)
    # The run's own way to its project does not hold here.
    done = there.call("plan", "results/x/experiment.yaml", "project=../..")
    assert done.status == 2, "the prompts are elsewhere too"
    shutil.move(project.root / "prompts.json", there.root.parent / "data" / "prompts.json")
    resumed = there.sweep("resume", "x", *LOCAL)
    assert resumed.status == 0, resumed.err
    assert "2 workers started" in resumed.err
    after = videos(there)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert there.call("verify", "x").status == 0
    kept = yaml.safe_load(there.run_folder.experiment.read_text(encoding="utf-8"))
    assert kept["placement"]["gpus"] == [0, 1, 2, 3], "the run keeps its own"


def test_a_worker_before_a_reboot_or_of_another_machine_holds_no_slot(project: Project) -> None:
    """It said that it works, and nothing can have said since that it does no more."""
    assert project.call("plan", "experiments/x.yaml").status == 0
    queue, slot = Queue(project.run_folder.queue), Slot.of(0, 0)
    queue.workers.register(slot, ProcessId("another boot", 1, 0))
    queue.workers.report(slot, state=WorkerState.WORKING)
    queue.close()
    resumed = project.sweep("resume", "x", *LOCAL)
    assert resumed.status == 0, resumed.err
    assert "1 worker started" in resumed.err
    assert len(videos(project)) == 6


LOCAL = ("--on", "local", "--wait")


def test_results_go_where_the_machine_has_them_and_are_found_there(project: Project) -> None:
    machine(project.root / "machine.yaml", results="/".join(["..", "große Platte"]))
    assert project.sweep("launch", "experiments/x.yaml", *LOCAL).status == 0
    assert (project.root.parent / "große Platte" / "x" / "manifest.jsonl").exists()
    told = json.loads(project.call("progress", "x", "--json").out)
    assert told["done"] == 6


def test_what_differs_here_may_be_said_on_the_command_line(project: Project) -> None:
    """A copy of the run folder alone, elsewhere; it is kept for whatever is asked there next."""
    project.write(placement={"gpus": [0, 1, 2, 3], "processes_per_gpu": 1})
    assert project.call("plan", "experiments/x.yaml").status == 0
    there = Project(project.root.parent / "其他 machine", project.environment)
    shutil.copytree(project.run_folder.path, there.run_folder.path)
    kept = machine(there.root / "machine.yaml", checkpoints=["/a", "/b"], processes_per_gpu=4)
    kept.write_text("# ours\n" + kept.read_text(encoding="utf-8"), encoding="utf-8")
    refused = there.call("resume", "results/x", "--here", "gpus=[0]", *LOCAL)
    assert refused.status == 2
    assert "dataset.videos: no such folder: " in refused.err
    assert "--here data=FOLDER" in refused.err
    words: tuple[str, ...] = (
        "--here",
        f"data={json.dumps(f'../{project.root.name}')}",
        "--here",
        "gpus=[0]",
    )
    words += ("--here", "processes_per_gpu=2", "--here", "checkpoints=/c")
    resumed = there.sweep("resume", "results/x", *words, *LOCAL)
    assert resumed.status == 0, resumed.err
    assert "2 workers started" in resumed.err
    assert there.call("verify", "x").status == 0
    text = kept.read_text(encoding="utf-8")
    assert text.startswith("# ours\n")
    assert yaml.safe_load(text) == {
        "checkpoints": ["/c"],
        "data": str(project.root),
        "gpus": [0],
        "processes_per_gpu": 2,
    }
    for wrong in ("data", "gpu=[0]", "gpus=[", "gpus=all", "processes_per_gpu=0"):
        refused = there.call("resume", "x", "--here", wrong)
        assert (refused.status, len(refused.err.splitlines())) == (2, 1), refused.err
        assert kept.read_text(encoding="utf-8") == text


def test_an_override_of_what_the_machine_settles_is_refused(project: Project) -> None:
    file = machine(project.root / "machine.yaml", gpus=[0])
    planned = project.call("plan", "experiments/x.yaml", "placement.gpus=[1]")
    assert planned.status == 2
    assert f"{file} settles gpus on this machine" in planned.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu: [0]", "gpu: no such key (valid: checkpoints, data, results, gpus"),
        ("gpus: all", "gpus"),
        ("- a", "must be a mapping"),
        ("gpus: [0", "not valid YAML"),
        ("processes_per_gpu: 0", "processes_per_gpu"),
    ],
)
def test_a_wrong_machine_file_is_said_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "machine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"machine\.yaml") as caught:
        read_machine(tmp_path, {})
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_first_machine_file_that_is_there_counts(tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert read_machine(tmp_path, home).file is None
    own = machine(tmp_path / "config" / "sweep" / "machine.yaml", gpus=[1])
    assert read_machine(tmp_path, home).file == own
    project = machine(tmp_path / "machine.yaml", gpus=[2])
    assert read_machine(tmp_path, home).file == project
    named = machine(tmp_path / "named.yaml", gpus=[3])
    assert read_machine(tmp_path, {**home, "SWEEP_MACHINE": str(named)}).file == named
    with pytest.raises(UserError, match="no such machine file"):
        read_machine(tmp_path, {"SWEEP_MACHINE": str(tmp_path / "none.yaml")})


@pytest.mark.parametrize(
    "place",
    [
        "weights/Wan2.1-Tiny",
        "cache/modelscope/models/Wan-AI/Wan2___1-Tiny",
        "cache/modelscope/Wan-AI/Wan2.1-Tiny",
        "hf/hub/models--Wan-AI--Wan2.1-Tiny/snapshots/abc",
    ],
)
def test_a_checkpoint_is_found_by_its_name(tmp_path: Path, place: str) -> None:
    """In the machine's folders, and in the caches of download tools."""
    environment = {
        "MODELSCOPE_CACHE": str(tmp_path / "cache" / "modelscope"),
        "HF_HOME": str(tmp_path / "hf"),
    }
    (tmp_path / place).mkdir(parents=True)
    found = find_checkpoint(
        tmp_path / "project", "models/Wan2.1-Tiny", [tmp_path / "weights"], environment
    )
    assert found == tmp_path / place
    (tmp_path / "project/models/Wan2.1-Tiny").mkdir(parents=True)
    own = find_checkpoint(tmp_path / "project", "models/Wan2.1-Tiny", [], environment)
    assert own == tmp_path / "project/models/Wan2.1-Tiny"


def test_the_revision_in_use_is_taken_of_a_hugging_face_cache(tmp_path: Path) -> None:
    model = tmp_path / "hub" / "models--Wan-AI--Tiny"
    for revision in ("old", "new"):
        (model / "snapshots" / revision).mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("old", encoding="utf-8")
    found = find_checkpoint(tmp_path, "Tiny", [], {"HF_HUB_CACHE": str(tmp_path / "hub")})
    assert found.name == "old"


def test_weights_that_lie_elsewhere_make_the_same_videos(project: Project) -> None:
    """A fingerprint has the weights' content, not their place."""
    model = {"checkpoint": "models/Wan2.1-Tiny"}
    size = {"width": 112, "height": 64, "num_frames": 9, "num_inference_steps": 2}
    project.write(backend="wan", model=model, generation=size)
    shutil.copytree(TINY, project.root / "models" / "Wan2.1-Tiny")
    before = identities_of(load_experiment(project.file))
    shutil.move(project.root / "models", project.root.parent / "权重")
    with pytest.raises(UserError, match=r"model\.checkpoint: no such folder"):
        identities_of(load_experiment(project.file))
    machine(project.root / "machine.yaml", checkpoints=["../权重"])
    assert identities_of(load_experiment(project.file)) == before
