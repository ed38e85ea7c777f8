"""The report: a sweep as a page that opens from disk, a table, and sheets for papers and chat."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..job import JobState
from ..run_folder import RunFolder, write_atomically
from .cells import Run, read_run
from .document import Look, document, quoted
from .page import render
from .pictures import Pictures, Wanted, make_all


@dataclass(frozen=True)
class Wish:
    """What a person wants of a report.

    Args:
        preview: make small videos of that width for the page; 0 makes none.
        is_anonymous: leave out host, paths, user and commit.
        has_posters: make a picture of each video for the page to open with.
    """

    title: str | None = None
    preview: int = 0
    is_anonymous: bool = False
    has_posters: bool = True


@dataclass(frozen=True)
class Report:
    """A page that was written: where, of how many cells, and what could not be shown."""

    path: Path
    cells: int
    videos: int
    problems: tuple[str, ...]


class Made:
    """The pictures and clips of some runs, and their names as the page calls them."""

    def __init__(self, folder: Path, runs: Sequence[Run], wish: Wish) -> None:
        pictures = Pictures(folder)
        self.folder = folder
        self.posters: dict[str, Wanted] = {}
        self.previews: dict[str, Wanted] = {}
        self.references: dict[tuple[str, tuple[int, int, int, float]], Wanted] = {}
        for run in runs:
            for cell in run.cells:
                key = (cell.job.reference.sha256, cell.shape)
                if key not in self.references:
                    self.references[key] = pictures.reference(
                        run.root, cell.job.reference, cell.shape, wish.preview
                    )
                sha256, video = cell.video_sha256, run.folder.video(cell.job)
                if sha256 is None:
                    continue
                if wish.has_posters:
                    self.posters[sha256] = pictures.poster(video, sha256, cell.shape)
                if wish.preview:
                    self.previews[sha256] = pictures.preview(video, sha256, wish.preview)

    def wanted(self) -> list[Wanted]:
        """All of it, what is seen first first."""
        return [*self.references.values(), *self.posters.values(), *self.previews.values()]

    def look(self, problems: dict[Path, str], **rest: Any) -> Look:
        """How the page calls what could be made."""
        return Look(
            posters=self._names(self.posters, problems),
            previews=self._names(self.previews, problems),
            references={
                key: (
                    None if one.path in problems else self._name(one),
                    problems.get(one.path),
                )
                for key, one in self.references.items()
            },
            **rest,
        )

    def _names(self, made: dict[str, Wanted], problems: dict[Path, str]) -> dict[str, str]:
        return {key: self._name(one) for key, one in made.items() if one.path not in problems}

    def _name(self, one: Wanted) -> str:
        return one.path.relative_to(self.folder).as_posix()


def write_report(
    folders: Sequence[RunFolder],
    wish: Wish,
    track: Callable[[Sequence[Wanted]], Callable[[], object]] = lambda _: lambda: None,
) -> Report:
    """Write the page of one run, or of several beside one another, into the first one's
    `report/`.

    Args:
        track: told what will be made; what it returns is called after each.

    Raises:
        UserError: a folder is no run that was planned.
    """
    runs = named_apart([read_run(folder) for folder in folders])
    folder = folders[0].path / "report"
    made = Made(folder, runs, wish)
    missing = [one for one in made.wanted() if not one.path.exists()]
    problems = make_all(missing, track(missing))
    look = made.look(
        problems,
        title=wish.title or " · ".join(run.name for run in runs),
        bases=[base_of(run.folder.path, folder) for run in runs],
        assets="",
        is_anonymous=wish.is_anonymous,
    )
    name = "index.html" if len(runs) == 1 else f"{'_'.join(run.name for run in runs)[:100]}.html"
    path = folder / name
    write_atomically(path, render(document(runs, look)))
    return Report(path, *_numbers(runs), tuple(problems.values()))


def named_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, those that share a name called by their folder's place as well."""
    from dataclasses import replace

    names = [run.name for run in runs]
    result = []
    for number, run in enumerate(runs, start=1):
        same = names.count(run.name) > 1
        result.append(replace(run, name=f"{run.name} ({number})") if same else run)
    return result


def base_of(run: Path, folder: Path) -> str:
    """The URL of a run folder as seen from a page in `folder`."""
    return quoted(os.path.relpath(run.resolve(), folder.resolve())) + "/"


def _numbers(runs: Iterable[Run]) -> tuple[int, int]:
    cells = [cell for run in runs for cell in run.cells]
    return len(cells), sum(c.state in (JobState.DONE, JobState.STALE) for c in cells)
