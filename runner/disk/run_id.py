"""`run.id`: which run a folder is, wherever it lies now.

A folder that was moved away, deleted or put in another's place under running workers is not
theirs any more, whatever its path says.
"""

from __future__ import annotations

import uuid

from ..text.input_file import NotAnInput, read_input
from .run_folder import RunFolder, write_atomically

ID_BYTES = 100


def run_id(run: RunFolder) -> str | None:
    """The run's uuid, or None where the folder has none.

    Raises:
        OSError: it cannot be read now.
    """
    if run.id.is_dir():
        # A category of that name, of a run that had it before the name was reserved.
        return f"{run.id.name}/"
    try:
        return read_input(run.id, ID_BYTES).decode("ascii", "replace").strip() or None
    except (FileNotFoundError, NotADirectoryError, NotAnInput):
        return None


def ensure_run_id(run: RunFolder) -> None:
    """Give a run folder its id, unless it has one; under the plan lock."""
    if run_id(run) is None:
        write_atomically(run.id, f"{uuid.uuid4()}\n".encode())


def is_still(run: RunFolder, known: str | None) -> bool:
    """Whether at the path of a run folder there still is the run of that id. One that cannot be
    read for a moment, as on a network file system, counts as there."""
    try:
        return run_id(run) == known
    except OSError:
        return True
