"""Writing a report: the page and its pictures, or page and videos as one zip."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..disk.run_folder import RunFolder, make_folder, write_atomically
from ..text.errors import UserError
from ..text.input_file import MIB, read_input
from .anonymous import write_bare
from .cells import Cell, Run, read_run
from .document import Look, document, quoted
from .page import render
from .pictures import Pictures, Seen, WantedMedium, make_all, seen_of

MOST_PICTURE_BYTES, MOST_VIDEO_BYTES = 1024 * MIB, 16384 * MIB
"""Bytes of one that is packed."""

TrackMedia = Callable[[Sequence[WantedMedium]], Callable[[], object]]
"""Told what will be made; what it returns is called after each."""


@dataclass(frozen=True)
class ReportWish:
    """What a person wants of a report.

    Args:
        preview: make small videos of that width for the page; 0 makes none.
        is_anonymous: leave out host, paths, user and commit.
        has_posters: make a picture of each video for the page to open with.
        out: the folder to write into; None is the first run's `report/`.
    """

    title: str | None = None
    preview: int = 0
    is_anonymous: bool = False
    has_posters: bool = True
    out: Path | None = None

    def folder(self, first: RunFolder) -> Path:
        """The folder for page and pictures of runs; `first` is the first of them."""
        return first.path / "report" if self.out is None else self.out


@dataclass(frozen=True)
class Report:
    """What was written: where, of how many cells and videos, and what could not be shown."""

    path: Path
    cells: int
    videos: int
    problems: tuple[str, ...]


class PageMedia:
    """The pictures and clips that stand beside the page of some runs, in a report folder."""

    def __init__(self, folder: Path, runs: Sequence[Run], wish: ReportWish) -> None:
        pictures = Pictures(folder)
        self.folder = folder
        self.posters: dict[str, WantedMedium] = {}
        self.previews: dict[str, WantedMedium] = {}
        self.references: dict[Seen, WantedMedium] = {}
        for run, cell in each_cell(runs):
            shape = cell.shape
            if (clip := cell.clip) is not None:
                seen = seen_of(clip, cell.job.parameters, shape)
                if seen not in self.references:
                    source = run.root / clip.path
                    wanted = pictures.reference(source, clip.path, seen, wish.preview)
                    self.references[seen] = wanted
            sha256, video = cell.video_sha256, run.folder.video(cell.job)
            if sha256 is not None and wish.has_posters:
                self.posters[sha256] = pictures.poster(video, sha256, shape)
            if sha256 is not None and wish.preview:
                self.previews[sha256] = pictures.preview(video, sha256, wish.preview)

    def wanted(self) -> list[WantedMedium]:
        """All of it, what is seen first first."""
        return [*self.references.values(), *self.posters.values(), *self.previews.values()]

    def name(self, one: WantedMedium) -> str:
        """How a page in the report folder calls it."""
        return one.path.relative_to(self.folder).as_posix()

    def look(self, problems: Mapping[Path, str], **rest: Any) -> Look:
        """How the page calls what could be made."""
        return Look(
            posters=self._names(self.posters, problems),
            previews=self._names(self.previews, problems),
            references={
                key: (None, problems[one.path]) if one.path in problems else (self.name(one), None)
                for key, one in self.references.items()
            },
            **rest,
        )

    def _names(
        self, wanted: Mapping[str, WantedMedium], problems: Mapping[Path, str]
    ) -> dict[str, str]:
        return {key: self.name(one) for key, one in wanted.items() if one.path not in problems}


def each_cell(runs: Sequence[Run]) -> Iterator[tuple[Run, Cell]]:
    for run in runs:
        for cell in run.cells:
            yield run, cell


def read_runs(folders: Sequence[RunFolder]) -> list[Run]:
    """Read several runs; those that share a name get a number behind it.

    Raises:
        UserError: a folder is named twice, or was never planned.
    """
    paths = [folder.path.resolve() for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path}: is named twice; a run is compared with others")
    runs = [read_run(folder) for folder in folders]
    names = [run.name for run in runs]
    return [
        replace(run, name=f"{run.name} ({number})") if names.count(run.name) > 1 else run
        for number, run in enumerate(runs, start=1)
    ]


def title_of(runs: Sequence[Run], wish: ReportWish) -> str:
    return wish.title or " · ".join(run.name for run in runs)


def write_page(folders: Sequence[RunFolder], wish: ReportWish, track: TrackMedia) -> Report:
    """Write the page of one run, or of several beside one another.

    Raises:
        UserError: a folder is no run that was planned; or an anonymous page would have to name
            folders outside the runs'.
    """
    runs = read_runs(folders)
    folder = wish.folder(folders[0])
    bases = [base_of(run.folder.path, folder) for run in runs]
    if wish.is_anonymous and any(base.removeprefix("../../").count("/") > 1 for base in bases):
        raise UserError(
            "--anonymous: these runs do not lie side by side, so the page would name the folders "
            "between them; add --zip, which packs their videos with it"
        )
    beside = PageMedia(folder, runs, wish)
    problems = _make(beside, track)
    name = "index.html" if len(runs) == 1 else f"{'_'.join(run.name for run in runs)[:100]}.html"
    look = beside.look(
        problems,
        title=title_of(runs, wish),
        bases=bases,
        assets="",
        is_anonymous=wish.is_anonymous,
    )
    write_atomically(folder / name, render(document(runs, look)))
    return _report(folder / name, runs, problems)


def write_zip(folders: Sequence[RunFolder], wish: ReportWish, track: TrackMedia) -> Report:
    """Write page, pictures and videos (small ones alone where `wish.preview` asks for them) as
    one zip.

    Raises:
        UserError: as `write_page`; or an anonymous one would have a video that cannot be copied
            without the texts in its file.
    """
    runs = read_runs(folders)
    folder = wish.folder(folders[0])
    beside = PageMedia(folder, runs, wish)
    problems = _make(beside, track)
    name = "_".join(run.name for run in runs)[:100]
    # In an archive of its own: a name in it is all that tells two runs' videos apart.
    bases = [f"videos/{number}/" for number in range(1, len(runs) + 1)]
    look = beside.look(
        problems,
        title=title_of(runs, wish),
        bases=bases,
        assets="report/",
        is_anonymous=wish.is_anonymous,
        has_videos=not wish.preview,
    )
    path = folder / f"{name}.zip"
    make_folder(folder)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            _add(archive, f"{name}/index.html", render(document(runs, look)), is_text=True)
            for one in beside.wanted():
                if one.path not in problems:
                    _add(
                        archive,
                        f"{name}/report/{beside.name(one)}",
                        read_input(one.path, MOST_PICTURE_BYTES),
                    )
            for base, run in zip(bases, runs, strict=True):
                for cell in run.cells:
                    if (
                        cell.record is not None
                        and not wish.preview
                        and run.folder.holds(run.folder.video(cell.job))
                    ):
                        content = _content(run.folder.video(cell.job), folder, wish)
                        _add(archive, f"{name}/{base}{cell.job.output}", content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return _report(path, runs, problems)


def base_of(run: Path, folder: Path) -> str:
    """The URL of a run folder as seen from a page in `folder`."""
    return quoted(os.path.relpath(run.resolve(), folder.resolve())) + "/"


def _content(video: Path, folder: Path, wish: ReportWish) -> bytes:
    """What of a video is packed: all of it, or where the page is anonymous no texts in it."""
    if not wish.is_anonymous:
        return read_input(video, MOST_VIDEO_BYTES)
    bare = folder / f".bare.{os.getpid()}.mp4"
    try:
        write_bare(video, bare)
        return bare.read_bytes()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"--anonymous: {video}: cannot be packed without what else its file may say "
            f"({error}); add --preview, which packs small videos instead"
        ) from None
    finally:
        bare.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, *, is_text: bool = False) -> None:
    # Without a time: when a file was written says more than an archive should.
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    # Videos and pictures are as small as they get.
    entry.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
    archive.writestr(entry, content)


def _make(beside: PageMedia, track: TrackMedia) -> dict[Path, str]:
    missing = [one for one in beside.wanted() if not one.path.exists()]
    return make_all(missing, track(missing))


def _report(path: Path, runs: Sequence[Run], problems: Mapping[Path, str]) -> Report:
    cells = [cell for _, cell in each_cell(runs)]
    videos = sum(cell.record is not None for cell in cells)
    return Report(path, len(cells), videos, tuple(problems.values()))
