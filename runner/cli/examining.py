"""`sweep doctor`: what is right, wrong, and how to mend it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UserError
from ..terminal import plural, print_json, print_lines, say
from .completing import complete_run
from .options import json_option

if TYPE_CHECKING:
    from ..doctor.finding import Finding


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
    from ..doctor.examination import examine_file, examine_machine
    from ..doctor.finding import Verdict
    from ..runs import find_run, is_experiment_file

    file, run = None, None
    if experiment is not None:
        if is_experiment_file(experiment):
            file = Path(experiment)
        else:
            run = find_run(experiment)
            file = run.experiment
    found = examine_machine(Path.cwd()) if file is None else examine_file(file, overrides)
    findings = list(found)
    bad = sum(finding.verdict is Verdict.WRONG for finding in findings)
    packed = pack(file, findings) if bundle else None
    if as_json:
        answer = {"ok": not bad, "findings": [finding.to_json() for finding in findings]}
        print_json(answer if packed is None else {**answer, "bundle": str(packed)})
    else:
        from ..console import PlainConsole
        from ..doctor.view import print_findings

        print_findings(findings, PlainConsole())
        warnings = sum(finding.verdict is Verdict.WARNING for finding in findings)
        print_lines(f"{bad} wrong, {plural(warnings, 'warning')}")
    if bad:
        sys.exit(1)


def pack(file: Path | None, findings: Sequence[Finding]) -> Path:
    """Write the bundle where the shell stands."""
    from ..doctor.bundle import write_bundle
    from ..experiment import load_experiment

    run = None
    if file is not None:
        # A file that is wrong has no run folder, and is in the bundle all the same.
        with contextlib.suppress(UserError):
            run = load_experiment(file).run_folder
    name = run.name if run is not None else "machine"
    target = Path.cwd() / f"sweep-doctor-{name}-{time.strftime('%Y%m%d-%H%M%S')}.zip"
    inside = write_bundle(target, file, run, findings)
    say(f"{target}: {', '.join(inside)}")
    say("it has prompts, file names and log lines; passwords, keys and home folders are masked")
    return target
