"""Findings as a table."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..text.console import plain
from ..text.plain_text import printable
from .finding import Finding, Severity

STYLES = {Severity.RIGHT: "green", Severity.WARNING: "yellow", Severity.WRONG: "bold red"}


def print_findings(findings: Iterable[Finding], console: Console) -> None:
    """A row for each, with the way to mend it below what is wrong."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("what, and what to do", overflow="fold")
    for one in findings:
        style = STYLES[one.verdict]
        told = Text(printable(one.what))
        if one.remedy:
            told.append(f"\n→ {printable(one.remedy)}", style=style)
        table.add_row(plain(one.name), Text(one.verdict.value, style=style), told)
    console.print(table)
