"""What several verbs share of their words: options, and how they are read."""

from __future__ import annotations

import functools
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ..job.axes import EVERY_NAME
from ..job.slot_names import LARGEST_NUMBER_IN_NAME, is_number
from ..text.errors import UserError
from ..text.terminal import say
from .completing import complete_part

if TYPE_CHECKING:
    from ..sweeps.launching import How

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON value on stdout.")
skip_option = click.option(
    "--skip-invalid", is_flag=True, help="Leave out clips that cannot be used, and say which."
)
only_option = click.option(
    "--only",
    multiple=True,
    metavar="AXIS=VALUE",
    help="Run only these jobs.",
    shell_complete=complete_part,
)

here_option = click.option(
    "--here",
    multiple=True,
    metavar="KEY=VALUE",
    help="What differs on this machine, kept in its machine.yaml: checkpoints, data, results, "
    "gpus, processes_per_gpu.",
)


def settle_here(run: str, words: Sequence[str]) -> None:
    """Keep what `--here` says for the project of an experiment file or a run."""
    from ..sweeps.opening import keep_here

    if words:
        say(f"kept in {keep_here(run, words)}")


@dataclass(frozen=True)
class StartOptions:
    """What `launch` and `resume` have in common: how workers are started, and what is done then."""

    how: How
    waits: bool
    as_json: bool


_START_OPTIONS = (
    click.option("--gpus", metavar="0,1", help="These GPUs, not the experiment's."),
    click.option("--exclude-gpus", metavar="2,3", help="Leave these GPUs alone."),
    click.option("--min-free-gb", type=float, default=0.0, help="Only GPUs with so many GiB free."),
    click.option(
        "--priority",
        metavar="AXIS",
        help="Finish one category, prompt number, seed or value of a parameter axis before the "
        "next.",
    ),
    click.option(
        "--on", default="tmux", show_default=True, help="Launcher: tmux, or local (detached)."
    ),
    click.option("--wait", "waits", is_flag=True, help="Stay until the sweep ends."),
    click.option(
        "--max-failures", metavar="N|N%", help="So many failed jobs, or such a share, stop it all."
    ),
    click.option(
        "--stop-at", metavar="HH:MM", help="Start no job that would not end by then (next time)."
    ),
    click.option("--on-finish", metavar="COMMAND", help="Run at the end, the summary on stdin."),
    click.option("--on-failure", metavar="COMMAND", help="Run first, where it ended badly."),
    click.option("--dry-run", is_flag=True, help="Print what would be started."),
    json_option,
)


def start_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options that say how workers are started, as one argument `start`."""

    @functools.wraps(verb)
    def with_start(
        *,
        gpus: str | None,
        exclude_gpus: str | None,
        min_free_gb: float,
        priority: str | None,
        max_failures: str | None,
        stop_at: str | None,
        on_finish: str | None,
        on_failure: str | None,
        on: str,
        waits: bool,
        dry_run: bool,
        as_json: bool,
        **own: Any,
    ) -> None:
        from ..sweeps.launching import How

        how = How(
            gpus=None if gpus is None else gpu_numbers("--gpus", gpus),
            exclude_gpus=gpu_numbers("--exclude-gpus", exclude_gpus or ""),
            min_free_gib=min_free_gb,
            priority=priority,
            on=on,
            max_failures=max_failures,
            stop_at=None if stop_at is None else moment(stop_at),
            on_finish=argument_list("--on-finish", on_finish),
            on_failure=argument_list("--on-failure", on_failure),
            dry_run=dry_run,
        )
        verb(start=StartOptions(how, waits, as_json), **own)

    for option in reversed(_START_OPTIONS):
        with_start = option(with_start)
    return with_start


def split_words(
    words: Sequence[str], only: Sequence[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """Tell overrides from the axes that follow --only; returns the overrides, and the values of
    each axis.

    After it a word is an override only where its key is the experiment's: with a dot, or one of
    the file's own. No such key is called as an axis.
    """
    from ..experiment.experiment import Experiment

    selectors = list(only)
    overrides = []
    for word in words:
        key = word.partition("=")[0]
        if only and "." not in key and key not in Experiment.model_fields:
            selectors.append(word)
        elif key in EVERY_NAME:
            raise UserError(f"{word!r}: to run a part of a sweep, say --only {word}")
        else:
            overrides.append(word)
    return overrides, values_by_axis(selectors)


def values_by_axis(selectors: Sequence[str]) -> dict[str, list[str]]:
    """The values of each axis in words such as seed=42; whether there is such an axis is for
    those to say who know the sweep."""
    values: dict[str, list[str]] = {}
    for selector in selectors:
        axis, equals, value = selector.partition("=")
        if not axis or not equals:
            raise UserError(f"--only {selector!r}: must be AXIS=VALUE, such as seed=42")
        values.setdefault(axis, []).append(value)
    return values


def argument_list(option: str, text: str | None) -> tuple[str, ...]:
    """A command as its words, quoted as for a shell, which never sees it.

    Raises:
        UserError: an unclosed quote, or no such program.
    """
    if text is None:
        return ()
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"{option} {text!r}: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise UserError(f"{option} {text!r}: there is no such program; give its path")
    return words


def moment(text: str, now: float | None = None) -> float:
    """The next time that the clock of this machine shows HH:MM, in Unix seconds.

    Args:
        now: in Unix seconds, by default the present.
    """
    try:
        wanted = time.strptime(text, "%H:%M")
    except ValueError:
        raise UserError(f"--stop-at {text!r}: must be a time of day such as 08:00") from None
    today = datetime.fromtimestamp(time.time() if now is None else now)
    # Without a time zone, so that a day is one of the clock even where it has 23 or 25 hours.
    then = today.replace(hour=wanted.tm_hour, minute=wanted.tm_min, second=0, microsecond=0)
    return (then if then > today else then + timedelta(days=1)).timestamp()


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Numbers as written on the command line: 0,1 or 0 1."""
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() for word in words):
        raise UserError(f"{option} {text!r}: must be whole numbers such as 1,2")
    return tuple(dict.fromkeys(int(word) for word in words))


def gpu_numbers(option: str, text: str) -> tuple[int, ...]:
    """As `numbers`, of GPUs."""
    found = numbers(option, text)
    for number in found:
        if not is_number(number):
            raise UserError(f"{option} {text!r}: GPU numbers end at {LARGEST_NUMBER_IN_NAME}")
    return found
