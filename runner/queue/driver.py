"""What the queue asks of a database: the contract of its drivers.

Statements are written with SQLAlchemy, and mean the same to every database. What does not is asked
of the driver.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import sqlalchemy as sa

from ..machine.waiting import Waiting


class Cursor(Protocol):
    """What a statement leads to, as DB-API 2.0 (PEP 249) has it."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Driver(ABC):
    """One queue's database, for many threads of this process and many other processes at once.

    Args:
        path: where the queue lies in its run folder.
        waiting: how long to wait for other writers.

    Attributes:
        name: of the kind of database.
        dialect: of SQLAlchemy, with parameters that are named.
        errors: what is raised where the database cannot be used now, whole as it may be: no room,
            not ours to write.
    """

    name: ClassVar[str]
    dialect: ClassVar[sa.Dialect]
    errors: ClassVar[tuple[type[Exception], ...]]

    path: Path

    @abstractmethod
    def __init__(self, path: Path, waiting: Waiting) -> None: ...

    @abstractmethod
    def read(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that sees one state of the database, whatever is written meanwhile, and
        keeps nobody from writing.

        Raises:
            DamagedQueue: the database is damaged.
        """

    @abstractmethod
    def write(
        self, *, durable: bool = True, waiting: Waiting | None = None
    ) -> AbstractContextManager[sa.Connection]:
        """A transaction that nobody else writes beside: what it reads stays so until it ends.

        It happens as a whole or, where an exception leaves it, not at all. Once it has ended,
        every transaction that begins sees it, and a crash of any process loses nothing of it.

        Args:
            durable: whether it must survive a power cut as well.
            waiting: for other writers, in place of what the driver was opened with.

        Raises:
            Busy: others write for longer than this one waits.
            DamagedQueue: the database is damaged.
        """

    @abstractmethod
    def execute(self, connection: sa.Connection, text: str, values: Mapping[str, Any]) -> Cursor:
        """Run a statement that is compiled for `dialect`, with values that are plain: text,
        numbers, None. What comes back is plain too: a truth value may be 0 or 1.

        Raises:
            sqlalchemy.exc.DBAPIError: as for every other statement.
        """

    @abstractmethod
    def listed(self, values: Iterable[int] | Iterable[str]) -> sa.Select[Any]:
        """These values as rows to select from, for `IN`; more than a statement takes parameters."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection; what is used again opens a new one."""


DRIVER = "driver"


def driver_of(connection: sa.Connection) -> Driver:
    """The driver that a connection is of; it says so in `connection.info`."""
    # Past two properties of SQLAlchemy, since it is asked at every prepared statement.
    driver: Driver = connection.connection.info[DRIVER]
    return driver
