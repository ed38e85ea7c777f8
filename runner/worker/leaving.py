"""Why a worker's process ends before its sweep does."""

from __future__ import annotations


class Restart(Exception):
    """This process shall end, and another go on in its slot; says why."""


class Outdated(Restart):
    """The sweep was planned anew with other settings than this worker has loaded."""


class Broken(Exception):
    """The backend can do no further job."""


class LoadFailed(Exception):
    """The model could not be loaded."""
