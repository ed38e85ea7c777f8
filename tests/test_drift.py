"""Drift: plan and verify name the input that changed since a video was made, and keep it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, write_clip
from hand_made import a_job, but

from runner.backends import READING_CHANGE
from runner.disk.publish import inputs_of
from runner.disk.run_folder import RunFolder
from runner.job import FileInput, Input, Job, JobState, TextInput
from runner.plan.fingerprint import MethodIdentity
from runner.queue import Queue
from runner.runs.drift import (
    MOST_SIDECARS_READ,
    Now,
    changes_of,
    files_that_differ,
    shortened,
    survey,
)

IDENTITY = MethodIdentity("wan", 1, {"weights": "a" * 64, "dtype": "bfloat16"}, 5)
PARAMETERS = {"cfg_scale": 5.0}


def job_of(
    identity: MethodIdentity = IDENTITY,
    prompt: str = "一只红色的球",
    seed: int = 1,
    parameters: dict[str, Any] = PARAMETERS,
) -> Job:
    """A job as planned for that recipe."""
    clip = FileInput("videos/c/v.mp4", "c" * 64)
    inputs: dict[str, Input] = {"reference": clip, "prompt": TextInput(prompt)}
    return a_job(
        seed=seed,
        prompt_text=prompt,
        reference=clip,
        parameters=parameters,
        fingerprint=next(identity.fingerprints(inputs, [seed], parameters)),
        id="0123456789abcdef",
    )


def sidecar_of(job: Job, identity: MethodIdentity, **more: Any) -> dict[str, Any]:
    return {
        "schema": 2,
        "job": job.id,
        "fingerprint": job.fingerprint,
        **inputs_of(job),
        "quality": identity.quality,
        "backend": identity.backend,
        "recipe": identity.recipe,
        "model_identity": dict(identity.model),
        "video": {},
        **more,
    }


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (replace(IDENTITY, quality=8), "output.quality: 5 -> 8"),
        (replace(IDENTITY, backend="fake"), "backend: 'wan' -> 'fake'"),
        (replace(IDENTITY, recipe=2), f"recipe: 1 -> 2: {READING_CHANGE}"),
        (
            replace(IDENTITY, model={"weights": "a" * 64, "dtype": "float32"}),
            "model.dtype: 'bfloat16' -> 'float32'",
        ),
        (
            replace(IDENTITY, model={"weights": "b" * 64, "dtype": "bfloat16"}),
            "model.checkpoint: other weights (aaaaaaaaaaaa -> bbbbbbbbbbbb)",
        ),
    ],
)
def test_every_part_of_a_recipe_is_told_by_its_key(now: MethodIdentity, line: str) -> None:
    """Whatever of a recipe changes, exactly that is named, by the experiment's key."""
    made = sidecar_of(job_of(), IDENTITY)
    assert changes_of(made, job_of(), Now({None: IDENTITY})) == []
    assert [str(change) for change in changes_of(made, job_of(now), Now({None: now}))] == [line]


@pytest.mark.parametrize(
    ("now", "line"),
    [
        ({"cfg_scale": 6.0}, "generation.cfg_scale: 5.0 -> 6.0"),
        ({"cfg_scale": 5.0, "sigma_shift": 5.0}, "generation.sigma_shift: nothing -> 5.0"),
    ],
)
def test_a_parameter_is_told_by_its_key(now: dict[str, Any], line: str) -> None:
    made = sidecar_of(job_of(), IDENTITY)
    assert [
        str(change) for change in changes_of(made, job_of(parameters=now), Now({None: IDENTITY}))
    ] == [line]


def test_prompt_and_reference_are_told() -> None:
    made = sidecar_of(job_of(), IDENTITY)
    other = job_of(prompt="一只蓝色的球")
    assert [str(c) for c in changes_of(made, other, Now({None: IDENTITY}))] == [
        "prompt: '一只红色的球' -> '一只蓝色的球'"
    ]
    clip = but(job_of(), reference=FileInput("videos/c/v.mp4", "d" * 64), fingerprint="f")
    (change,) = changes_of(made, clip, Now({None: IDENTITY}))
    assert str(change) == (
        "reference: videos/c/v.mp4 has other content (sha256 cccccccccccc -> dddddddddddd)"
    )


def test_of_other_weights_the_files_are_named() -> None:
    """Which file of a checkpoint was exchanged, and whether its size tells."""
    before: list[dict[str, object]] = [
        {"file": "a.safetensors", "size": 10, "header": "1", "blocks": "1"},
        {"file": "b.safetensors", "size": 10, "header": "1", "blocks": "1"},
        {"file": "c.safetensors", "size": 10, "header": "1", "blocks": "1"},
    ]
    after: list[dict[str, object]] = [
        before[0],
        {**before[1], "blocks": "2"},
        {**before[2], "size": 12},
        {"file": "d"},
    ]
    lines = [str(change) for change in files_that_differ(before, after)]
    assert lines == [
        "model.checkpoint: b.safetensors has other content (of the same size)",
        "model.checkpoint: c.safetensors has other content (10 -> 12 bytes)",
        "model.checkpoint: d is new",
    ]
    now = replace(IDENTITY, model={"weights": "b" * 64, "dtype": "bfloat16"})
    made = sidecar_of(job_of(), IDENTITY, model_files=before)
    assert [str(c) for c in changes_of(made, job_of(now), Now({None: now}, {None: after}))] == lines


def test_where_the_model_is_absent_the_rest_is_still_told() -> None:
    absent = Now({}, unknown="no such folder")
    made = sidecar_of(job_of(), IDENTITY)
    now = job_of(parameters={"cfg_scale": 6.0})
    assert [c.input for c in changes_of(made, now, absent)] == ["generation.cfg_scale"]
    other = replace(IDENTITY, model={"weights": "b" * 64})
    (change,) = changes_of(made, job_of(other), absent)
    assert "no such folder" in str(change)


def test_a_stale_video_is_never_without_a_reason() -> None:
    """Also where an old sidecar says too little to compare."""
    now = replace(IDENTITY, recipe=2)
    made = sidecar_of(job_of(), IDENTITY)
    del made["recipe"]
    assert [c.input for c in changes_of(made, job_of(now), Now({None: now}))] == ["fingerprint"]


def test_long_texts_are_shown_where_they_begin_to_differ() -> None:
    same = "a slow pan across a harbour at dusk, gulls over the water, 电影感, " * 3
    before, after = shortened(same + "sunrise", same + "moonlight")
    assert "sunrise" in before
    assert "moonlight" in after
    assert max(len(before), len(after)) < 80


def test_of_very_many_stale_videos_some_are_examined(tmp_path: Path) -> None:
    """`plan` stays quick, and says of how many it speaks."""
    jobs = [
        replace(job_of(), output=f"c/v/seed_{n}_prompt_0.mp4")
        for n in range(3 * MOST_SIDECARS_READ)
    ]
    found = survey(RunFolder(tmp_path), jobs, Now({None: IDENTITY}))
    assert (found.stale, found.examined) == (3 * MOST_SIDECARS_READ, MOST_SIDECARS_READ)
    assert found.groups[0].videos == MOST_SIDECARS_READ
    assert (
        f"{MOST_SIDECARS_READ} of {MOST_SIDECARS_READ} examined: sidecar: is missing"
        in found.lines()[0]
    )


def test_plan_and_verify_name_what_changed_and_keep_the_videos(project: Project) -> None:
    """Of a real sweep: a prompt, a clip and a parameter change; exit statuses stay 0."""
    launch = ("--on", "local", "--wait")
    project.finish()
    made = sorted(project.run_folder.path.glob("*/*/*.mp4"))
    prompts = project.root / "prompts.json"
    prompts.write_text(
        prompts.read_text(encoding="utf-8").replace("一只红色的球", "一只蓝色的球"), "utf-8"
    )
    write_clip(project.root / "videos" / "two words" / "ref 🎬 b.mp4", seed=99)
    planned = project.call("plan", "experiments/x.yaml", "--json")
    assert planned.status == 0
    stale = json.loads(planned.out)["stale"]
    assert (stale["videos"], stale["examined"]) == (4, 4)
    by_input = {change["input"]: change for change in stale["changes"]}
    assert (by_input["reference"]["videos"], by_input["prompt"]["videos"]) == (3, 1)
    assert by_input["prompt"]["before"] == "一只红色的球"
    assert by_input["prompt"]["examples"] == ["camera_motion/ref_镜头仰角/seed_1_prompt_1.mp4"]

    verified = project.call("verify", "x")
    assert verified.status == 0, verified.err
    assert "stale: prompt: '一只红色的球' -> '一只蓝色的球'" in verified.out
    assert verified.out.count("stale: reference: ") == 3
    answer = json.loads(project.call("verify", "x", "--json").out)
    assert len(answer["stale"]) == 4
    assert answer["broken"] == []

    text = project.call("plan", "experiments/x.yaml", "generation.cfg_scale=6")
    assert text.status == 0
    assert "6: generation.cfg_scale: 5.0 -> 6.0" in text.out
    assert "sweep resume x --stale" in text.out
    assert sorted(project.run_folder.path.glob("*/*/*.mp4")) == made
    assert project.sweep("resume", "x", "--stale", *launch).status == 0
    again = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert again["stale"] == {"videos": 0, "examined": 0, "changes": []}


def test_a_plan_that_changes_all_jobs_reads_no_sidecar_of_what_was_proven(tmp_path: Path) -> None:
    """Files that were proven for one fingerprint prove none for another: a hundred thousand
    videos become stale without being looked at. Without their size and time they are."""
    queue = Queue(tmp_path / "sweep.db", create=True)
    asked: list[str] = []

    def on_disk(job: Job) -> JobState:
        asked.append(job.fingerprint)
        return JobState.DONE if job.fingerprint == "1" else JobState.STALE

    def state() -> JobState:
        return queue.rows()[0].state

    first, second = replace(job_of(), fingerprint="1"), replace(job_of(), fingerprint="2")
    queue.sync([first], [], "m", on_disk, lambda _: "stamp")
    assert (state(), asked) == (JobState.DONE, ["1"])
    queue.sync([second], [], "m", on_disk, lambda _: "stamp")
    assert (state(), asked) == (JobState.STALE, ["1"])
    queue.sync([first], [], "m", on_disk, lambda _: "stamp")
    assert (state(), asked[-1]) == (JobState.DONE, "1")
    queue.sync([first], [], "m", on_disk, None)
    assert state() is JobState.DONE
    queue.sync([second], [], "m", on_disk, lambda _: "another stamp")
    assert (state(), asked[-1]) == (JobState.STALE, "2")
    queue.close()
