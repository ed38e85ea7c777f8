"""Which slots may claim jobs: what was drained, set aside or stopped. Plain data."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from ..job.slot_names import Devices, Slot
from ..text.forms import checked, is_number, is_text, is_truth, list_of, mapping_of, or_none

_FORM = {
    "drained": is_truth,
    "apart": list_of(is_text),
    "aside": mapping_of(is_text),
    "stop_at": or_none(is_number),
    "halted": or_none(is_text),
}


@dataclass(frozen=True)
class Gate:
    """Who may claim.

    Attributes:
        drained: whether the slots of all devices are asked to end after their jobs.
        apart: the devices of which the opposite holds.
        aside: slots ("gpu0_process1") and devices ("gpu0") set aside, by name, each with its
            reason.
        stop_at: Unix seconds by which the last job shall have ended.
        halted: why nothing more is claimed at all.
    """

    drained: bool = False
    apart: frozenset[Devices] = frozenset()
    aside: dict[str, str] = field(default_factory=dict)
    stop_at: float | None = None
    halted: str | None = None

    @classmethod
    def from_json(cls, text: str | None) -> Gate:
        """The gate of a text that `to_json` made, or an open one.

        Raises:
            ValueError: it is no such text.
        """
        if text is None:
            return cls()
        values = checked(json.loads(text), _FORM)
        return cls(**{**values, "apart": frozenset(map(_devices, values["apart"]))})

    def to_json(self) -> str:
        apart = [devices.name for devices in sorted(self.apart)]
        return json.dumps({**vars(self), "apart": apart}, ensure_ascii=False)

    def drain(self, wanted: bool, which: Collection[Devices] | None) -> Gate:
        """With these devices' workers (None: all) asked to end after their job (True) or to
        claim on."""
        if which is None:
            return replace(self, drained=wanted, apart=frozenset())
        if wanted == self.drained:
            return replace(self, apart=self.apart.difference(which))
        return replace(self, apart=self.apart.union(which))

    def reopen(self, which: Collection[Devices] | None) -> Gate:
        """With what was set aside (of these devices) let in again, and nothing halted."""
        kept = {
            name: reason
            for name, reason in self.aside.items()
            if which is not None and _devices_of(name) not in which
        }
        return replace(self, aside=kept, halted=None)

    def set_aside(self, which: Slot | Devices, reason: str) -> Gate:
        return replace(self, aside={**self.aside, which.name: reason})

    def is_draining(self, devices: Devices | None = None) -> bool:
        """Whether these devices' workers are to end, or with None those of all."""
        return (
            (self.drained and not self.apart)
            if devices is None
            else (devices in self.apart) != self.drained
        )

    def refusal(self, slot: Slot, at: float, lasting: float = 0.0) -> str | None:
        """Why a slot may not claim a job that lasts so many seconds, at that Unix time, or
        None."""
        if self.halted is not None:
            return self.halted
        if self.is_draining(slot.devices):
            return "asked to stop"
        for name in (slot.devices.name, slot.name):
            if name in self.aside:
                return f"{name} is set aside: {self.aside[name]}"
        if self.stop_at is not None and at + lasting > self.stop_at:
            until = time.strftime("%H:%M", time.localtime(self.stop_at))
            return f"a further job would not end before {until} (--stop-at)"
        return None


def _devices(name: str) -> Devices:
    """The devices of that name.

    Raises:
        ValueError: there are none.
    """
    if (devices := Devices.parse(name)) is None:
        raise ValueError(f"{name!r:.40} are no devices")
    return devices


def _devices_of(name: str) -> Devices | None:
    """The devices that a slot or they themselves are called after."""
    slot = Slot.parse(name)
    return Devices.parse(name) if slot is None else slot.devices
