"""Which slots may claim jobs: what was drained, set aside or stopped. Plain data."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..forms import checked, is_count, is_number, is_text, is_truth, list_of, mapping_of, or_none
from ..placement import Slot

_FORM = {
    "drained": is_truth,
    "apart": list_of(is_count),
    "aside": mapping_of(is_text),
    "stop_at": or_none(is_number),
    "halted": or_none(is_text),
}


@dataclass(frozen=True)
class Gate:
    """Who may claim.

    Attributes:
        drained: whether every GPU is asked to end after its job.
        apart: the GPUs of which the opposite holds.
        aside: slots ("gpu0_process1") and GPUs ("gpu0") set aside, each with its reason.
        stop_at: Unix seconds by which the last job shall have ended.
        halted: why nothing more is claimed at all.
    """

    drained: bool = False
    apart: frozenset[int] = frozenset()
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
        return cls(**{**values, "apart": frozenset(values["apart"])})

    def to_json(self) -> str:
        return json.dumps({**vars(self), "apart": sorted(self.apart)}, ensure_ascii=False)

    def drain(self, wanted: bool, gpus: Sequence[int] | None) -> Gate:
        """With these GPUs' workers asked to end after their job (True) or to claim on."""
        if gpus is None:
            return replace(self, drained=wanted, apart=frozenset())
        if wanted == self.drained:
            return replace(self, apart=self.apart - set(gpus))
        return replace(self, apart=self.apart | set(gpus))

    def reopen(self, gpus: Sequence[int] | None) -> Gate:
        """With what was set aside (on these GPUs) let in again, and nothing halted."""
        prefixes = None if gpus is None else {f"gpu{gpu}" for gpu in gpus}
        kept = {
            name: reason
            for name, reason in self.aside.items()
            if prefixes is not None and name.partition("_")[0] not in prefixes
        }
        return replace(self, aside=kept, halted=None)

    def set_aside(self, name: str, reason: str) -> Gate:
        return replace(self, aside={**self.aside, name: reason})

    def is_draining(self, gpu: int | None = None) -> bool:
        """Whether this GPU's workers are to end, or with None those of every GPU."""
        return (
            (self.drained and not self.apart)
            if gpu is None
            else (gpu in self.apart) != self.drained
        )

    def refusal(self, slot: Slot, now: float, lasting: float = 0.0) -> str | None:
        """Why a slot may not claim a job that lasts so many seconds, or None."""
        if self.halted is not None:
            return self.halted
        if self.is_draining(slot.gpu):
            return "asked to stop"
        for name in (f"gpu{slot.gpu}", slot.name):
            if name in self.aside:
                return f"{name} is set aside: {self.aside[name]}"
        if self.stop_at is not None and now + lasting > self.stop_at:
            until = time.strftime("%H:%M", time.localtime(self.stop_at))
            return f"a further job would not end before {until} (--stop-at)"
        return None
