"""A calibration as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .calibrate import Variant
from .calibration import Row
from .costs import hours, plural_processes


def line(row: Row) -> str:
    """A row in a line, as soon as it is measured."""
    peak = "" if row.peak_gib is None else f", peak {row.peak_gib:.1f} GiB each"
    return (
        f"  {plural_processes(row.processes)}: loaded in {hours(row.load)}, {row.step:.3f} s a "
        f"step, {row.prepare + row.rest:.2f} s beside the steps{peak}"
    )


def to_json(variants: Sequence[Variant], best: Variant) -> dict[str, Any]:
    """Every variant with its rows, and which is best."""
    answer: list[dict[str, Any]] = []
    for variant in variants:
        values = variant.calibration.to_json()
        for row, measured in zip(values["rows"], variant.calibration.rows, strict=True):
            row["videos_per_hour"] = round(variant.videos_per_hour(measured), 2)
        answer.append(
            {
                "setting": variant.setting,
                "same_video": variant.same_video,
                "file": str(variant.file),
                **values,
            }
        )
    return {
        "variants": answer,
        "best": {"setting": best.setting, "processes_per_gpu": best.best.processes},
    }


def report(variants: Sequence[Variant], best: Variant) -> None:
    """The table on standard output, and what is best below it."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    first = variants[0]
    table = Table(
        title=Text(
            f"{first.calibration.gpu}: {first.steps} steps a video, from "
            f"{first.calibration.steps} measured"
        ),
        title_justify="left",
    )
    table.add_column("setting")
    for name in ("processes", "load", "prepare", "step", "rest", "finish", "GiB", "videos/h"):
        table.add_column(name, justify="right")
    for variant in variants:
        for row in variant.calibration.rows:
            name = variant.setting or "as it is"
            name += "" if variant.same_video else " (other videos)"
            seconds = (row.load, row.prepare, row.step, row.rest, row.finish)
            table.add_row(
                Text(name),
                str(row.processes),
                *(f"{value:.2f}" for value in seconds),
                "-" if row.peak_gib is None else f"{row.peak_gib:.1f}",
                f"{variant.videos_per_hour(row):.0f}",
            )
    console.print(table)
    for variant in variants:
        if variant.calibration.full is not None:
            console.print(
                f"{variant.setting or 'as it is'}: {plural_processes(variant.calibration.full)} "
                "did not fit"
            )
    setting = f"{best.setting} and " if best.setting else ""
    console.print(
        f"best: {setting}placement.processes_per_gpu={best.best.processes}, "
        f"{best.videos_per_hour(best.best):.1f} videos an hour a GPU"
    )
    for variant in variants:
        if not variant.same_video and variant.videos_per_hour(variant.best) > best.videos_per_hour(
            best.best
        ):
            console.print(
                f"faster, but with other videos: {variant.setting}, "
                f"{variant.videos_per_hour(variant.best):.1f} videos an hour a GPU"
            )
    console.print(
        "seconds of one process: load once, prepare once a reference, rest beside the steps, "
        "finish beside the next video; GiB of each",
        style="dim",
    )
    console.print(f"`sweep plan` goes by it; kept in {best.file.parent}", style="dim")
