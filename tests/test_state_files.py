"""What lies in a run folder is input like any other: nothing in it leads out of it."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, write_clip

OUTSIDE = ["../../../../../precious", "..", "/precious", "work", "0123456789abcdeF", "", 7, None]
"""What an id must not be."""

PATHS = [
    "../../precious/x.mp4",
    "a/../../precious/x.mp4",
    "/precious/x.mp4",
    "x.mp4",
    "a/x.mkv",
    "a//x.mp4",
    "a/./x.mp4",
    "a/x\0.mp4",
    7,
    None,
]


def canary(project: Project) -> dict[str, bytes]:
    """Folders beside the run folder, at every height, with something dear in them."""
    for place in (project.root, project.root / "results", project.root.parent):
        (place / "precious").mkdir(exist_ok=True)
        (place / "precious" / "x.mp4").write_bytes(b"dear")
    return seen(project)


def seen(project: Project) -> dict[str, bytes]:
    """All that lies outside the run folder."""
    run = project.run_folder.path
    return {
        str(path): path.read_bytes()
        for path in project.root.parent.rglob("*")
        if path.is_file() and not path.is_relative_to(run)
    }


def change_manifest(project: Project, **changes: Any) -> None:
    """Change the first job of the manifest, where it lies."""
    path = project.run_folder.manifest
    first, *rest = path.read_text("utf-8").splitlines()
    text = json.dumps({**json.loads(first), **changes}, ensure_ascii=False)
    path.write_text("\n".join([text, *rest]) + "\n", "utf-8")


@pytest.mark.parametrize(
    "changes", [*({"id": value} for value in OUTSIDE), *({"output": value} for value in PATHS)]
)
def test_a_manifest_leads_nowhere_else(project: Project, changes: dict[str, Any]) -> None:
    """Not on asking, not on going on, not on planning again: that mends it."""
    project.finish()
    before = canary(project)
    change_manifest(project, **changes)
    for words in (
        ("resume", "x", "--on", "local"),
        ("verify", "x"),
        ("progress", "x"),
        ("export", "x"),
        ("plan", "experiments/x.yaml"),
        ("verify", "x"),
    ):
        done = project.call(*words)
        assert "Traceback" not in done.err
        assert seen(project) == before
    assert project.progress()["done"] == 6


@pytest.mark.parametrize("column", ["id", "output"])
def test_a_queue_leads_nowhere_else(project: Project, column: str) -> None:
    """It is said to be damaged, with the way to have it made anew."""
    project.finish()
    before = canary(project)
    value = {"id": "../../../precious", "output": "../../precious/x.mp4"}[column]
    with closing(sqlite3.connect(project.run_folder.queue)) as connection:
        one = "(SELECT id FROM jobs LIMIT 1)"
        connection.execute(f"UPDATE jobs SET {column} = ? WHERE id = {one}", [value])
        connection.commit()
    for words in (("verify", "x"), ("export", "x"), ("resume", "x", "--on", "local")):
        done = project.call(*words)
        assert "Traceback" not in done.err
        assert seen(project) == before
    said = project.call("verify", "x")
    assert said.status == 2
    assert "sweep.db is damaged" in said.err
    for part in ("", "-wal", "-shm"):
        project.run_folder.queue.with_name(f"sweep.db{part}").unlink(missing_ok=True)
    assert project.call("resume", "x", "--on", "local").status == 0
    assert project.progress()["done"] == 6


def test_links_lead_no_video_out_of_the_run_folder(project: Project) -> None:
    """Neither a new one, nor a former one that a new one replaces."""
    elsewhere = project.root.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "dear").write_bytes(b"dear")
    assert project.call("plan", "experiments/x.yaml").status == 0
    (project.run_folder.path / "camera_motion").symlink_to(elsewhere)
    made = project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert made.status == 1
    assert [path.name for path in elsewhere.rglob("*")] == ["dear"]
    told = project.call("explain", "x", "camera_motion/-dash", "prompt=0", "seed=1")
    assert "links lead out of the run folder" in told.out
    assert project.progress()["done"] == 3


def test_a_video_is_held_against_what_its_job_asks_for(project: Project) -> None:
    """A sidecar that vouches for another shape does not make it right."""
    project.finish()
    (sidecar,) = project.run_folder.path.glob("camera_motion/-dash/*.json")
    video = sidecar.with_suffix(".mp4")
    write_clip(video, frames=5)
    from runner.run_folder import sha256_file

    record = json.loads(sidecar.read_text("utf-8"))
    record["video"] |= {"num_frames": 5, "size": video.stat().st_size, "sha256": sha256_file(video)}
    sidecar.write_text(json.dumps(record), "utf-8")
    verified = project.call("verify", "x", "--json")
    assert verified.status == 1
    (broken,) = json.loads(verified.out)["broken"]
    assert "5 frames, not 9" in json.dumps(broken)


def test_a_hundred_thousand_seeds_are_planned_in_seconds(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.add_clips({"a": {"b": ["c"]}})
    project.write(seeds=list(range(100_000)))
    start = time.monotonic()
    assert project.call("plan", "experiments/x.yaml").status == 0
    assert time.monotonic() - start < 60


DEEP = b"[" * 200_000 + b"]" * 200_000


def state_files(project: Project) -> dict[str, Path]:
    """What commands read of a finished sweep, and of what it was made from."""
    run = project.run_folder
    (sidecar,) = run.path.glob("camera_motion/-dash/*.json")
    (clip,) = (project.root / "videos" / "camera_motion").glob("-dash.mp4")
    return {
        "manifest": run.manifest,
        "sidecar": sidecar,
        "attempts": run.attempts,
        "experiment": run.experiment,
        "end commands": run.at_end,
        "machine file": project.root / "machine.yaml",
        "prompts": project.root / "prompts.json",
        "clip": clip,
        "experiment file": project.file,
    }


@pytest.mark.parametrize("content", ["pipe", "device", "deep JSON", "socket"])
@pytest.mark.parametrize(
    "name",
    [
        *("manifest", "sidecar", "attempts", "experiment", "end commands", "machine file"),
        *("prompts", "clip", "experiment file"),
    ],
)
def test_no_file_holds_a_command_up_or_ends_it_in_a_traceback(
    project: Project, name: str, content: str
) -> None:
    """Whatever lies in a file's place; each command ends within seconds, and says what it found."""
    project.finish()
    path = state_files(project)[name]
    path.unlink(missing_ok=True)
    if content == "pipe":
        os.mkfifo(path)
    elif content == "device":
        path.symlink_to("/dev/zero")
    elif content == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            folder = os.open(path.parent, os.O_RDONLY)
            bound.bind(f"/proc/self/fd/{folder}/{path.name}")
            os.close(folder)
    else:
        path.write_bytes(DEEP)
    for words in (
        ("progress", "x", "--json"),
        ("verify", "x", "--json"),
        ("export", "x", "--json"),
        ("explain", "x", "camera_motion/-dash", "prompt=0", "seed=1"),
        ("plan", "experiments/x.yaml"),
    ):
        start = time.monotonic()
        done = project.call(*words)
        assert time.monotonic() - start < 20, words
        assert done.status in (0, 1, 2), words
        assert "Traceback" not in done.err


def test_a_rate_near_nothing_is_refused(project: Project) -> None:
    project.write(generation={"fps": 1e-300})
    refused = project.call("plan", "experiments/x.yaml")
    assert (refused.status, "Traceback" in refused.err) == (2, False)
    assert "generation.fps" in refused.err


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n"])
@pytest.mark.parametrize("name", ["experiment", "prompts", "machine file"])
def test_aliases_make_no_large_thing_of_a_small_file(
    project: Project, name: str, text: str
) -> None:
    files = {
        "experiment": project.file,
        "prompts": project.root / "prompts.yaml",
        "machine file": project.root / "machine.yaml",
    }
    project.write(dataset={"videos": "videos", "prompts": "prompts.yaml"})
    (project.root / "prompts.json").rename(files["prompts"])
    files[name].write_text(text + "name: x\n", "utf-8")
    start = time.monotonic()
    refused = project.call("plan", "experiments/x.yaml")
    assert time.monotonic() - start < 5
    assert (refused.status, "Traceback" in refused.err) == (2, False)
    assert "alias" in refused.err


def test_an_alias_that_saves_writing_is_taken(project: Project) -> None:
    project.file.write_text(
        project.file.read_text("utf-8").replace("seeds:\n- 1\n", "")
        + "seeds: &seeds [1, 2]\naxes: {cfg_scale: *seeds}\n",
        "utf-8",
    )
    planned = project.call("plan", "experiments/x.yaml")
    assert planned.status == 0, planned.err
    assert "+24 new" in planned.out
