"""`sweep calibrate` and what `plan` makes of it: real workers, measured as a sweep runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import FRAMES, HEIGHT, WIDTH, Project, wait_for
from hypothesis import given
from hypothesis import strategies as st

from runner.calibrate import (
    MeasuredKind,
    MeasuredSetting,
    Measurement,
    comparable,
    made_beside_all,
    told_of_prepare,
)
from runner.cli.calibration_view import report
from runner.costs.calibration import Calibration, CalibrationRow, Share, Subject
from runner.costs.kinds import Kind
from runner.job import Alike
from runner.job.shape import Shape
from runner.slots.lock import supervisor


def answer(project: Project, *words: str) -> dict[str, Any]:
    """What `calibrate` or `plan` says, of which the second starts nothing."""
    run = project.call if words[0] == "plan" else project.sweep
    done = run(*words, "--json")
    assert done.status == 0, done.err
    value: dict[str, Any] = json.loads(done.out)
    return value


def generation(steps: int) -> dict[str, Any]:
    size = {"width": 112, "height": 64, "num_frames": 9, "fps": 15}
    return {**size, "num_inference_steps": steps}


def test_calibrate_measures_and_plan_goes_by_it(project: Project) -> None:
    """The fake backend takes the same seconds whatever its steps: a step of 2 takes half."""
    # A step takes 0.3 s: a busy machine may tell of the first one late, and so shorten the second.
    project.write(model={"seconds": 0.6, "load_seconds": 0.3}, generation=generation(10))
    before = answer(project, "plan", "experiments/x.yaml")
    assert before["cost"] is None
    found = answer(project, "calibrate", "experiments/x.yaml", "--steps", "2", "--processes", "1,2")
    (variant,) = found["variants"]
    assert [row["processes"] for row in variant["rows"]] == [1, 2]
    for row in variant["rows"]:
        assert 0.18 < row["step"] < 0.6
        assert row["load"] >= 0.3
        assert row["peak_gib"] is None
    # Sleeping workers do not disturb each other.
    assert found["best"]["processes_per_gpu"] == 2
    after = answer(project, "plan", "experiments/x.yaml")
    cost = after["cost"]
    assert cost["source"].startswith("calibrated on ")
    assert cost["videos_left"] == 6
    assert cost["gpu_seconds_a_video"]["likely"] > 10 * 0.18 / 2
    assert cost["hours"]["least"] < cost["hours"]["likely"] < cost["hours"]["most"]
    assert not project.run_folder.queue.with_name("logs").exists(), "nothing was made in the run"


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.lists(st.floats(0.01, 3), min_size=1, max_size=5)),
        min_size=1,
        max_size=4,
    )
)
def test_only_videos_made_beside_all_processes_count(
    rows: list[tuple[float, list[float]]],
) -> None:
    """Workers come up one after the other, and the first ones' videos are made alone."""
    records, spans = [], []
    for worker, (start, took) in enumerate(rows):
        begin = start
        for seconds in took:
            stages = {"generate": seconds, "finish": 10.0}
            records.append({"worker": str(worker), "claimed_at": begin, "seconds": stages})
            begin += seconds
        spans.append((start, begin))
    counted = made_beside_all(records, len(rows))
    for record in counted:
        begin, end = record["claimed_at"], record["claimed_at"] + record["seconds"]["generate"]
        assert all(first <= begin and end <= last + 1e-9 for first, last in spans)
        assert begin > spans[int(record["worker"])][0]
    assert not made_beside_all(records, len(rows) + 1)
    if len(rows) == 1:
        assert len(counted) == len(records) - 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=12))
def test_a_reference_is_told_by_who_took_it_in_and_had_warmed_up(
    made: list[tuple[int, int]],
) -> None:
    """In the order of their claims: a worker, and the reference that it was given."""
    records = [
        {"worker": str(worker), "claimed_at": at, "inputs": {"reference": {"path": str(reference)}}}
        for at, (worker, reference) in enumerate(made)
    ]
    counted = [record["claimed_at"] for record in told_of_prepare(records[::-1])]
    taken_in = [at for at, (_, one) in enumerate(made) if one not in {r for _, r in made[:at]}]
    assert counted == [at for at in taken_in if made[at][0] in {w for w, _ in made[:at]}]


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 9), st.booleans()), min_size=1))
def test_rows_are_compared_by_one_kind_of_prepare(made: list[tuple[int, float, bool]]) -> None:
    """Of processes that had warmed up, where any had; nothing else of a row changes."""
    measured = [
        Measurement(CalibrationRow(processes, 9.0, prepare, 0.1, 0.1, 0.1, None), "a GPU", is_warm)
        for processes, prepare, is_warm in made
    ]
    warm = [one.row.prepare for one in measured if one.is_warm]
    for one, row in zip(measured, comparable(measured), strict=True):
        assert row == replace(one.row, prepare=row.prepare)
        if one.is_warm or not warm:
            assert row == one.row
        else:
            assert row.prepare in warm


PREPARE = """
import shutil, time

def load(settings):
    global seconds
    seconds = 0.9

def prepare(group):
    global seconds
    time.sleep(seconds)
    seconds = 0.1

def generate(job, path):
    time.sleep(0.5)
    shutil.copyfile(job.reference, path)
"""


def test_what_a_reference_takes_is_told_by_later_ones(project: Project) -> None:
    """A process's first one warms up what the others find warm."""
    (project.root / "method.py").write_text(PREPARE)
    project.write(backend="script", model={"file": "method.py"})
    found = answer(project, "calibrate", "experiments/x.yaml", "--processes", "1")
    (row,) = found["variants"][0]["rows"]
    assert 0.1 <= row["prepare"] < 0.6


def test_quick_videos_are_made_until_all_processes_work_at_once(project: Project) -> None:
    """Processes start further apart than two such videos take."""
    project.write(model={"seconds": 0.01}, seeds=[1])
    found = answer(project, "calibrate", "experiments/x.yaml", "--steps", "2", "--processes", "3")
    (row,) = found["variants"][0]["rows"]
    assert row["processes"] == 3
    assert 0.01 <= 2 * row["step"] + row["rest"] < 0.3


def test_one_number_of_processes_does_not_replace_another(project: Project) -> None:
    project.write(model={"seconds": 0.2})
    words = ("calibrate", "experiments/x.yaml", "--steps", "2", "--processes")
    answer(project, *words, "1")
    planned = answer(project, "plan", "experiments/x.yaml")["cost"]
    answer(project, *words, "2")
    again = answer(project, "plan", "experiments/x.yaml")["cost"]
    assert again["gpu_seconds_a_video"] == planned["gpu_seconds_a_video"]
    assert again["source"] == planned["source"]


def test_videos_that_were_made_tell_more_than_a_calibration(project: Project) -> None:
    project.write(model={"seconds": 0.1}, seeds=[1, 2])
    assert project.sweep("calibrate", "experiments/x.yaml", "--processes", "1").status == 0
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait").status == 0
    project.write(model={"seconds": 0.1}, seeds=[1, 2, 3])
    planned = answer(project, "plan", "experiments/x.yaml")
    assert "videos of this sweep" in planned["cost"]["source"]
    assert planned["disk_source"] == "the videos made so far"
    assert planned["cost"]["videos_left"] == 6
    # Another sweep of the same model and size learns from this one where it has no calibration.
    for path in (project.root / "results" / ".calibrations").iterdir():
        path.unlink()
    project.write(name="y", model={"seconds": 0.1}, seeds=[7])
    other = answer(project, "plan", "experiments/x.yaml")
    assert "videos of the sweep x" in other["cost"]["source"]


def test_a_setting_is_tried_beside_the_experiments_own(project: Project) -> None:
    project.write(model={"seconds": 0.3})
    found = answer(
        project,
        *("calibrate", "experiments/x.yaml", "--processes", "1", "--steps", "2"),
        *("--try", "model.seconds=0.1", "--try", "output.quality=9"),
    )
    plain, faster, quality = found["variants"]
    assert (plain["setting"], faster["setting"]) == (None, "model.seconds=0.1")
    assert faster["rows"][0]["videos_per_hour"] > plain["rows"][0]["videos_per_hour"]
    assert (faster["same_video"], quality["same_video"]) == (True, False)
    assert found["best"]["setting"] == "model.seconds=0.1"


def test_a_setting_that_fails_costs_no_other_its_table(project: Project) -> None:
    project.write(model={"seconds": 0.1})
    tried = project.sweep(
        *("calibrate", "experiments/x.yaml", "--processes", "1", "--steps", "2", "--json"),
        *("--try", "model.faults=[{kind: fail}]", "--try", "model.seconds=0.05"),
    )
    assert tried.status == 2
    assert "with model.faults=[{kind: fail}]: " in tried.err
    settings = [variant["setting"] for variant in json.loads(tried.out)["variants"]]
    assert settings == [None, "model.seconds=0.05"]


def test_a_long_setting_stands_whole_in_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shape = Shape(WIDTH, HEIGHT, FRAMES, 1)
    subject = Subject("fake", {}, {}, shape, guided=True)
    measured = Calibration(
        subject, "a GPU", 0.0, 2, (CalibrationRow(1, 9.0, 1.0, 0.1, 0.1, 0.1, 30.0),)
    )
    part = MeasuredKind(
        Kind(subject, "", (Alike({}, shape, 6),)), Share(measured, 2, 1.0, 6), Path("x.json")
    )
    long = "model={attention: flash, compile: true, tea_cache: 0.15, vae_tiling: off}"
    plain, other = (MeasuredSetting(setting, (part,), same_video=True) for setting in (None, long))
    report([plain, other], plain)
    # The first column, in which a long setting takes several lines.
    column = "".join(re.sub(r"  .*", "", line) for line in capsys.readouterr().out.splitlines())
    settings = column.partition("setting")[2].replace(" ", "")
    assert settings.partition("best:")[0].strip("─") == f"asitis{long}".replace(" ", "")


def test_a_setting_that_is_wrong_is_said_before_anything_is_measured(project: Project) -> None:
    project.write(model={"seconds": 600})
    tried = ("calibrate", "experiments/x.yaml", "--try")
    wrong = project.sweep(*tried, "model.secnods=1", timeout=30)
    assert wrong.status == 2
    assert "did you mean seconds?" in wrong.err
    pytest.importorskip("modelscope")
    on_cpu = {"gpus": [0], "device": "cpu"}
    project.write(backend="wan", model={}, generation=generation(2), placement=on_cpu)
    wrong = project.sweep(*tried, "model.attention=flash", timeout=60)
    assert wrong.status == 2
    assert "model.attention: flash needs a GPU" in wrong.err


def test_a_setting_that_makes_other_videos_is_never_the_best(project: Project) -> None:
    project.write(model={"seconds": 0.2})
    one = ("calibrate", "experiments/x.yaml", "--processes", "1", "--steps", "2")
    found = answer(project, *one, "--try", "generation.num_inference_steps=3")
    assert [variant["same_video"] for variant in found["variants"]] == [True, False]
    assert found["best"]["setting"] is None


def test_what_cannot_be_measured_is_said_in_a_line(project: Project) -> None:
    project.write(model={"seconds": 0.1, "faults": [{"kind": "fail"}]})
    failed = project.sweep("calibrate", "experiments/x.yaml", "--processes", "1")
    assert failed.status == 2
    assert "cannot be calibrated: RuntimeError: asked to fail" in failed.err
    assert "Traceback" not in failed.err


def test_what_tea_cache_leaves_out_is_measured_with_all_steps(project: Project) -> None:
    """Which ones it leaves out, and so what a step takes on average, depends on their number."""
    pytest.importorskip("modelscope")
    project.write(
        backend="wan",
        model={"tea_cache": 0.3},
        generation=generation(16),
        placement={"gpus": [0], "device": "cpu"},
    )
    found = answer(project, "calibrate", "experiments/x.yaml", "--processes", "1")
    (variant,) = found["variants"]
    assert variant["steps"] == 16
    short = project.sweep("calibrate", "experiments/x.yaml", "--steps", "4")
    assert short.status == 2
    assert "leave --steps away" in short.err
    planned = answer(project, "plan", "experiments/x.yaml")["cost"]
    assert planned["source"].startswith("calibrated on ")
    longer = answer(project, "plan", "experiments/x.yaml", "generation.num_inference_steps=40")
    assert not str(longer["cost"] and longer["cost"]["source"]).startswith("calibrated")


def test_where_no_more_fit_the_last_number_is_noted(project: Project) -> None:
    """And the plan says so, where the experiment asks for more."""
    fault = {"kind": "out_of_gpu_memory", "seed": 2}
    project.write(model={"seconds": 0.05, "faults": [fault]})
    found = answer(project, "calibrate", "experiments/x.yaml", "--processes", "1,3")
    (variant,) = found["variants"]
    assert [row["processes"] for row in variant["rows"]] == [1]
    assert variant["full"] == 3


def test_what_fails_otherwise_is_not_said_to_not_fit(project: Project) -> None:
    """And what fewer processes did is kept."""
    project.write(model={"seconds": 0.05, "faults": [{"kind": "fail", "seed": 2}]})
    failed = project.sweep("calibrate", "experiments/x.yaml", "--processes", "1,3")
    assert failed.status == 2
    assert "3 processes a GPU cannot be calibrated: RuntimeError: asked to fail" in failed.err
    planned = answer(project, "plan", "experiments/x.yaml")
    assert planned["cost"]["source"].startswith("calibrated on ")
    assert not any("did not fit" in line for line in planned["advice"])


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_an_interrupted_calibration_leaves_the_gpu_and_no_files(
    project: Project, tmp_path: Path, number: int, status: int
) -> None:
    """Its workers are ended, which outlive a launch that is interrupted."""
    project.write(model={"seconds": 600})
    folder = tmp_path / "temporary"
    folder.mkdir()
    calibrating = subprocess.Popen(
        project.command("calibrate", "experiments/x.yaml", "--steps", "600"),
        cwd=project.root,
        env={**os.environ, **project.environment, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    name = "*/results/calibration/logs/gpu0_process0.log"
    wait_for(lambda: any("claimed" in log.read_text() for log in folder.glob(name)))
    (lock,) = folder.glob("*/results/calibration/work/locks/gpu0_process0.lock")
    process = supervisor(lock)
    assert process is not None
    assert not process.is_gone()
    calibrating.send_signal(number)
    assert calibrating.wait(60) == status
    assert process.is_gone()
    assert not list(folder.iterdir())


METHOD = """
import shutil, time

def load(settings):
    globals().update(settings)

def generate(job, path):
    time.sleep(seconds)
    shutil.copyfile(job.reference, path)
"""


def test_each_method_of_ones_own_is_measured_and_counted_by_itself(project: Project) -> None:
    """A script's steps need not be the denoising's, so whole videos are measured of each; and
    what is left costs what the videos of each have taken."""
    (project.root / "method.py").write_text(METHOD)
    seconds = {"quick": 0.1, "slow": 0.7}
    methods = {
        name: {"file": "method.py", "settings": {"seconds": value}}
        for name, value in seconds.items()
    }
    sweep: dict[str, Any] = {
        "backend": "script",
        "model": {"methods": methods},
        "axes": {"method": [*methods]},
    }
    project.write(**sweep)
    one = ("calibrate", "experiments/x.yaml", "--processes", "1")
    wrong = project.sweep(*one, "--steps", "2")
    assert wrong.status == 2
    assert "leave --steps away" in wrong.err
    found = answer(project, *one)
    assert [variant["kind"] for variant in found["variants"]] == ["method=quick", "method=slow"]
    for variant, value in zip(found["variants"], seconds.values(), strict=True):
        (row,) = variant["rows"]
        assert row["step"] == 0
        assert value <= row["rest"] < value + 0.3
    assert found["best"]["processes_per_gpu"] == 1

    def told(source: str) -> dict[str, Any]:
        cost: dict[str, Any] = answer(project, "plan", "experiments/x.yaml")["cost"]
        assert [kind["name"] for kind in cost["kinds"]] == ["method=quick", "method=slow"]
        for kind, value in zip(cost["kinds"], seconds.values(), strict=True):
            assert source in kind["source"]
            assert value <= kind["gpu_seconds_a_video"]["likely"] < value + 0.3
        return cost

    assert told("calibrated on")["videos_left"] == 12
    assert project.sweep("launch", "x", "--on", "local", "--wait").status == 0
    project.write(**sweep, seeds=[1, 2], exclude=[{"method": "slow", "seed": 2, "prompt": 0}])
    cost = told("videos of this sweep")
    assert [kind["videos_left"] for kind in cost["kinds"]] == [6, 3]
    # Another sweep learns from this one, of the method that is the same.
    for path in (project.root / "results" / ".calibrations").iterdir():
        path.unlink()
    methods["slow"]["settings"] = {"seconds": 0.8}
    project.write(**sweep, name="y", seeds=[7])
    planned = project.call("plan", "experiments/x.yaml")
    assert "time: not known before a video of method=slow was made" in planned.out
    project.write(**{**sweep, "axes": {"method": ["quick"]}}, name="z", seeds=[7])
    cost = answer(project, "plan", "experiments/x.yaml")["cost"]
    assert "videos of the sweep x" in cost["source"]
    assert cost["kinds"] == []


def test_a_script_is_planned_by_what_videos_of_as_many_steps_took(project: Project) -> None:
    """Where its steps are an axis: one number's calibration does not replace another's."""
    slept = 'seconds * job.parameters["num_inference_steps"]'
    method = METHOD.replace("sleep(seconds)", f"sleep({slept})")
    (project.root / "method.py").write_text(method)
    project.write(
        backend="script",
        model={"file": "method.py", "settings": {"seconds": 0.1}},
        axes={"num_inference_steps": [2, 8]},
    )
    answer(project, "calibrate", "experiments/x.yaml", "--processes", "1")
    cost = answer(project, "plan", "experiments/x.yaml")["cost"]
    for kind, seconds in zip(cost["kinds"], (0.2, 0.8), strict=True):
        assert kind["source"].startswith("calibrated on ")
        assert seconds <= kind["gpu_seconds_a_video"]["likely"] < seconds + 0.3
