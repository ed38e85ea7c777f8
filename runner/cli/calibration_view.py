"""A calibration as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..calibrate import MeasuredKind, MeasuredSetting
from ..costs.calibration import CalibrationRow
from ..costs.costs import hours, plural_processes
from ..costs.kinds import Kind
from ..text.console import PlainConsole, plain


def line(kind: Kind, row: CalibrationRow) -> str:
    """A row in a line, as soon as it is measured."""
    peak = "" if row.peak_gib is None else f", peak {row.peak_gib:.1f} GiB each"
    of = f"{kind.name}: " if kind.name else ""
    took = f"{row.prepare + row.rest:.2f} s a video"
    if row.step:
        took = f"{row.step:.3f} s a step, {row.prepare + row.rest:.2f} s beside the steps"
    number = plural_processes(row.processes)
    return f"  {of}{number}: loaded in {hours(row.load)}, {took}{peak}"


def report(variants: Sequence[MeasuredSetting], best: MeasuredSetting) -> None:
    """The table on standard output, and what is best below it."""
    console = PlainConsole(soft_wrap=True)
    first = variants[0].parts[0]
    table = Table(
        title=plain(
            f"{first.calibration.gpu}: {first.share.steps} steps a video, from "
            f"{first.calibration.steps} measured"
        ),
        title_justify="left",
        # As narrow as a terminal of 80 columns.
        box=SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    # What tells two settings apart may be at their end.
    table.add_column("setting", overflow="fold")
    for name in ("processes", "load", "prepare", "step", "rest", "finish", "GiB", "videos/h"):
        table.add_column(name, justify="right")
    parts = [(variant, part) for variant in variants for part in variant.parts]
    for variant, part in parts:
        for row in part.calibration.rows:
            table.add_row(
                plain(name_of(variant, part)),
                str(row.processes),
                f"{row.load:.1f}",
                f"{row.prepare:.2f}",
                f"{row.step:.3f}",
                f"{row.rest:.2f}",
                f"{row.finish:.2f}",
                "-" if row.peak_gib is None else f"{row.peak_gib:.1f}",
                _videos(part.videos_per_hour(row)),
            )
    console.print(table)
    for variant, part in parts:
        if part.calibration.full is not None:
            number = plural_processes(part.calibration.full)
            console.print(plain(f"{name_of(variant, part)}: {number} did not fit"))
    setting = f"{best.setting} and " if best.setting else ""
    console.print(
        plain(
            f"best: {setting}placement.processes_per_gpu={best.mix.best}, "
            f"{_videos(best.videos_per_hour)} videos an hour a GPU"
        )
    )
    for variant in variants:
        if not variant.same_video and variant.videos_per_hour > best.videos_per_hour:
            console.print(
                plain(
                    f"faster, but with other videos: {variant.setting}, "
                    f"{_videos(variant.videos_per_hour)} videos an hour a GPU"
                )
            )
    console.print(
        "seconds of one process: load once, prepare once a reference, rest beside the steps, "
        "finish beside the next video; GiB of each",
        style="dim",
    )
    console.print(plain(f"`sweep plan` goes by it; kept in {first.file.parent}", "dim"))


def _videos(an_hour: float) -> str:
    return f"{an_hour:.1f}" if an_hour < 100 else f"{an_hour:.0f}"


def name_of(variant: MeasuredSetting, part: MeasuredKind) -> str:
    """What was measured, for a row of the table."""
    words = " ".join(word for word in (variant.setting, part.kind.name) if word)
    return (words or "as it is") + ("" if variant.same_video else " (other videos)")
