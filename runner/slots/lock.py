"""A slot's lock file: it says that the slot is taken, and by which supervisor.

Supervisor and worker both hold it; the kernel frees it when the last of them is gone.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ..disk.run_folder import open_lock, try_lock
from ..machine.processes import ProcessId
from ..machine.waiting import repeat
from ..text.forms import checked, is_count, is_text
from ..text.input_file import read_json

LOCK_SECONDS = 2.0
"""Others who ask about a lock hold it for a moment."""


_PROCESS = {
    "host": is_text,
    # No negative one: to the kernel that is a group, or everybody.
    "pid": lambda pid: is_count(pid) and 1 < pid < 2**31,
    "started": is_count,
}


class SlotTaken(Exception):
    """Another supervisor, or a worker that outlived its own, has this slot."""


class SlotLock:
    """A slot's lock file, held by this process.

    Attributes:
        descriptors: to be handed to the worker; more than one where the file was deleted and
            made anew.

    Raises:
        SlotTaken: it is held already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.descriptors: list[int] = []
        try:
            self._take()
        except BaseException:
            self.close()
            raise

    def keep(self) -> None:
        """Make the file anew where somebody has deleted it: nobody is to think the slot free.

        Raises:
            SlotTaken: another has made it anew, and holds it.
        """
        try:
            if os.path.samestat(self._path.stat(), os.fstat(self.descriptors[-1])):
                return
        except FileNotFoundError:
            pass
        except OSError:
            # It cannot be looked at for a moment, as on a network file system.
            return
        self._take()

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)

    def _take(self) -> None:
        descriptor = open_lock(self._path)
        self.descriptors.append(descriptor)
        if not repeat(partial(try_lock, descriptor), LOCK_SECONDS):
            raise SlotTaken(self._path.stem)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(asdict(ProcessId.own())).encode())


def supervisor(lock: Path) -> ProcessId | None:
    """The process that wrote itself into a lock file."""
    try:
        return ProcessId(**checked(read_json(lock), _PROCESS))
    except (OSError, ValueError):
        return None
