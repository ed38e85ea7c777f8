"""What an error of SQLite says of the database: that it is damaged, or what may happen to any."""

from __future__ import annotations

import sqlite3

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


def may_happen_to_a_whole_one(error: BaseException) -> bool:
    """Whether an error of SQLite, or of SQLAlchemy about one, says nothing of the file."""
    return _code(getattr(error, "orig", None) or error) in NOT_OF_THE_FILE


def damage_told(error: BaseException) -> str | None:
    """What an error of SQLite, or of SQLAlchemy about one, says is damaged, or None."""
    error = getattr(error, "orig", None) or error
    if not isinstance(error, sqlite3.Error) or may_happen_to_a_whole_one(error):
        return None
    text = str(error)
    if _code(error) in (CORRUPT, NOT_A_DATABASE) or any(part in text for part in OF_THE_TABLES):
        return f"is damaged: {text.splitlines()[0] if text else 'SQLite cannot read it'}"
    return None


def _code(error: BaseException) -> int:
    """The result code, 0 where there is none; its upper bits say more about the same."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
