"""The GPUs: are those there that are asked for, has each room, is one of them ill?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..backends import PeakMemory
from ..machine.gpus import BUSY_GIB, Gpu, Health, gpu_health
from .finding import Finding, right, warning, wrong


@dataclass(frozen=True)
class Need:
    """What an experiment asks of GPUs. `gpus` are numbers or "auto"; `peak` is one worker's."""

    gpus: str | Sequence[int]
    processes: int
    peak: PeakMemory | None
    runs_without: bool


def check_gpus(here: Sequence[Gpu], need: Need | None) -> Iterator[Finding]:
    """Every GPU of this machine, and those that are missing.

    Args:
        need: None where no experiment is given.
    """
    if not here:
        if need is None or need.runs_without:
            yield right("GPU", "none: the processor is used")
        else:
            yield wrong(
                "GPU",
                "NVML shows none",
                "is the driver there (nvidia-smi), and was the container given the GPUs "
                "(docker run --gpus all)?",
            )
        return
    if need is not None and not isinstance(need.gpus, str):
        yield from missing_gpus(here, need.gpus)
    for gpu in here:
        yield check_gpu(gpu, need, gpu_health(gpu.number), users(gpu.number))


def missing_gpus(here: Sequence[Gpu], wanted: Sequence[int]) -> Iterator[Finding]:
    numbers = [gpu.number for gpu in here]
    for number in wanted:
        if number not in numbers:
            yield wrong(
                f"GPU {number}",
                f"is not there: this machine has {', '.join(map(str, numbers))}",
                "placement.gpus=auto, or --gpus with those that are there",
            )


def check_gpu(gpu: Gpu, need: Need | None, health: Health, pids: Sequence[int]) -> Finding:
    """One GPU; `health` is NVML's verdict, `pids` are the processes that use it."""
    name = f"GPU {gpu.number}"
    room = f"{gpu.name}, {gpu.free_gib:.1f} of {gpu.memory_gib:.1f} GiB free"
    if health.problem is not None:
        return wrong(
            name, f"{room}; {health.problem}", f"--exclude-gpus {gpu.number}; restart the machine"
        )
    if need is not None and need.peak is not None:
        wanted = need.peak.gib * need.processes
        if wanted > gpu.memory_gib:
            fitting = int(gpu.memory_gib / need.peak.gib)
            remedy = f"placement.processes_per_gpu={fitting}" if fitting else "model.vram=managed"
            found = f"{room}; {need.processes} x {need.peak.gib:.1f} GiB do not fit"
            return wrong(name, found, remedy)
    if gpu.used_gib > BUSY_GIB:
        who = f"process {', '.join(map(str, pids))}" if pids else "someone, not visible from here,"
        found = f"{room}; {who} uses {gpu.used_gib:.1f} GiB"
        return warning(name, found, "gpus: auto leaves it out; end that program, or wait for it")
    if health.memory_errors:
        errors = f"uncorrected memory errors since the driver was loaded: {health.memory_errors}"
        found = f"{room}; NVML: {errors}"
        return warning(name, found, "restart the machine when it is free, so that it is repaired")
    return right(name, room)


def users(number: int) -> tuple[int, ...]:
    """The processes that compute on a GPU, as far as this container sees them."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        with contextlib.suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
            return tuple(sorted({int(process.pid) for process in running}))
        return ()
    finally:
        pynvml.nvmlShutdown()
