"""Statements that are run for every job, compiled once and handed to the driver as they are.

SQLAlchemy makes a context, looks types up and tells its listeners at each execution, which costs
several times what SQLite takes; where 16 workers share two cores, that decides how long a claim
takes. The statements are still written with SQLAlchemy, and their transactions are its own.

Their parameters have names, and none is a list. Values go to the driver unchanged, so they must be
plain: text, numbers, None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from .driver import Cursor, Driver, driver_of

Row = TypeVar("Row", bound=NamedTuple)


class _Statement:
    """A statement, compiled for a driver when it is first run there."""

    def __init__(self, statement: sa.ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, dict[str, Any]]] = {}

    def _execute(self, connection: sa.Connection, values: Mapping[str, Any]) -> Cursor:
        driver = driver_of(connection)
        text, constants = self._compiled.get(driver.name) or self._compile(driver)
        return driver.execute(connection, text, {**constants, **values})

    def _compile(self, driver: Driver) -> tuple[str, dict[str, Any]]:
        """The text, and the values that stand in the statement itself."""
        compiled: Any = self._statement.compile(dialect=driver.dialect)
        constants = {n: bind.value for n, bind in compiled.binds.items() if not bind.required}
        self._compiled[driver.name] = (str(compiled), constants)
        return self._compiled[driver.name]


class PreparedQuery(_Statement, Generic[Row]):
    """A SELECT.

    Args:
        kind: what its rows are; it has the columns' names, in their order.
    """

    def __init__(self, kind: type[Row], query: sa.Select[Any]) -> None:
        super().__init__(query)
        columns = tuple(query.selected_columns.keys())
        assert columns == kind._fields, (columns, kind._fields)
        self._kind = kind

    def all(self, connection: sa.Connection, values: Mapping[str, Any]) -> list[Row]:
        """Every row."""
        make: Any = self._kind
        return [make(*row) for row in self._execute(connection, values).fetchall()]

    def first(self, connection: sa.Connection, values: Mapping[str, Any]) -> Row | None:
        """The first row, or None."""
        row = self._execute(connection, values).fetchone()
        make: Any = self._kind
        return None if row is None else make(*row)


class PreparedChange(_Statement):
    """An INSERT, UPDATE or DELETE.

    Args:
        columns: of an UPDATE, those that get a value at each run, each from the parameter of
            its own name.
    """

    def __init__(
        self, statement: sa.Insert | sa.Update | sa.Delete, columns: Iterable[str] = ()
    ) -> None:
        if columns:
            assert isinstance(statement, sa.Update)
            statement = statement.values({name: sa.bindparam(name) for name in columns})
        super().__init__(statement)

    def run(self, connection: sa.Connection, values: Mapping[str, Any]) -> int:
        """Run it; returns the number of rows it concerned."""
        return self._execute(connection, values).rowcount
