"""Where the values of a file axis lie: categories and files, in their folders."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from ..disk.manifest import read_manifest
from ..disk.run_folder import RESERVED_LATER
from ..experiment.experiment import Experiment
from ..experiment.sections import check_category
from ..job.axes import InputAxis, InputKind
from ..text.errors import UserError
from ..text.text_file import nfc, shown
from ..video import AUDIO_SUFFIXES, CLIP_SUFFIXES
from .run_videos import RunVideo, run_videos

SUFFIXES: Mapping[InputKind, tuple[str, ...]] = {
    InputKind.CLIP: CLIP_SUFFIXES,
    InputKind.AUDIO: AUDIO_SUFFIXES,
}
PLURAL = {InputKind.CLIP: "clips", InputKind.AUDIO: "audio files"}

FileValue = Path | RunVideo
"""A value of a file axis: a file, or a video that another run makes. Both have a `name` and a
`stem`."""


def folder_of(experiment: Experiment, axis: InputAxis) -> Path:
    """The folder in which the values of an axis lie that the experiment has."""
    source = experiment.dataset.source(axis)
    assert source is not None, axis.key
    return experiment.data / source


def source_of(experiment: Experiment, axis: InputAxis) -> str:
    """Where the values of an axis lie, for a person."""
    source = experiment.dataset.run_videos(axis)
    return shown(folder_of(experiment, axis)) if source is None else f"the sweep {source.run}"


def find_leads(experiment: Experiment) -> dict[str, list[FileValue]]:
    """The values of the leading axis, by category, in the experiment's order.

    Raises:
        UserError: there are none, or a category that there is not is named.
    """
    axis = experiment.input_axes.leading
    source = experiment.dataset.run_videos(axis)
    if source is not None:
        return in_categories(experiment, run_videos(experiment, axis, source), source.run)
    folder = folder_of(experiment, axis)
    return {
        category: [*find_files(category_folder(folder, category, axis.kind), axis.kind)]
        for category in find_categories(experiment, folder)
    }


def in_categories(
    experiment: Experiment, found: Mapping[str, list[RunVideo]], run: str
) -> dict[str, list[FileValue]]:
    """The videos of another run in the categories that the experiment names."""
    names = experiment.dataset.categories or list(found)
    for name in names:
        if name not in found:
            raise UserError(
                f"{experiment.file}: dataset.categories: {run} has no videos of {name!r} (there "
                f"are: {', '.join(found)})"
            )
    return {name: [*found[name]] for name in names}


def find_companions(
    experiment: Experiment, axis: InputAxis, categories: Collection[str]
) -> dict[str, list[FileValue]]:
    """The values of a further axis that go with each category: files in a folder of its name,
    else those that lie in the axis' folder itself; another run's videos of that category, else
    all of them.

    Raises:
        UserError: there are none.
    """
    source = experiment.dataset.run_videos(axis)
    if source is not None:
        found = run_videos(experiment, axis, source)
        every = [video for own in found.values() for video in own]
        return {category: [*found.get(category, every)] for category in categories}
    folder = folder_of(experiment, axis)
    if not folder.is_dir():
        raise UserError(
            f"{experiment.file}: dataset.{axis.key}: no such folder: {shown(folder)} "
            f"(relative paths start at {shown(experiment.data)})"
        )
    own = {category: folder / category for category in categories}
    return {
        category: [*find_files(path if path.is_dir() else folder, axis.kind)]
        for category, path in own.items()
    }


def find_categories(experiment: Experiment, folder: Path) -> list[str]:
    """The categories of an experiment: the folders of `<videos>/<category>/<video>.mp4`, or
    where the files lie in `<videos>` itself, one: as `dataset.categories` calls it, else as the
    folder is called.

    Raises:
        UserError: there is no such folder, or a name that no category can have.
    """
    axis = experiment.input_axes.leading
    where, kind = f"{experiment.file}: dataset.{axis.key}", axis.kind
    if not folder.is_dir():
        raise UserError(
            f"{where}: no such folder: {shown(folder)} "
            f"(relative paths start at {shown(experiment.data)})"
        )
    flat = is_flat(folder, kind)
    there = [folder.resolve().name] if flat else subfolders(folder)
    chosen = there if experiment.dataset.categories is None else experiment.dataset.categories
    if flat and len(chosen) > 1:
        raise UserError(
            f"{experiment.file}: dataset.categories: the {PLURAL[kind]} lie in {shown(folder)} "
            f"itself, as one category; name one instead of {', '.join(chosen)}, or sort them into "
            "folders"
        )
    missing = [name for name in chosen if not (flat or (folder / name).is_dir())]
    if missing:
        raise UserError(
            f"{experiment.file}: dataset.categories: no folder {missing[0]!r} in {shown(folder)} "
            f"(there are: {', '.join(there) or 'none'})"
        )
    if not chosen:
        suffix = SUFFIXES[kind][0]
        raise UserError(
            f"{where}: {shown(folder)} has neither {PLURAL[kind]} nor category folders; "
            f"{PLURAL[kind]} belong in <{axis.key}>/<category>/<{axis.name}>{suffix}"
        )
    had = planned_categories(experiment) if RESERVED_LATER & set(chosen) else ()
    for name in chosen:
        try:
            check_category(name, had=had)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
    return list(chosen)


def planned_categories(experiment: Experiment) -> frozenset[str]:
    """The categories that an experiment's run folder has."""
    try:
        former = read_manifest(experiment.run_folder.manifest)
    except (FileNotFoundError, UserError):
        return frozenset()
    return frozenset(job.category for job in (*former.jobs, *former.retired))


def subfolders(folder: Path) -> list[str]:
    """The names of the folders that are categories, sorted."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__"))
    )


def is_flat(folder: Path, kind: InputKind) -> bool:
    """Whether files of a kind lie in a folder itself, and in none of its own folders."""
    return has_any(folder, kind) and not any(
        has_any(folder / name, kind) for name in subfolders(folder)
    )


def has_any(folder: Path, kind: InputKind) -> bool:
    return any(is_one(path, kind) for path in folder.iterdir())


def category_folder(folder: Path, category: str, kind: InputKind) -> Path:
    """Where the files of a category lie."""
    return folder if is_flat(folder, kind) else folder / category


def stems_elsewhere(folder: Path, files: Mapping[str, object], kind: InputKind) -> frozenset[str]:
    """The NFC stems of files in categories that an experiment leaves out."""
    others = set(subfolders(folder)) - set(files)
    paths = (path for name in others for path in (folder / name).iterdir())
    return frozenset(nfc(path.stem) for path in paths if is_one(path, kind))


def is_one(path: Path, kind: InputKind) -> bool:
    """Whether a file is of a kind, by its name."""
    return path.suffix.lower() in SUFFIXES[kind] and not path.name.startswith(".")


def find_files(folder: Path, kind: InputKind) -> list[Path]:
    """The files of a kind in one folder, by name.

    Raises:
        UserError: there are none, or two would have one name in output paths.
    """
    files = sorted(path for path in folder.iterdir() if is_one(path, kind))
    if not files:
        raise UserError(
            f"{shown(folder)}: this category is empty; put {PLURAL[kind]} there "
            f"({', '.join(SUFFIXES[kind])}), or leave it out of dataset.categories"
        )
    stems: dict[str, Path] = {}
    for path in files:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{shown(path)}: the file name is not UTF-8; rename it") from None
        former = stems.setdefault(nfc(path.stem), path)
        if former is not path:
            raise UserError(
                f"{shown(path)}: shares its name with {former.name}; outputs are named after "
                "the file, so rename one"
            )
    return files
