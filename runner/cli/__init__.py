"""The verbs: parse, call, print. Exit status 0, 1 (failed or broken), 2 (wrong), 130."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Sequence

import click

from ..machine import suspension
from ..text.errors import UserError
from ..text.log_lines import LineFormatter, print_traceback
from ..text.terminal import say
from ..text.utf8_mode import ensure_utf8, show_as_terminal_does
from .adopting import adopt
from .asking import logs, progress
from .calibrating import calibrate
from .checking import explain, verify
from .completing import completion
from .examining import doctor
from .planning import plan, schema
from .running import launch, resume, stop
from .showing import export, report, sheet
from .starting import init


class Verbs(click.Group):
    """The commands in the order in which a person meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """An example of each command: the first one of its own help."""
        with formatter.section("Examples"):
            for command in self.commands.values():
                for example in examples_of(command)[:1]:
                    # One line each, for copying.
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def examples_of(command: click.Command) -> list[str]:
    """The command lines in a command's help."""
    lines = (command.help or "").splitlines()
    return [
        line.strip() for line in lines if f"{line.strip()} ".startswith(f"sweep {command.name} ")
    ]


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sweep-runner", message="sweep %(version)s")
def cli() -> None:
    """Run sweeps of generated videos over many GPUs.

    RUN is an experiment file, a run folder, or a sweep's name.
    """


for verb in (
    *(init, plan, calibrate, launch, progress, resume, stop, logs, verify, explain, doctor),
    *(report, export, sheet, adopt, schema, completion),
):
    cli.add_command(verb)


def main(words: Sequence[str] | None = None) -> None:
    """Run `sweep` with these words, by default the process's own, and exit."""
    if words is None:
        ensure_utf8()
    # Python looks for reference cycles at every 700 objects more, and a large sweep is a million
    # objects without one: a fifth of the time of a plan.
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000)
    suspension.install()
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8, or a file name that is not, must not end a command.
        show_as_terminal_does(stream)
    sys.excepthook = print_traceback
    if logging.lastResort is not None:
        # Warnings reach standard error through it.
        logging.lastResort.setFormatter(LineFormatter("%(message)s"))
    try:
        status = cli.main(words, prog_name="sweep", standalone_mode=False)
    except UserError as error:
        first, *more = error.lines
        say(f"sweep: {first}", *more)
        status = 2
    except click.ClickException as error:
        say(f"sweep: {' '.join(error.format_message().split())}")
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
    except Exception as error:
        from ..sweeps.trouble import trouble_behind

        told = trouble_behind(error)
        if told is None:
            raise
        first, *more = told.lines
        say(f"sweep: {first}", *more)
        status = 2
    finally:
        gc.set_threshold(*thresholds)
    sys.exit(status)
