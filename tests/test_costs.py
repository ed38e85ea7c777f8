"""What a sweep will cost: by the best source there is, which is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.backends.video_parameters import VideoGeneration
from runner.backends.wan.memory import WeightCounts, denoising_flops
from runner.costs.calibration import Calibration, CalibrationRow, Mix, Share, Subject, find, save
from runner.costs.costs import (
    Measured,
    Pace,
    Portion,
    Work,
    advice,
    cost,
    makespan,
    pace_of_all,
    pace_of_arithmetic,
    pace_of_calibration,
    pace_of_jobs,
    peak_of,
)
from runner.job.shape import Shape

LEFT = {"camera_motion": 140, "single_object": 330, "multiple_objects": 130, "human": 80}
HOME = {0: ["camera_motion"], 1: ["single_object"], 2: ["multiple_objects"], 3: ["human"]}
SHAPE = Shape(width=832, height=480, num_frames=81, fps=1)
SUBJECT = Subject("wan", {"weights": "abc"}, {"vram": "resident"}, SHAPE, True)


def work(**changes: Any) -> Work:
    values: dict[str, Any] = {"left": LEFT, "steps": 50, "jobs_per_group": 10, "home": HOME}
    return Work(**{**values, "processes": 1, "static": False, **changes})


def row(processes: int, step: float) -> CalibrationRow:
    return CalibrationRow(processes, 40, 3, step, 6, 2, 40.0)


def calibration(*rows: CalibrationRow, full: int | None = None) -> Calibration:
    return Calibration(SUBJECT, "NVIDIA H200", 1.0, 4, rows, full)


def mix(*calibrations: Calibration) -> Mix:
    return Mix(tuple(Share(one, 50, 10, 100) for one in calibrations))


def test_a_calibration_tells_seconds_from_a_few_steps() -> None:
    pace = pace_of_calibration(calibration(row(1, 6.5)), work())
    assert pace.seconds == pytest.approx(0.3 + 50 * 6.5 + 6)
    assert pace.source == "calibrated on NVIDIA H200"


def test_another_number_of_processes_is_said_and_widens_the_range() -> None:
    pace = pace_of_calibration(calibration(row(1, 6.5)), work(processes=2))
    assert "with 1 process a GPU" in pace.source
    assert pace.most / pace.least > 1.5


def test_measured_videos_are_scaled_to_the_steps_that_are_asked_for() -> None:
    one = Measured("NVIDIA H200", 2, 4, 3.0, 33.0, 6.5, 10**6)
    pace = pace_of_jobs([one] * 3, work(processes=2), "this sweep")
    assert pace is not None
    assert pace.seconds == pytest.approx((33 + 46 * 6.5 + 0.3) / 2)
    assert "scaled to the number of steps" in pace.source
    assert "3 videos of this sweep on NVIDIA H200" in pace.source


def test_a_video_without_seconds_a_step_tells_nothing_of_other_steps() -> None:
    one = Measured("NVIDIA H200", 1, 4, 3.0, 33.0, None, 10**6)
    assert pace_of_jobs([one], work(), "this sweep") is None


def test_arithmetic_says_that_it_is_and_gives_a_range() -> None:
    """The original videos: 168 PFLOP each, and about 332 s on an H200 were measured."""
    flops = denoising_flops(WeightCounts(), VideoGeneration())
    assert flops == pytest.approx(168e15, rel=0.02)
    pace = pace_of_arithmetic(flops, "NVIDIA H200")
    assert pace.least < 332 < pace.most
    assert "arithmetic, not measured" in pace.source


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A800-SXM4-80GB", 312),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_gpus_are_known_by_name(name: str, tflops: float) -> None:
    assert peak_of(name) == (tflops, name)


def test_an_unknown_gpu_is_said_to_be_one() -> None:
    assert peak_of("Some GPU")[1] == "an H100 (for Some GPU)"


def test_pinned_categories_are_said_to_waste_gpus_and_by_how_much() -> None:
    """The original sweep: one category of four has half of the videos."""
    static, pace = work(static=True), Pace(332, 300, 360, "measured")
    assert makespan(static, 332) / makespan(work(), 332) == pytest.approx(330 / 170)
    (line,) = advice(static, pace, None)
    assert "1.94 x" in line
    assert "48%" in line
    assert advice(work(), pace, None) == []


def test_a_better_number_of_processes_is_named() -> None:
    measured = calibration(row(1, 6.5), row(2, 14.6))
    two = work(processes=2)
    (line,) = advice(two, pace_of_calibration(measured, two), mix(measured))
    assert "processes_per_gpu=1 makes 11% more videos an hour than 2" in line
    assert advice(work(), pace_of_calibration(measured, work()), mix(measured)) == []


def test_the_best_number_of_processes_is_that_of_all_kinds_together() -> None:
    """Two help the quick method by a little and harm the slow one by much."""
    quick, slow = calibration(row(1, 0.2), row(2, 0.3)), calibration(row(1, 6.5), row(2, 14.6))
    assert (mix(quick).best, mix(slow).best) == (2, 1)
    both = mix(quick, slow)
    assert both.best == 1
    hours = [1 / mix(one).videos_per_hour(1) for one in (quick, slow)]
    assert both.videos_per_hour(1) == pytest.approx(2 / sum(hours))
    assert mix(quick, calibration(row(3, 1))).best is None


def test_processes_that_did_not_fit_are_named() -> None:
    measured = calibration(row(1, 6.5), full=2)
    lines = advice(work(processes=2), Pace(1, 1, 1, ""), mix(measured))
    assert any("did not fit the memory of NVIDIA H200" in line for line in lines)


def test_workers_without_a_video_are_named() -> None:
    few = work(left={"a": 3}, home={0: ["a"], 1: []}, processes=4)
    (line,) = advice(few, Pace(1, 1, 1, ""), None)
    assert line == "3 videos are left for 8 workers: 5 of them get none"


@given(
    left=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 500), min_size=1),
    gpus=st.integers(1, 8),
    processes=st.integers(1, 4),
    seconds=st.floats(0.1, 1000),
)
def test_stealing_never_takes_longer_than_pinning(
    left: dict[str, int], gpus: int, processes: int, seconds: float
) -> None:
    """And no GPU-hour is lost: the makespan is at least the work's share of each GPU."""
    home = {gpu: [c for place, c in enumerate(left) if place % gpus == gpu] for gpu in range(gpus)}
    both = [
        work(left=left, home=home, processes=processes, static=static) for static in (False, True)
    ]
    steal, static = (makespan(one, seconds) for one in both)
    assert steal <= static * (1 + 1e-9)
    assert steal >= sum(left.values()) * seconds / gpus * (1 - 1e-9)


def test_several_kinds_cost_what_they_cost_together() -> None:
    portions = [Portion("a", 30, Pace(1, 1, 1, "x")), Portion("b", 10, Pace(9, 5, 13, "y"))]
    pace = pace_of_all(portions)
    assert pace == Pace(3, 2, 4, "x; y")
    told = cost(work(left={"c": 40}), pace, portions).to_json(0)
    assert [one["videos_left"] for one in told["kinds"]] == [30, 10]
    assert told["gpu_hours"]["likely"] == pytest.approx(120 / 3600, abs=1e-6)


def test_nothing_left_costs_nothing() -> None:
    none = cost(work(left={}), Pace(332, 300, 360, "measured"))
    assert none.hours == none.gpu_hours == (0, 0, 0)


def test_a_calibration_is_found_again_by_what_it_measured(tmp_path: Any) -> None:
    """A damaged file is left out, and another subject's is not found."""
    kept = calibration(row(1, 6.5), row(2, 14.6), full=3)
    path = save(tmp_path, kept)
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    assert find(tmp_path, SUBJECT) == [kept]
    other = Subject("wan", {"weights": "abc"}, {"vram": "managed"}, SHAPE, True)
    assert find(tmp_path, other) == []
    assert save(tmp_path, kept) == path


def test_a_calibration_that_says_no_more_than_its_size_is_found(tmp_path: Any) -> None:
    """Files from before shapes had sound, or a number of frames that only the engine knows."""
    path = save(tmp_path, calibration(row(1, 6.5)))
    subject = json.loads(path.read_text(encoding="utf-8"))["subject"]
    assert subject == {
        **{"backend": "wan", "identity": {"weights": "abc"}, "settings": {"vram": "resident"}},
        **{"width": 832, "height": 480, "num_frames": 81, "guided": True},
    }


@pytest.mark.parametrize("changes", [{"num_frames": (60, 81)}, {"sound": True}])
def test_a_calibration_keeps_the_whole_shape(tmp_path: Any, changes: dict[str, Any]) -> None:
    shape = replace(SHAPE, **changes)
    kept = replace(calibration(row(1, 6.5)), subject=replace(SUBJECT, shape=shape))
    save(tmp_path, kept)
    assert find(tmp_path, kept.subject) == [kept]
    assert find(tmp_path, SUBJECT) == []


def test_a_subject_that_is_none_is_left_out(tmp_path: Any) -> None:
    path = save(tmp_path, calibration(row(1, 6.5)))
    whole = json.loads(path.read_text(encoding="utf-8"))
    wrong: tuple[Any, ...] = (None, [], {}, {**whole["subject"], "width": -1}, {"of": 1})
    for subject in wrong:
        path.write_text(json.dumps({**whole, "subject": subject}), encoding="utf-8")
        assert find(tmp_path, SUBJECT) == []
