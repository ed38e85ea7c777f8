"""What happens on a worker's GPU apart from its own work: other people's memory, and its health."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..job.slot_names import Devices
from ..machine.gpus import BUSY_GIB, Gpu, Health, find_gpus, gpu_health
from ..queue.worker_table import WorkerRow

CONTEXT_GIB = 0.7
"""What CUDA itself takes for each process, beyond what the process asks for."""


class GpuWatch:
    """Watches one GPU. On a machine without GPUs it has nothing to say.

    Args:
        devices: the GPU, as its slots have it.
        find: the GPUs as NVML shows them.
        health: what NVML says of a GPU's health.
    """

    def __init__(
        self,
        devices: Devices,
        find: Callable[[], Sequence[Gpu]] = find_gpus,
        health: Callable[[int], Health] = gpu_health,
    ) -> None:
        self._devices = devices
        self._number = devices.gpu
        self._find = find
        self._health = health
        self._errors_before = health(self._number).memory_errors

    def problem(self) -> str | None:
        """What is wrong with the GPU; None where nothing is.

        Memory in which errors were found before this worker began is not used any more, and does no
        harm ("GPU Memory Error Management", docs.nvidia.com).
        """
        now = self._health(self._number)
        if now.problem is None and (new := now.memory_errors - self._errors_before) > 0:
            return f"NVML: uncorrected memory errors since its worker began: {new}"
        return now.problem

    def foreign_gib(self, workers: Sequence[WorkerRow]) -> float:
        """Memory that other people hold on this GPU, in GiB; 0 where it is too little to tell.

        Containers hide the processes of others, so it is the memory in use beyond what the sweep's
        own workers say they hold.
        """
        gpu = next((gpu for gpu in self._find() if gpu.number == self._number), None)
        if gpu is None:
            return 0.0
        own = sum(
            (row.gpu_gib or 0.0) + CONTEXT_GIB
            for row in workers
            if row.slot.devices == self._devices and not row.state.has_ended
        )
        foreign = gpu.used_gib - own
        return foreign if foreign > BUSY_GIB else 0.0
