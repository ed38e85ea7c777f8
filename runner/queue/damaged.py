"""A damaged `sweep.db`: told from every other trouble, and said with what mends it.

SQLite says by itself where it meets a broken page. A value that cannot be, such as a text in the
place of a time, shows as any error of whoever works with it: then the whole queue is examined,
and the error is the queue's where something is found in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..text.errors import UserError
from .sqlite_errors import damage_told, may_happen_to_a_whole_one

_opened: dict[Path, None] = {}


def note_opened(path: Path) -> None:
    """Remember a queue that this process works with, to be examined where it ends in an error."""
    _opened.pop(path, None)
    _opened[path] = None


class DamagedQueue(UserError):
    """A queue that cannot be used as it is, and is made anew from the manifest and the videos.

    Args:
        what: the damage, as it goes on after the file's name.
    """

    def __init__(self, path: Path, what: str) -> None:
        name = path.parent.name
        super().__init__(
            f"{path} {what}; `sweep resume {name}` keeps it under another name and makes it anew "
            f"from the manifest and the videos (while workers run, `sweep stop --now {name}` first)"
        )
        self.path = path
        self.what = what


class OtherVersion(DamagedQueue):
    """A queue of another version: whole it may be, but not for this one to read."""


def damage_behind(path: Path, error: BaseException) -> DamagedQueue | None:
    """The queue's damage that an error comes from, where it comes from one."""
    if isinstance(error, (UserError, OSError, MemoryError)):
        return None
    what = damage_told(error)
    if what is None:
        if may_happen_to_a_whole_one(error):
            return None
        # It knows the tables, which know this module.
        from .soundness import find_damage

        what = find_damage(path, is_thorough=True)
    return None if what is None else DamagedQueue(path, what)


def damage_behind_opened(error: BaseException) -> DamagedQueue | None:
    """As `damage_behind`, of any of the queues that this process has worked with, last first."""
    found = (damage_behind(path, error) for path in reversed(_opened))
    return next((one for one in found if one is not None), None)


@contextmanager
def telling_damage(path: Path) -> Iterator[None]:
    """Raise DamagedQueue in place of an error that comes from the queue's damage."""
    try:
        yield
    except Exception as error:
        damage = damage_behind(path, error)
        if damage is None:
            raise
        raise damage from error
