"""What another run folder has made is linked, checked, and not made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import Project, write_clip
from documented_sidecar import ON_A_CPU, assert_documented

from runner.disk.attempts import read_attempts
from runner.disk.manifest import read_manifest
from runner.disk.publish import read_sidecar
from runner.disk.run_folder import RunFolder

LAUNCH = ("--on", "local", "--wait")
QUICK = {"model": {"seconds": 0.02}}


def made(project: Project, **changes: Any) -> dict[str, Path]:
    """Make the sweep `x`; its videos by output."""
    if changes:
        project.write(**QUICK, **changes)
        ended = project.sweep("launch", "experiments/x.yaml", *LAUNCH)
        assert ended.status == 0, ended.err
    else:
        project.finish()
    jobs = read_manifest(project.run_folder.manifest).jobs
    return {job.output: project.run_folder.video(job) for job in jobs}


def plan_other(project: Project, *words: str) -> tuple[RunFolder, dict[str, Any]]:
    ended = project.call("plan", "experiments/x.yaml", "name=other", *words, "--json")
    assert ended.status == 0, ended.err
    return RunFolder(project.root / "results" / "other"), json.loads(ended.out)


def test_a_job_done_in_another_run_is_linked(project: Project) -> None:
    """One file under two names; its sidecar vouches for it, tells how it was made and whence."""
    videos = made(project)
    other, answer = plan_other(project, "seeds=[1, 2]")
    assert len(answer["linked"]) == 6
    assert answer["linked"][0]["source"].startswith("x/")
    for job in read_manifest(other.manifest).jobs:
        if job.seed == 2:
            assert not other.video(job).exists()
            continue
        assert other.video(job).samefile(videos[job.output])
        sidecar = read_sidecar(other.sidecar(job))
        assert sidecar is not None
        assert_documented(sidecar, "another backend", *ON_A_CPU)
        assert sidecar["linked"]["source"] == f"x/{job.output}"
        assert sidecar["fingerprint"] == job.fingerprint
        assert sidecar["linked"]["is_copy"] is False
    story = project.call("explain", "other", "video=-dash", "seed=1").out
    assert "linked" in story
    assert "x/camera_motion/-dash" in story
    ended = project.sweep("resume", "other", *LAUNCH)
    assert ended.status == 0, ended.err
    assert len(read_attempts(other.attempts)) == 6
    assert "12 good" in project.call("verify", "other").out
    again = plan_other(project)[1]
    assert again["linked"] == []


def test_a_remake_leaves_the_other_runs_video_as_it_is(project: Project) -> None:
    """Two runs share a file and nothing else: what one does to its own stays with it."""
    videos = made(project)
    before = {path: path.read_bytes() for path in videos.values()}
    other, _ = plan_other(project)
    path = project.root / "prompts.json"
    path.write_text(path.read_text(encoding="utf-8").replace("red", "blue"), encoding="utf-8")
    plan_other(project)
    assert project.sweep("resume", "other", "--stale", *LAUNCH).status == 0
    assert {path: path.read_bytes() for path in videos.values()} == before
    assert "6 good" in project.call("verify", "x").out
    assert "6 good" in project.call("verify", "other").out
    assert list((other.path / "superseded").rglob("*.mp4"))


def test_what_is_broken_there_is_not_linked(project: Project) -> None:
    """A video is hashed and decoded before it counts here, whatever the other queue says."""
    videos = list(made(project).values())
    content = bytearray(videos[0].read_bytes())
    content[-1] ^= 1
    videos[0].write_bytes(content)
    videos[1].unlink()
    write_clip(videos[2], frames=5)
    other, answer = plan_other(project)
    assert len(answer["linked"]) == 3
    assert json.loads(project.call("progress", "other", "--json").out)["pending"] == 3
    assert not list(other.path.rglob("*.tmp*"))


def test_what_was_made_elsewhere_since_the_plan_is_linked_too(project: Project) -> None:
    """What waits by any launch, what is stale only where it would be remade."""
    made(project)
    other, _ = plan_other(project, "seeds=[1, 2]")
    project.write(**QUICK, seeds=[1, 2])
    assert project.call("plan", "experiments/x.yaml").status == 0
    assert project.sweep("launch", "x", *LAUNCH).status == 0
    ended = project.call("resume", "other", *LAUNCH)
    assert ended.status == 0, ended.err
    assert "linked: 6 videos that were made already, in x" in ended.err

    path = project.root / "prompts.json"
    path.write_text(path.read_text(encoding="utf-8").replace("red", "blue"), encoding="utf-8")
    assert project.call("plan", "experiments/x.yaml").status == 0
    assert project.sweep("resume", "x", "--stale", *LAUNCH).status == 0
    assert plan_other(project)[1]["stale"]["videos"] == 2
    assert "linked" not in project.call("resume", "other", *LAUNCH).err
    assert project.call("resume", "other", "--stale", "--dry-run", *LAUNCH).status == 0
    assert not (other.path / "superseded").exists()
    ended = project.call("resume", "other", "--stale", *LAUNCH)
    assert ended.status == 0, ended.err
    assert "linked: 2 videos" in ended.err
    assert read_attempts(other.attempts) == []
    assert len(list((other.path / "superseded").rglob("*.mp4"))) == 2
    assert "12 good" in project.call("verify", "other").out


def test_reuse_may_be_refused(project: Project) -> None:
    made(project)
    assert plan_other(project, "reuse=false")[1]["linked"] == []


def test_a_damaged_neighbour_is_no_obstacle(project: Project) -> None:
    made(project)
    for name, content in (("broken", b"no database" * 999), ("empty", b"")):
        folder = project.root / "results" / name
        folder.mkdir()
        (folder / "sweep.db").write_bytes(content)
    assert len(plan_other(project)[1]["linked"]) == 6


def test_a_video_is_found_again_under_another_id(project: Project) -> None:
    """The generation's own value changes, and the former one is a value of the axis: of neither
    anything is made again."""
    strengths = {"denoising_strength": [0.7, 0.8]}
    former = made(project, axes=strengths)
    assert len(former) == 12
    ended = project.call(
        "plan", "experiments/x.yaml", "generation.denoising_strength=0.7", "--json"
    )
    answer = json.loads(ended.out)
    # What is 0.8 has a new id; what is 0.7 now has the id of what was 0.8, and is stale.
    assert len(answer["linked"]) == 6
    assert all("strength=0.8" in one["video"] for one in answer["linked"])
    assert answer["stale"]["videos"] == 6
    attempts = len(read_attempts(project.run_folder.attempts))
    ended = project.sweep("resume", "x", "--stale", *LAUNCH)
    assert ended.status == 0, ended.err
    assert len(read_attempts(project.run_folder.attempts)) == attempts + 6
    assert "12 good" in project.call("verify", "x").out
