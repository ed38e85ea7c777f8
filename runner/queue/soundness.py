"""Whether a `sweep.db` is what this version would have written: its files, tables and values.

What examines a file of SQLite speaks SQLite, beside the driver: a database that is damaged is asked
without whatever else the driver does.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from ..disk.run_folder import DATABASE_PARTS, queue_files
from ..job import JobState
from ..job.failures import FailureKind, Policy
from ..job.record import SERIES, is_shape
from ..text.forms import Form, anything, has_form, mapping_of
from .damaged import DamagedQueue, OtherVersion
from .driver import Driver
from .gate import Gate
from .judgement import Trouble
from .sqlite_errors import damage_told
from .tables import (
    SCHEMA,
    claimable,
    claimable_categories,
    claimable_groups,
    get_meta,
    jobs,
    meta,
    metadata,
    priorities_in,
    set_meta,
    workers,
)
from .worker_table import WorkerState, slot_of

LARGE_BYTES = 32 << 20
"""The pages and indexes of a larger database are read only where there is a reason to: that takes
about as long as planning its sweep."""

MOST = 2**53
MOST_SECONDS = 1e12
MOST_PID = 2**31
BUSY_SECONDS = 20.0

EMPTY = "is damaged: it has no jobs"
NOT_SQLITES = "is damaged: its header is not SQLite's"

SMALLEST_BYTES = 512
"""Of a page, and so of a database: sqlite.org/fileformat2.html."""


def parts_of(path: Path) -> list[Path]:
    """The files of a database that are there, itself first; a link counts, wherever it leads."""
    return [one for one in queue_files(path, DATABASE_PARTS) if os.path.lexists(one)]


def foreign_part(path: Path) -> str | None:
    """What is wrong where something else than a file lies in the place of one of a database's:
    SQLite would follow a link out of the run folder, and wait at a pipe."""
    for part in parts_of(path):
        if not stat.S_ISREG(part.lstat().st_mode):
            return f"is damaged: {part.name} is no regular file"
    return None


def no_database(path: Path) -> str | None:
    """What is wrong where a file is too small for a database: to be asked before it is opened, for
    SQLite makes one of a file that is empty or nearly so.

    It is not read: closing a file drops all locks that this process has on it, also those of a
    database that it works with. See sqlite.org/howtocorrupt.html.
    """
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        if size < SMALLEST_BYTES:
            return NOT_SQLITES if size else EMPTY
    return None


def was_closed(path: Path) -> bool:
    """Whether its last user has closed a database: that takes its write-ahead log away."""
    return not os.path.lexists(path.with_name(f"{path.name}-wal"))


def check_tables(driver: Driver, *, create: bool) -> None:
    """Raise DamagedQueue where a database has not this version's tables.

    Args:
        create: whether to make them where it has none.
    """
    if create:
        with driver.write() as connection:
            # The tables of another version stay as they are, to be refused below.
            if not sa.inspect(connection).has_table(meta.name):
                metadata.create_all(connection)
                set_meta(connection, "schema", SCHEMA)
    with driver.read() as connection:
        is_whole = sa.inspect(connection).has_table(meta.name)
        schema = get_meta(connection, "schema") if is_whole else None
    if not is_whole:
        raise DamagedQueue(driver.path, EMPTY)
    if schema != SCHEMA:
        raise OtherVersion(driver.path, _of_version(schema))


def _of_version(schema: object) -> str:
    return f"is of another version (schema {schema!r:.20}, not {SCHEMA})"


def find_damage(path: Path, *, is_thorough: bool = False) -> str | None:
    """What is wrong with a queue, in one line that goes on after its name, or None.

    Tables and values are read; the pages and indexes of a large one only where it was not
    closed, or `is_thorough`.
    """
    try:
        if (foreign := foreign_part(path)) is not None:
            return foreign
        if not path.exists():
            return None
        is_thorough |= not was_closed(path) or path.stat().st_size <= LARGE_BYTES
        if (told := _unknown_format(path)) is not None:
            return told
        # A plain connection would make the file where it is not there.
        name = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(name, uri=True, timeout=BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            return _damage_in(connection, is_thorough=is_thorough)
    except sqlite3.Error as error:
        return damage_told(error)
    except OSError:
        # Not ours to read: that is no damage.
        return None


def _damage_in(connection: sqlite3.Connection, *, is_thorough: bool) -> str | None:
    if (told := _other_tables(connection)) is not None:
        return told
    if is_thorough:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            return f"is damaged: {str(found).splitlines()[-1]}"
        _read_all(connection)
    problems = (
        *(*_values(connection), *_slots(connection)),
        *(*_texts(connection), *_counts(connection)),
    )
    return next((f"is damaged: {problem}" for problem in problems), None)


def _read_all(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.Error where a text is none in UTF-8."""
    for table in metadata.sorted_tables:
        for _ in connection.execute(f"SELECT * FROM {table.name}"):
            pass


def _unknown_format(path: Path) -> str | None:
    """The header says by two bytes how to write; SQLite only reads where it does not know them.
    See sqlite.org/fileformat2.html."""
    with path.open("rb") as file:
        head = file.read(20)
    if head and (len(head) < 20 or not {head[18], head[19]} <= {1, 2}):
        return NOT_SQLITES
    return None


def _other_tables(connection: sqlite3.Connection) -> str | None:
    """What differs from the tables that this version makes; an index more is no difference."""
    made = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    names = {name for kind, name, _ in made if kind == "table"}
    if not names:
        return EMPTY
    if meta.name in names:
        query = "SELECT value FROM meta WHERE key = 'schema'"
        rows = connection.execute(query).fetchall()
        if len(rows) == 1 and rows[0][0] != SCHEMA:
            return _of_version(rows[0][0])
        if not rows:
            return "is damaged: it does not say its version"
    for kind, name, sql in made:
        # Triggers and views are code.
        if kind not in ("table", "index") or "VIRTUAL" in str(sql).upper().split()[:2]:
            return f"is damaged: it has a {kind} {name!r:.40}"
    for table in metadata.sorted_tables:
        if table.name not in names:
            return f"is damaged: it has no table {table.name}"
        columns = connection.execute(f"PRAGMA table_xinfo({table.name})").fetchall()
        if lacking := set(table.columns.keys()) - {name for _, name, *_, hid in columns if not hid}:
            return f"is damaged: its table {table.name} has no column {min(lacking)}"
    return None


def _values(connection: sqlite3.Connection) -> Iterator[str]:
    """What no row of ours has, of each table the first."""
    for table in metadata.sorted_tables:
        wrong = {column.name: _wrong(column) for column in table.columns}
        wrong |= _own_rules(table)
        cases = " ".join(f"WHEN {test} THEN '{name}'" for name, test in wrong.items())
        query = (
            f"SELECT CASE {cases} END AS found FROM {table.name} WHERE found IS NOT NULL LIMIT 1"
        )
        for (found,) in connection.execute(query):
            yield f"a row of {table.name} has no good {found}"


def _wrong(column: sa.Column[Any]) -> str:
    """SQL that is true where a value cannot be in a column."""
    name = f'"{column.name}"'
    if isinstance(column.type, sa.Boolean):
        test = f"typeof({name}) != 'integer' OR {name} NOT IN (0, 1)"
    elif isinstance(column.type, sa.BigInteger):
        test = f"typeof({name}) != 'integer'"
    elif isinstance(column.type, sa.Integer):
        test = f"typeof({name}) != 'integer' OR abs({name}) > {MOST}"
    elif isinstance(column.type, sa.Float):
        test = f"typeof({name}) NOT IN ('integer', 'real') OR abs({name}) > {MOST_SECONDS}"
    else:
        test = f"typeof({name}) != 'text'"
    return f"({name} IS NOT NULL AND ({test}))" if column.nullable else f"({test})"


def _own_rules(table: sa.Table) -> dict[str, str]:
    """SQL that is true where a row breaks a rule of its table, by what is wrong then."""
    if table is jobs:
        segments = "'/' || output"
        return {
            "id (16 hex digits)": "length(id) != 16 OR id GLOB '*[^0-9a-f]*'",
            "output (a path below the run folder)": (
                "output NOT GLOB '?*/?*.mp4' OR instr(output, char(0)) OR instr(output, '//')"
                f" OR {segments} GLOB '*/../*' OR {segments} GLOB '*/./*' OR output GLOB '/*'"
            ),
            "state of a job": f"state NOT IN ({_listed(JobState)})",
            "kind of failure": f"kind IS NOT NULL AND kind NOT IN ({_listed(FailureKind)})",
            "place and number": (
                "position < 0 OR seed < 0 OR tries < 0 OR failures < 0 OR deaths < 0"
            ),
            "claim": (
                f"state = '{JobState.RUNNING.value}' AND (token IS NULL OR worker IS NULL OR host"
                " IS NULL OR pid IS NULL OR pid_started IS NULL OR claimed_at IS NULL OR"
                f" lease_until IS NULL) OR pid NOT BETWEEN 1 AND {MOST_PID}"
            ),
        }
    if table is workers:
        return {
            "state of a worker": f"state NOT IN ({_listed(WorkerState)})",
            "process id": f"pid NOT BETWEEN 1 AND {MOST_PID}",
            "number": "step < 0 OR steps < 0 OR jobs_done < 0",
        }
    return {}


def _listed(states: type[JobState] | type[FailureKind] | type[WorkerState]) -> str:
    return ", ".join(f"'{state.value}'" for state in states)


def _slots(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with the names of workers, and with what is counted by."""
    for name, place, devices in connection.execute("SELECT name, place, devices FROM workers"):
        try:
            slot = slot_of(str(name))
        except ValueError:
            slot = None
        if slot is None or (slot.place, slot.devices.name) != (place, devices):
            yield "a row of workers has no good slot"


def _texts(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with the JSON in the queue, and with who refers to it."""
    for column, form in (("series", SERIES), ("alike", _ALIKE)):
        query = (
            f"SELECT value FROM (SELECT DISTINCT {column} FROM jobs)"
            f" LEFT JOIN shared ON key = {column}"
        )
        for (value,) in connection.execute(query):
            if value is None:
                yield f"a job's {column} is missing"
            elif not has_form(_parsed(value), form):
                yield f"a job's {column} cannot be read"
    for key, value in connection.execute("SELECT key, value FROM meta"):
        try:
            _META.get(key, str)(value)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            yield f"its {key!r:.20} cannot be read"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_ALIKE: Form = {"parameters": mapping_of(anything), "shape": is_shape}
"""Of what stands in `shared` of the jobs that are alike in it."""

_COUNT_CLAIMABLE = str(
    sa.select(jobs.c.method, sa.func.count())
    .where(claimable)
    .group_by(jobs.c.method)
    .compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
)

_META: dict[str, Callable[[str], object]] = {
    "gate": Gate.from_json,
    "policy": Policy.from_json,
    "trouble": Trouble.from_json,
    "priorities": priorities_in,
}


def _counts(connection: sqlite3.Connection) -> Iterator[str]:
    """Workers find the next job by these counts, and would wait for ever by wrong ones."""
    numbers = dict(connection.execute(_COUNT_CLAIMABLE).fetchall())
    for table in (claimable_groups, claimable_categories):
        query = f'SELECT method, sum("left"), min("left") FROM {table.name} GROUP BY method'
        counted = connection.execute(query).fetchall()
        totals = {method: total for method, total, _ in counted}
        if totals != numbers or any(least < 1 for _, _, least in counted):
            yield f"its {table.name} are not those of its jobs"
