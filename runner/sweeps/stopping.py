"""Stop a sweep's workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..job.slot_names import Slot
from ..slots.stop import stop_workers, wait_until_ended
from .opening import Named, OpenRun, folder_of


@dataclass(frozen=True)
class Stopped:
    """The workers that `stop` has asked to end, and whether all were seen to end."""

    run: OpenRun
    slots: tuple[Slot, ...]
    ended: bool


def stop(
    run: Named, *, now: bool = False, gpus: Sequence[int] | None = None, wait: bool = False
) -> Stopped:
    """Stop a sweep's workers on this host, after the jobs in hand.

    Args:
        now: give these jobs back in place of finishing them, and stay until all have ended.
        gpus: only the workers of these GPUs; the others go on.
        wait: stay until they have ended.

    Raises:
        UserError: there is no such run, or a worker cannot be reached from here.
    """
    folder = folder_of(run)
    asked = stop_workers(folder, now=now, gpus=gpus)
    ended = wait_until_ended(folder, asked) if now or wait else False
    return Stopped(OpenRun(folder), tuple(asked), ended)
