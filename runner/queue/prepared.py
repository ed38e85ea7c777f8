"""Statements that are run for every job, compiled once and handed to SQLite's driver as they are.

SQLAlchemy makes a context, looks types up and tells its listeners at each execution, which costs
several times what SQLite takes; where 16 workers share two cores, that decides how long a claim
takes. The statements are still written with SQLAlchemy, and their transactions are its own.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

_DIALECT = sqlite.dialect(paramstyle="named")


class Prepared:
    """A statement with named parameters, none of them a list; compiled when first run.

    Values go to the driver unchanged, so they must be plain: text, numbers, None. What comes
    back are rows with the columns as attributes, in which a truth value is 0 or 1.

    Args:
        columns: of an UPDATE, those that get a value at each run, each from the parameter of
            its own name.
    """

    def __init__(self, statement: sa.Executable, columns: Iterable[str] = ()) -> None:
        if columns:
            assert isinstance(statement, sa.Update)
            statement = statement.values({name: sa.bindparam(name) for name in columns})
        self._statement = statement

    def all(self, connection: sa.Connection, values: Mapping[str, Any]) -> list[Any]:
        """Every row of a SELECT."""
        return [self._row(*row) for row in self._execute(connection, values)]

    def first(self, connection: sa.Connection, values: Mapping[str, Any]) -> Any:
        """The first row of a SELECT, or None."""
        row = self._execute(connection, values).fetchone()
        return None if row is None else self._row(*row)

    def change(self, connection: sa.Connection, values: Mapping[str, Any]) -> int:
        """Run an INSERT, UPDATE or DELETE; returns the number of rows it concerned."""
        return self._execute(connection, values).rowcount

    def _execute(self, connection: sa.Connection, values: Mapping[str, Any]) -> sqlite3.Cursor:
        text, constants = self._compiled
        driver: Any = connection.connection.dbapi_connection
        try:
            cursor: sqlite3.Cursor = driver.execute(text, {**constants, **values})
        except sqlite3.Error as error:
            # As everywhere else: what is caught around a transaction is one family of errors.
            raise sa.exc.DBAPIError.instance(text, dict(values), error, sqlite3.Error) from error
        return cursor

    @cached_property
    def _compiled(self) -> tuple[str, dict[str, Any]]:
        """The text, and the values that stand in the statement itself."""
        compiled = self._statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]
        constants = {n: bind.value for n, bind in compiled.binds.items() if not bind.required}
        return str(compiled), constants

    @cached_property
    def _row(self) -> Any:
        columns = self._statement.selected_columns  # type: ignore[attr-defined]
        return namedtuple("Row", [column.key for column in columns])
