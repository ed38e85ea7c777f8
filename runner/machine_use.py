"""What the machine is doing right now: GPUs by NVML, room on the disk; no torch."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from .gpus import GIB


@dataclass(frozen=True)
class GpuUse:
    """One GPU at one moment: `busy` is the share of the last moments in which it computed,
    from 0 to 1; memory in GiB, of all programs together."""

    busy: float
    used_gib: float
    memory_gib: float


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
    return MachineUse(_gpus(), free)


def _gpus() -> dict[int, GpuUse]:
    if not _has_driver():
        return {}
    import pynvml

    found = {}
    # A view goes on without what it cannot see; `sweep doctor` is where a driver is told of.
    with contextlib.suppress(pynvml.NVMLError):
        for number in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):
                handle = pynvml.nvmlDeviceGetHandleByIndex(number)
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                share = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                found[number] = GpuUse(share, memory.used / GIB, memory.total / GIB)
    return found


@lru_cache
def _has_driver() -> bool:
    """Whether NVML is there; it stays open, for a view asks twice a second."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True
