"""`sweep launch`, `resume` and `stop`: workers come and go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..text.errors import UserError
from ..text.plain_text import plural
from ..text.terminal import print_json, print_lines, say
from .completing import complete_run
from .options import (
    StartOptions,
    gpu_numbers,
    here_option,
    json_option,
    only_option,
    settle_here,
    skip_option,
    split_words,
    start_options,
)
from .until_end import exit_at_end, show_until_end

if TYPE_CHECKING:
    from ..launchers import SlotCommand
    from ..sweeps.launching import Launched


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
    start: StartOptions,
) -> None:
    """Start workers; an experiment file is planned first, a half-finished sweep goes on.

    \b
    sweep launch experiments/quickstart.yaml --wait
    sweep launch experiments/quickstart.yaml --sample 2
    sweep launch quickstart --only video=ref_a seed=42 prompt=0
    """
    from ..sweeps import launching

    settle_here(run, here)
    overrides, part = split_words(words, only)
    launched = launching.launch(
        run,
        overrides,
        only=part,
        sample=sample,
        skip_invalid=skip_invalid,
        how=start.how,
        say=say,
    )
    finish(launched, start)


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
    start: StartOptions,
) -> None:
    """Go on with a sweep as it was planned: what is done stays, what failed is tried again.

    \b
    sweep resume quickstart
    sweep resume quickstart --stale
    sweep resume results/quickstart --here data=/data/motion --here processes_per_gpu=1
    """
    from ..sweeps import launching

    settle_here(run, here)
    overrides, part = split_words(words, only)
    if overrides:
        raise UserError(
            f"{overrides[0]!r}: a run goes on as planned; use `sweep plan FILE KEY=VALUE`"
        )
    finish(launching.resume(run, only=part, stale=stale, how=start.how, say=say), start)


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
    from ..sweeps import stopping

    chosen = None if gpus is None else gpu_numbers("--gpus", gpus)
    stopped = stopping.stop(run, now=now, gpus=chosen, wait=waits)
    name, asked = stopped.run.name, stopped.slots
    if as_json:
        names = [slot.name for slot in asked]
        print_json({"sweep": name, "asked": names, "ended": stopped.ended})
    elif not asked:
        print_lines(f"{name}: no worker is running")
    elif stopped.ended:
        print_lines(f"{name}: {plural(len(asked), 'worker')} ended")
    else:
        workers = plural(len(asked), "worker")
        print_lines(f"{name}: {workers} will end after the job in hand; --now gives it back")


def finish(launched: Launched, start: StartOptions) -> None:
    """Say what was started, and stay until the sweep ends where that is wanted."""
    from ..watch.progress import one_line

    folder, name = launched.run.folder, launched.run.name
    if launched.is_dry_run:
        print_commands(name, launched.commands, as_json=start.as_json)
        return
    if start.how.stop_at is not None:
        told = time.strftime("%Y-%m-%d %H:%M", time.localtime(start.how.stop_at))
        say(f"{name}: no job is begun that would not end before {told}")
    for one in launched.missing:
        say(f"{name}: {one.command.session} did not come up: {one.reason}")
    snapshot, started = launched.snapshot, launched.started
    if started:
        jobs, workers = plural(launched.claimable, "job"), plural(len(started), "worker")
        say(f"{name}: {workers} started on {launched.device} for {jobs}")
        say(f"watch: {launched.watch}   stop: sweep stop {name}")
    elif launched.running:
        there = launched.running
        say(f"{name}: no worker was started, for {there} of its slots are running already")
    elif not launched.claimable:
        for line in launched.at_end:
            say(line)
        say(f"{name}: nothing to do: {one_line(snapshot).partition(': ')[2]}")
    if start.waits and launched.has_workers:
        snapshot = show_until_end(folder)
    if start.as_json:
        print_json({**snapshot.to_json(), "started": started})
    if start.waits or not launched.has_workers:
        exit_at_end(folder, snapshot)


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
