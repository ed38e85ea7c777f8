"""The queue in SQLite: one file in WAL mode, and a line of those who write to it beside.

Nothing else speaks SQLite but `soundness`, which examines such a file, and `sqlite_errors`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ..machine.waiting import Waiting
from .damaged import telling_damage
from .driver import DRIVER, Driver
from .line import Line

READ_SECONDS = 20.0
"""A reader waits only for a process that repairs the database after a crash."""

CACHE_KIB = 65536
"""The indexes of a million jobs, so that planning them does not write pages twice."""

LINE = "line"


class Sqlite(Driver):
    name = "sqlite"
    dialect = sqlite.dialect(paramstyle="named")
    errors = (sa.exc.OperationalError, sqlite3.OperationalError)

    def __init__(self, path: Path, waiting: Waiting) -> None:
        self.path = path
        url = sa.URL.create("sqlite", database=str(path))
        # The connection begins no transaction by itself. Two statements of its own begin each, and
        # not an event of SQLAlchemy's, which would cost more than what most transactions here do.
        settings = {"timeout": READ_SECONDS, "isolation_level": None}
        self._engine = sa.create_engine(url, connect_args=settings)
        sa.event.listen(self._engine, "connect", partial(self._configure, waiting))
        sa.event.listen(self._engine, "close", _close)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with telling_damage(self.path), self._engine.connect() as connection:
            _raw(connection).execute("BEGIN")
            with connection.begin():
                yield connection

    @contextmanager
    def write(
        self, *, durable: bool = True, waiting: Waiting | None = None
    ) -> Iterator[sa.Connection]:
        with telling_damage(self.path), self._engine.connect() as connection:
            raw = _raw(connection)
            line: Line = connection.info[LINE]
            if not durable:
                raw.execute("PRAGMA synchronous=NORMAL")
            try:
                # Others that do not stand in line may have it, such as a person's sqlite3.
                with line.turn(partial(_begin, raw), waiting), connection.begin():
                    yield connection
            finally:
                if not durable:
                    raw.execute("PRAGMA synchronous=FULL")

    def execute(
        self, connection: sa.Connection, text: str, values: Mapping[str, Any]
    ) -> sqlite3.Cursor:
        try:
            return _raw(connection).execute(text, values)
        except sqlite3.Error as error:
            # As everywhere else: what is caught around a transaction is one family of errors.
            raise sa.exc.DBAPIError.instance(text, dict(values), error, sqlite3.Error) from error

    def listed(self, values: Iterable[int] | Iterable[str]) -> sa.Select[Any]:
        each = sa.func.json_each(json.dumps(list(values))).table_valued("value")
        return sa.select(each.c.value)

    def _configure(self, waiting: Waiting, raw: sqlite3.Connection, record: Any) -> None:
        record.info[LINE] = Line(self.path, waiting)
        record.info[DRIVER] = self
        cursor = raw.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # A claim must survive a power cut: a job run by two workers costs more than a flush.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        cursor.close()


def only_where(condition: sa.ColumnElement[bool]) -> dict[str, Any]:
    """The arguments of an index over the rows for which this holds."""
    return {"sqlite_where": condition}


def _raw(connection: sa.Connection) -> sqlite3.Connection:
    raw: Any = connection.connection.dbapi_connection
    return raw  # type: ignore[no-any-return]


def _close(_connection: Any, record: Any) -> None:
    record.info.pop(LINE).close()


def _begin(raw: sqlite3.Connection) -> bool:
    """Begin a transaction that holds the write lock from its start; False where another has it.

    One that reads first and writes later would fail with "database is locked" instead of
    waiting its turn.
    """
    raw.execute("PRAGMA busy_timeout=0")
    try:
        raw.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
    finally:
        raw.execute(f"PRAGMA busy_timeout={READ_SECONDS * 1000:.0f}")
    return True
