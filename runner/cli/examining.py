"""`sweep doctor`: what is right, wrong, and how to mend it."""

from __future__ import annotations

import sys

import click

from ..text.plain_text import plural
from ..text.terminal import print_json, print_lines, say
from .completing import complete_run
from .options import json_option


@click.command(short_help="Say what is wrong here, and how to mend it.")
@click.argument(
    "experiment", required=False, metavar="[EXPERIMENT|RUN]", shell_complete=complete_run
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--bundle", is_flag=True, help="Pack what a bug report needs, without secrets.")
@json_option
def doctor(experiment: str | None, overrides: tuple[str, ...], bundle: bool, as_json: bool) -> None:
    """Check this machine, and an experiment on it: what is right, wrong, and how to mend it.

    The exit status is 1 where something is wrong.

    \b
    sweep doctor
    sweep doctor experiments/quickstart.yaml
    sweep doctor quickstart --bundle
    """
    from ..sweeps import examining

    found = examining.doctor(experiment, overrides)
    bundled = None
    if bundle:
        bundled = examining.pack(found)
        say(f"{bundled.path}: {', '.join(bundled.inside)}")
        say("it has prompts, file names and log lines; passwords, keys and home folders are masked")
    if as_json:
        answer = found.to_json()
        print_json(answer if bundled is None else {**answer, "bundle": str(bundled.path)})
    else:
        from ..doctor.view import print_findings
        from ..text.console import PlainConsole

        print_findings(found.findings, PlainConsole())
        print_lines(f"{found.wrong} wrong, {plural(found.warnings, 'warning')}")
    if found.wrong:
        sys.exit(1)
