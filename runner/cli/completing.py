"""`sweep completion`, and what a shell is offered for a word that has been begun."""

from __future__ import annotations

import contextlib

import click
from click.shell_completion import CompletionItem, get_completion_class

from ..text.errors import UserError
from ..text.terminal import print_lines

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_SWEEP_COMPLETE"


@click.command(short_help="Print what makes a shell complete commands.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that has a shell complete commands, options and the names of runs.

    \b
    sweep completion bash >> ~/.bashrc
    sweep completion zsh >> ~/.zshrc
    sweep completion fish > ~/.config/fish/completions/sweep.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    print_lines(*kind(ctx.find_root().command, {}, "sweep", VARIABLE).source().splitlines())


def complete_run(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The sweeps in the nearest results/, and files."""
    from ..runs.runs import planned_runs
    from ..text.plain_text import printable

    names = [run.name for run in planned_runs() if printable(run.name) == run.name]
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return [*found, CompletionItem(incomplete, type="file")]


def complete_worker(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The workers of the run that has been named, by their logs."""
    from ..runs.runs import find_run

    with contextlib.suppress(UserError, OSError):
        logs = sorted(find_run(named_run(ctx)).logs.glob("*.log"))
        return [CompletionItem(log.stem) for log in logs if log.stem.startswith(incomplete)]
    return []


def complete_part(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """AXIS=VALUE: the axes, and the categories of the run that has been named."""
    from ..disk.run_folder import RESERVED
    from ..job.axes import EVERY_NAME
    from ..runs.runs import find_run
    from ..text.plain_text import printable

    axis, equals, begun = incomplete.partition("=")
    if not equals:
        return [CompletionItem(f"{name}=") for name in EVERY_NAME if name.startswith(axis)]
    if axis != "category":
        return []
    with contextlib.suppress(UserError, OSError):
        # What has been made so far tells them at the price of one listing.
        folders = [path for path in find_run(named_run(ctx)).path.iterdir()]
        names = sorted(p.name for p in folders if p.is_dir() and p.name not in RESERVED)
        # A shell writes them on the terminal as they are, one a line.
        names = [name for name in names if printable(name) == name]
        return [CompletionItem(f"category={name}") for name in names if name.startswith(begun)]
    return []


def named_run(ctx: click.Context) -> str:
    """The run on a command line in the making; before an option's value it is not yet parsed."""
    return str(ctx.params.get("run") or next(iter(ctx.args), ""))
