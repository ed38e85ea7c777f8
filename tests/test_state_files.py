"""What lies in a run folder is input like any other: nothing in it leads out of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from conftest import Project, wait_for, write_clip

from runner.disk.manifest import read_manifest
from runner.disk.run_folder import RunFolder
from runner.machine.processes import ProcessId
from runner.slots.lock import supervisor

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
    text = json.dumps({**json.loads(first), **changes})
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
    """It is said to be damaged, and made anew by going on."""
    project.finish()
    before = canary(project)
    value = {"id": "../../../precious", "output": "../../precious/x.mp4"}[column]
    with closing(sqlite3.connect(project.run_folder.queue)) as connection:
        one = "(SELECT id FROM jobs LIMIT 1)"
        connection.execute(f"UPDATE jobs SET {column} = ? WHERE id = {one}", [value])
        connection.commit()
    for words in (("verify", "x"), ("export", "x")):
        done = project.call(*words)
        assert (done.status, "Traceback" in done.err) == (2, False)
        assert "sweep.db is damaged" in done.err
        assert seen(project) == before
    assert project.call("resume", "x", "--on", "local").status == 0
    assert seen(project) == before
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
    from runner.disk.run_folder import sha256_file

    record = json.loads(sidecar.read_text("utf-8"))
    record["video"] |= {"num_frames": 5, "size": video.stat().st_size, "sha256": sha256_file(video)}
    sidecar.write_text(json.dumps(record), "utf-8")
    verified = project.call("verify", "x", "--json")
    assert verified.status == 1
    (broken,) = json.loads(verified.out)["broken"]
    assert "5 frames, not 9" in json.dumps(broken)


def calls_in(work: Callable[[], object]) -> int:
    """How many functions are called in this process for it to be done."""
    called = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal called
        called += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return called


def test_a_plan_of_twice_the_seeds_takes_twice_the_work(tmp_path: Path) -> None:
    """And so one of a hundred thousand takes seconds: `benchmarks/scale.py` has the numbers."""
    project = Project(tmp_path)
    project.add_clips({"a": {"b": ["c"]}})
    work = []
    for seeds in (1, 1000, 2000, 4000):
        project.write(name=f"of_{seeds}", seeds=list(range(seeds)))
        plan = partial(project.call, "plan", "experiments/x.yaml")
        work.append(calls_in(plan))
        run = RunFolder(project.root / "results" / f"of_{seeds}")
        assert len(read_manifest(run.manifest).jobs) == seeds
    # The first one imports what the others find.
    _, least, half, whole = work
    assert whole - half < 2.5 * (half - least)


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


def make_socket(path: Path) -> None:
    """One at a path that may be longer than a socket's name can be."""
    with socket.socket(socket.AF_UNIX) as bound:
        folder = os.open(path.parent, os.O_RDONLY)
        bound.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


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
    """Whatever lies in a file's place; each command ends, for which it computes for seconds at
    most, and says what it found."""
    project.finish()
    path = state_files(project)[name]
    path.unlink(missing_ok=True)
    if content == "pipe":
        os.mkfifo(path)
    elif content == "device":
        path.symlink_to("/dev/zero")
    elif content == "socket":
        make_socket(path)
    else:
        path.write_bytes(DEEP)
    for words in (
        ("progress", "x", "--json"),
        ("verify", "x", "--json"),
        ("export", "x", "--json"),
        ("explain", "x", "camera_motion/-dash", "prompt=0", "seed=1"),
        ("plan", "experiments/x.yaml"),
    ):
        used = time.process_time()
        done = project.call(*words)
        assert time.process_time() - used < 20, words
        assert done.status in (0, 1, 2), words
        assert "Traceback" not in done.err


@pytest.mark.parametrize("content", ["socket", "device that is not there"])
def test_what_cannot_be_opened_at_all_ends_no_supervisor(project: Project, content: str) -> None:
    """A socket, or a terminal where the process has none."""
    project.finish()
    (sidecar,) = project.run_folder.path.glob("camera_motion/-dash/*.json")
    sidecar.unlink()
    path = project.run_folder.attempts
    path.unlink()
    if content == "socket":
        make_socket(path)
    else:
        path.symlink_to("/dev/tty")
    project.sweep("resume", "x", "--on", "local")
    wait_for(lambda: "no regular file" in all_logs(project))
    project.sweep("stop", "x", "--now")
    assert "Traceback" not in all_logs(project)


def all_logs(project: Project) -> str:
    logs = project.run_folder.logs.glob("*.log")
    return "".join(path.read_text("utf-8") for path in logs)


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
    used = time.process_time()
    refused = project.call("plan", "experiments/x.yaml")
    assert time.process_time() - used < 5
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


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file where it lies."""
    record = json.loads(path.read_text("utf-8"))
    change(record)
    path.write_text(json.dumps(record), "utf-8")


def add_line(path: Path, record: object) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def twice(project: Project) -> None:
    lines = project.run_folder.manifest.read_text("utf-8").splitlines()
    head = {**json.loads(lines[0]), "lines": len(lines) + 1}
    text = "\n".join([json.dumps(head), *lines[1:], lines[1]])
    project.run_folder.manifest.write_text(text + "\n", "utf-8")


def lead_out(name: str) -> Callable[[Project], None]:
    def damage(project: Project) -> None:
        place, elsewhere = project.run_folder.path / name, project.root.parent / "precious"
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(elsewhere / "new" if "." in name else elsewhere)

    return damage


def of_sidecar(**changes: Any) -> Callable[[Project], None]:
    def damage(project: Project) -> None:
        (path,) = project.run_folder.path.glob("camera_motion/-dash/*.json")
        change_json(path, lambda record: record.update(changes))

    return damage


def log_pipe(project: Project) -> None:
    (path,) = project.run_folder.logs.glob("*.log")
    path.unlink()
    os.mkfifo(path)


SIZE = {"width": 112, "height": 64, "num_frames": 9, "fps": 15.0}

RECORDS: dict[str, Callable[[Project], None]] = {
    "an attempt without a job": lambda project: add_line(
        project.run_folder.attempts, {"worker": "a", "outcome": "done", "started_at": 1}
    ),
    "an attempt at no time": lambda project: add_line(
        project.run_folder.attempts,
        {"job": "a", "worker": "a", "outcome": "died", "started_at": 1e300, "ended_at": "x"},
    ),
    "a job twice": twice,
    "a text for a number": lambda project: change_manifest(project, seed="1"),
    "a seed beyond the database": lambda project: change_manifest(project, seed=2**70),
    "half a character": lambda project: change_manifest(project, prompt_text="\ud800"),
    "half a character below": lambda project: change_manifest(
        project, parameters={**SIZE, "more": ["\ud800"]}
    ),
    "no size": lambda project: change_manifest(project, parameters={"width": "x"}),
    "a sidecar's time beyond the clock": of_sidecar(finished_at=1e300),
    "a sidecar's number of 400 digits": of_sidecar(seconds={"claim": 10**400}),
    "a sidecar of a list": of_sidecar(reference=[1], seconds=["x"]),
    "a sidecar without a size": of_sidecar(video={"width": -1, "fps": float("nan")}),
    "a pipe for a log": log_pipe,
    "locks that lead out": lead_out("work/locks"),
    "a lock that leads out": lead_out("work/locks/plan.lock"),
    "a slot that leads out": lead_out("work/locks/gpu0_process0.lock"),
    "logs that lead out": lead_out("logs"),
    "a report that leads out": lead_out("report"),
    "attempts that lead out": lead_out("attempts.jsonl"),
    "a line that leads out": lead_out("sweep.db-line"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_what_a_record_says_is_no_order(project: Project, name: str) -> None:
    """Values that cannot be, and links, end no command in a traceback and lead nowhere."""
    project.finish()
    before = canary(project)
    RECORDS[name](project)
    for words in (
        ("progress", "x", "--json"),
        ("verify", "x"),
        ("export", "x", "--json"),
        ("explain", "x", "camera_motion/-dash", "prompt=0", "seed=1"),
        ("report", "x", "--no-posters"),
        ("logs", "x"),
        ("resume", "x", "--on", "local", "--dry-run"),
        ("plan", "experiments/x.yaml"),
        ("stop", "x", "--now"),
    ):
        done = project.call(*words)
        assert done.status in (0, 1, 2), words
        assert "Traceback" not in done.err
        assert seen(project) == before


def test_a_lock_names_one_process(tmp_path: Path) -> None:
    """To the kernel a negative number is a group, or everybody."""
    lock = tmp_path / "gpu0_process0.lock"
    own = vars(ProcessId.own())
    for pid in (-1, 0, 1, "1", None, 2.0, 2**40):
        lock.write_text(json.dumps({**own, "pid": pid}), "utf-8")
        assert supervisor(lock) is None
    lock.write_text(json.dumps(own), "utf-8")
    assert supervisor(lock) == ProcessId.own()


def test_a_run_beside_it_lends_nothing_of_elsewhere(project: Project) -> None:
    """Its queue names a video outside its folder, by a path and by a link."""
    project.finish()
    other = project.run_folder.path.with_name("other")
    shutil.copytree(project.run_folder.path, other)
    videos = sorted(other.glob("*/*/*.mp4"))
    elsewhere = project.root / "elsewhere"
    elsewhere.mkdir()
    for video in videos:
        for path in (video, video.with_suffix(".json")):
            path.rename(elsewhere / f"{videos.index(video)}{path.suffix}")
            path.symlink_to(elsewhere / f"{videos.index(video)}{path.suffix}")
    with closing(sqlite3.connect(other / "sweep.db")) as connection:
        connection.execute("UPDATE jobs SET output = '../../elsewhere/0.mp4' WHERE position = 0")
        connection.commit()
    shutil.rmtree(project.run_folder.path)
    planned = project.call("plan", "experiments/x.yaml")
    assert planned.status == 0, planned.err
    assert project.progress()["done"] == 0
