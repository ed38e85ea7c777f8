"""`sweep adopt` takes in other scripts' videos: only whole ones, never over a done one."""

from __future__ import annotations

import json
import shutil
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished, Project, write_clip
from hand_made import a_job
from hypothesis import given
from hypothesis import strategies as st

from runner.disk.manifest import read_manifest
from runner.disk.publish import read_sidecar
from runner.job import Job, JobState
from runner.job.pattern import Pattern
from runner.queue import Queue
from runner.queue.claim_job import claim_job
from runner.queue.questions import JobRow
from runner.text.errors import UserError

PATTERN = "{video}/prompt{prompt+1}_seed{seed}.mp4"
LAUNCH = ("--on", "local", "--wait")


@pytest.fixture
def old(project: Project) -> Path:
    """A folder in which another script has made every video of the planned sweep."""
    assert project.call("plan", "experiments/x.yaml").status == 0
    folder = project.root / "旧 results"
    for number, job in enumerate(read_manifest(project.run_folder.manifest).jobs):
        write_clip(folder / Pattern.parse(PATTERN, a_job()).path(job), seed=100 + number)
    return folder


def adopt(project: Project, folder: Path, *words: str, pattern: str = PATTERN) -> Finished:
    return project.call("adopt", "x", str(folder), "--pattern", pattern, *words)


def answer(ended: Finished) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(ended.out)
    return value


def row(project: Project, output: str) -> JobRow:
    queue = Queue(project.run_folder.queue)
    (found,) = queue.find(output=output)
    queue.close()
    return found


def test_whole_videos_are_copied_committed_and_marked(project: Project, old: Path) -> None:
    """Nothing is left to make; verify finds all good; the source may be written to again."""
    before = {path: path.read_bytes() for path in old.rglob("*.mp4")}
    ended = adopt(project, old, "--json")
    assert ended.status == 0, ended.err
    assert answer(ended)["adopted"] == 6
    for path, content in before.items():
        assert path.read_bytes() == content
        path.write_bytes(b"another take")
    verified = answer(project.call("verify", "x", "--json"))
    assert (verified["good"], verified["unmade"], verified["broken"]) == (6, 0, [])
    for job in read_manifest(project.run_folder.manifest).jobs:
        sidecar = read_sidecar(project.run_folder.sidecar(job))
        assert sidecar is not None
        assert sidecar["fingerprint"] == job.fingerprint
        assert sidecar["adopted"]["source"] == str(old / Pattern.parse(PATTERN, a_job()).path(job))
        assert sidecar["adopted"]["sha256"] == sidecar["video"]["sha256"]
        assert sidecar["worker"] is sidecar["seconds"] is sidecar["host"] is None
    resumed = project.sweep("resume", "x", *LAUNCH)
    assert "nothing to do" in resumed.err
    assert not project.run_folder.attempts.exists()
    leftovers = [path for path in project.run_folder.path.rglob("*") if ".tmp" in path.name]
    assert leftovers == []


def test_an_adopted_video_says_so(project: Project, old: Path) -> None:
    assert adopt(project, old).status == 0
    text = project.call("explain", "x", "video=-dash").out
    assert "adopted " in text
    assert str(old / "-dash" / "prompt1_seed1.mp4") in text
    assert "state: done" in text


def test_a_queue_made_anew_still_knows_adopted_videos(project: Project, old: Path) -> None:
    assert adopt(project, old).status == 0
    for path in project.run_folder.path.glob("sweep.db*"):
        path.unlink()
    assert answer(project.call("progress", "x", "--json"))["done"] == 6


def test_every_file_that_is_not_taken_is_named_with_its_reason(project: Project, old: Path) -> None:
    """Broken (exit status 1), missing and unmatched; the good ones are adopted all the same."""
    cut = old / "-dash" / "prompt1_seed1.mp4"
    cut.write_bytes(cut.read_bytes()[:-100])
    short = old / "ref 🎬 b" / "prompt1_seed1.mp4"
    write_clip(short, frames=5)
    (old / "ref 🎬 b" / "prompt2_seed1.mp4").unlink()
    write_clip(old / "ref 🎬 b" / "prompt9_seed1.mp4")
    (old / "notes.txt").write_text("mine")
    ended = adopt(project, old)
    assert ended.status == 1
    assert "-dash/prompt1_seed1.mp4: broken: cut short" in ended.out
    assert "ref 🎬 b/prompt1_seed1.mp4: broken: 5 frames, not 9" in ended.out
    assert "ref 🎬 b/prompt2_seed1.mp4: missing" in ended.out
    assert "ref 🎬 b/prompt9_seed1.mp4: unmatched" in ended.out
    assert "notes.txt" not in ended.out
    assert "3 adopted, 0 done already, 0 left, 2 broken, 1 missing, 1 file unmatched" in ended.out
    assert answer(project.call("progress", "x", "--json"))["done"] == 3


def test_a_dry_run_changes_nothing(project: Project, old: Path) -> None:
    before = sorted(project.run_folder.path.rglob("*"))
    found = answer(adopt(project, old, "--dry-run", "--json"))
    assert (found["adopted"], found["dry_run"]) == (6, True)
    assert sorted(project.run_folder.path.rglob("*")) == before
    assert answer(project.call("progress", "x", "--json"))["done"] == 0


def test_a_done_video_is_never_replaced(project: Project, old: Path) -> None:
    part = ("--only", "video=-dash")
    assert project.sweep("launch", "experiments/x.yaml", *part, *LAUNCH).status == 0
    own = project.run_folder.path / "camera_motion/-dash/seed_1_prompt_0.mp4"
    content = own.read_bytes()
    found = answer(adopt(project, old, "--json"))
    assert (found["adopted"], found["kept"]) == (5, 1)
    assert own.read_bytes() == content
    assert not (project.run_folder.path / "superseded").exists()
    again = answer(adopt(project, old, "--json"))
    assert (again["adopted"], again["kept"]) == (0, 6)


def test_a_job_that_runs_is_left_to_its_worker(project: Project, old: Path) -> None:
    """Adopting beside live workers: what they hold stays theirs, no job is made twice."""
    project.write(model={"seconds": 3})
    assert project.call("plan", "experiments/x.yaml").status == 0
    assert project.sweep("launch", "x", "--on", "local").status == 0
    deadline = time.monotonic() + 60
    while answer(project.call("progress", "x", "--json"))["running"] == 0:
        assert time.monotonic() < deadline
    found = answer(adopt(project, old, "--json"))
    assert found["left"] >= 1
    assert found["adopted"] + found["left"] + found["kept"] == 6
    (left, *_) = [file for file in found["files"] if file["fate"] == "left"]
    assert "gpu0_process0" in left["reason"]
    assert project.sweep("resume", "x", *LAUNCH).status == 0
    lines = project.run_folder.attempts.read_text().splitlines()
    assert len(lines) == found["left"] + found["kept"]
    assert answer(project.call("verify", "x", "--json"))["good"] == 6


def test_a_claim_for_adoption_is_a_lease(project: Project, old: Path) -> None:
    """Held jobs and failed ones can be claimed, running and done ones not; it can be given back."""
    queue = Queue(project.run_folder.queue)
    job = read_manifest(project.run_folder.manifest).jobs[0]
    queue.hold_all_but([])
    claim = claim_job(queue, job.id, "adopt")
    assert claim is not None
    assert claim_job(queue, job.id, "adopt") is None
    assert row(project, job.output).state is JobState.RUNNING
    assert queue.reclaim() == []
    assert queue.give_back(claim)
    assert row(project, job.output).state is JobState.PENDING
    queue.hold_all_but(None)
    counts = queue.counts()
    claim = claim_job(queue, job.id, "adopt")
    assert claim is not None
    queue.give_back(claim)
    assert queue.counts() == counts
    queue.close()


def test_files_in_another_unicode_form_are_found(project: Project, old: Path) -> None:
    """Names that a Mac has written are those of the experiment."""
    folder = project.root / "mac"
    clips = {"camera_motion": {"Ünï": ["one"]}}
    project.add_clips(clips)
    project.write(name="y", dataset={"videos": "videos", "prompts": "p.json", "categories": ["c"]})
    write_clip(project.root / "videos" / "c" / "Ünï.mp4")
    (project.root / "p.json").write_text(json.dumps({"c": {"Ünï": ["one"]}}), encoding="utf-8")
    assert project.call("plan", "experiments/x.yaml").status == 0
    write_clip(folder / unicodedata.normalize("NFD", "Ünï") / "prompt1_seed1.mp4")
    ended = project.call("adopt", "y", str(folder), "--pattern", PATTERN)
    assert ended.status == 0, ended.err
    assert "1 adopted" in ended.out


def test_what_fits_nothing_is_refused(project: Project, old: Path) -> None:
    """A wrong pattern or folder: two lines at most, status 2, and nothing is changed."""
    shutil.rmtree(old / "-dash")
    for pattern, says in [
        ("{vidoe}/{prompt}.mp4", "{vidoe} is unknown"),
        ("{video}/{prompt.__class__}.mp4", "is unknown"),
        ("{video}/{prompt+1.mp4", "brace"),
        ("{video}/{prompt}}.mp4", "brace"),
        ("{video}/clip.mp4", "add {prompt}"),
        ("{prompt}.mp4", "{video}"),
        ("../{video}/{prompt}.mp4", "below FOLDER"),
        ("/{video}/{prompt}.mp4", "below FOLDER"),
        ("", "below FOLDER"),
        ("{video}/take_{prompt}.mp4", "no file fits"),
    ]:
        ended = adopt(project, old, pattern=pattern)
        assert ended.status == 2, pattern
        assert says in ended.err
        assert 1 <= len(ended.err.splitlines()) <= 2
    for folder in (project.root / "nowhere", project.root / "prompts.json"):
        ended = adopt(project, folder)
        assert (ended.status, "no such folder" in ended.err) == (2, True)
    assert answer(project.call("progress", "x", "--json"))["done"] == 0


def jobs_of(prompts: int, seeds: list[int]) -> list[Job]:
    return [
        a_job(prompt=p, seed=s, parameters={}, id=f"{p}-{s}", output=f"c/v/{s}_{p}.mp4")
        for p in range(prompts)
        for s in seeds
    ]


@given(st.text(alphabet="{}prompted+-01/.seedvi", max_size=24))
def test_any_pattern_is_a_path_for_each_job_or_an_error(text: str) -> None:
    """Whatever is typed: jobs stay apart and below the folder, or a UserError says why not."""
    jobs = jobs_of(3, [1, 12])
    try:
        paths = Pattern.parse(text, jobs[0]).paths(jobs)
    except UserError:
        return
    assert len(paths) == len(jobs)
    for path in paths:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
