"""Latents of a video in the making, on disk: what a killed attempt leaves for the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .tensor_file import SHA256, FileFacts, read_facts, read_tensors, try_to_write

FILE = "latents.safetensors"


class KeptLatents:
    """One job's latents in its own folder of the run folder's `work/`.

    Whoever has the job next goes on from them, and gets the same bytes as without: so they
    count only where everything that decides a step's result is the same.

    Args:
        scratch: the job's own folder.
        belongs: what must be the same: fingerprint, recipe, device, versions, compiled kernels.
        every: steps after which they are written anew; 0 keeps and takes none.
    """

    def __init__(self, scratch: Path, belongs: FileFacts, every: int) -> None:
        self._path = scratch / FILE
        self._belongs = belongs
        self._every = every
        self._written = 0
        self._latest: tuple[int, Any] | None = None

    def read(self) -> tuple[int, Any] | None:
        """How many steps are done, and the latents after them, on the CPU; None where there
        are none of this job and this kind of machine, or they are damaged."""
        if not self._every or (held := read_tensors(self._path)) is None:
            return None
        tensors, facts = held
        step = int(facts.pop("step", "0"))
        if facts != self._belongs or step < 1:
            return None
        self._written = step
        return step, tensors["latents"]

    def refusal(self) -> str | None:
        """Why latents that are there are not gone on from: what is other here than where they
        were made; None where there are none."""
        if not self._every or not (facts := read_facts(self._path)):
            return None
        names = sorted((facts.keys() | self._belongs.keys()) - {"step", SHA256})
        differing = [
            f"{name} {_short(facts.get(name))}, here {_short(self._belongs.get(name))}"
            for name in names
            if facts.get(name) != self._belongs.get(name)
        ]
        return "; ".join(differing) or None

    def offer(self, step: int, latents: Any, *, is_last: bool) -> None:
        """Note that a job can go on from here, and write it once it is time to.

        Args:
            step: steps done.
            latents: after that step; they must not be changed later.
            is_last: whether that was all of them.
        """
        self._latest = (step, latents)
        if self._every and (step - self._written >= self._every or is_last):
            self.write()

    def write(self) -> None:
        """Write where the job can go on from, unless it is on disk already."""
        if self._every and self._latest is not None and self._latest[0] > self._written:
            step, latents = self._latest
            facts = {**self._belongs, "step": str(step)}
            if try_to_write(self._path, {"latents": latents}, facts):
                self._written = step


def _short(value: str | None) -> str:
    """A fact in few characters: hashes are long, and a file's facts are whatever it says."""
    return "none" if value is None else repr(value[:40])
