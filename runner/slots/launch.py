"""Launching: which slots to start for a run on this machine, and waiting for its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..disk.logs import why_ended
from ..disk.run_folder import RunFolder, is_locked
from ..experiment.device import check_backend
from ..experiment.experiment import Experiment
from ..job import UNMADE, JobState
from ..job.slot_names import Devices, Slot, slots
from ..launchers import Launcher, SlotCommand, slot_command, view_command
from ..machine.gpus import GpuWish, choose_gpus, find_gpus
from ..machine.processes import share_of_cores
from ..plan.placement import home_categories
from ..plan.plan import select, slots_needed
from ..queue import Queue
from ..queue.worker_table import WorkerState
from ..runs.borrowed import BorrowedQueue
from ..runs.links import Linked, link_before_a_launch
from ..runs.runs import live_slots, open_queue, take_back
from ..text.errors import UserError
from ..watch.progress import Snapshot, take_snapshot
from .at_end import EndCommands

WAIT_SECONDS = 0.5
POLL_SECONDS = 0.02
START_SECONDS = 30.0
LEAVING_SECONDS = 20.0
"""Within this time a process ends whose worker has said that it ends."""


@dataclass(frozen=True)
class SweepPart:
    """A part of a sweep: values per axis, and the most jobs per category (`sample`)."""

    only: Mapping[str, Sequence[str]]
    sample: int | None


@dataclass(frozen=True)
class Launch:
    """What a launch is to start.

    `claimable` is the number of jobs that wait for workers, `running` are the slots that are at
    work already. `experiment` is the run's own, as it was planned. `gpus` are the GPUs that the
    command line names; None where it names none.
    """

    run: RunFolder
    experiment: Experiment
    device: str
    claimable: int
    chosen: set[str] | None
    running: tuple[Slot, ...]
    commands: tuple[SlotCommand, ...]
    left_out: tuple[str, ...]
    gpus: tuple[int, ...] | None


@dataclass(frozen=True)
class NotUp:
    """A slot that was to be started and has not come up, with the reason as far as it is known."""

    command: SlotCommand
    reason: str


@dataclass(frozen=True)
class Unattended:
    """What a launch sets for the time when nobody watches.

    `max_failures` is as in `Policy`; with None the experiment's own holds. `stop_at` is in Unix
    seconds. `at_end` is None where no commands for the end were given.
    """

    max_failures: float | None = None
    stop_at: float | None = None
    at_end: EndCommands | None = None


@dataclass(frozen=True)
class Narrowing:
    """What the command line says of GPUs: `gpus` in place of the experiment's, where given."""

    gpus: tuple[int, ...] | None = None
    exclude: frozenset[int] = frozenset()
    min_free_gib: float = 0.0


def plan_launch(
    experiment: Experiment,
    queue: Queue,
    chosen: set[str] | None,
    narrowing: Narrowing,
    *,
    retry: Sequence[JobState],
) -> Launch:
    """Work out what to start; nothing is started or changed.

    Workers that run already go on, whatever GPUs are named now.

    Args:
        experiment: as it was planned.
        chosen: the ids of the part of the sweep to be made; None stands for all of it.
        retry: states whose jobs get another chance.

    Raises:
        UserError: this machine lacks a GPU, a checkpoint file or a package that is needed.
    """
    run, placement = experiment.run_folder, experiment.placement
    gpus = find_gpus()
    running = sorted({*live_slots(run), *working_slots(queue)})
    wish = GpuWish(
        placement.gpus if narrowing.gpus is None else narrowing.gpus,
        f"{run.experiment}: placement.gpus" if narrowing.gpus is None else "--gpus",
        narrowing.exclude,
        narrowing.min_free_gib,
        frozenset(slot.devices.gpu for slot in running),
    )
    choice = choose_gpus(wish, gpus)
    device = check_backend(experiment, gpus)
    left = queue.left({*UNMADE, JobState.RUNNING, *retry}, chosen)
    # Beside GPUs that are at work already, new ones begin where these have most left.
    in_use = sorted({*choice.numbers, *(slot.devices.gpu for slot in running)})
    home = home_categories(left, in_use, placement.assign)
    if placement.balance == "static":
        refuse_homeless(experiment, left, home)
    wanted = slots(choice.numbers, placement.processes_per_gpu)
    claimable = sum(left.values())
    if placement.balance == "steal":
        wanted = slots_needed(wanted, claimable)
    workers = len({*wanted, *running})
    threads = share_of_cores(max(workers, 1))
    commands = tuple(
        slot_command(run, slot, device=device, threads=threads, home=home[slot.devices.gpu])
        for slot in wanted
        if slot not in running
        and claimable
        and (placement.balance == "steal" or home[slot.devices.gpu])
    )
    if commands:
        refuse_absent_data(experiment)
    return Launch(
        run,
        experiment,
        device,
        claimable,
        chosen,
        tuple(running),
        commands,
        choice.left_out,
        narrowing.gpus,
    )


def working_slots(queue: Queue) -> list[Slot]:
    """The slots whose worker is alive by its own reports, without a look at lock files: somebody
    may have deleted those, and a supervisor needs up to a second to make them anew.

    Reports from before this machine was last started, or from another machine that had the run
    folder, do not count.
    """
    rows = [row for row in queue.workers.rows() if not row.state.has_ended]
    return [row.slot for row in rows if row.process.is_here and not row.process.is_gone()]


def refuse_absent_data(experiment: Experiment) -> None:
    """Raise UserError where the reference clips' folder is not here, as on another machine: every
    job would fail."""
    leading = experiment.input_axes.leading
    source = experiment.dataset.source(leading)
    if source is None:
        return
    folder = experiment.data / source
    if not folder.is_dir():
        raise UserError(
            f"{experiment.file}: dataset.{leading.key}: no such folder: {folder}; where "
            f"{source} lies elsewhere here, say --here data=FOLDER"
        )


def choose_part(experiment: Experiment, queue: Queue, part: SweepPart) -> set[str] | None:
    """The ids of a part of the sweep; None stands for all of it.

    Raises:
        UserError: the part is empty.
    """
    if not part.only and part.sample is None:
        return None
    try:
        chosen = select(queue.points(), part.only, part.sample, experiment.unsaid)
    except UserError as error:
        raise UserError(f"--only {error}") from None
    if not chosen:
        raise UserError(f"{experiment.name}: no job matches {describe_part(part)}")
    return chosen


def link_first(
    experiment: Experiment, queue: Queue, chosen: set[str] | None, *, retry: Sequence[JobState]
) -> list[Linked]:
    """Link videos that this launch would make and that other runs have made since the plan. With
    `reuse: false` in the experiment it does nothing.

    Args:
        chosen: the ids of the part of the sweep to be made; None stands for all of it.
        retry: states whose jobs get another chance.
    """
    if not experiment.reuse:
        return []
    return link_before_a_launch(experiment.run_folder, queue, {*UNMADE, *retry}, chosen)


def refuse_homeless(
    experiment: Experiment, jobs: Iterable[str], home: Mapping[int, Sequence[str]]
) -> None:
    """Raise UserError for a category whose GPUs take no part: with static balance its jobs would
    wait for ever."""
    for category in jobs:
        if not any(category in own for own in home.values()):
            raise UserError(
                f"{experiment.file}: placement.assign: {category} belongs to GPU "
                f"{', '.join(map(str, experiment.placement.assign[category]))}, which takes no "
                "part, and with balance: static no other takes its jobs"
            )


def describe_part(part: SweepPart) -> str:
    words = [f"{axis}={value}" for axis, values in part.only.items() for value in values]
    return " ".join(words) or f"a sample of {part.sample}"


def start(
    launch: Launch,
    queue: Queue,
    launcher: Launcher,
    unattended: Unattended,
    *,
    retry: Sequence[JobState],
) -> list[NotUp]:
    """Start what was worked out, and let workers that run already take part in it.

    Returns:
        The slots that have not come up.

    Raises:
        UserError: the launcher cannot start one.
    """
    launcher.check(launch.commands)
    if retry:
        queue.retry(retry, launch.chosen)
        queue.end_waiting()
    queue.hold_all_but(launch.chosen)
    queue.reopen(None if launch.gpus is None else [Devices.of(gpu) for gpu in launch.gpus])
    queue.workers.forget_ended()
    attend(launch, queue, unattended)
    if not launch.commands:
        return []
    lengths = {command: log_length(command.log) for command in launch.commands}
    launcher.start(launch.commands)
    missing = wait_for_slots(launcher, lengths)
    launcher.start_view(view_command(launch.run))
    return missing


def attend(launch: Launch, queue: Queue, unattended: Unattended) -> None:
    """Write down what this launch sets for the time when nobody watches. While workers run already,
    what it does not set stays as it was."""
    if unattended.max_failures is not None or not launch.running:
        policy = launch.experiment.policy
        if unattended.max_failures is not None:
            policy = replace(policy, max_failures=unattended.max_failures)
        queue.set_policy(policy)
    if unattended.stop_at is not None or not launch.running:
        queue.stop_at(unattended.stop_at)
    if unattended.at_end is not None or not launch.running:
        (unattended.at_end or EndCommands()).keep(launch.run)


def prioritise(experiment: Experiment, queue: Queue, axis: str | None) -> None:
    """Have jobs claimed in the order of the experiment's values of an axis.

    Args:
        axis: its name; None is the axis that was named before.

    Raises:
        UserError: the sweep has no such axis.
    """
    if axis is None:
        return
    seeds = experiment.seeds or list(dict.fromkeys(point.seed for point in queue.points()))
    orders: dict[str, Sequence[Any]] = {
        "category": list(queue.counts()),
        "seed": seeds,
        **experiment.axes,
    }
    inputs = [one.name for one in experiment.input_axes.inputs]
    if axis in inputs:
        values = (point.on(axis) for point in queue.points())
        orders[axis] = sorted({value for value in values if value is not None})
    if axis not in orders:
        valid = dict.fromkeys((*experiment.input_axes.names, *orders))
        raise UserError(f"--priority {axis}: must be one of {', '.join(valid)}")
    usual = [own[axis] for own in experiment.unsaid.values() if axis in own]
    # A job that does not say its value has None of it in the queue.
    queue.prioritise(axis, [None if value in usual else value for value in orders[axis]])


def wait_for_leaving(run: RunFolder, queue: Queue) -> None:
    """Wait a moment for slots whose workers have ended but whose processes are still there: they
    would be taken for workers that go on."""
    ends = time.monotonic() + LEAVING_SECONDS
    while time.monotonic() < ends:
        rows = queue.workers.rows()
        stopped = {row.slot for row in rows if row.state is WorkerState.STOPPED}
        if not stopped.intersection(live_slots(run)):
            return
        time.sleep(POLL_SECONDS)


def wait_for_slots(launcher: Launcher, lengths: Mapping[SlotCommand, int]) -> list[NotUp]:
    """Wait until every started slot holds its lock, so that progress and stop know of it.

    Args:
        lengths: of each slot's log before it was started, in bytes.

    Returns:
        The slots that have ended before, or do not hold it after `START_SECONDS`.
    """
    ends = time.monotonic() + START_SECONDS
    waiting, missing = list(lengths), []
    while waiting and time.monotonic() < ends:
        waiting = [command for command in waiting if not is_locked(command.lock)]
        for command in [command for command in waiting if launcher.has_ended(command)]:
            waiting.remove(command)
            # One that found nothing left to do has come up all the same.
            if (log_length(command.log) == lengths[command]) or why_ended(
                command.log, lengths[command]
            ):
                missing.append(command)
        time.sleep(POLL_SECONDS)
    return [NotUp(one, _why_not_up(one, lengths[one])) for one in (*missing, *waiting)]


def _why_not_up(command: SlotCommand, length: int) -> str:
    """The reason, followed by the path of the log where the log has more."""
    if log_length(command.log) <= length:
        return "it said nothing"
    return f"{why_ended(command.log, length) or 'it gave no reason'}; see {command.log}"


def log_length(path: Path) -> int:
    """The length of a log in bytes; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def copied_again(run: RunFolder, former: Queue) -> Queue:
    """A copy of the queue as it is now, of a run that is not ours to write."""
    former.close()
    begin = time.monotonic()
    queue = open_queue(run)
    time.sleep(4 * (time.monotonic() - begin))
    return queue


def wait(run: RunFolder, show: Callable[[Snapshot], object]) -> Snapshot:
    """Show snapshots until no slot is alive any more; return the last one."""
    queue = open_queue(run)
    try:
        while live_slots(run):
            show(take_snapshot(run.name, queue))
            time.sleep(WAIT_SECONDS)
            if isinstance(queue, BorrowedQueue):
                queue = copied_again(run, queue)
        take_back(run, queue)
        last = take_snapshot(run.name, queue)
        show(last)
        return last
    finally:
        queue.close()
