"""Why a worker's process ends before its sweep does."""

from __future__ import annotations


class Restart(Exception):
    """This process is to end and another one to go on in its slot; the message says why."""


class Outdated(Restart):
    """The sweep was planned anew with other settings than this worker has loaded."""


class Broken(Exception):
    """The backend can make no further job."""


class LoadFailed(Exception):
    """The model could not be loaded."""
