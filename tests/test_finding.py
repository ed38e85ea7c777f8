"""Weights are looked for where the download libraries put them, by plan and worker alike."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project
from tiny import TINY

from runner.backends.wan.finding import (
    find_checkpoint,
    hugging_face_folders,
    modelscope_folders,
)
from runner.machine.environment_file import launch_environment

NAMES = (
    *("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "XDG_CACHE_HOME"),
    *("MODELSCOPE_CACHE", "MS_CACHE_HOME"),
)
SETTINGS: list[dict[str, str]] = [
    {},
    {"XDG_CACHE_HOME": "/xdg"},
    {"XDG_CACHE_HOME": "/xdg", "HF_HOME": "/home"},
    {"HF_HOME": "~/hf"},
    {"HF_HOME": "/home", "HUGGINGFACE_HUB_CACHE": "/former"},
    {"HUGGINGFACE_HUB_CACHE": "/former", "HF_HUB_CACHE": "/hub"},
    {"HF_HUB_CACHE": "$SCRATCH/hub", "HF_HOME": "/home"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_hugging_face_is_asked_where_its_library_looks(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library itself says so."""
    constants = importlib.import_module("huggingface_hub.constants")
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCRATCH", "/scratch")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    try:
        importlib.reload(constants)
        assert hugging_face_folders() == [Path(constants.HF_HUB_CACHE)]
    finally:
        monkeypatch.undo()
        importlib.reload(constants)


def test_modelscope_is_asked_where_its_library_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both of its generations; an empty variable says nothing."""
    config = pytest.importorskip("modelscope_hub.config").HubConfig
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert Path(config().cache_dir) in modelscope_folders()
    assert Path.home() / ".cache/modelscope/hub" in modelscope_folders()
    monkeypatch.setenv("MODELSCOPE_CACHE", "/weights")
    assert [Path(config().cache_dir)] == modelscope_folders()
    assert modelscope_folders({"MODELSCOPE_CACHE": "", "MS_CACHE_HOME": "/ms"}) == [Path("/ms")]


def test_transformers_own_cache_is_looked_through_as_well() -> None:
    found = hugging_face_folders({"TRANSFORMERS_CACHE": "/own", "HF_HUB_CACHE": "/hub"})
    assert found == [Path("/hub"), Path("/own")]


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("XDG_CACHE_HOME", "huggingface/hub/models--Wan-AI--Wan2.1-Tiny/snapshots/abc"),
        ("HUGGINGFACE_HUB_CACHE", "models--Wan-AI--Wan2.1-Tiny/snapshots/abc"),
        ("TRANSFORMERS_CACHE", "models--Wan-AI--Wan2.1-Tiny/snapshots/abc"),
        ("MODELSCOPE_CACHE", "models/Wan-AI--Wan2.1-Tiny/snapshots/master"),
        ("MODELSCOPE_CACHE", "hub/models/Wan-AI/Wan2___1-Tiny"),
        ("MODELSCOPE_CACHE", "hub/Wan-AI/Wan2.1-Tiny"),
        ("MS_CACHE_HOME", "models/Wan-AI/Wan2___1-Tiny"),
    ],
)
def test_each_variable_leads_to_a_checkpoint(tmp_path: Path, variable: str, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    environment = {variable: str(tmp_path)}
    found = find_checkpoint(tmp_path / "project", "models/Wan2.1-Tiny", [], environment)
    assert found == tmp_path / place


def test_a_worker_finds_the_weights_that_the_plan_has_found(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the variable names a folder from where the shell stands: workers do not."""
    place = "权重 cache/models--Wan-AI--Wan2.1-Tiny/snapshots/abc"
    shutil.copytree(TINY, project.root / place)
    size = {"width": 112, "height": 64, "num_frames": 9, "fps": 15, "num_inference_steps": 2}
    project.write(backend="wan", model={"checkpoint": "models/Wan2.1-Tiny"}, generation=size)
    assert project.call("plan", "experiments/x.yaml").status == 2
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("HF_HUB_CACHE", "权重 cache")
    assert project.call("plan", "experiments/x.yaml").status == 0
    code = (
        "import sys; from pathlib import Path; from runner.backends.wan.finding import *\n"
        "print(find_checkpoint(Path(sys.argv[1]), 'models/Wan2.1-Tiny', []))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(project.root)],
        cwd=project.run_folder.path,
        env=launch_environment(),
        capture_output=True,
        check=False,
    )
    assert told.stdout.decode().strip() == str(project.root / place), told.stderr.decode()
