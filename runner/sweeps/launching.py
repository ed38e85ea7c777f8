"""Start workers, go on with a sweep, and wait for its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ..disk.run_folder import RunFolder, locked
from ..disk.run_id import ensure_run_id
from ..doctor.guard import guard
from ..experiment.experiment import Experiment
from ..experiment.loading import load_experiment
from ..job import JobState
from ..job.failures import failures_allowed
from ..job.shape import Shape
from ..launchers import Launcher, SlotCommand, launcher
from ..queue import Queue
from ..runs.links import linked_line
from ..runs.runs import mending, open_queue
from ..slots.at_end import EndCommands, run_end_commands
from ..slots.launch import (
    Launch,
    Narrowing,
    NotUp,
    SweepPart,
    Unattended,
    attend,
    choose_part,
    link_first,
    plan_launch,
    prioritise,
    start,
    wait_for_leaving,
)
from ..slots.launch import wait as wait_for_end
from ..text.errors import UserError
from ..text.plain_text import plural
from ..watch.progress import Snapshot, take_snapshot
from .opening import Named, OpenRun, experiment_file, folder_of, texts_by_axis
from .planned import plan_sweep
from .telling import Say, silent


@dataclass(frozen=True)
class How:
    """How workers are started.

    Attributes:
        gpus: these GPUs, in place of the experiment's.
        exclude_gpus: GPUs to leave alone.
        min_free_gib: take only GPUs with at least this much free memory, in GiB.
        priority: an axis; all jobs of one of its values are begun before those of the next.
        on: the launcher, `tmux` or `local` (detached processes).
        max_failures: the sweep stops once this number of jobs has failed (`20`), or this share of
            all (`"5%"`); with None, what the experiment says holds.
        stop_at: Unix seconds; no job is begun that would not end by then.
        on_finish: an argument list, run when the sweep has ended, with the summary on its standard
            input.
        on_failure: the same, run before it where the sweep has ended badly.
        dry_run: start nothing, and say what would be started.

    Raises:
        UserError: `max_failures` is neither a number nor a share.
    """

    gpus: Sequence[int] | None = None
    exclude_gpus: Sequence[int] = ()
    min_free_gib: float = 0.0
    priority: str | None = None
    on: str = "tmux"
    max_failures: float | str | None = None
    stop_at: float | None = None
    on_finish: Sequence[str] = ()
    on_failure: Sequence[str] = ()
    dry_run: bool = False

    def __post_init__(self) -> None:
        try:
            failures_allowed(self.max_failures)
        except ValueError as error:
            raise UserError(f"--max-failures {self.max_failures!r}: {error}") from None

    @property
    def narrowing(self) -> Narrowing:
        gpus = None if self.gpus is None else tuple(self.gpus)
        return Narrowing(gpus, frozenset(self.exclude_gpus), self.min_free_gib)

    @property
    def unattended(self) -> Unattended:
        commands = None
        if self.on_finish or self.on_failure:
            commands = EndCommands(tuple(self.on_finish), tuple(self.on_failure))
        return Unattended(failures_allowed(self.max_failures), self.stop_at, commands)


@dataclass(frozen=True)
class Launched:
    """What a launch has started, or in a dry run would start.

    Attributes:
        snapshot: where the sweep stood just after it.
        device: `cuda` or `cpu`.
        claimable: how many jobs wait for workers.
        running: how many slots were at work already.
        commands: what was to be started.
        missing: what of this has not come up.
        at_end: where the sweep had ended already, what the commands for its end said.
        watch: what a person types to watch the sweep.
    """

    run: OpenRun
    is_dry_run: bool
    snapshot: Snapshot
    device: str
    claimable: int
    running: int
    commands: tuple[SlotCommand, ...]
    missing: tuple[NotUp, ...]
    at_end: tuple[str, ...]
    watch: str

    @property
    def started(self) -> list[str]:
        """The sessions of the workers that were started."""
        absent = [one.command for one in self.missing]
        commands = () if self.is_dry_run else self.commands
        return [command.session for command in commands if command not in absent]

    @property
    def has_workers(self) -> bool:
        """Whether any worker is there to wait for."""
        return bool(self.started or self.running)


def launch(
    run: Named,
    overrides: Sequence[str] = (),
    *,
    only: Mapping[str, Any] | None = None,
    sample: int | None = None,
    skip_invalid: bool = False,
    how: How | None = None,
    say: Say = silent,
) -> Launched:
    """Start workers. An experiment file is planned first; a half-finished sweep goes on.

    It returns once the workers have come up; `wait` stays until the sweep ends.

    Args:
        overrides: as for `plan`; only with an experiment file.
        only: a part of the sweep, by values of its axes: `{"seed": 42, "video": ["a", "b"]}`.
        sample: the most jobs to make per category.
        skip_invalid: leave clips out that cannot be used.
        say: told what was linked or left out, and what may go wrong while nobody watches.

    Raises:
        UserError: there is no such run; the experiment is wrong, or differs from the run that it
            has planned; this machine lacks what is needed; or the part of the sweep is empty.
    """
    if (file := experiment_file(run)) is not None:
        planned = mending(
            lambda: plan_sweep(
                file, overrides, skip_invalid=skip_invalid, take_changes=bool(overrides)
            )
        )
        for line in planned.left_out:
            say(f"left out: {line}")
        if planned.linked:
            say(f"linked: {plural(len(planned.linked), 'video')} made already")
        folder = planned.run
    elif overrides:
        raise UserError(
            f"{overrides[0]!r}: overrides go with an experiment file, not with a planned run; "
            f"`sweep plan FILE {overrides[0]}` takes one in"
        )
    else:
        folder = folder_of(run)
    return _start_workers(folder, SweepPart(texts_by_axis(only), sample), how or How(), [], say)


def resume(
    run: Named,
    *,
    only: Mapping[str, Any] | None = None,
    stale: bool = False,
    how: How | None = None,
    say: Say = silent,
) -> Launched:
    """Go on with a sweep as it was planned: what is done stays, what failed is tried again.

    Args:
        only: as for `launch`.
        stale: also remake videos whose inputs have changed.
        say: as for `launch`.

    Raises:
        UserError: as `launch`, but for the experiment's file.
    """
    retry = [JobState.FAILED, JobState.STALE] if stale else [JobState.FAILED]
    part = SweepPart(texts_by_axis(only), None)
    return _start_workers(folder_of(run), part, how or How(), retry, say)


def wait(run: Named, show: Callable[[Snapshot], object] = lambda _: None) -> Snapshot:
    """Stay until no worker of a sweep is left on this host.

    Args:
        show: told twice a second where it stands.

    Returns:
        Where it stands then.
    """
    return wait_for_end(folder_of(run), show)


@dataclass(frozen=True)
class _Begun:
    """A launch under way, and the queue that it works with."""

    queue: Queue
    launch: Launch
    missing: tuple[NotUp, ...] = ()


def _start_workers(
    folder: RunFolder, part: SweepPart, how: How, retry: Sequence[JobState], say: Say
) -> Launched:
    """Start workers for a part of a planned run; jobs of the states `retry` get another chance."""
    chosen = launcher(how.on)
    with locked(folder.plan_lock):
        # A run that was planned before there were ids has none.
        ensure_run_id(folder)
    # One launch at a time: a second one sees what the first has started.
    with locked(folder.launch_lock):
        begun = mending(lambda: _begin(folder, part, how, chosen, retry, say))
    with closing(begun.queue) as queue:
        snapshot = take_snapshot(folder.name, queue)
    started = begun.launch
    at_end: list[str] = []
    is_idle = not (started.commands or started.running or started.claimable)
    if is_idle and not how.dry_run:
        run_end_commands(folder, at_end.append)
    return Launched(
        run=OpenRun(folder),
        is_dry_run=how.dry_run,
        snapshot=snapshot,
        device=started.device,
        claimable=started.claimable,
        running=len(started.running),
        commands=started.commands,
        missing=begun.missing,
        at_end=tuple(at_end),
        watch=chosen.view_hint(folder),
    )


def _begin(
    folder: RunFolder,
    part: SweepPart,
    how: How,
    chosen: Launcher,
    retry: Sequence[JobState],
    say: Say,
) -> _Begun:
    """Start the workers, unless it is a dry run."""
    queue = open_queue(folder, look_at_disk=True, is_mending=True)
    try:
        experiment = load_experiment(folder.experiment)
        wanted = choose_part(experiment, queue, part)
        if not how.dry_run and (linked := link_first(experiment, queue, wanted, retry=retry)):
            say(f"{folder.name}: {linked_line(linked)}")
        wait_for_leaving(folder, queue)
        launch = plan_launch(experiment, queue, wanted, how.narrowing, retry=retry)
        for line in launch.left_out:
            say(f"left out: {line}")
        if launch.commands:
            _warn(launch.experiment, launch.claimable, queue.shapes(), say)
        if how.dry_run:
            chosen.check(launch.commands)
            return _Begun(queue, launch)
        prioritise(launch.experiment, queue, how.priority)
        if launch.claimable:
            missing = start(launch, queue, chosen, how.unattended, retry=retry)
            return _Begun(queue, launch, tuple(missing))
        if not launch.running:
            # A former stop by hand is over.
            queue.reopen()
        attend(launch, queue, how.unattended)
        return _Begun(queue, launch)
    except BaseException:
        queue.close()
        raise


def _warn(experiment: Experiment, jobs: int, shapes: Iterable[Shape], say: Say) -> None:
    """Say what may go wrong while nobody watches this launch."""
    for finding in guard(experiment, jobs, shapes):
        say(f"warning: {finding.name}: {finding.what}; {finding.remedy}")
