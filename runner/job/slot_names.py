"""What a slot is, and all that is called after it: row, gate, lock, log, session. Pure.

    gpu0_process1        at the home place
    n12_gpu3_process0    on the host n12
    gpu0-3_process0      of GPUs 0, 1, 2 and 3; gpu0+2 are 0 and 2

For now a sweep has the home place alone, and a worker one GPU: `Slot.read` refuses others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..text.errors import UserError

HOME = ""
"""The place of a sweep that has no other."""

MOST_PROCESSES_PER_GPU = 64

LARGEST_NUMBER_IN_NAME = 99_999
"""The largest number of a GPU or of a process."""

_PLACE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}"
"""A host's short name: the first label of its name, which has up to 63 letters (RFC 1123)."""
_NUMBER = r"(?:0|[1-9][0-9]{0,4})"
_RUN = rf"{_NUMBER}(?:-{_NUMBER})?"
_DEVICES = rf"(?:({_PLACE})_)?gpu({_RUN}(?:\+{_RUN})*)"
_DEVICES_NAME = re.compile(_DEVICES)
_SLOT_NAME = re.compile(rf"({_DEVICES})_process({_NUMBER})")


@dataclass(frozen=True, order=True)
class Devices:
    """The GPUs of one place on which a worker runs, alone or beside other processes.

    Attributes:
        place: the short name of their host; `HOME` in a sweep on one host.
        gpus: their numbers there, ascending.

    Raises:
        ValueError: no host can have that name, or there can be no such GPUs.
    """

    place: str
    gpus: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.place != HOME and re.fullmatch(_PLACE, self.place) is None:
            raise ValueError(f"{self.place!r}: no host has such a short name")
        is_good = all(map(is_number, self.gpus)) and self.gpus == tuple(sorted(set(self.gpus)))
        if not self.gpus or not is_good:
            raise ValueError(f"{self.gpus}: must be numbers of GPUs, ascending")

    @classmethod
    def of(cls, gpu: int) -> Devices:
        """One GPU at the home place."""
        return cls(HOME, (gpu,))

    @classmethod
    def parse(cls, name: str) -> Devices | None:
        """The devices of that name; None where no devices have it."""
        match = _DEVICES_NAME.fullmatch(name)
        if match is None:
            return None
        numbers: set[int] = set()
        for run in match[2].split("+"):
            first, _, last = run.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
        # Runs may be empty, overlap or touch: there is one name for the same GPUs.
        found = cls(match[1] or HOME, tuple(sorted(numbers))) if numbers else None
        return found if found is not None and found.name == name else None

    @cached_property
    def name(self) -> str:
        """The key by which GPUs are set aside, drained and counted."""
        return f"{_prefix(self.place)}gpu{'+'.join(_runs(self.gpus))}"

    @property
    def gpu(self) -> int:
        """The number of the only one.

        Raises:
            ValueError: there are several.
        """
        (gpu,) = self.gpus
        return gpu


@dataclass(frozen=True, order=True)
class Slot:
    """One room for a worker: devices of a place, and a process number on them.

    Raises:
        ValueError: there is no such process number.
    """

    devices: Devices
    process: int

    def __post_init__(self) -> None:
        if not is_number(self.process):
            raise ValueError(f"{self.process}: must be the number of a process")

    @classmethod
    def of(cls, gpu: int, process: int) -> Slot:
        """A slot on one GPU at the home place."""
        return cls(Devices.of(gpu), process)

    @classmethod
    def parse(cls, name: str) -> Slot | None:
        """The slot of that name, at any place; None where no slot can have it."""
        match = _SLOT_NAME.fullmatch(name)
        devices = None if match is None else Devices.parse(match[1])
        return None if match is None or devices is None else cls(devices, int(match[4]))

    @classmethod
    def read(cls, name: str) -> Slot:
        """The slot of that name.

        Raises:
            UserError: no slot can have the name, or its slot cannot be worked with yet.
        """
        slot = cls.parse(name)
        if slot is None:
            raise UserError(f"{name!r}: is no slot's name, such as gpu0_process1")
        if slot.place != HOME:
            raise UserError(f"{name}: is a slot of another machine, and a sweep runs on one only")
        if len(slot.devices.gpus) > 1:
            raise UserError(f"{name}: is a slot of several GPUs, and a worker has one only")
        return slot

    @classmethod
    def of_lock(cls, file: str) -> Slot | None:
        """The slot whose lock file has that name, at any place; None for any other file."""
        return cls.parse(file.removesuffix(".lock")) if file.endswith(".lock") else None

    @classmethod
    def of_log(cls, file: str) -> Slot | None:
        """The slot whose log file has that name, at any place; None for any other file."""
        return cls.parse(file.removesuffix(".log")) if file.endswith(".log") else None

    @property
    def place(self) -> str:
        return self.devices.place

    @cached_property
    def name(self) -> str:
        """What people and records call it, and the key of its row among the workers."""
        return f"{self.devices.name}_process{self.process}"

    @property
    def lock(self) -> str:
        """The name of its lock file."""
        return f"{self.name}.lock"

    @property
    def log(self) -> str:
        """The name of its log file."""
        return f"{self.name}.log"

    @property
    def session(self) -> str:
        """What its session is called, after the run's name."""
        return f"{self.devices.name}_proc{self.process}"

    @property
    def host(self) -> str:
        """The key of its host's memory, which all slots of a place share."""
        return f"{_prefix(self.place)}host"


def slots(gpus: Sequence[int], processes_per_gpu: int) -> list[Slot]:
    """Every slot of the home place, ordered so that the first ones are on different GPUs."""
    return [Slot.of(gpu, process) for process in range(processes_per_gpu) for gpu in gpus]


def is_number(value: object) -> bool:
    """Whether a GPU, or a process on it, can have that number."""
    return type(value) is int and 0 <= value <= LARGEST_NUMBER_IN_NAME


def _prefix(place: str) -> str:
    return "" if place == HOME else f"{place}_"


def _runs(gpus: Sequence[int]) -> list[str]:
    """Ascending numbers as text; consecutive ones as the first and the last, with a hyphen."""
    runs: list[tuple[int, int]] = []
    for gpu in gpus:
        if runs and runs[-1][1] == gpu - 1:
            runs[-1] = (runs[-1][0], gpu)
        else:
            runs.append((gpu, gpu))
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]
