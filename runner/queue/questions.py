"""What can be asked of the queue: counts, rows, times. Nothing here changes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ..job import CATEGORY, SEED, UNMADE, Alike, InGrid, Job, JobState, Series, is_on
from ..job.failures import FailureKind
from ..job.shape import Shape
from .changes import is_in
from .claim_order import Taste, choose
from .driver import Driver
from .rows import WholeRow
from .tables import claimable, every_alike, every_series, is_of, job_of, jobs, whole, whole_jobs
from .waits import WAITS


@dataclass(frozen=True)
class JobRow:
    """A job as the queue knows it."""

    job: Job
    state: JobState
    held: bool
    failures: int
    deaths: int
    kind: FailureKind | None
    """Of its last failed attempt, as `error` is."""
    error: str | None
    retry_at: float | None
    """Unix seconds before which it is not claimed again."""
    seconds: float | None
    worker: str | None


@dataclass(frozen=True, slots=True)
class PointRow(InGrid):
    """Where in the grid a job stands: what it takes to choose a part of a sweep."""

    id: str
    series: Series
    seed: int


class Questions:
    """The questions; every one is a transaction of its own that locks nothing.

    Attributes:
        driver: of the queue's database.
        clock: tells the queue's time, in Unix seconds.
    """

    def __init__(self, driver: Driver, clock: Callable[[], float]) -> None:
        self.driver = driver
        self.clock = clock

    def counts(self) -> dict[str, dict[JobState, int]]:
        """Number of jobs per category and state, categories in the manifest's order."""
        with self.driver.read() as connection:
            rows = connection.execute(
                sa.select(jobs.c.category, jobs.c.state, sa.func.count())
                .group_by(jobs.c.category, jobs.c.state)
                .order_by(sa.func.min(jobs.c.position))
            ).all()
        counts: dict[str, dict[JobState, int]] = {}
        for category, state, number in rows:
            counts.setdefault(category, {})[JobState(state)] = number
        return counts

    def held(self) -> int:
        """Number of pending jobs outside the part of the sweep that is being run."""
        with self.driver.read() as connection:
            return int(
                connection.execute(
                    sa.select(sa.func.count()).where(
                        is_in(UNMADE),
                        jobs.c.held == sa.true(),
                    )
                ).scalar_one()
            )

    def waiting(self) -> tuple[int, float | None]:
        """How many jobs wait now for their next attempt, and until when the first of them
        does."""
        query = sa.select(sa.func.count(), sa.func.min(jobs.c.retry_at))
        with self.driver.read() as connection:
            row = connection.execute(query.where(WAITS, jobs.c.retry_at > self.clock())).one()
        return int(row[0]), row[1]

    def likely_next(self, taste: Taste) -> Job | None:
        """What such a worker would claim now; nothing keeps another from claiming it first."""
        with self.driver.read() as connection:
            row = choose(connection, taste)
            return None if row is None else job_of(row)

    def open_jobs(self, taste: Taste) -> tuple[int, int]:
        """How many jobs such a worker may claim now, of whatever method it can load, and how many
        may come to be claimable: they run, or wait for their next attempt."""
        own: sa.ColumnElement[bool] = sa.true()
        if taste.kept_in:
            own &= jobs.c.category.in_(taste.kept_in)
        if taste.without:
            own &= jobs.c.method.not_in(taste.without)
        running = (jobs.c.state == JobState.RUNNING.value) | WAITS
        number = sa.select(sa.func.count()).select_from(jobs)
        with self.driver.read() as connection:
            pending: int = connection.execute(number.where(claimable, own)).scalar_one()
            may_return: int = connection.execute(
                number.where(running, jobs.c.held == sa.false(), own)
            ).scalar_one()
        return pending, may_return

    def mean_seconds(self, last: int = 200) -> float | None:
        """Mean seconds of the jobs done last, from claim to publication; loading is not in it."""
        with self.driver.read() as connection:
            recent = (
                sa.select(jobs.c.seconds)
                .where(jobs.c.seconds.is_not(None))
                .order_by(jobs.c.finished_at.desc())
                .limit(last)
                .subquery()
            )
            mean = connection.execute(sa.select(sa.func.avg(recent.c.seconds))).scalar_one()
        return None if mean is None else float(mean)

    def claim_times(self) -> list[float]:
        """Since when each running job runs."""
        with self.driver.read() as connection:
            rows = connection.execute(
                sa.select(jobs.c.claimed_at).where(jobs.c.state == JobState.RUNNING.value)
            ).all()
        return [row.claimed_at for row in rows]

    def left(
        self, states: Collection[JobState], chosen: Collection[str] | None = None
    ) -> dict[str, int]:
        """Number of jobs of these states (of those `chosen`) per category, in order."""
        if chosen is None:
            counts = self.counts()
            found = {c: sum(own.get(state, 0) for state in states) for c, own in counts.items()}
            return {category: number for category, number in found.items() if number}
        query = sa.select(jobs.c.id, jobs.c.category).where(is_in(states)).order_by(jobs.c.position)
        numbers: dict[str, int] = {}
        with self.driver.read() as connection:
            for job_id, category in connection.execute(query):
                if job_id in chosen:
                    numbers[category] = numbers.get(category, 0) + 1
        return numbers

    def points(self) -> list[PointRow]:
        """Where every job of the manifest stands in the grid, in its order."""
        query = (
            sa.select(jobs.c.id, jobs.c.series, jobs.c.alike, jobs.c.seed)
            .where(jobs.c.state != JobState.RETIRED.value)
            .order_by(jobs.c.position)
        )
        with self.driver.read() as connection:
            series = every_series(connection)
            return [
                PointRow(job_id, series[one, own], seed)
                for job_id, one, own, seed in connection.execute(query)
            ]

    def shapes(self) -> set[Shape]:
        """What videos of this sweep must be."""
        with self.driver.read() as connection:
            return {shape for _, shape in every_alike(connection).values()}

    def axis_names(self) -> list[str]:
        """The axes of the grid in which jobs stand, retired ones included."""
        with self.driver.read() as connection:
            found = every_series(connection).values()
        return [*dict.fromkeys(axis for series in found for axis in series.point), SEED]

    def parameter_names(self) -> list[str]:
        """The names of all parameters that jobs have, retired ones included."""
        with self.driver.read() as connection:
            found = every_alike(connection).values()
        return list(dict.fromkeys(name for parameters, _ in found for name in parameters))

    def ids(self, *states: JobState) -> list[str]:
        """The ids of the jobs of these states, in the manifest's order."""
        query = sa.select(jobs.c.id).where(is_in(states)).order_by(jobs.c.position)
        with self.driver.read() as connection:
            return list(connection.execute(query).scalars())

    def made(self) -> Iterator[tuple[str, str, str]]:
        """Id, fingerprint and output of every job that is done."""
        query = sa.select(jobs.c.id, jobs.c.fingerprint, jobs.c.output)
        with self.driver.read() as connection:
            for row in connection.execute(query.where(jobs.c.state == JobState.DONE.value)):
                yield row.id, row.fingerprint, row.output

    def rows(self, *states: JobState) -> list[JobRow]:
        """Jobs of these states (of all, where none is given), in the manifest's order."""
        query = whole_jobs.order_by(jobs.c.position)
        if states:
            query = query.where(is_in(states))
        with self.driver.read() as connection:
            return [_row(row) for row in whole(connection, query)]

    def left_alike(self, states: Collection[JobState]) -> list[Alike]:
        """How many jobs of these states have parameters and shape in common."""
        query = (
            sa.select(jobs.c.alike, sa.func.count())
            .where(is_in(states))
            .group_by(jobs.c.alike)
            .order_by(sa.func.min(jobs.c.position))
        )
        with self.driver.read() as connection:
            own = every_alike(connection)
            return [Alike(*own[key], number) for key, number in connection.execute(query).all()]

    def last_done(
        self, number: int, fits: Callable[[Mapping[str, Any], Shape], bool] | None = None
    ) -> list[Job]:
        """The jobs done last, newest first.

        Args:
            fits: of these parameters and shapes only, and of each pair of them as many.
        """
        query = whole_jobs.where(
            jobs.c.state == JobState.DONE.value, jobs.c.finished_at.is_not(None)
        )
        with self.driver.read() as connection:
            if fits is not None:
                keys = [key for key, own in every_alike(connection).items() if fits(*own)]
                query = query.where(jobs.c.alike.in_(keys))
                if len(keys) > 1:
                    query = query.where(jobs.c.id.in_(_last_of_each(keys, number)))
                    number *= len(keys)
            query = query.order_by(jobs.c.finished_at.desc()).limit(number)
            return [job_of(row) for row in whole(connection, query)]

    def find(
        self,
        *,
        id_start: str | None = None,
        output: str | None = None,
        axes: Mapping[str, Collection[str]] | None = None,
    ) -> list[JobRow]:
        """The jobs, retired ones too, of which all that is given holds, in order.

        Args:
            id_start: the beginning of an id.
            axes: values, as text, per axis of the grid, or parameter.
        """
        query = whole_jobs.order_by(jobs.c.position)
        if id_start is not None:
            query = query.where(jobs.c.id.startswith(id_start, autoescape=True))
        if output is not None:
            query = query.where(jobs.c.output == output)
        with self.driver.read() as connection:
            of_series = dict(axes or {})
            for axis in (CATEGORY, SEED):
                if axis in of_series:
                    own = sa.cast(jobs.c[axis], sa.Text)
                    query = query.where(own.in_(of_series.pop(axis)))
            if of_series:
                keys = [
                    key
                    for key, series in every_series(connection).items()
                    if all(is_on(series, axis, texts) for axis, texts in of_series.items())
                ]
                query = query.where(is_of(self.driver, keys))
            return [_row(row) for row in whole(connection, query)]


def _last_of_each(keys: Collection[int], number: int) -> sa.Select[tuple[str]]:
    """The ids of the jobs done last of each of these keys of parameters and shape."""
    ranked = (
        sa.select(
            jobs.c.id,
            sa.func.row_number()
            .over(partition_by=jobs.c.alike, order_by=jobs.c.finished_at.desc())
            .label("place"),
        )
        .where(jobs.c.state == JobState.DONE.value, jobs.c.finished_at.is_not(None))
        .where(jobs.c.alike.in_(keys))
        .subquery()
    )
    return sa.select(ranked.c.id).where(ranked.c.place <= number)


def _row(row: WholeRow) -> JobRow:
    return JobRow(
        job=job_of(row),
        state=JobState(row.state),
        held=row.held,
        failures=row.failures,
        deaths=row.deaths,
        kind=FailureKind(row.kind) if row.kind else None,
        error=row.error,
        retry_at=row.retry_at,
        seconds=row.seconds,
        worker=row.worker,
    )
