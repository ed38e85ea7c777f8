"""A backend of which nothing is as ours are goes the whole way: its axes, inputs and shapes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import wave
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, wait_for, write_clip
from installed import ROOT, install

from runner.disk.manifest import read_manifest
from runner.disk.publish import read_sidecar
from runner.video import probe, probe_audio

VOICES = {"wide/高.wav": 0.55, "wide/tief.wav": 1.0, "shared.wav": 0.3}
FILE = "experiments/d.yaml"


def write_voice(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = np.sin(np.arange(int(16000 * seconds)) / 10) * 8000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(tone.astype("<i2").tobytes())


@pytest.fixture
def dubbing(project: Project, tmp_path: Path) -> Project:
    """Two categories of clips, two voices for one of them, another one for all others."""
    site = tmp_path / "site"
    paths = [str(site), str(Path(__file__).parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    project.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    install(site, "dubbing", "dubbing = dubbing:DubPlanner")
    for clip in ("wide/脸.mp4", "wide/b.mp4", "narrow/c.mp4"):
        write_clip(project.root / "faces" / clip)
    for name, seconds in VOICES.items():
        write_voice(project.root / "voices" / name, seconds)
    project.write(
        name="d",
        backend="dubbing",
        model={"seconds": 0.02},
        dataset={"videos": "faces", "audios": "voices"},
        seeds=[1, 2],
        generation={},
        axes={"brightness": [1.0, 0.5]},
    )
    (project.root / "experiments" / "x.yaml").rename(project.root / FILE)
    return project


def test_other_axes_go_the_whole_way(dubbing: Project) -> None:
    planned = dubbing.sweep("plan", FILE, "--json")
    assert planned.status == 0, planned.err
    run = dubbing.root / "results" / "d"
    jobs = read_manifest(run / "manifest.jsonl").jobs
    # 2 clips x 2 voices and 1 clip x 1 voice, each with 2 seeds and 2 brightnesses.
    assert len(jobs) == json.loads(planned.out)["total"] == 20
    assert "wide/脸/高/seed_1_brightness=0.5.mp4" in {job.output for job in jobs}
    assert {job.group for job in jobs} == {"wide/脸", "wide/b", "narrow/c"}
    assert {job.shape.num_frames for job in jobs} == {(5, 6), (10, 11), (3, 4)}
    assert all(list(job.point) == ["category", "video", "audio", "seed"] for job in jobs)

    slow = ("model.seconds=0.5",)
    assert dubbing.sweep("plan", FILE, *slow).status == 0
    assert dubbing.sweep("launch", "d", "--on", "local").status == 0

    def progress() -> dict[str, object]:
        said: dict[str, object] = json.loads(dubbing.sweep("progress", "d", "--json").out)
        return said

    def working() -> list[int]:
        rows = progress()["workers"]
        assert isinstance(rows, list)
        return [row["pid"] for row in rows if row["state"] == "working"]

    wait_for(lambda: bool(working()), 60)
    os.kill(working()[0], signal.SIGKILL)
    assert dubbing.sweep("stop", "d", "--now").status == 0
    assert dubbing.sweep("plan", FILE, "model.seconds=0.01").status == 0
    ended = dubbing.sweep("resume", "d", "--on", "local", "--wait", timeout=240)
    assert ended.status == 0, ended.err

    verified = json.loads(dubbing.sweep("verify", "d", "--json").out)
    assert (verified["good"], verified["unmade"], verified["broken"]) == (20, 0, [])
    for job in jobs:
        video = run / job.output
        sidecar = read_sidecar(video.with_suffix(".json"))
        assert sidecar is not None
        assert set(sidecar["inputs"]) == {"reference", "audio"}
        assert probe_audio(video).seconds == pytest.approx(
            VOICES.get(f"wide/{job.on('audio')}.wav", 0.3), abs=0.15
        )
        assert (probe(video).width, probe(video).height) == (job.shape.width, job.shape.height)

    part = dubbing.sweep("resume", "d", "--on", "local", "--dry-run", "--only", "audio=nobody")
    assert (part.status, "no job matches" in part.err) == (2, True)
    story = json.loads(
        dubbing.sweep(
            "explain", "d", "wide/b", "audio=tief", "seed=2", "brightness=1", "--json"
        ).out
    )
    assert (story["state"], story["point"]["audio"]) == ("done", "tief")
    rows = list(csv.DictReader(io.StringIO(dubbing.sweep("export", "d", "--csv").out)))
    assert {row["audio"] for row in rows} == {"高", "tief", "shared"}
    assert {row["audio_path"].rpartition("/")[2] for row in rows} == {
        "高.wav",
        "tief.wav",
        "shared.wav",
    }
    reported = dubbing.sweep("report", "d", "--json")
    assert reported.status == 0, reported.err
    page = (run / "report" / "index.html").read_text("utf-8")
    assert '"kind":"file"' in page.replace(" ", "")
    for words in (("doctor", FILE, "--json"), ("doctor", "d", "--json")):
        examined = dubbing.sweep(*words)
        assert "Traceback" not in examined.err
        assert json.loads(examined.out)["findings"]
    sheets = dubbing.sweep("sheet", "d", "--frames", "1", "--width", "64")
    assert sheets.status == 0, sheets.err


def test_a_changed_voice_makes_its_own_videos_stale(dubbing: Project) -> None:
    assert dubbing.sweep("launch", FILE, "--on", "local", "--wait", timeout=240).status == 0
    write_voice(dubbing.root / "voices" / "wide" / "tief.wav", 0.8)
    planned = json.loads(dubbing.sweep("plan", FILE, "--json").out)
    assert planned["changes"] == {"added": 0, "kept": 20, "changed": 8, "retired": 0}
    assert planned["reasons"] == ["audio changed in wide/b, wide/脸"]
    told = dubbing.sweep("explain", "d", "wide/b", "audio=tief", "seed=2", "brightness=1").out
    assert "audio: voices/wide/tief.wav has other content" in told


def test_what_is_wrong_with_a_voice_is_said(dubbing: Project) -> None:
    broken = dubbing.root / "voices" / "wide" / "tief.wav"
    broken.write_bytes(b"RIFF....")
    refused = dubbing.sweep("plan", FILE)
    assert refused.status == 2
    assert "audio tief.wav: " in refused.err
    dubbing.write(
        name="d",
        backend="dubbing",
        model={},
        dataset={"videos": "faces", "prompts": "prompts.json"},
        seeds=[1],
        generation={},
    )
    refused = dubbing.sweep("plan", "experiments/x.yaml")
    assert refused.status == 2
    assert "dataset.audios: this key is missing" in refused.err
    assert "also wrong: dataset.prompts" in refused.err
