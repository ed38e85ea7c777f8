"""What one looks at and shows to others: the page, and contact sheets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..disk.run_folder import RunFolder
from ..report.cells import read_run
from ..report.writing import Report, ReportWish, write_page, write_zip
from ..runs.borrowed import is_ours_to_write
from ..text.errors import UserError
from .opening import Named, folder_of, texts_by_axis
from .telling import TrackNumber, untracked

if TYPE_CHECKING:
    from ..report.server import Server
    from ..report.sheet import Style


def wish_of(
    title: str | None = None,
    preview: int = 0,
    *,
    posters: bool = True,
    anonymous: bool = False,
    out: Path | str | None = None,
) -> ReportWish:
    """What is wanted of a report; a relative `out` starts where this process stands."""
    return ReportWish(
        title, preview, anonymous, posters, None if out is None else Path(out).absolute()
    )


def report(
    runs: Sequence[Named],
    wish: ReportWish | None = None,
    *,
    as_zip: bool = False,
    track: TrackNumber = untracked,
) -> Report:
    """Write the page that compares the videos of a sweep, or of several: one file that opens from
    disk, in the first one's `report/`.

    Args:
        as_zip: page and videos as one zip.
        track: told of the pictures to be made.

    Raises:
        UserError: there is no such run; or the first is not ours to write, and no `out` is given.
    """
    folders, wish = [folder_of(run) for run in runs], wish or ReportWish()
    if wish.out is None:
        refuse_foreign(folders[0])
    write = write_zip if as_zip else write_page
    return write(folders, wish, lambda wanted: track(len(wanted)))


@contextmanager
def serving(
    runs: Sequence[Named],
    wish: ReportWish | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> Iterator[Server]:
    """A server of the page, whose cells fill in as they finish: `serve_forever` serves it.

    Args:
        host: the address to listen on.
        port: 0 takes any that is free, None prefers the usual one.

    Raises:
        UserError: there is no such run, or it cannot listen there.
    """
    from ..report.server import Server
    from ..report.site import Site

    folders, wish = [folder_of(run) for run in runs], wish or ReportWish()
    with tempfile.TemporaryDirectory(prefix="sweep-report-") as folder:
        if wish.out is None and not is_ours_to_write(folders[0]):
            # Pictures are wanted while it is served alone.
            wish = replace(wish, out=Path(folder))
        with Server(Site(folders, wish), host, port) as server:
            yield server


def refuse_foreign(run: RunFolder) -> None:
    """Raise UserError where what is made of a run cannot be put into it."""
    if not is_ours_to_write(run):
        raise UserError(f"{run.path}: is not yours to write; say --out FOLDER")


@dataclass(frozen=True)
class Sheets:
    """The contact sheets that were written, and the characters that no font on this machine has."""

    folder: Path
    paths: tuple[Path, ...]
    left_out: str


def sheets(
    run: Named,
    *,
    only: Mapping[str, Any] | None = None,
    as_mp4: bool = False,
    style: Style | None = None,
    out: Path | str | None = None,
    track: TrackNumber = untracked,
) -> Sheets:
    """Write a contact sheet per reference video: frames across time, a row per prompt.

    Args:
        only: for some axes the values to show; the others show all.
        as_mp4: a video, side by side, in place of a picture.
        style: how they look.
        out: the folder; by default the run's `report/sheets`.

    Raises:
        UserError: there is no such run, axis or value, or no video is left to show; or the run is
            not ours to write, and no `out` is given.
    """
    from ..report import sheet

    folder = folder_of(run)
    if out is None:
        refuse_foreign(folder)
    wanted = sheet.sheets(read_run(folder), texts_by_axis(only))
    target = folder.path / "report" / "sheets" if out is None else Path(out).absolute()
    step = track(len(wanted))
    written = sheet.write_sheets(
        wanted, target, style or sheet.Style(), as_mp4=as_mp4, on_made=step
    )
    return Sheets(target, written.paths, written.left_out)
