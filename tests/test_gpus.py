"""Choosing GPUs, on the list that NVML would give."""

from __future__ import annotations

import pytest

from runner.errors import UserError
from runner.gpus import Gpu, choose_gpus, within

GPUS = [Gpu(n, f"GPU-{n}abc-{n}", "A800", 79.3, 79.0) for n in range(4)]


def numbers(gpus: list[Gpu]) -> list[int]:
    return [gpu.number for gpu in gpus]


def test_auto_takes_every_gpu() -> None:
    assert choose_gpus("auto", GPUS, "x") == [0, 1, 2, 3]


def test_without_gpus_numbers_are_just_slots() -> None:
    assert choose_gpus("auto", [], "x") == [0]
    assert choose_gpus([0, 7], [], "x") == [0, 7]


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(
        UserError, match=r"x: GPU 4, 9 is not there \(this machine has 0, 1, 2, 3\)"
    ):
        choose_gpus([1, 4, 9], GPUS, "x")


def test_cuda_visible_devices_narrows_by_number_or_uuid() -> None:
    """As Slurm and containers set it; an empty value hides every GPU."""
    assert numbers(within(GPUS, None)) == [0, 1, 2, 3]
    assert numbers(within(GPUS, "2,0")) == [0, 2]
    assert numbers(within(GPUS, "GPU-3abc-3, GPU-1abc")) == [1, 3]
    assert within(GPUS, "") == []
