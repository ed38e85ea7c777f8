"""The tables of `sweep.db`, and how its connections begin their transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .job import Job, canonical_json

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("category", sa.String, nullable=False),
    sa.Column("group_key", sa.String, nullable=False),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False, default=False),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("deaths", sa.Integer, nullable=False, default=0),
    sa.Column("error", sa.Text),
    sa.Column("seconds", sa.Float),
    sa.Column("finished_at", sa.Float),
    # The claim, while the job runs.
    sa.Column("token", sa.String),
    sa.Column("worker", sa.String),
    sa.Column("host", sa.String),
    sa.Column("pid", sa.Integer),
    sa.Column("pid_started", sa.Integer),
    sa.Column("claimed_at", sa.Float),
    sa.Column("lease_until", sa.Float),
    sa.Index("jobs_by_state", "state", "held", "group_key", "position"),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("gpu", sa.Integer, nullable=False),
    sa.Column("process", sa.Integer, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("pid_started", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("job", sa.String),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("steps", sa.Integer, nullable=False, default=0),
    sa.Column("jobs_done", sa.Integer, nullable=False, default=0),
    sa.Column("job_seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("busy_seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("first_claim_at", sa.Float),
    sa.Column("last_end_at", sa.Float),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("beat_at", sa.Float, nullable=False),
)

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

NO_CLAIM: dict[str, Any] = dict.fromkeys(
    ("token", "worker", "host", "pid", "pid_started", "claimed_at", "lease_until")
)

CLEAN_SLATE: dict[str, Any] = {"failures": 0, "deaths": 0, "error": None}


def planned_values(job: Job, position: int) -> dict[str, Any]:
    """The columns of a job's row that its plan decides."""
    return {
        "id": job.id,
        "position": position,
        "category": job.category,
        "group_key": job.group,
        "fingerprint": job.fingerprint,
        "job": canonical_json(job.to_json()),
    }


def open_database(path: Path) -> sa.Engine:
    """An engine on a SQLite file in WAL mode, for many processes and threads at once."""
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(url, connect_args={"timeout": 60, "isolation_level": None})
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def write(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that holds the write lock from its start."""
    options = {"sweep_begin": "BEGIN IMMEDIATE"}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def read(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that sees one state of the database and locks nothing."""
    with engine.connect() as connection, connection.begin():
        yield connection


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # A claim must survive a power cut: a job run by two workers costs more than a flush.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # A write transaction takes its lock at once: one that reads first and writes later
    # would fail with "database is locked" instead of waiting its turn.
    options: Mapping[str, Any] = connection.get_execution_options()
    connection.exec_driver_sql(options.get("sweep_begin", "BEGIN"))
