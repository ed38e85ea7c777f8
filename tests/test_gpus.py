"""Choosing GPUs, on the list that NVML would give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.errors import UserError
from runner.gpus import Choice, Gpu, Wish, choose_gpus, within

GPUS = [Gpu(n, f"GPU-{n}abc-{n}", "A800", 79.3, 79.0) for n in range(4)]


def numbers(gpus: list[Gpu]) -> list[int]:
    return [gpu.number for gpu in gpus]


def choose(gpus: str | list[int], among: list[Gpu] = GPUS, **narrowed: Any) -> Choice:
    return choose_gpus(Wish(gpus, "x.yaml: placement.gpus", **narrowed), among)


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
