"""Choosing GPUs, on the list that NVML would give."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from runner.disk.attempts import read_attempts
from runner.machine.gpus import (
    Choice,
    Gpu,
    GpuWish,
    choose_gpus,
    hidden_by_mistake,
    likely_gpus,
    within,
)
from runner.queue import Queue
from runner.text.errors import UserError

GPUS = [Gpu(n, f"GPU-{n}abc-{n}", "A800", 79.3, 79.0) for n in range(4)]


def numbers(gpus: list[Gpu]) -> list[int]:
    return [gpu.number for gpu in gpus]


def choose(gpus: str | list[int], among: list[Gpu] = GPUS, **narrowed: Any) -> Choice:
    return choose_gpus(GpuWish(gpus, "x.yaml: placement.gpus", **narrowed), among)


def test_auto_takes_every_gpu() -> None:
    assert choose("auto") == Choice((0, 1, 2, 3))


def test_without_gpus_numbers_are_just_slots() -> None:
    assert choose("auto", []) == Choice((0,))
    assert choose([0, 7], []) == Choice((0, 7))


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"gpus: GPU 4, 9 is not there \(this machine has 0, 1, 2"):
        choose([1, 4, 9])


def test_a_gpu_in_use_by_someone_else_is_named_and_left_out_unless_asked_for() -> None:
    busy = [replace(gpu, free_gib=30.0) if gpu.number == 2 else gpu for gpu in GPUS]
    choice = choose("auto", busy)
    assert choice.numbers == (0, 1, 3)
    assert choice.left_out[0].startswith("GPU 2: someone else uses 49.3 GiB")
    assert choose([2], busy) == Choice((2,))
    assert choose("auto", busy, own=frozenset({2})) == Choice((0, 1, 2, 3))


def test_exclude_and_free_memory_narrow_the_choice() -> None:
    busy = [replace(gpu, free_gib=77.5) if gpu.number == 1 else gpu for gpu in GPUS]
    choice = choose("auto", busy, exclude=frozenset({0}), min_free_gib=78)
    assert choice.numbers == (2, 3)
    assert "77.5 GiB are free" in choice.left_out[0]
    with pytest.raises(UserError, match="no GPU is left"):
        choose([0], exclude=frozenset({0}))


def test_cuda_visible_devices_narrows_by_number_or_uuid() -> None:
    """As Slurm and containers set it; an empty value hides every GPU."""
    assert numbers(within(GPUS, None)) == [0, 1, 2, 3]
    assert numbers(within(GPUS, "2,0")) == [0, 2]
    assert numbers(within(GPUS, "GPU-3abc-3, GPU-1abc")) == [1, 3]
    assert within(GPUS, "") == []


def test_what_stands_behind_a_name_of_no_gpu_is_not_visible() -> None:
    """As CUDA has it: a worker must not get a GPU that CUDA would keep from it."""
    assert numbers(within(GPUS, "3,-1,1")) == [3]
    assert numbers(within(GPUS, "0,7,1")) == [0]
    assert numbers(within(GPUS, "GPU-,1")) == []
    assert within(GPUS, "-1") == within(GPUS, "NoDevFiles") == []


@pytest.mark.parametrize(
    ("visible", "says"),
    [
        (None, None),
        ("", None),
        ("-1", None),
        ("NoDevFiles", None),
        ("2", None),
        ("GPU-2abc", None),
        ("9", "fits none of them"),
        ("GPU-other", "0 (GPU-0abc-0), 1 (GPU-1abc-1)"),
        ("MIG-3eb87630-93d5-b2b6-b8ff-9b359caf4ee2", "a part of a GPU (MIG)"),
        ("MIG-GPU-2abc/1/0", "a part of a GPU (MIG)"),
    ],
)
def test_gpus_that_are_hidden_by_mistake_are_told(visible: str | None, says: str | None) -> None:
    """A name of no GPU must not end in a night on the processor."""
    told = hidden_by_mistake(GPUS, visible)
    assert (told is None) if says is None else (told is not None and says in told)
    assert hidden_by_mistake([], visible) is None


def test_a_sweep_is_planned_while_others_use_every_gpu() -> None:
    """They are named; whether they are free is for the launch to ask."""
    busy = [replace(gpu, free_gib=30.0) for gpu in GPUS]
    choice = likely_gpus(GpuWish("auto", "x"), busy)
    assert choice.numbers == (0, 1, 2, 3)
    assert len(choice.left_out) == 4
    own = likely_gpus(GpuWish("auto", "x", own=frozenset({0, 1, 2, 3})), busy)
    assert own == Choice((0, 1, 2, 3))
    assert likely_gpus(GpuWish([4, 9], "x"), busy) == Choice((4, 9))


def test_a_lost_gpu_is_never_taken() -> None:
    lost = [Gpu(0, "", "", 0, 0, problem="NVML: GPU is lost"), *GPUS[1:]]
    assert choose("auto", lost) == Choice((1, 2, 3), ("GPU 0: NVML: GPU is lost",))
    assert choose([0, 1], lost, own=frozenset({0})).numbers == (1,)
    assert numbers(within(lost, "GPU-1abc,GPU-2")) == [1, 2]


def show_gpus(project: Project, *gpus: dict[str, Any], visible: str | None = None) -> None:
    """Have every command of a project find these GPUs; see `stand_in_nvml`."""
    modules = project.root.parent / "modules"
    modules.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("stand_in_nvml.py"), modules / "pynvml.py")
    (modules / "gpus.json").write_text(json.dumps(gpus))
    paths = f"{modules}:{Path(__file__).resolve().parents[1]}"
    project.environment |= {"PYTHONPATH": paths, "STAND_IN_NVML": str(modules / "gpus.json")}
    project.environment.pop("CUDA_VISIBLE_DEVICES", None)
    if visible is not None:
        project.environment["CUDA_VISIBLE_DEVICES"] = visible


def test_a_machine_of_many_gpus(project: Project) -> None:
    """One is somebody else's, one is lost, one sick, one hidden: the sweep goes on with the rest,
    one with memory errors from before among them, and plan and launch name each that is left
    out."""
    project.write(model={"seconds": 0.7}, placement={"gpus": "auto", "processes_per_gpu": 1})
    gpus: list[dict[str, Any]] = [
        {"errors": 2},
        {"used": 30},
        {"lost": True},
        {"worn": True},
        {},
    ]
    show_gpus(project, *gpus, visible="GPU-3aaa,0,1,2")
    planned = project.sweep("plan", "experiments/x.yaml", "--json")
    assert planned.status == 0, planned.err
    left_out = json.loads(planned.out)["gpus_left_out"]
    assert [line[:24] for line in left_out] == [
        "GPU 1: someone else uses",
        "GPU 2: NVML: GPU is lost",
    ]
    show_gpus(project, *gpus, visible="MIG-3eb87630")
    refused = project.sweep("launch", "x", "--on", "local")
    assert refused.status == 2
    assert "a part of a GPU (MIG)" in refused.err
    show_gpus(project, *gpus, visible="GPU-3aaa,0,1,2,4")
    narrowed = ("--exclude-gpus", "4", "--min-free-gb", "60")
    done = project.sweep("launch", "x", "--on", "local", "--wait", *narrowed)
    assert done.status == 0, done.err
    assert "left out: GPU 1: 50.0 GiB are free, --min-free-gb asks for 60" in done.err
    assert "left out: GPU 2: NVML: GPU is lost" in done.err
    assert "2 workers started on cuda" in done.err
    assert {one["worker"] for one in read_attempts(project.run_folder.attempts)} == {
        "gpu0_process0"
    }
    queue = Queue(project.run_folder.queue)
    assert queue.gate().aside == {"gpu3": "NVML: a row of its memory could not be remapped"}
    queue.close()
