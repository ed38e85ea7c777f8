"""Sheets for papers and chat: one picture of frames across time x prompts for each reference
clip, or one video in which its outputs play beside one another, labelled."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..disk.run_folder import make_folder
from ..job import is_said
from ..job.shape import Shape
from ..text.errors import UserError
from ..video import BrokenVideo, read_video, write_video
from ..video.reading import read_reference
from .axes import Axis, AxisKind, lay_out
from .cells import Cell, Run
from .lettering import Lettering

if TYPE_CHECKING:
    from ..video import Frames

PAPER, INK, QUIET, HOLE = "#ffffff", "#1d2126", "#6a727c", "#eceeee"
GAP_PIXELS = 6
MARGIN_PIXELS = 14
MP4_QUALITY = 7.0


@dataclass(frozen=True)
class Style:
    """How a sheet looks: `width` of each picture in pixels, and how many `frames` of a video
    stand in a row. `font` is a font file to look in first."""

    width: int = 208
    frames: int = 6
    font: Path | None = None


@dataclass(frozen=True)
class Sheet:
    """What one sheet shows: the outputs of one reference clip that differ in their prompt, with
    every other axis fixed."""

    name: str
    title: str
    run: Run
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Written:
    """The sheets that were written; `left_out` has the characters that no font had."""

    paths: tuple[Path, ...]
    left_out: str


def sheets(run: Run, only: Mapping[str, Collection[str]]) -> list[Sheet]:
    """The sheets of a run.

    Args:
        only: for some axes the values to show, as text; the others show all.

    Raises:
        UserError: an axis or a value that the run does not have, or no video is left to show.
    """
    grid = lay_out([run])
    _check(grid.axes, only)
    fixed = [n for n, axis in enumerate(grid.axes) if axis.kind is not AxisKind.TEXT]
    groups: dict[tuple[int, ...], list[Cell]] = {}
    for cell, indices in zip(run.cells, grid.indices[0], strict=True):
        values = {a.name: a.values[i] for a, i in zip(grid.axes, indices, strict=True)}
        if all(_is_one(values[name], wanted) for name, wanted in only.items()):
            groups.setdefault(tuple(indices[n] for n in fixed), []).append(cell)
    found = []
    for indices, cells in groups.items():
        if not any(cell.record for cell in cells):
            continue
        job = cells[0].job
        rest = [
            f"{grid.axes[n].name} {grid.axes[n].values[index]}"
            for n, index in zip(fixed, indices, strict=True)
            if grid.axes[n].kind not in (AxisKind.CATEGORY, AxisKind.LEADING)
            and index != grid.axes[n].absent
        ]
        lead = str(job.on(run.axes.leading.name))
        name = "_".join([lead, *(text.replace(" ", "_") for text in rest)]).replace("/", "_")
        found.append(
            Sheet(
                f"{job.category}/{name}",
                " · ".join([job.category, lead, *rest]),
                run,
                tuple(cells),
            )
        )
    if not found:
        raise UserError(f"{run.folder.path}: no finished video to put on a sheet")
    return found


def write_sheets(
    wanted: Sequence[Sheet],
    folder: Path,
    style: Style,
    *,
    as_mp4: bool,
    on_made: Callable[[], object] = lambda: None,
) -> Written:
    """Write each sheet as a PNG, or as an MP4, under a folder; several at once."""
    suffix = ".mp4" if as_mp4 else ".png"

    def write(sheet: Sheet) -> tuple[Path, frozenset[str]]:
        category, _, name = sheet.name.partition("/")
        path = folder / category / f"{name}{suffix}"
        make_folder(path.parent)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}{suffix}")
        try:
            if as_mp4:
                left_out = write_mp4(sheet, temporary, style)
            else:
                image, left_out = draw_png(sheet, style)
                image.save(temporary, optimize=True)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path, left_out

    paths: list[Path] = []
    missing: set[str] = set()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for path, left_out in pool.map(write, wanted):
            paths.append(path)
            missing |= left_out
            on_made()
    return Written(tuple(paths), "".join(sorted(missing)))


def draw_png(sheet: Sheet, style: Style) -> tuple[Image.Image, frozenset[str]]:
    """Frames across time: a row for the reference clip, and one for each prompt.

    Returns:
        The picture, and the characters that its labels have to do without.
    """
    size = _size(sheet, style.width)
    label = max(150, style.width)
    small, head = Lettering(13, style.font), Lettering(16, style.font)
    rows = list(_rows(sheet, size))
    count = style.frames
    top = MARGIN_PIXELS + head.line_height + GAP_PIXELS
    width = 2 * MARGIN_PIXELS + label + count * (size[0] + GAP_PIXELS)
    height = top + len(rows) * (size[1] + GAP_PIXELS) - GAP_PIXELS + MARGIN_PIXELS
    image = Image.new("RGB", (width, height), PAPER)
    head.write(
        image,
        (MARGIN_PIXELS, MARGIN_PIXELS - 2),
        head.wrap(sheet.title, width - 2 * MARGIN_PIXELS, 1),
        INK,
    )
    for number, (text, frames, problem) in enumerate(rows):
        y = top + number * (size[1] + GAP_PIXELS)
        lines = max(1, size[1] // small.line_height)
        small.write(image, (MARGIN_PIXELS, y), small.wrap(text, label - 12, lines), INK)
        for column in range(count):
            x = MARGIN_PIXELS + label + GAP_PIXELS + column * (size[0] + GAP_PIXELS) - GAP_PIXELS
            if frames is None:
                _hole(image, (x, y), size, small, problem if column == 0 else "")
                continue
            moment = round(column * (len(frames) - 1) / max(1, count - 1))
            image.paste(Image.fromarray(frames[moment]), (x, y))
    return image, frozenset(small.left_out | head.left_out)


def write_mp4(sheet: Sheet, path: Path, style: Style) -> frozenset[str]:
    """Reference clip and outputs play beside one another, each under its label.

    Returns:
        The characters that its labels have to do without.
    """
    size = _size(sheet, style.width)
    small, head = Lettering(13, style.font), Lettering(16, style.font)
    rows = list(_rows(sheet, size))
    columns = math.ceil(math.sqrt(len(rows)))
    lines, top = 2, MARGIN_PIXELS + head.line_height + GAP_PIXELS
    step = (size[0] + GAP_PIXELS, size[1] + lines * small.line_height + 2 * GAP_PIXELS)
    width = _even(2 * MARGIN_PIXELS + columns * step[0] - GAP_PIXELS)
    height = _even(top + math.ceil(len(rows) / columns) * step[1] + MARGIN_PIXELS - GAP_PIXELS)
    page = Image.new("RGB", (width, height), PAPER)
    head.write(
        page,
        (MARGIN_PIXELS, MARGIN_PIXELS - 2),
        head.wrap(sheet.title, width - 2 * MARGIN_PIXELS, 1),
        INK,
    )
    moving = []
    for number, (text, frames, problem) in enumerate(rows):
        x = MARGIN_PIXELS + number % columns * step[0]
        y = top + number // columns * step[1]
        wrapped = small.wrap(text, size[0], lines)
        small.write(page, (x, y + size[1] + 3), wrapped, INK)
        if frames is None:
            _hole(page, (x, y), size, small, problem)
        else:
            moving.append((x, y, frames))
    still = np.asarray(page)
    longest = max(len(frames) for *_, frames in moving)
    moments = np.repeat(still[None], longest, axis=0)
    for x, y, frames in moving:
        for moment in range(longest):
            frame = frames[min(moment, len(frames) - 1)]
            moments[moment, y : y + size[1], x : x + size[0]] = frame
    write_video(path, moments, fps=_shape(sheet).fps, quality=MP4_QUALITY)
    return frozenset(small.left_out | head.left_out)


def _rows(sheet: Sheet, size: tuple[int, int]) -> Iterator[tuple[str, Frames | None, str]]:
    """The label and the frames of the reference and of each cell; where there are no frames, None
    and the reason."""
    first = sheet.cells[0]
    if first.clip is not None:
        inputs = {**first.job.inputs, sheet.run.axes.leading.role: first.clip}
        series = replace(first.job.series, inputs=inputs).resolved(sheet.run.root)
        frames, problem = _read(lambda: read_reference(series, size))
        yield f"{sheet.run.axes.leading.role} {first.clip.path.rpartition('/')[2]}", frames, problem
    texts = [axis for axis in sheet.run.axes.texts if axis.name in first.job.point]
    for cell in sheet.cells:
        numbers = " ".join(str(cell.job.on(axis.name)) for axis in texts)
        text = f"{numbers}: {cell.text}" if texts else cell.job.output.rpartition("/")[2]
        if cell.record is None:
            yield text, None, cell.state.value
        else:
            yield text, *_read(partial(_read_video, sheet.run.folder.video(cell.job), cell, size))


def _read_video(video: Path, cell: Cell, size: tuple[int, int]) -> Frames:
    return read_video(video, cell.shape, size)


def _read(read: Callable[[], Frames]) -> tuple[Frames | None, str]:
    """What `read` returns, or None with the reason where it cannot read."""
    try:
        clip = read()
    except FileNotFoundError:
        return None, "is not on this machine"
    except (BrokenVideo, OSError) as error:
        return None, str(error)
    return clip, ""


def _hole(
    image: Image.Image, at: tuple[int, int], size: tuple[int, int], small: Lettering, text: str
) -> None:
    image.paste(Image.new("RGB", size, HOLE), at)
    lines = small.wrap(text, size[0] - 16, max(1, size[1] // small.line_height - 1))
    small.write(image, (at[0] + 8, at[1] + 5), lines, QUIET)


def _shape(sheet: Sheet) -> Shape:
    return next(cell.shape for cell in sheet.cells if cell.record is not None)


def _size(sheet: Sheet, width: int) -> tuple[int, int]:
    own = _shape(sheet)
    return _even(width), _even(width * own.height / own.width)


def _even(size: float) -> int:
    return max(2, math.ceil(size / 2) * 2)


def _check(axes: Sequence[Axis], only: Mapping[str, Collection[str]]) -> None:
    known = {axis.name: axis.values for axis in axes}
    for name, values in only.items():
        if name not in known:
            raise UserError(f"--only {name}: no such axis (there are: {', '.join(known)})")
        for value in values:
            if not any(is_said(one, value) for one in known[name]):
                there = ", ".join(map(str, known[name]))
                raise UserError(f"--only {name}={value}: no such {name} (there are: {there})")


def _is_one(value: Any, texts: Collection[str]) -> bool:
    return any(is_said(value, text) for text in texts)
