"""The record of a video: a real run's sidecars say exactly what docs/sidecar.md promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, write_clip
from documented_sidecar import ON_A_CPU, assert_documented
from random_checkpoint import random_numbers

from runner.backends.wan.checkpoint import Checkpoint
from runner.backends.wan.made_up import write_checkpoint
from runner.backends.wan.sizes import TINY
from runner.disk.manifest import read_manifest
from runner.disk.publish import FORM, read_sidecar
from runner.machine.git_state import git_state
from runner.machine.processes import peak_resident_gib, resident_gib

LAUNCH = ("--on", "local", "--wait")


def sidecars(project: Project) -> list[dict[str, Any]]:
    run = project.run_folder
    found = [read_sidecar(run.sidecar(job)) for job in read_manifest(run.manifest).jobs]
    assert found
    return [sidecar for sidecar in found if sidecar is not None]


def test_a_made_video_has_exactly_the_documented_keys(project: Project) -> None:
    project.finish()
    made = sidecars(project)
    assert len(made) == 6
    for sidecar in made:
        assert_documented(sidecar, "another backend", *ON_A_CPU)
        assert set(sidecar) - {"schema"} <= FORM.keys()
        video = sidecar["video"]
        assert (video["codec"], video["pix_fmt"]) == ("h264", "yuv420p")
        assert (video["width"], video["height"], video["num_frames"]) == (112, 64, 9)
        assert video["fps"] == pytest.approx(15)
        assert sidecar["recipe"] == 2
        assert sidecar["attempt"] == 1
        assert {"python", "ffmpeg", "imageio-ffmpeg", "decord"} <= set(sidecar["versions"])
        assert {"claim", "generate", "finish", "check"} <= set(sidecar["seconds"])
        assert 0 < sidecar["peak_host_memory_gib"] < 64


def test_an_adopted_video_has_the_same_keys(project: Project) -> None:
    assert project.call("plan", "experiments/x.yaml").status == 0
    folder = project.root / "old"
    for job in read_manifest(project.run_folder.manifest).jobs:
        write_clip(folder / job.on("video") / f"{job.on('prompt')}.mp4")
    words = ("adopt", "x", str(folder), "--pattern", "{video}/{prompt}.mp4")
    assert project.call(*words).status == 0
    for sidecar in sidecars(project):
        assert_documented(sidecar, "adopted")
        assert sidecar["adopted"].keys() == {"source", "sha256", "at"}


def test_model_files_are_on_record_with_size_and_hash(tmp_path: Path) -> None:
    """Each file that is loaded; one changed byte of the weights shows in its file alone."""
    write_checkpoint(tmp_path, TINY, random_numbers("cpu", 0), shards=2)
    before = {record["file"]: record for record in Checkpoint(tmp_path).contents()}
    assert {"Wan2.1_VAE.safetensors", "models_t5_umt5-xxl-enc-bf16.safetensors"} <= set(before)
    for name, record in before.items():
        assert record["size"] == (tmp_path / name).stat().st_size
        assert record.keys() == {"file", "size", "header", "blocks"}
    vae = tmp_path / "Wan2.1_VAE.safetensors"
    content = bytearray(vae.read_bytes())
    content[-1] ^= 1
    vae.write_bytes(content)
    after = {record["file"]: record for record in Checkpoint(tmp_path).contents()}
    assert [name for name in before if before[name] != after[name]] == [vae.name]


def test_a_wan_video_names_its_model_files_and_their_drift(project: Project) -> None:
    """A real run from a checkpoint folder; plan and verify name the file that was exchanged."""
    weights = project.root / "weights"
    weights.mkdir()
    write_checkpoint(weights, TINY, random_numbers("cpu", 0), shards=2)
    project.add_clips({"c": {"v": ["one"]}})
    project.write(
        backend="wan",
        model={"checkpoint": "weights"},
        dataset={"videos": "videos", "prompts": "prompts.json", "categories": ["c"]},
        placement={"gpus": [0], "device": "cpu"},
    )
    assert project.sweep("launch", "experiments/x.yaml", *LAUNCH).status == 0
    (sidecar,) = sidecars(project)
    assert_documented(sidecar, *ON_A_CPU)
    model = "sweep's tiny model in BF16, 6.99 million weights"
    assert sidecar["model_is"] == model
    for words in ([], ["--anonymous"]):
        done = project.call("report", "x", "--no-posters", *words)
        assert done.status == 0, done.err
        page = (project.run_folder.path / "report" / "index.html").read_text("utf-8")
        assert f"<span>{model.replace(chr(39), '&#39;')}</span>" in page
    assert sidecar["model_files"] == Checkpoint(weights).contents()
    vae = weights / "Wan2.1_VAE.safetensors"
    content = bytearray(vae.read_bytes())
    content[-1] ^= 1
    vae.write_bytes(content)
    planned = project.call("plan", "experiments/x.yaml")
    line = f"model.checkpoint: {vae.name} has other content (of the same size)"
    assert line in planned.out
    assert line in project.call("verify", "x").out


def test_the_commit_and_whether_it_is_dirty(tmp_path: Path) -> None:
    """Outside git nothing is claimed; an untracked file is no change, an edited one is."""
    assert git_state(tmp_path) == (None, None)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "a").write_text("1")
    for words in (["init", "-q"], ["add", "a"], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "results").write_text("untracked")
    commit, dirty = git_state(tmp_path)
    assert commit is not None
    assert (len(commit), dirty) == (40, False)
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == (commit, True)


def test_peak_host_memory_is_since_the_last_call() -> None:
    """A peak that has been told once is not told again of the next video."""
    peak_resident_gib()
    block = bytearray(b"\1") * (400 << 20)
    with_block = peak_resident_gib()
    del block
    peak_resident_gib()
    after = peak_resident_gib()
    assert with_block is not None
    assert after is not None
    assert with_block - after > 0.3


def test_what_a_process_of_a_script_holds_counts() -> None:
    """And one that has ended meanwhile is no obstacle."""
    hold = "block = b'x' * (200 << 20); print(flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert resident_gib([child.pid]) - resident_gib() > 0.18
        both, alone = peak_resident_gib([child.pid]), peak_resident_gib()
        child.kill()
    assert both is not None
    assert alone is not None
    assert both - alone > 0.18
    assert abs(resident_gib([child.pid]) - resident_gib()) < 0.01
    assert peak_resident_gib([child.pid]) is not None
