"""`python -m runner.backends.wan.same_bits`: do several processes compute the same?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

pytest.importorskip("torch")
pytest.importorskip("modelscope")

OTHER_PROCESSOR = """
import os, sys
if "runner.backends.wan.trial" in sys.orig_argv:
    try:
        os.close(os.open({first!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        os.environ["ATEN_CPU_CAPABILITY"] = "default"
"""
"""Run by each Python at its start: all processes but the first have simpler arithmetic."""


def planned(project: Project, **model: Any) -> None:
    project.write(
        backend="wan",
        model=model,
        dataset={"videos": "videos", "prompts": "prompts.json", "categories": ["camera_motion"]},
        generation={"width": 112, "height": 64, "num_frames": 9, "num_inference_steps": 50},
    )
    assert project.call("plan", "experiments/x.yaml").status == 0


def same_bits(
    project: Project, *words: str, before: Path | None = None
) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[1]
    path = [*([str(before)] if before else []), str(root), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "runner.backends.wan.same_bits", *words],
        cwd=project.root,
        env={**os.environ, **project.environment, "PYTHONPATH": os.pathsep.join(path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_two_processes_make_the_same(project: Project) -> None:
    """Latents, frames, and what the second goes on with from half of the first one's; nothing is
    written to the run folder."""
    planned(project)
    before = sorted(project.run_folder.path.rglob("*"))
    words = ("x", "--gpus", "cpu", "--processes", "2", "--steps", "2", "--json")
    done = same_bits(project, *words)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    first, second = answer["processes"]
    assert answer["same"]
    assert (first["settings"], first["gpu"], first["process"]) == ("plain", None, 0)
    assert second["latents"] == first["latents"] == second["resumed"]
    assert second["frames"] == first["frames"]
    assert second["from_step"] == 1
    assert sorted(project.run_folder.path.rglob("*")) == before


def test_processes_that_differ_are_told(project: Project, tmp_path: Path) -> None:
    """Another kind of processor makes other bits, and begins a half-made video anew."""
    planned(project)
    own = tmp_path / "own"
    own.mkdir()
    text = OTHER_PROCESSOR.format(first=str(own / "first"))
    (own / "sitecustomize.py").write_text(text)
    words = ("x", "--gpus", "cpu", "--processes", "2", "--steps", "2")
    done = same_bits(project, *words, before=own)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 processes made other bits than the first one" in done.stdout
    assert "begins anew" in done.stdout
    assert "begins anew, kept latents are another make's: device 'cpu" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("x", "--gpus", "7"), "--gpus: there is no GPU 7 here"),
        (("x", "--gpus", "cpu"), "one process has nothing to be compared with"),
        (("nothing",), "nothing"),
    ],
)
def test_a_mistake_is_said(project: Project, words: tuple[str, ...], message: str) -> None:
    done = same_bits(project, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_only_a_planned_sweep_of_wan_is_compared(project: Project) -> None:
    assert same_bits(project, "experiments/x.yaml", "--processes", "2").returncode == 2
    assert project.call("plan", "experiments/x.yaml").status == 0
    done = same_bits(project, "x", "--gpus", "cpu", "--processes", "2")
    assert done.returncode == 2
    assert "backend is fake, not wan" in done.stderr
