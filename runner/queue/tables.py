"""The tables of `sweep.db`, and what is read of them in several places."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from ..job import Job, JobState, Series, check_id_and_output
from ..job import record as job_record
from ..job.record import series_record
from ..job.shape import Shape
from ..text.canonical import canonical_json, json_in_order
from .driver import Driver
from .rows import OfJob, WholeRow
from .sqlite import only_where

SCHEMA = "4"
"""Of the tables; a queue of another one is made anew."""

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("category", sa.String, nullable=False),
    sa.Column("group_key", sa.String, nullable=False),
    # Its name; "" where it has none.
    sa.Column("method", sa.String, nullable=False, server_default=""),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("fingerprint", sa.String, nullable=False),
    sa.Column("output", sa.String, nullable=False),
    # What many jobs share stands in `shared` once.
    sa.Column("series", sa.BigInteger, nullable=False),
    sa.Column("alike", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("deaths", sa.Integer, nullable=False, server_default="0"),
    # Of the last failed attempt.
    sa.Column("kind", sa.String),
    sa.Column("error", sa.Text),
    # Not to be claimed before then.
    sa.Column("retry_at", sa.Float),
    sa.Column("seconds", sa.Float),
    sa.Column("finished_at", sa.Float),
    # Size and time of the files by which the state was last judged; see `publish.Disk`.
    sa.Column("files", sa.String),
    # The claim, while the job runs.
    sa.Column("token", sa.String),
    sa.Column("worker", sa.String),
    sa.Column("host", sa.String),
    sa.Column("pid", sa.Integer),
    sa.Column("pid_started", sa.Integer),
    sa.Column("claimed_at", sa.Float),
    sa.Column("lease_until", sa.Float),
    # How often the host's memory had run out before; see `processes.oom_kills`.
    sa.Column("oom_kills", sa.Integer),
    sa.Index(
        "jobs_to_claim", "state", "held", "group_key", "method", "priority", "tries", "position"
    ),
    sa.Index("jobs_by_category", "category", "state", "position"),
)
sa.Index("jobs_by_end", jobs.c.finished_at, **only_where(jobs.c.seconds.is_not(None)))
sa.Index("jobs_by_retry", jobs.c.retry_at, **only_where(jobs.c.retry_at.is_not(None)))

shared = sa.Table(
    "shared",
    metadata,
    sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Text, nullable=False),
)
"""JSON of series (point, group, inputs), and of what they are alike in (parameters, shape), each
once; the key is a hash of it."""

claimable_groups = sa.Table(
    "claimable_groups",
    metadata,
    sa.Column("group_key", sa.String, primary_key=True),
    sa.Column("method", sa.String, primary_key=True),
    sa.Column("priority", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("tried", sa.Boolean, primary_key=True),
    sa.Column("category", sa.String, nullable=False),
    # Of one of its jobs, for a group's jobs stand next to each other.
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("left", sa.Integer, nullable=False),
    sa.Index("groups_in_order", "priority", "tried", "method", "category", "position"),
)
"""How many jobs of each group and method may be claimed; where there are none, there is no row."""

claimable_categories = sa.Table(
    "claimable_categories",
    metadata,
    # In this order, so that a worker finds what is foremost for its method at once.
    sa.Column("priority", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("method", sa.String, primary_key=True),
    sa.Column("tried", sa.Boolean, primary_key=True),
    sa.Column("category", sa.String, primary_key=True),
    sa.Column("left", sa.Integer, nullable=False),
)
"""The same of each category and method."""

workers = sa.Table(
    "workers",
    metadata,
    # The slot's; of its place and devices, what to count by. See `slot_names`.
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("place", sa.String, nullable=False),
    sa.Column("devices", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("pid_started", sa.Integer, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    # What it waits for.
    sa.Column("note", sa.Text),
    # Whose model it has loaded, or loads; null before there is one.
    sa.Column("method", sa.String),
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
    # What its process holds of the GPU's memory.
    sa.Column("gpu_gib", sa.Float),
)

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

_series, _alike = shared.alias(), shared.alias()


def with_series(*names: str) -> sa.Select[Any]:
    """Rows of these columns of `jobs`, and of what `job_of` needs beside them to make jobs."""
    return (
        sa.select(
            *(jobs.c[name] for name in names),
            _series.c.value.label("series_json"),
            _alike.c.value.label("alike_json"),
        )
        # One whose inputs are missing is damage, and not to be passed over.
        .join(_series, _series.c.key == jobs.c.series, isouter=True)
        .join(_alike, _alike.c.key == jobs.c.alike, isouter=True)
    )


def columns_of(kind: type[Any]) -> sa.Select[Any]:
    """The query for rows of a kind that has the columns of `with_series`."""
    (*names, _, _) = kind._fields
    return with_series(*names)


whole_jobs = columns_of(WholeRow)


def whole(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[WholeRow]:
    """The rows of a query that is made of `whole_jobs`."""
    return (WholeRow(*row) for row in connection.execute(query))


is_free = sa.and_(jobs.c.held == sa.false(), jobs.c.retry_at.is_(None))
claimable = sa.and_(jobs.c.state == JobState.PENDING.value, is_free)
"""As `states.is_claimable` says it."""


class SharedValues:
    """Puts what jobs share under keys, in the order of jobs that share it next to each other."""

    def __init__(self) -> None:
        self.new: dict[int, str] = {}
        self._series: Series | None = None
        self._keys = (0, 0)
        self._alike: tuple[object, object, int] = (None, None, 0)

    def keys(self, series: Series) -> tuple[int, int]:
        """The keys of a series, without its parameters and shape, and of these."""
        if series is not self._series:
            parameters, shape, key = self._alike
            if series.parameters is not parameters or series.shape != shape:
                own = {"parameters": series.parameters, "shape": series.shape.to_json()}
                key = self._key(canonical_json(own))
                self._alike = (series.parameters, series.shape, key)
            self._series = series
            self._keys = (self._key(json_in_order(series_record(series))), key)
        return self._keys

    def _key(self, text: str) -> int:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        key = int.from_bytes(digest[:8], "big") >> 1
        self.new[key] = text
        return key


def job_of(row: OfJob) -> Job:
    """The job of a row; jobs share their series.

    Raises:
        ValueError: its id or its path is none.
    """
    check_id_and_output(row.id, row.output)
    series = series_of(row.series_json, row.alike_json)
    return Job(row.id, series, row.seed, row.fingerprint, row.output)


@lru_cache(maxsize=4096)
def series_of(text: str, alike_text: str) -> Series:
    """The series of what stands in `shared` of it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    return job_record.series_of(json.loads(text), *alike_of(alike_text))


def every_series(connection: sa.Connection) -> dict[tuple[int, int], Series]:
    """The series of all jobs, by the two keys that rows have for them."""
    query = sa.select(jobs.c.series, jobs.c.alike).distinct()
    pairs = connection.execute(query).all()
    texts: dict[int, str] = {
        row.key: row.value for row in connection.execute(sa.select(shared.c.key, shared.c.value))
    }
    make = series_of.__wrapped__
    return {(one, own): make(texts[one], texts[own]) for one, own in pairs}


def is_of(driver: Driver, keys: Iterable[tuple[int, int]]) -> sa.ColumnElement[bool]:
    """Whether a job is of one of these series; there may be more than a statement takes values."""
    own = sa.cast(jobs.c.series, sa.Text) + " " + sa.cast(jobs.c.alike, sa.Text)
    return own.in_(driver.listed(f"{one} {alike}" for one, alike in keys))


def every_alike(connection: sa.Connection) -> dict[int, tuple[Mapping[str, Any], Shape]]:
    """The parameters and shapes of jobs, by the key that rows have for both."""
    used = sa.select(jobs.c.alike).distinct()
    query = sa.select(shared.c.key, shared.c.value).where(shared.c.key.in_(used))
    return {row.key: alike_of(row.value) for row in connection.execute(query)}


@lru_cache(maxsize=4096)
def alike_of(text: str) -> tuple[Mapping[str, Any], Shape]:
    """Parameters and shape of what stands in `shared` of them.

    Raises:
        ValueError, KeyError, TypeError: they are none.
    """
    own = json.loads(text)
    return own["parameters"], Shape.from_json(own["shape"])


_GET_META = sa.select(meta.c.value).where(meta.c.key == sa.bindparam("of"))


def get_meta(connection: sa.Connection, key: str) -> str | None:
    value: str | None = connection.execute(_GET_META, {"of": key}).scalar_one_or_none()
    return value


def set_meta(connection: sa.Connection, key: str, value: str) -> None:
    connection.execute(sa.delete(meta).where(meta.c.key == key))
    connection.execute(sa.insert(meta).values(key=key, value=value))


def priorities_in(text: str) -> tuple[str | None, list[Any]]:
    """The axis by which jobs come one before another, and its values in their order.

    Raises:
        ValueError: it is no such text.
    """
    axis, order = json.loads(text)
    if not (axis is None or isinstance(axis, str)) or not isinstance(order, list):
        raise ValueError("no axis with the order of its values")
    return axis, order
