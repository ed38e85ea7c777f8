"""Write docs/commands.md from the commands themselves: python docs/make_commands.py"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from runner.cli import cli, examples_of

FILE = Path(__file__).with_name("commands.md")
HEAD = """\
# The commands

RUN is an experiment file, a run folder, or a sweep's name. Exit status: 0 all is well; 1 jobs have
failed, or a check found something wrong; 2 the command or the experiment is wrong, said in a line
or two; 130 interrupted. `--json` puts one JSON value on standard output and all else on standard
error. Everything is safe to run twice.

This page is made from `sweep COMMAND --help` by `python docs/make_commands.py`.
"""


def page() -> str:
    """The whole page."""
    index = [f"- [`sweep {name}`](#sweep-{name}): {summary(c)}" for name, c in cli.commands.items()]
    parts = [HEAD, "\n".join(index) + "\n"]
    parts += ["\n".join(section(command)) for command in cli.commands.values()]
    return "\n".join(parts)


def summary(command: click.Command) -> str:
    return command.get_short_help_str(limit=100)


def prose(command: click.Command) -> list[str]:
    """The paragraphs of a command's help, without its examples."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return [text for text in paragraphs if not text.startswith("\b")]


def section(command: click.Command) -> Iterator[str]:
    yield f"## sweep {command.name}\n"
    words = [argument_words(p) for p in command.params if isinstance(p, click.Argument)]
    yield f"    sweep {' '.join([str(command.name), *words])} [OPTION]...\n"
    for paragraph in prose(command):
        yield f"{paragraph}\n"
    yield "\n".join(f"    {example}" for example in examples_of(command)) + "\n"
    options = [p for p in command.params if isinstance(p, click.Option)]
    if options:
        yield "| option | what it does |\n| --- | --- |"
        for option in options:
            yield f"| `{option_words(option)}` | {told(option)} |"
        yield ""


def argument_words(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    if isinstance(argument.type, click.Choice):
        return "|".join(argument.type.choices)
    word = str(argument.name).upper() + ("..." if argument.nargs < 0 else "")
    return word if argument.required else f"[{word}]"


def option_words(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    return f"{names} {option.metavar or value_word(option)}".replace("|", "\\|")


def value_word(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(option.type.choices)
    if isinstance(option.type, click.Path):
        return "PATH"
    return "N" if isinstance(option.type, (click.types.IntParamType)) else "VALUE"


def told(option: click.Option) -> str:
    text = option.help or ""
    default = option.default
    if option.show_default and default is not None:
        text = f"{text} Default: {default}.".strip()
    return text.replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
