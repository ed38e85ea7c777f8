"""Errors that no verb expects, and whose cause a person can mend all the same."""

from __future__ import annotations

from ..job.failures import is_disk_full, may_be_disk_full
from ..text.errors import UserError


def trouble_behind(error: Exception) -> UserError | None:
    """What is wrong with the machine or the run when a verb ends in an unexpected error: a full
    disk or quota, or a damaged queue among those that this process has opened. None where it is
    something else."""
    if is_disk_full(error) or may_be_disk_full(error):
        told = str(getattr(error, "orig", error))
        return UserError(
            f"the run's sweep.db cannot be written ({told}): the disk, or a quota, is "
            "full; make room (`sweep stop --now` works without)"
        )
    from ..queue.damaged import damage_behind_opened

    return damage_behind_opened(error)
