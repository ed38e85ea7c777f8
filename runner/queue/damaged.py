"""A damaged `sweep.db`: told from every other trouble, and said with what mends it.

SQLite says by itself where it meets a broken page. A value that cannot be, such as a text in the
place of a time, shows as any error of whoever works with it: then the whole queue is examined,
and the error is the queue's where something is found in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from ..errors import UserError

CORRUPT, NOT_A_DATABASE = 11, 26
"""Result codes of SQLite that say it: sqlite.org/rescode.html."""

NOT_OF_THE_FILE = frozenset({3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23})
"""Result codes of what may happen to a whole database: no permission, busy, locked, no memory,
read-only, interrupted, an error of the disk, full, cannot be opened, ..."""

OF_THE_TABLES = (
    "no such table",
    "no such column",
    "has no column named",
    "cannot modify",
    "Could not decode to UTF-8",
    "unsupported file format",
    "malformed",
    "not a database",
)
"""Parts of what SQLite says of a database that is not the queue's, or no database."""

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


def damage_told(error: BaseException) -> str | None:
    """What an error of SQLite, or of SQLAlchemy about one, says is damaged, or None."""
    error = getattr(error, "orig", None) or error
    if not isinstance(error, sqlite3.Error):
        return None
    # The upper bits say more about the same.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = str(error)
    if code in NOT_OF_THE_FILE:
        return None
    if code in (CORRUPT, NOT_A_DATABASE) or any(part in text for part in OF_THE_TABLES):
        return f"is damaged: {text.splitlines()[0] if text else 'SQLite cannot read it'}"
    return None


def damage_behind(path: Path, error: BaseException) -> DamagedQueue | None:
    """The queue's damage that an error comes from, where it comes from one."""
    if isinstance(error, (UserError, OSError, MemoryError)):
        return None
    what = damage_told(error)
    if what is None:
        code = getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", 0) & 0xFF
        if code in NOT_OF_THE_FILE:
            return None
        # It knows the tables, which know this module.
        from .soundness import find_damage

        what = find_damage(path, is_thorough=True)
    return None if what is None else DamagedQueue(path, what)


def damage_behind_opened(error: BaseException) -> DamagedQueue | None:
    """As `damage_behind`, of any of the queues that this process has worked with, last first."""
    found = (damage_behind(path, error) for path in reversed(_opened))
    return next((one for one in found if one is not None), None)


def path_of(engine: sa.Engine) -> Path:
    """The file of an engine's database."""
    return Path(engine.url.database or "")


@contextmanager
def telling_damage(engine: sa.Engine) -> Iterator[None]:
    """Raise DamagedQueue in place of an error that comes from the queue's damage."""
    try:
        yield
    except Exception as error:
        damage = damage_behind(path_of(engine), error)
        if damage is None:
            raise
        raise damage from error
