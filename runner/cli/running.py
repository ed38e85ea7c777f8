"""`sweep launch`, `resume` and `stop`: workers come and go."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UserError
from ..terminal import exit_at_end, plural, print_json, print_lines, say, show_until_end
from .completing import complete_run
from .options import (
    How,
    gpu_numbers,
    here_option,
    json_option,
    only_option,
    settle_here,
    skip_option,
    split_words,
    start_options,
)

if TYPE_CHECKING:
    from ..experiment import Experiment
    from ..job import JobState
    from ..launch import Launch, NotUp, Part
    from ..launchers import Launcher, SlotCommand
    from ..queue import Queue
    from ..run_folder import RunFolder
    from ..shape import Shape


@click.command(short_help="Start workers, or go on with a sweep.")
@click.argument("run", shell_complete=complete_run)
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@only_option
@click.option("--sample", type=click.IntRange(min=1), help="Run so many jobs per category.")
@skip_option
@here_option
@start_options
def launch(
    run: str,
    words: tuple[str, ...],
    only: tuple[str, ...],
    sample: int | None,
    skip_invalid: bool,
    here: tuple[str, ...],
    how: How,
) -> None:
    """Start workers; an experiment file is planned first, a half-finished sweep goes on.

    \b
    sweep launch experiments/quickstart.yaml --wait
    sweep launch experiments/quickstart.yaml --sample 2
    sweep launch quickstart --only video=ref_a seed=42 prompt=0
    """
    from ..runs import find_run, is_experiment_file, mending
    from ..sweep import plan_sweep

    settle_here(run, here)
    overrides, part = split_words(words, only, sample)
    if is_experiment_file(run):
        planned = mending(
            lambda: plan_sweep(
                Path(run), overrides, skip_invalid=skip_invalid, take_changes=bool(overrides)
            )
        )
        for line in planned.left_out:
            say(f"left out: {line}")
        if planned.linked:
            say(f"linked: {plural(len(planned.linked), 'video')} made already")
        folder = planned.run
    else:
        if overrides:
            raise UserError(
                f"{overrides[0]!r}: overrides go with an experiment file, not with a planned run; "
                f"`sweep plan FILE {overrides[0]}` takes one in"
            )
        folder = find_run(run)
    start_workers(folder, part, how, retry=[])


@click.command(short_help="Go on, and try again what has failed.")
@click.argument("run", shell_complete=complete_run)
@only_option
@click.argument("words", nargs=-1, metavar="[AXIS=VALUE]...")
@click.option("--stale", is_flag=True, help="Also remake videos whose inputs have changed.")
@here_option
@start_options
def resume(
    run: str,
    only: tuple[str, ...],
    words: tuple[str, ...],
    stale: bool,
    here: tuple[str, ...],
    how: How,
) -> None:
    """Go on with a sweep as it was planned: what is done stays, what failed is tried again.

    \b
    sweep resume quickstart
    sweep resume quickstart --stale
    sweep resume results/quickstart --here data=/data/motion --here processes_per_gpu=1
    """
    from ..job import JobState
    from ..runs import find_run

    settle_here(run, here)
    overrides, part = split_words(words, only, None)
    if overrides:
        raise UserError(
            f"{overrides[0]!r}: a run goes on as planned; use `sweep plan FILE KEY=VALUE`"
        )
    retry = [JobState.FAILED, JobState.STALE] if stale else [JobState.FAILED]
    start_workers(find_run(run), part, how, retry=retry)


@click.command(short_help="Stop workers, after their jobs or at once.")
@click.argument("run", shell_complete=complete_run)
@click.option("--now", is_flag=True, help="Give jobs back instead of finishing them.")
@click.option("--gpus", metavar="0,1", help="Only the workers of these GPUs; the rest go on.")
@click.option("--wait", "waits", is_flag=True, help="Stay until every worker has ended.")
@json_option
def stop(run: str, now: bool, gpus: str | None, waits: bool, as_json: bool) -> None:
    """Stop a sweep's workers, after their jobs or at once.

    \b
    sweep stop quickstart
    sweep stop quickstart --now
    sweep stop quickstart --gpus 3
    """
    from ..runs import find_run
    from ..stop import stop_workers, wait_until_ended

    folder = find_run(run)
    chosen = None if gpus is None else gpu_numbers("--gpus", gpus)
    asked = stop_workers(folder, now=now, gpus=chosen)
    ended = wait_until_ended(folder, asked) if now or waits else False
    if as_json:
        print_json({"sweep": folder.name, "asked": [slot.name for slot in asked], "ended": ended})
    elif not asked:
        print_lines(f"{folder.name}: no worker is running")
    elif ended:
        print_lines(f"{folder.name}: {plural(len(asked), 'worker')} ended")
    else:
        workers = plural(len(asked), "worker")
        print_lines(f"{folder.name}: {workers} will end after the job in hand; --now gives it back")


def start_workers(folder: RunFolder, part: Part, how: How, *, retry: Sequence[JobState]) -> None:
    """Start workers for a part of a planned run; jobs of the states `retry` get another chance."""
    from ..at_end import run_end_commands
    from ..launchers import launcher
    from ..progress import one_line, take_snapshot
    from ..run_folder import locked
    from ..run_id import ensure_run_id
    from ..runs import mending

    name = folder.name
    chosen = launcher(how.on)
    # One launch at a time: a second one sees what the first has started.
    with locked(folder.plan_lock):
        # A run that was planned before there were ids has none.
        ensure_run_id(folder)
    with locked(folder.launch_lock):
        begun = mending(lambda: begin(folder, part, how, chosen, retry=retry))
    if begun is None:
        return
    queue, launch, missing = begun
    if (until := how.unattended.stop_at) is not None:
        told = time.strftime("%Y-%m-%d %H:%M", time.localtime(until))
        say(f"{name}: no job is begun that would not end before {told}")
    for one in missing:
        say(f"{name}: {one.command.session} did not come up: {one.reason}")
    snapshot = take_snapshot(name, queue)
    running, started = len(launch.running), len(launch.commands) - len(missing)
    if started:
        jobs = plural(launch.claimable, "job")
        say(f"{name}: {plural(started, 'worker')} started on {launch.device} for {jobs}")
        say(f"watch: {chosen.view_hint(folder)}   stop: sweep stop {name}")
    elif running:
        say(f"{name}: no worker was started, for {running} of its slots are running already")
    elif not launch.claimable:
        run_end_commands(folder, say)
        say(f"{name}: nothing to do: {one_line(snapshot).partition(': ')[2]}")
    if how.waits and (started or running):
        snapshot = show_until_end(folder)
    if how.as_json:
        absent = [one.command for one in missing]
        names = [command.session for command in launch.commands if command not in absent]
        print_json({**snapshot.to_json(), "started": names})
    if how.waits or not (started or running):
        exit_at_end(folder, snapshot)


def begin(
    folder: RunFolder, part: Part, how: How, chosen: Launcher, *, retry: Sequence[JobState]
) -> tuple[Queue, Launch, list[NotUp]] | None:
    """Start the workers: the queue, what was launched, and the commands whose slots have not come
    up; None after a dry run, which prints what would be started."""
    from ..launch import attend, link_first, plan_launch, prioritise, start, wait_for_leaving
    from ..links import linked_line
    from ..runs import open_queue

    name = folder.name
    queue = open_queue(folder, look_at_disk=True, is_mending=True)
    if not how.dry_run and (linked := link_first(folder, queue, part, retry=retry)):
        say(f"{name}: {linked_line(linked)}")
    wait_for_leaving(folder, queue)
    launch = plan_launch(folder, queue, part, how.narrowing, retry=retry)
    for line in launch.left_out:
        say(f"left out: {line}")
    if launch.commands:
        warn(launch.experiment, launch.claimable, queue.shapes())
    if how.dry_run:
        chosen.check(launch.commands)
        print_commands(name, launch.commands, as_json=how.as_json)
        return None
    prioritise(launch.experiment, queue, how.priority)
    if launch.claimable:
        return queue, launch, start(launch, queue, chosen, how.unattended, retry=retry)
    if not launch.running:
        # A former stop by hand is over.
        queue.reopen()
    attend(launch, queue, how.unattended)
    return queue, launch, []


def warn(experiment: Experiment, jobs: int, shapes: Iterable[Shape]) -> None:
    """Say what may cost the night that this launch is left alone for."""
    from ..doctor.guard import guard

    for finding in guard(experiment, jobs, shapes):
        say(f"warning: {finding.name}: {finding.what}; {finding.remedy}")


def print_commands(name: str, commands: Sequence[SlotCommand], *, as_json: bool) -> None:
    """What a dry run would start."""
    if as_json:
        answer = [{"session": c.session, "argv": list(c.argv)} for c in commands]
        print_json({"sweep": name, "would_start": answer})
        return
    for command in commands:
        print_lines(str(command))
    if not commands:
        say(f"{name}: nothing would be started")
