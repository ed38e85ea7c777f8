"""A run folder whose own files were damaged: said in a line or two, repaired by one command."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from runner.disk.attempts import read_attempts
from runner.job import JobState
from runner.queue import Queue
from runner.queue.soundness import find_damage

LAUNCH = ("launch", "experiments/x.yaml", "--on", "local", "--wait")
RESUME = ("resume", "x", "--on", "local", "--wait")


def made(project: Project) -> dict[str, int]:
    """Every video with the time at which it was made."""
    return {
        str(path): path.stat().st_mtime_ns for path in project.run_folder.path.glob("*/*/*.mp4")
    }


def jobs(project: Project) -> list[dict[str, Any]]:
    lines = project.run_folder.manifest.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def kept(project: Project, name: str) -> list[Path]:
    return list(project.run_folder.path.glob(f"{name}.damaged-*"))


def zero_page(path: Path, number: int) -> None:
    with path.open("r+b") as file:
        file.seek(4096 * number)
        file.write(bytes(4096))


@pytest.mark.parametrize("page", [0, 3])
def test_a_damaged_queue_is_made_anew_and_no_video_is(project: Project, page: int) -> None:
    """The damaged one is kept. Page 3 is found only by reading all, after an unclean end."""
    project.finish()
    before = made(project)
    zero_page(project.run_folder.queue, page)
    Path(f"{project.run_folder.queue}-wal").touch()
    resumed = project.sweep(*RESUME)
    assert resumed.status == 0, resumed.err
    assert "was damaged" in resumed.err
    assert project.progress()["done"] == 6
    assert made(project) == before
    assert len(kept(project, "sweep.db")) == 1


def test_a_queue_made_anew_knows_what_every_video_is(project: Project) -> None:
    """sweep.db is deleted: videos of an axis, linked, remade and stale ones stay what they were,
    and nothing but what had failed is tried again."""
    faults = [{"kind": "bad_input", "video": "-dash"}]
    axes = {"denoising_strength": [0.7, 0.8]}
    project.write(model={"seconds": 0.02, "faults": faults}, axes=axes)
    assert project.sweep(*LAUNCH).status == 1
    prompts = project.root / "prompts.json"
    prompts.write_text(prompts.read_text("utf-8").replace("a red ball", "a blue ball"), "utf-8")
    assert project.call("plan", "experiments/x.yaml").status == 0
    stale = ("--stale", "--only", "denoising_strength=0.7")
    assert project.sweep(*RESUME, *stale).status == 1
    assert project.call("plan", "experiments/x.yaml", "name=other").status == 0
    counts = {"x": (9, 1, 2), "other": (9, 0, 3)}
    for name, expected in counts.items():
        for path in (project.root / "results" / name).glob("sweep.db*"):
            path.unlink()
        answer = json.loads(project.call("progress", name, "--json").out)
        assert (answer["done"], answer["stale"], answer["pending"]) == expected, name
    before, tried = made(project), len(read_attempts(project.run_folder.attempts))
    assert project.sweep(*RESUME).status == 1
    assert made(project) == before
    assert len(read_attempts(project.run_folder.attempts)) == tried + 2
    assert len(list((project.run_folder.path / "superseded").rglob("*.mp4"))) == 1


@pytest.mark.parametrize("page", [3, 4, 5, 6])
def test_damage_that_shows_late_is_said_in_a_line(project: Project, page: int) -> None:
    """A queue that was closed well is not read as a whole before each command."""
    project.finish()
    queue = project.run_folder.queue
    zero_page(queue, page)
    asked = project.sweep("progress", "x")
    assert asked.status == 2
    assert "sweep.db is damaged" in asked.err
    assert len(asked.err.splitlines()) == 1
    for path in queue.parent.glob("sweep.db*"):
        path.unlink()
    assert project.sweep(*RESUME).status == 0
    assert project.progress()["done"] == 6


def test_an_emptied_queue_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    Queue(path, create=True).close()
    assert find_damage(path) is None
    os.truncate(path, 0)
    assert find_damage(path) == "is damaged: it has no jobs"


def test_a_busy_queue_is_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    Queue(path, create=True).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    assert find_damage(path) is None
    connection.close()


def take_out_a_prompt(project: Project) -> None:
    """The finished sweep, after prompts were taken out and changed places: each keeps its number,
    as nothing but the manifest and the queue knows."""
    project.finish()
    prompts = project.root / "prompts.json"
    texts = json.loads(prompts.read_text(encoding="utf-8"))
    texts["two words"]["ref 🎬 b"] = ["<script>three</script>", "one"]
    prompts.write_text(json.dumps(texts), encoding="utf-8")
    assert project.call("plan", "experiments/x.yaml").status == 0
    # The one that was taken out comes last.
    assert [job["point"]["prompt"] for job in jobs(project)[-3:]] == [0, 2, 1]


@pytest.mark.parametrize("damage", ["cut", "cut at a line", "emptied", "lost"])
def test_plan_restores_a_manifest_with_its_prompt_numbers(project: Project, damage: str) -> None:
    """Numbers that only history explains come from the queue; no video is made again."""
    take_out_a_prompt(project)
    planned, before = jobs(project), made(project)
    manifest = project.run_folder.manifest
    lines = manifest.read_bytes().splitlines(keepends=True)
    if damage == "lost":
        manifest.unlink()
    else:
        left = {"cut": b"".join(lines)[:-20], "cut at a line": lines[0], "emptied": b""}
        manifest.write_bytes(left[damage])
    for words in (RESUME, ("progress", "x"), ("verify", "x")):
        finished = project.sweep(*words)
        assert finished.status == 2
        assert "`sweep plan FILE`" in finished.err
        assert len(finished.err.splitlines()) <= 2
    assert project.call("plan", "experiments/x.yaml").status == 0
    assert jobs(project) == planned
    assert project.sweep(*RESUME).status == 0
    assert made(project) == before
    assert len(kept(project, "manifest.jsonl")) == (damage != "lost")


@pytest.mark.parametrize("damage", ["cut", "zeroed", "emptied", "lost"])
def test_plan_restores_the_runs_experiment(project: Project, damage: str) -> None:
    project.finish()
    before, path = made(project), project.run_folder.experiment
    text = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        left = {"cut": text[: len(text) // 2], "zeroed": bytes(len(text)), "emptied": b""}
        path.write_bytes(left[damage])
    finished = project.sweep("resume", str(project.run_folder.path), "--on", "local")
    assert finished.status == 2
    assert "`sweep plan FILE`" in finished.err
    planned = project.sweep("plan", "experiments/x.yaml")
    assert planned.status == 0, planned.err
    assert ("overrides" in planned.err) == (damage != "lost")
    assert path.read_bytes() == text
    assert project.sweep(*RESUME).status == 0
    assert made(project) == before


def test_verify_names_what_a_lost_queue_no_longer_knows(project: Project) -> None:
    """A damaged video stays one when the queue that counted it as done is gone."""
    project.finish()
    paths = [project.run_folder.path / job["output"] for job in jobs(project)]
    os.truncate(paths[0], 100)
    os.truncate(paths[1].with_suffix(".json"), 0)
    paths[2].with_suffix(".json").unlink()
    project.run_folder.queue.unlink()
    finished = project.call("verify", "x", "--json")
    assert finished.status == 1
    answer = json.loads(finished.out)
    assert {entry["video"] for entry in answer["broken"]} == {
        str(path.relative_to(project.run_folder.path)) for path in paths[:3]
    }
    assert (answer["good"], answer["unmade"]) == (3, 0)
    again = json.loads(project.call("verify", "x", "--json").out)
    assert (again["good"], again["unmade"], again["broken"]) == (3, 3, [])
    assert project.sweep(*RESUME).status == 0
    assert project.progress()["done"] == 6


@pytest.mark.parametrize("by", ["a worker", "a look at the disk"])
def test_nothing_is_left_in_the_making_of_a_video_that_is_found_made(
    project: Project, by: str
) -> None:
    """Its worker was killed between publishing the video and recording it."""
    project.finish()
    before = made(project)
    job = jobs(project)[0]["id"]
    scratch = project.run_folder.path / "work" / job
    scratch.mkdir()
    queue = Queue(project.run_folder.queue)
    assert by != "a worker" or queue.retry([JobState.DONE], [job]) == 1
    queue.close()
    assert project.sweep(*RESUME).status == 0
    assert made(project) == before
    assert not scratch.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from runner.disk.run_folder import write_atomically

def parts():
    yield b"half"
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(Path(sys.argv[1]), parts())
"""


def test_what_a_killed_worker_was_writing_is_not_kept(project: Project) -> None:
    project.finish()
    cached = project.run_folder.cache / "prompts" / "x.safetensors"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(cached)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(cached.parent.iterdir())) == 1
    assert project.sweep(*RESUME).status == 0
    assert not list(cached.parent.iterdir())
