"""The verbs: parse, call, print. Exit status 0, 1 (failed or broken), 2 (wrong), 130."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from .errors import UserError
from .terminal import (
    exit_at_end,
    exit_with_failures,
    plural,
    print_json,
    say,
    show_until_end,
)

if TYPE_CHECKING:
    from .launch import Narrowing, Part
    from .launchers import SlotCommand
    from .run_folder import RunFolder

AXES = ("category", "video", "prompt", "seed")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout.")
on_option = click.option(
    "--on", default="tmux", show_default=True, help="Launcher: tmux, or local (detached)."
)
wait_option = click.option("--wait", "waits", is_flag=True, help="Stay until the sweep ends.")
gpus_option = click.option("--gpus", metavar="0,1", help="These GPUs, not the experiment's.")
exclude_option = click.option("--exclude-gpus", metavar="2,3", help="Leave these GPUs alone.")
free_option = click.option(
    "--min-free-gb", type=float, default=0.0, help="Only GPUs with so many GiB free."
)
priority_option = click.option(
    "--priority",
    type=click.Choice(["category", "seed"]),
    help="Finish one category, or one seed, before the next.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would be started.")
skip_option = click.option(
    "--skip-invalid", is_flag=True, help="Leave out clips that cannot be used, and say which."
)


class Verbs(click.Group):
    """The commands in the order in which a person meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sweep-runner", message="sweep %(version)s")
def cli() -> None:
    """Run sweeps of generated videos over many GPUs.

    RUN is an experiment file, a run folder, or a sweep's name.
    """


@cli.command(short_help="Expand an experiment, and say what it will take.")
@click.argument("experiment", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@skip_option
@json_option
def plan(experiment: Path, overrides: tuple[str, ...], skip_invalid: bool, as_json: bool) -> None:
    """Expand an experiment into jobs, and say what the sweep will take.

    \b
    sweep plan experiments/quickstart.yaml
    sweep plan experiments/quickstart.yaml seeds=[1,2,3] generation.num_inference_steps=20
    """
    from .gpus import Wish, choose_gpus, find_gpus
    from .plan import estimate
    from .plan_view import plan_json, print_plan
    from .sweep import plan_sweep

    planned = plan_sweep(experiment, overrides, skip_invalid=skip_invalid, take_changes=True)
    gpus = find_gpus()
    placement = planned.experiment.placement
    # A sweep may be planned away from its GPUs: only `launch` insists that they are there.
    wish = Wish(placement.gpus, f"{experiment}: placement.gpus")
    choice = choose_gpus(wish, gpus if placement.gpus == "auto" else [])
    backend = planned.experiment.make_backend()
    result = estimate(
        planned.experiment,
        planned.manifest.jobs,
        choice.numbers,
        backend.peak_memory(planned.experiment.generation),
        min((gpu.memory_gib for gpu in gpus), default=None),
    )
    if as_json:
        print_json({**plan_json(planned, result), "gpus_left_out": list(choice.left_out)})
    else:
        for line in choice.left_out:
            say(f"left out: {line}")
        print_plan(planned, result)


@cli.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--only", multiple=True, metavar="AXIS=VALUE", help="Run only these jobs.")
@click.option("--sample", type=click.IntRange(min=1), help="Run so many jobs per category.")
@gpus_option
@exclude_option
@free_option
@priority_option
@on_option
@wait_option
@dry_run_option
@skip_option
@json_option
def launch(
    run: str,
    words: tuple[str, ...],
    only: tuple[str, ...],
    sample: int | None,
    gpus: str | None,
    exclude_gpus: str | None,
    min_free_gb: float,
    priority: Literal["category", "seed"] | None,
    on: str,
    waits: bool,
    dry_run: bool,
    skip_invalid: bool,
    as_json: bool,
) -> None:
    """Start workers; an experiment file is planned first, a half-finished sweep goes on.

    \b
    sweep launch experiments/quickstart.yaml --wait
    sweep launch experiments/quickstart.yaml --sample 2
    sweep launch quickstart --only video=ref_a seed=42 prompt=0
    """
    from .sweep import find_run, is_experiment_file, plan_sweep

    overrides, part = split_words(words, only, sample)
    narrowing = narrow(gpus, exclude_gpus, min_free_gb)
    if is_experiment_file(run):
        planned = plan_sweep(
            Path(run), overrides, skip_invalid=skip_invalid, take_changes=bool(overrides)
        )
        for line in planned.left_out:
            say(f"left out: {line}")
        folder = planned.run
    else:
        if overrides:
            raise UserError(
                f"{overrides[0]!r}: overrides go with an experiment file, not with a planned run; "
                f"`sweep plan FILE {overrides[0]}` takes one in"
            )
        folder = find_run(run)
    start_workers(
        folder,
        part,
        narrowing,
        priority,
        on,
        waits=waits,
        dry_run=dry_run,
        as_json=as_json,
        retry=False,
    )


@cli.command()
@click.argument("run")
@click.option("--watch", is_flag=True, help="Refresh in place until the sweep ends.")
@json_option
def progress(run: str, watch: bool, as_json: bool) -> None:
    """Show where a sweep stands."""
    from rich.console import Console

    from .progress import take_snapshot
    from .progress_view import print_view
    from .sweep import find_run, live_slots, open_queue, take_back

    folder = find_run(run)
    if watch:
        if not live_slots(folder):
            say(f"{folder.name}: no worker is running")
        snapshot = show_until_end(folder, on_stdout=not as_json)
    else:
        queue = open_queue(folder)
        take_back(folder, queue)
        snapshot = take_snapshot(folder.name, queue)
    if as_json:
        print_json(snapshot.to_json())
    elif not watch:
        print_view(snapshot, Console())
    exit_with_failures(folder, snapshot)


@cli.command()
@click.argument("run")
@click.option("--only", multiple=True, metavar="AXIS=VALUE", help="Run only these jobs.")
@click.argument("words", nargs=-1, metavar="[AXIS=VALUE]...")
@click.option("--stale", is_flag=True, help="Also remake videos whose inputs have changed.")
@gpus_option
@exclude_option
@free_option
@priority_option
@on_option
@wait_option
@dry_run_option
@json_option
def resume(
    run: str,
    only: tuple[str, ...],
    words: tuple[str, ...],
    stale: bool,
    gpus: str | None,
    exclude_gpus: str | None,
    min_free_gb: float,
    priority: Literal["category", "seed"] | None,
    on: str,
    waits: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Go on with a sweep as it was planned: what is done stays, what failed is tried again."""
    from .sweep import find_run

    overrides, part = split_words(words, only, None)
    if overrides:
        raise UserError(
            f"{overrides[0]!r}: a run goes on as planned; use `sweep plan FILE KEY=VALUE`"
        )
    start_workers(
        find_run(run),
        part,
        narrow(gpus, exclude_gpus, min_free_gb),
        priority,
        on,
        waits=waits,
        dry_run=dry_run,
        as_json=as_json,
        retry=True,
        stale=stale,
    )


@cli.command()
@click.argument("run")
@click.option("--now", is_flag=True, help="Give jobs back instead of finishing them.")
@click.option("--gpus", metavar="0,1", help="Only the workers of these GPUs; the rest go on.")
@click.option("--wait", "waits", is_flag=True, help="Stay until every worker has ended.")
@json_option
def stop(run: str, now: bool, gpus: str | None, waits: bool, as_json: bool) -> None:
    """Stop a sweep's workers, after their jobs or at once."""
    from .stop import stop_workers, wait_until_ended
    from .sweep import find_run

    folder = find_run(run)
    chosen = None if gpus is None else numbers("--gpus", gpus)
    asked = stop_workers(folder, now=now, gpus=chosen)
    ended = wait_until_ended(folder, asked) if now or waits else False
    if as_json:
        print_json({"sweep": folder.name, "asked": [slot.name for slot in asked], "ended": ended})
    elif not asked:
        click.echo(f"{folder.name}: no worker is running")
    elif ended:
        click.echo(f"{folder.name}: {plural(len(asked), 'worker')} ended")
    else:
        workers = plural(len(asked), "worker")
        click.echo(f"{folder.name}: {workers} will end after the job in hand; --now gives it back")


@cli.command()
@click.argument("run")
@click.argument("worker", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are written.")
@click.option("-n", "--lines", default=20, show_default=True, type=click.IntRange(min=0))
@json_option
def logs(run: str, worker: str | None, follow: bool, lines: int, as_json: bool) -> None:
    """Show or follow workers' logs, such as `sweep logs quickstart gpu0_process0 -f`."""
    from .logs import choose_logs, follow_logs, last_lines
    from .sweep import find_run

    paths = choose_logs(find_run(run), worker)
    if as_json:
        print_json(
            [{"worker": p.stem, "path": str(p), "lines": last_lines(p, lines)} for p in paths]
        )
        return
    for path in paths:
        if len(paths) > 1:
            click.echo(f"==> {path.stem} <==")
        for line in last_lines(path, lines):
            click.echo(line)
    if follow:
        follow_logs(paths, click.echo)


@cli.command()
@click.argument("run")
@json_option
def verify(run: str, as_json: bool) -> None:
    """Check every finished video: size, sha256, and a strict decoding of every frame.

    What is found broken is moved to superseded/, so that `sweep resume` makes it again.
    """
    from tqdm import tqdm

    from .job import JobState
    from .sweep import find_run, open_queue
    from .verify import verify as verify_rows

    folder = find_run(run)
    queue = open_queue(folder)
    rows = [row for row in queue.rows() if row.state is not JobState.RETIRED]
    finished = [row for row in rows if row.state in (JobState.DONE, JobState.STALE)]
    with tqdm(total=len(finished), unit="video", disable=None) as bar:
        verdicts = verify_rows(folder, finished, lambda _: bar.update())
    broken = [verdict for verdict in verdicts if verdict.problem is not None]
    if broken:
        queue.close()
        open_queue(folder, look_at_disk=True).close()
    unmade = len(rows) - len(finished)
    if as_json:
        bad = [{"job": v.job.id, "video": v.job.output, "problem": v.problem} for v in broken]
        good = len(finished) - len(broken)
        print_json({"sweep": folder.name, "good": good, "unmade": unmade, "broken": bad})
    else:
        for verdict in broken:
            click.echo(f"{verdict.job.output}: {verdict.problem}")
        click.echo(
            f"{folder.name}: {len(finished) - len(broken)} good, {len(broken)} broken or missing, "
            f"{unmade} not made yet"
        )
        if broken:
            click.echo(f"`sweep resume {folder.name}` makes the broken ones again")
    if broken:
        sys.exit(1)


# What several verbs share.


def split_words(
    words: Sequence[str], only: Sequence[str], sample: int | None
) -> tuple[list[str], Part]:
    """Tell overrides from the axes that follow --only: no experiment key is called as an axis."""
    from .launch import Part

    selectors = list(only)
    overrides = []
    for word in words:
        if only and word.partition("=")[0] in AXES:
            selectors.append(word)
        elif word.partition("=")[0] in AXES:
            raise UserError(f"{word!r}: to run a part of a sweep, say --only {word}")
        else:
            overrides.append(word)
    values: dict[str, list[str]] = {}
    for selector in selectors:
        axis, equals, value = selector.partition("=")
        if axis not in AXES or not equals:
            raise UserError(f"--only {selector!r}: must be AXIS=VALUE (axes: {', '.join(AXES)})")
        values.setdefault(axis, []).append(value)
    return overrides, Part(values, sample)


def narrow(gpus: str | None, exclude: str | None, min_free_gb: float) -> Narrowing:
    from .launch import Narrowing

    return Narrowing(
        None if gpus is None else numbers("--gpus", gpus),
        frozenset(numbers("--exclude-gpus", exclude or "")),
        min_free_gb,
    )


def numbers(option: str, text: str) -> tuple[int, ...]:
    """GPU numbers as written on the command line: 0,1 or 0 1."""
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() for word in words):
        raise UserError(f"{option} {text!r}: must be GPU numbers such as 0,1")
    return tuple(dict.fromkeys(int(word) for word in words))


def start_workers(
    folder: RunFolder,
    part: Part,
    narrowing: Narrowing,
    priority: Literal["category", "seed"] | None,
    on: str,
    *,
    waits: bool,
    dry_run: bool,
    as_json: bool,
    retry: bool,
    stale: bool = False,
) -> None:
    from .job import JobState
    from .launch import plan_launch, prioritise, start
    from .launchers import launcher
    from .progress import one_line, take_snapshot
    from .run_folder import locked
    from .sweep import open_queue

    name = folder.name
    chosen = launcher(on)
    states = [JobState.FAILED] * retry + [JobState.STALE] * stale
    # One launch at a time: a second one sees what the first has started.
    with locked(folder.launch_lock):
        queue = open_queue(folder, look_at_disk=True)
        launch = plan_launch(folder, queue, part, narrowing, retry=states)
        for line in launch.left_out:
            say(f"left out: {line}")
        if dry_run:
            chosen.check(launch.commands)
            print_commands(name, launch.commands, as_json=as_json)
            return
        if priority is not None:
            prioritise(folder, queue, priority)
        missing = start(launch, queue, chosen, retry=states) if launch.claimable else []
    for command in missing:
        say(f"{name}: {command.session} did not come up; see {command.log}")
    snapshot = take_snapshot(name, queue)
    running, started = len(launch.running), len(launch.commands) - len(missing)
    if started:
        jobs = plural(launch.claimable, "job")
        say(f"{name}: {plural(started, 'worker')} started on {launch.device} for {jobs}")
        say(f"watch: {chosen.view_hint(folder)}   stop: sweep stop {name}")
    elif running:
        say(f"{name}: no worker was started, for {running} of its slots are running already")
    elif not launch.claimable:
        say(f"{name}: nothing to do: {one_line(snapshot).partition(': ')[2]}")
    if waits and (started or running):
        snapshot = show_until_end(folder)
    if as_json:
        names = [command.session for command in launch.commands if command not in missing]
        print_json({**snapshot.to_json(), "started": names})
    if waits or not (started or running):
        exit_at_end(folder, snapshot)


def print_commands(name: str, commands: Sequence[SlotCommand], *, as_json: bool) -> None:
    """What a dry run would start."""
    if as_json:
        answer = [
            {"session": c.session, "argv": list(c.argv), "environment": dict(c.environment)}
            for c in commands
        ]
        print_json({"sweep": name, "would_start": answer})
        return
    for command in commands:
        click.echo(str(command))
    if not commands:
        say(f"{name}: nothing would be started")


def main(words: Sequence[str] | None = None) -> None:
    """Run `sweep` with these words, by default the process's own, and exit."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8, or a file name that is not, must not end a command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = cli.main(words, prog_name="sweep", standalone_mode=False)
    except UserError as error:
        say(f"sweep: {error}")
        status = 2
    except click.ClickException as error:
        say(f"sweep: {error.format_message()}")
        status = 2
    except OSError as error:
        # A path that the file system refuses: too long, not a folder, not ours to write.
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has seen enough (`sweep logs ... | head`).
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        say(f"sweep: {error.filename or 'a file'}: {error.strerror or error}")
        status = 2
    except (KeyboardInterrupt, click.Abort):
        status = 130
    sys.exit(status)
