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

from runner.disk.run_folder import RunFolder
from runner.same_bits import GpuProcess, ProcessOutput, main

pytest.importorskip("torch")
pytest.importorskip("modelscope")

OTHER_PROCESSOR = """
import os, sys
if "runner.backends.wan.trial" in sys.orig_argv:
    try:
        os.close(os.open({first!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        try:
            os.close(os.open({second!r}, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            os.environ["ATEN_CPU_CAPABILITY"] = "default"
"""
"""Run by each Python at its start: all processes but the first two have simpler arithmetic."""


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


def test_a_process_makes_the_same_and_one_that_differs_is_told(
    project: Project, tmp_path: Path
) -> None:
    """Latents, frames, and what another goes on with from half of the first one's. Another kind
    of processor makes other bits, and begins a half-made video anew. Nothing is written to the
    run folder."""
    planned(project)
    before = sorted(project.run_folder.path.rglob("*"))
    own = tmp_path / "own"
    own.mkdir()
    marks = {name: str(own / name) for name in ("first", "second")}
    (own / "sitecustomize.py").write_text(OTHER_PROCESSOR.format(**marks))
    words = ("x", "--gpus", "cpu", "--processes", "3", "--steps", "2", "--json")
    done = same_bits(project, *words, before=own)
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    first, second, third = answer["processes"]
    assert not answer["same"]
    assert [one["same"] for one in (first, second, third)] == [True, True, False]
    assert (first["settings"], first["gpu"], first["process"]) == ("plain", None, 0)
    assert second["latents"] == first["latents"] == second["resumed"]
    assert second["frames"] == first["frames"]
    assert (second["from_step"], third["from_step"]) == (1, 0)
    assert third["latents"] != first["latents"]
    assert "begins anew, kept latents are another make's: device 'cpu" in done.stderr
    assert sorted(project.run_folder.path.rglob("*")) == before


def made(number: int, latents: str, **resumed: Any) -> ProcessOutput:
    found = {"latents": latents, "frames": "f" * 64, **resumed}
    return ProcessOutput("plain", GpuProcess("cpu", number), found)


def test_what_was_found_is_shown_and_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made(0, "a" * 64)
    alike = made(1, "a" * 64, resumed="a" * 64, from_step=1)
    other = made(2, "b" * 64, resumed="b" * 64, from_step=0)
    monkeypatch.setattr("runner.same_bits.find_run", lambda name: RunFolder(Path(name)))
    for found, status, told in (
        ([first, alike], 0, "All 2 processes made the same bits"),
        ([first, alike, other], 1, "1 of 3 processes made other bits than the first one"),
    ):
        monkeypatch.setattr("runner.same_bits.compare", lambda *_, found=found: found)
        assert main(["x", "--gpus", "cpu", "--processes", "2"]) == status
        said = capsys.readouterr().out
        assert told in said
        assert ("begins anew" in said) == ("DIFFERENT" in said) == bool(status)
        assert main(["x", "--gpus", "cpu", "--processes", "2", "--json"]) == status
        assert json.loads(capsys.readouterr().out)["same"] == (status == 0)


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
