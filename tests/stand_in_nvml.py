"""NVML for machines without GPUs: what it shows stands in the file that STAND_IN_NVML names.

That file is JSON: a list of GPUs, each with `used` GiB of its 80, or `lost`, or `worn`, with memory
that can no longer be repaired, or with `errors`, the memory errors that were not corrected. A copy
of this file named pynvml.py, in a folder that PYTHONPATH names, is found before the real module.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

GIB = 1024**3
NVML_ERROR_GPU_IS_LOST, NVML_ERROR_UNKNOWN = 15, 999
NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 1


class NVMLError(Exception):
    def __init__(self, value: int, text: str) -> None:
        super().__init__(text)
        self.value = value


class NVMLError_NotSupported(NVMLError):
    pass


def _gpus() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(os.environ["STAND_IN_NVML"]).read_text())
    return found


def nvmlInit() -> None:
    pass


nvmlShutdown = nvmlInit


def nvmlDeviceGetCount() -> int:
    return len(_gpus())


def nvmlDeviceGetHandleByIndex(number: int) -> int:
    if _gpus()[number].get("lost"):
        raise NVMLError(NVML_ERROR_GPU_IS_LOST, "GPU is lost")
    return number


def nvmlDeviceGetMemoryInfo(handle: int) -> Any:
    used = int(_gpus()[handle].get("used", 0) * GIB)
    return SimpleNamespace(total=80 * GIB, used=used, free=80 * GIB - used)


def nvmlDeviceGetUUID(handle: int) -> str:
    return f"GPU-{handle}aaaaaaa-bbbb"


def nvmlDeviceGetName(_handle: int) -> str:
    return "a stand-in GPU"


def nvmlDeviceGetRemappedRows(handle: int) -> tuple[int, ...]:
    if _gpus()[handle].get("worn"):
        return (0, 8, 0, 1)
    raise NVMLError_NotSupported(3, "Not Supported")


def nvmlDeviceGetTotalEccErrors(handle: int, _kind: int, _counter: int) -> int:
    return int(_gpus()[handle].get("errors", 0))


def nvmlDeviceGetCudaComputeCapability(_handle: int) -> tuple[int, int]:
    return 9, 0


def nvmlSystemGetCudaDriverVersion() -> int:
    return 12080


def nvmlSystemGetDriverVersion() -> str:
    return "570.0"


def nvmlDeviceGetComputeRunningProcesses(_handle: int) -> list[Any]:
    return []


def nvmlDeviceGetUtilizationRates(_handle: int) -> Any:
    return SimpleNamespace(gpu=50)
