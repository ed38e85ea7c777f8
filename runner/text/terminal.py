"""Where the answer is printed, and what a person is told beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from .plain_text import json_text, printable


def say(*lines: str) -> None:
    """Tell a person something that is not the answer itself, on standard error.

    Each is one line, whatever names are in it.
    """
    for line in lines:
        click.echo(printable(line), err=True)


def print_lines(*lines: str) -> None:
    """The answer on standard output. Each is one line, whatever names are in it."""
    for line in lines:
        click.echo(printable(line))


def print_json(value: Any) -> None:
    """The answer as one JSON value, on standard output."""
    click.echo(json_text(value))


def print_csv(text: str) -> None:
    """The answer as CSV, whose cells were made harmless as they were written."""
    click.echo(text, nl=False)


@contextmanager
def progress_bar(
    unit: str, *, stays: bool = True
) -> Iterator[Callable[[int], Callable[[], object]]]:
    """A bar on a terminal, and nothing elsewhere, for what is told how many things will be done; 0
    where nobody knows.

    Args:
        unit: what one of them is called.
        stays: whether the bar is left there at the end.
    """
    from tqdm import tqdm

    with tqdm(unit=unit, disable=None, leave=stays) as bar:

        def begin(total: int) -> Callable[[], object]:
            if total:
                bar.reset(total)
            return bar.update

        yield begin
