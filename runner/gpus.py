"""The GPUs of this machine, as NVML tells them; no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import UserError

GIB = 1024**3


@dataclass(frozen=True)
class Gpu:
    """One GPU: `number` is NVML's, in PCI order. Workers get it by `uuid`, since CUDA may
    count differently. Memory in GiB."""

    number: int
    uuid: str
    name: str
    memory_gib: float
    free_gib: float


def find_gpus(visible: str | None = None) -> list[Gpu]:
    """The GPUs that this process may use, by number; none where there is no NVIDIA driver.

    Args:
        visible: CUDA_VISIBLE_DEVICES, numbers or UUIDs; by default the environment's.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        gpus = []
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            gpus.append(
                Gpu(
                    number=number,
                    uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
                    name=_text(pynvml.nvmlDeviceGetName(handle)),
                    memory_gib=memory.total / GIB,
                    free_gib=memory.free / GIB,
                )
            )
    except pynvml.NVMLError as error:
        raise UserError(f"NVML: {error}; does nvidia-smi work on this machine?") from None
    finally:
        pynvml.nvmlShutdown()
    if visible is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return within(gpus, visible)


def within(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """Those GPUs that CUDA_VISIBLE_DEVICES names, as numbers or (starts of) UUIDs."""
    if visible is None:
        return list(gpus)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return [
        gpu
        for gpu in gpus
        if any(name == str(gpu.number) or gpu.uuid.startswith(name) for name in names)
    ]


def choose_gpus(wanted: str | Sequence[int], gpus: Sequence[Gpu], source: str) -> list[int]:
    """The GPU numbers to use: `wanted` is "auto" or numbers, `source` says who wants them.

    On a machine without GPUs numbers are just slots, and "auto" is slot 0.

    Raises:
        UserError: a number that is not there, on a machine that has GPUs.
    """
    if isinstance(wanted, str):
        return [gpu.number for gpu in gpus] or [0]
    there = {gpu.number for gpu in gpus}
    missing = [number for number in wanted if number not in there]
    if gpus and missing:
        raise UserError(
            f"{source}: GPU {', '.join(map(str, missing))} is not there (this machine has "
            f"{', '.join(map(str, sorted(there)))}); choose among these, or say auto"
        )
    return list(wanted)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
