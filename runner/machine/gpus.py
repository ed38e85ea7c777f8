"""The GPUs of this machine, as NVML tells them; no torch."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..text.errors import UserError

GIB = 1024**3

BUSY_GIB = 2.0
"""More memory in use on a GPU is a program of someone's; drivers keep less for themselves."""

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """One GPU: `number` is NVML's, in PCI order. Workers get it by `uuid`, since CUDA may
    count differently. Memory in GiB.

    `problem` is why NVML cannot tell of it: it is lost, say. Then it has no uuid and no memory.
    """

    number: int
    uuid: str
    name: str
    memory_gib: float
    free_gib: float
    problem: str | None = None

    @property
    def used_gib(self) -> float:
        return self.memory_gib - self.free_gib


def find_gpus() -> list[Gpu]:
    """The GPUs that this process may use (CUDA_VISIBLE_DEVICES), by number; none where there
    is no NVIDIA driver. One that is lost hides no other."""
    return within(every_gpu(), os.environ.get(VISIBLE))


def every_gpu() -> list[Gpu]:
    """Those that this process may not use, too."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_look_at(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise UserError(f"NVML: {error}; does nvidia-smi work on this machine?") from None
    finally:
        pynvml.nvmlShutdown()


def _look_at(number: int) -> Gpu:
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return Gpu(
            number=number,
            uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
            name=_text(pynvml.nvmlDeviceGetName(handle)),
            memory_gib=memory.total / GIB,
            free_gib=memory.free / GIB,
        )
    except pynvml.NVMLError as error:
        return Gpu(number, "", "no GPU that answers", 0.0, 0.0, problem=f"NVML: {error}")


def processor_name() -> str:
    """Of this machine, as far as Python knows it."""
    return platform.processor() or platform.machine()


def compute_capability() -> tuple[int, int] | None:
    """The least CUDA compute capability of the GPUs that this process may use; None without a GPU,
    or where NVML does not tell."""
    import pynvml

    numbers = [gpu.number for gpu in find_gpus() if gpu.problem is None]
    if not numbers:
        return None
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers]
        found = [pynvml.nvmlDeviceGetCudaComputeCapability(handle) for handle in handles]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return min((int(major), int(minor)) for major, minor in found)


@dataclass(frozen=True)
class Health:
    """What NVML tells of a GPU's health.

    `problem` is what is wrong for good: lost, or memory that can no longer be repaired.
    `memory_errors` are the uncorrected ones since the driver was loaded; 0 where it tells none.
    """

    problem: str | None = None
    memory_errors: int = 0


def gpu_health(number: int) -> Health:
    """Of one GPU; a healthy one where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Health()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        pynvml.nvmlDeviceGetMemoryInfo(handle)
        with contextlib.suppress(pynvml.NVMLError_NotSupported):
            if pynvml.nvmlDeviceGetRemappedRows(handle)[3]:
                return Health("NVML: a row of its memory could not be remapped")
        with contextlib.suppress(pynvml.NVMLError_NotSupported):
            errors = pynvml.nvmlDeviceGetTotalEccErrors(
                handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
            )
            return Health(memory_errors=int(errors))
    except pynvml.NVMLError as error:
        lost = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNKNOWN)
        return Health(f"NVML: {error}" if error.value in lost else None)
    finally:
        pynvml.nvmlShutdown()
    return Health()


def driver_versions() -> dict[str, str]:
    """Version of the NVIDIA driver, and of the newest CUDA that it serves; {} without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        cuda = pynvml.nvmlSystemGetCudaDriverVersion()
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return {"nvidia_driver": driver, "cuda_driver": f"{cuda // 1000}.{cuda % 1000 // 10}"}
    except pynvml.NVMLError:
        return {}
    finally:
        pynvml.nvmlShutdown()


def within(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """Those GPUs that CUDA_VISIBLE_DEVICES names, as numbers or (starts of) UUIDs.

    As CUDA has it, what stands behind a name that fits no GPU is not visible; see "CUDA
    Environment Variables" in its programming guide.
    """
    if visible is None:
        return list(gpus)
    found: set[int] = set()
    for name in visible_names(visible):
        fitting = {
            gpu.number
            for gpu in gpus
            if name == str(gpu.number) or (gpu.uuid and gpu.uuid.startswith(name))
        }
        if len(fitting) != 1:
            break
        found |= fitting
    return [gpu for gpu in gpus if gpu.number in found]


def visible_names(visible: str | None) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names."""
    return [name.strip() for name in (visible or "").split(",") if name.strip()]


def hidden_by_mistake(gpus: Sequence[Gpu], visible: str | None) -> str | None:
    """Why CUDA_VISIBLE_DEVICES hides every GPU although it names some, or None: no value, -1, or
    Slurm's NoDevFiles hide them all as they are meant to.

    Args:
        gpus: every GPU of this machine.
    """
    names = visible_names(visible)
    named = bool(names) and (names[0].isdecimal() or names[0].startswith(("GPU-", "MIG-")))
    if not gpus or not named or within(gpus, visible):
        return None
    here = ", ".join(f"{gpu.number} ({gpu.uuid})" for gpu in gpus)
    why = "fits none of them"
    if names[0].startswith("MIG-"):
        why = "names a part of a GPU (MIG), and workers are given whole ones"
    return f"{VISIBLE}={visible}: this machine has the GPUs {here}; that {why}"


@dataclass(frozen=True)
class Choice:
    """The GPU numbers to use, and a line for each that was there and is left out."""

    numbers: tuple[int, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class GpuWish:
    """Which GPUs a person wants: `gpus` is "auto" or numbers, `source` says where that was written.

    `exclude` and `min_free_gib` narrow the choice. `own` are the GPUs on which workers of this
    sweep run already: memory in use there is their own.
    """

    gpus: str | Sequence[int]
    source: str
    exclude: frozenset[int] = frozenset()
    min_free_gib: float = 0.0
    own: frozenset[int] = frozenset()


def choose_gpus(wish: GpuWish, gpus: Sequence[Gpu]) -> Choice:
    """Choose among the GPUs of this machine.

    "auto" takes all but those that someone else is using, which shows in their memory even
    where a container hides the processes; a GPU asked for by number is taken all the same. On
    a machine without GPUs numbers are just slots, and "auto" is slot 0. One that NVML cannot tell
    of is never taken.

    Raises:
        UserError: a number that is not there, on a machine that has GPUs; or none is left.
    """
    automatic = isinstance(wish.gpus, str)
    there = {gpu.number: gpu for gpu in gpus}
    wanted = (list(there) or [0]) if isinstance(wish.gpus, str) else list(wish.gpus)
    missing = [number for number in wanted if number not in there]
    if gpus and missing:
        raise UserError(
            f"{wish.source}: GPU {', '.join(map(str, missing))} is not there (this machine has "
            f"{', '.join(map(str, sorted(there)))}); choose among these, or say auto"
        )
    chosen, left_out = [], []
    for number in wanted:
        gpu = there.get(number)
        if number in wish.exclude:
            continue
        if gpu is not None and gpu.problem is not None:
            left_out.append(f"GPU {number}: {gpu.problem}")
        elif gpu is None or number in wish.own:
            chosen.append(number)
        elif gpu.free_gib < wish.min_free_gib:
            left_out.append(
                f"GPU {number}: {gpu.free_gib:.1f} GiB are free, --min-free-gb asks for "
                f"{wish.min_free_gib:g}"
            )
        elif automatic and gpu.used_gib > BUSY_GIB:
            left_out.append(in_use(gpu))
        else:
            chosen.append(number)
    if not chosen:
        reasons = "; ".join(left_out) or "all are excluded"
        raise UserError(f"{wish.source}: no GPU is left to use: {reasons}")
    return Choice(tuple(chosen), tuple(left_out))


def in_use(gpu: Gpu) -> str:
    return (
        f"GPU {gpu.number}: someone else uses {gpu.used_gib:.1f} GiB of it; "
        f"--gpus {gpu.number} takes it all the same"
    )


def likely_gpus(wish: GpuWish, gpus: Sequence[Gpu]) -> Choice:
    """The GPUs that a sweep will have, for its plan; never an error.

    It may be planned away from its GPUs, and while others use them all: only a launch insists
    that they are there and free.
    """
    if not isinstance(wish.gpus, str):
        return choose_gpus(wish, [])
    there = [gpu for gpu in gpus if gpu.problem is None]
    taken = frozenset(gpu.number for gpu in there)
    try:
        return choose_gpus(wish, gpus)
    except UserError:
        # All are in use: by the time of the launch they may be free.
        left_out = tuple(in_use(gpu) for gpu in there)
        return replace(choose_gpus(replace(wish, own=taken), there), left_out=left_out)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
