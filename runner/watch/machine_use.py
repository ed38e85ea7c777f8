"""What the machine is doing right now: GPUs by NVML, room on the disk; no torch."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ..machine.gpus import GIB


@dataclass(frozen=True)
class GpuUse:
    """One GPU at one moment: `busy` is the share of the last moments in which it computed,
    from 0 to 1; memory in GiB, of all programs together.

    None is what NVML does not tell: of a GPU that is divided (MIG) it has no share, of one that
    shares the host's memory no size, and a program may not be allowed to ask.
    """

    busy: float | None
    used_gib: float | None
    memory_gib: float | None


@dataclass(frozen=True)
class MachineUse:
    """The machine at one moment. `gpus` are by NVML's number; none without a driver."""

    gpus: dict[int, GpuUse] = field(default_factory=dict)
    disk_free_gib: float | None = None


def machine_use(folder: Path) -> MachineUse:
    """Look at the GPUs, and at the disk that holds a folder."""
    try:
        free = shutil.disk_usage(folder).free / GIB
    except OSError:
        free = None
    nvml = _driver()
    return MachineUse({} if nvml is None else gpu_use(nvml), free)


def gpu_use(nvml: Any) -> dict[int, GpuUse]:
    """Every GPU that answers, by its number.

    A view goes on without what it cannot see; `sweep doctor` is where a driver is told of.

    Args:
        nvml: the module `pynvml`, initialised.
    """
    try:
        numbers = range(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError:
        return {}
    found = {}
    for number in numbers:
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
        except nvml.NVMLError:
            # Lost: the others are still there.
            continue
        busy = used = memory = None
        with contextlib.suppress(nvml.NVMLError):
            # In per cent.
            busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        with contextlib.suppress(nvml.NVMLError):
            # In bytes.
            of_all = nvml.nvmlDeviceGetMemoryInfo(handle)
            used, memory = of_all.used / GIB, of_all.total / GIB
        if busy is not None or used is not None:
            found[number] = GpuUse(busy, used, memory)
    return found


@lru_cache
def _driver() -> ModuleType | None:
    """NVML where there is a driver; it stays open, for a view asks twice a second."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    module: ModuleType = pynvml
    return module
