"""A sweep that was half finished when jobs were of schema 1 goes on as if nothing had happened.

Asked through the command line alone: what a person has is a folder and these commands.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

DATA = Path(__file__).with_name("data") / "run_of_schema_1"
FILE = "experiments/former.yaml"
CHANGE = ("一个红色的方块", "一个蓝色的方块")
"""A prompt, before and after its videos were made."""
STALE = "df5e7b048214e22a"
FAILED = "95ba8af8c6d55a66"
HALF_MADE = "55d3baa3a9f0ee76"
"""Its worker was killed after two of its four steps, which are kept in `work/`."""


@pytest.fixture(params=["as it was", "planned again", "without its queue"])
def former(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """The project, as it was left or after what makes no difference to it."""
    project = Project(tmp_path / "项目")
    shutil.copytree(DATA, project.root)
    if request.param == "planned again":
        assert project.call("plan", FILE).status == 0
    if request.param == "without its queue":
        (project.root / "results" / "former" / "sweep.db").unlink()
    return project


def listed() -> list[dict[str, str]]:
    """Id, state, fingerprint and output of every job, retired ones too, as they were then."""
    with (DATA / "jobs.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def answer(project: Project, *words: str) -> Any:
    """The JSON that a command answers."""
    said = project.call(*words, "--json")
    assert said.out, said.err
    return json.loads(said.out)


def made(project: Project) -> dict[str, str]:
    """The sha256 of every video and sidecar in the run folder, superseded ones too."""
    run = project.root / "results" / "former"
    files = [path for kind in ("*.mp4", "*.json") for path in run.rglob(kind)]
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.relative_to(run).parts[0] not in ("work", "report", "logs")
    }


def counts(project: Project) -> tuple[int, int, int, int]:
    """Jobs: all, done, stale, and those yet to be made.

    That a job has failed only the queue knows. Where it is made anew the job is pending again, as
    `resume` would have made it; so these two are counted together.
    """
    said = answer(project, "progress", "former")
    assert said["running"] == 0
    return said["total"], said["done"], said["stale"], said["failed"] + said["pending"]


def test_planning_it_again_changes_nothing(former: Project) -> None:
    before = made(former)
    planned = former.call("plan", FILE)
    assert planned.status == 0, planned.err
    assert "+0 new, 44 kept, 0 stale, 0 retired" in planned.out
    assert "stale: 4 videos were made from inputs that have changed since" in planned.out
    said = answer(former, "plan", FILE)
    assert said["changes"] == {"added": 0, "kept": 44, "changed": 0, "retired": 0}
    assert (said["total"], said["made_stale"], said["stale"]["videos"]) == (44, 0, 4)
    for nothing in ("reasons", "linked", "key_changes", "left_out", "remarks"):
        assert said[nothing] == []
    assert said["jobs_per_category"] == {"动作": 32, "场景": 12}
    assert made(former) == before


def test_every_job_is_where_and_what_it_was(former: Project) -> None:
    """Ids, outputs and fingerprints of all, and the state of those that the disk vouches for."""
    found = []
    for job in listed():
        story = answer(former, "explain", "former", job["id"])
        state = "pending" if story["state"] == "failed" else story["state"]
        found.append({**{key: story[key] for key in job}, "state": state})
    wanted = [{**job, "state": job["state"].replace("failed", "pending")} for job in listed()]
    assert found == wanted


def test_progress_counts_them(former: Project) -> None:
    assert counts(former) == (44, 18, 4, 22)
    categories = answer(former, "progress", "former")["categories"]
    by_name = {
        name: tuple(said[key] for key in ("total", "done", "stale"))
        for name, said in categories.items()
    }
    assert by_name == {"动作": (32, 10, 4), "场景": (12, 8, 0)}


def test_its_failed_job_is_to_be_tried_again_and_its_attempts_stay_on_record(
    former: Project,
) -> None:
    """That it had failed only the queue knew, which is of a former schema."""
    story = answer(former, "explain", "former", FAILED)
    assert story["state"] == "pending"
    assert [one["outcome"] for one in story["attempts"]] == ["failed", "failed"]
    assert {one["kind"] for one in story["attempts"]} == {"backend_bug"}
    assert {one["error"] for one in story["attempts"]} == {"RuntimeError: asked to fail on ref_右"}
    assert any("asked to fail" in line for line in story["attempts"][0]["log_lines"])


def test_a_stale_job_names_the_prompt_that_changed(former: Project) -> None:
    told = former.call("explain", "former", STALE)
    assert told.status == 0, told.err
    assert f"changed since its video was made: prompt: '{CHANGE[0]}' -> '{CHANGE[1]}'" in told.out
    (change,) = answer(former, "explain", "former", STALE)["changes"]
    assert (change["input"], change["before"], change["after"]) == ("prompt", *CHANGE)


def test_resume_makes_what_is_left_and_nothing_else(former: Project) -> None:
    """No video that is there is touched, the half made one goes on from its kept steps."""
    before = made(former)
    resumed = former.sweep("resume", "former", "--on", "local", "--wait")
    assert resumed.status == 0, resumed.err
    after = made(former)
    assert before.items() <= after.items()
    new = {job["output"]: job for job in listed() if job["state"] in ("pending", "failed")}
    assert {name for name in after.keys() - before.keys() if name.endswith(".mp4")} == set(new)
    assert len(after) - len(before) == 2 * len(new)
    for output, job in new.items():
        sidecar = former.root / "results" / "former" / Path(output).with_suffix(".json")
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        assert (record["job"], record["fingerprint"]) == (job["id"], job["fingerprint"])
    assert counts(former) == (44, 40, 4, 0)
    attempts = answer(former, "explain", "former", HALF_MADE)["attempts"]
    assert [(one["outcome"], one["from_step"]) for one in attempts] == [("died", 0), ("done", 2)]
    verified = former.call("verify", "former", "--json")
    assert verified.status == 0, verified.out
    assert json.loads(verified.out)["broken"] == []


def test_its_stale_videos_are_remade_and_none_is_lost(former: Project) -> None:
    before = made(former)
    words = ("resume", "former", "--stale", "--on", "local", "--wait")
    remade = former.sweep(*words, "--only", "prompt=1", "--only", "seed=7")
    # The job that failed is not among them, so it may well be failed still.
    assert remade.status in (0, 1), remade.err
    after = made(former)
    outputs = [Path(job["output"]) for job in listed() if job["state"] == "stale"]
    assert len(outputs) == 4
    for output in outputs:
        (kept,) = (
            name
            for name in after.keys() - before.keys()
            if name.endswith(".mp4") and Path(name).name.startswith(f"{output.stem}.")
        )
        assert Path(kept).parent == Path("superseded") / output.parent
        record = str(Path(kept).with_suffix(".json"))
        assert after[kept] == before[str(output)] != after[str(output)]
        assert after[record] == before[str(output.with_suffix(".json"))]
    touched = {str(output.with_suffix(kind)) for output in outputs for kind in (".mp4", ".json")}
    assert {name for name in before if after.get(name) != before[name]} == touched
    assert counts(former) == (44, 22, 0, 22)


def test_verify_finds_nothing_bad(former: Project) -> None:
    verified = former.call("verify", "former", "--json")
    assert verified.status == 0, verified.out
    said = json.loads(verified.out)
    assert (said["good"], said["unmade"], said["broken"]) == (22, 22, [])
    assert {one["job"] for one in said["stale"]} == {
        job["id"] for job in listed() if job["state"] == "stale"
    }


def test_report_shows_all_of_it(former: Project) -> None:
    said = answer(former, "report", "former")
    assert (said["cells"], said["videos"], said["not_shown"]) == (44, 22, [])
    assert Path(said["report"]).stat().st_size > 0


def test_export_has_the_same_rows(former: Project) -> None:
    """In their order; there may be further columns."""
    exported = former.call("export", "former", "--csv")
    assert exported.status == 0, exported.err
    rows = list(csv.DictReader(io.StringIO(exported.out, newline="")))
    with (DATA / "export.csv").open(encoding="utf-8", newline="") as file:
        wanted = list(csv.DictReader(file))
    assert Counter(row["state"] for row in wanted)["done"] == 18
    for row, one in zip(rows, wanted, strict=True):
        # Of what is yet to be made, the queue alone knows why it is not.
        known = one if one["state"] in ("done", "stale") else _without(one, "state", "reason")
        assert {name: row[name] for name in known} == known


def _without(row: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in row.items() if name not in names}
