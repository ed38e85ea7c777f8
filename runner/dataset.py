"""The data set: reference clips on disk and their prompts, matched and checked as a whole."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import UserError
from .experiment import Experiment
from .grid import Setting
from .job_list import ListedJob, read_job_list
from .manifest import read_manifest
from .matching import match
from .prompts import Prompts, read_prompts
from .reading import Reading
from .remarks import Remark, remarks_on
from .run_folder import RESERVED_LATER, sha256_file
from .sections import check_category, clip_name
from .text_file import nfc, shown
from .video import CLIP_SUFFIXES, BrokenVideo, Start, VideoInfo, frames_available, probe


@dataclass(frozen=True)
class Clip:
    """A reference clip with its prompts.

    `path` is as the experiment writes it: relative to the project root, or absolute. `listed` are
    its jobs where the experiment has a list of jobs in the place of a grid.
    """

    category: str
    video: str
    path: str
    sha256: str
    info: VideoInfo
    prompts: tuple[str, ...]
    listed: tuple[ListedJob, ...] | None = None

    @property
    def group(self) -> str:
        """The key of the jobs that are made from it."""
        return f"{self.category}/{self.video}"


NOT_READ = VideoInfo.steady(width=0, height=0, num_frames=0, fps=1.0)
"""Of a clip from which nothing is made: it may be broken, and need not be looked at."""


@dataclass(frozen=True)
class Dataset:
    """The clips of an experiment in order, what was left out of it, one line each, and what is
    worth knowing of the clips."""

    clips: tuple[Clip, ...]
    left_out: tuple[str, ...]
    remarks: tuple[Remark, ...] = ()


def read_dataset(experiment: Experiment, *, skip_invalid: bool = False) -> Dataset:
    """Find, decode and match every reference clip and prompt of an experiment.

    Args:
        skip_invalid: leave out clips that cannot be used (too short, broken, without prompts)
            and prompts without a clip, instead of raising.

    Raises:
        UserError: something does not fit; every unfit clip is named, one line each.
    """
    folder = experiment.data / experiment.dataset.videos
    problems: list[str] = []
    if experiment.jobs is not None:
        wanted = listed_clips(experiment, folder)
    else:
        wanted = clips_with_prompts(experiment, folder, problems)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda one: read_clip_facts(experiment, one), wanted))
    problems += [problem for _, own in results for problem in own]
    clips = tuple(clip for clip, _ in results if clip is not None)
    if problems and not skip_invalid:
        number = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
        raise UserError(
            f"{experiment.file}: dataset: {number} (--skip-invalid leaves such clips out):",
            *problems,
        )
    if not clips:
        raise UserError(f"{experiment.file}: dataset: no usable clip is left in {shown(folder)}")
    remarks = [remark for clip in clips for remark in remarks_of(experiment, clip)]
    return Dataset(clips, tuple(problems), tuple(remarks))


def remarks_of(experiment: Experiment, clip: Clip) -> Iterator[Remark]:
    """What is worth knowing of a clip, which is nothing where nothing is made of it."""
    if clip.info is not NOT_READ:
        settings = settings_wanted(experiment, clip)
        yield from remarks_on(clip.group, clip.info, [setting.parameters for setting in settings])


@dataclass(frozen=True)
class Wanted:
    """A clip's file, and what is to be made of it: see `Clip`."""

    category: str
    file: Path
    prompts: tuple[str, ...]
    listed: tuple[ListedJob, ...] | None = None

    @property
    def video(self) -> str:
        return self.file.stem


def clips_with_prompts(experiment: Experiment, folder: Path, problems: list[str]) -> list[Wanted]:
    """The clips of a grid with their prompts; what does not match is added to the problems."""
    files = find_clips(experiment, folder)
    problems += unknown_clips(experiment, files)
    found = match(
        files,
        read_own_prompts(experiment),
        folder=shown(folder),
        source=" or ".join(experiment.dataset.prompt_files),
        is_subset=experiment.dataset.categories is not None,
        elsewhere=stems_elsewhere(folder, files),
    )

    def is_cut(category: str, file: Path) -> bool:
        return not experiment.cut.given(point(category, file.stem)).may_keep

    problems += [
        str(one)
        for one in found.leftovers
        if one.clip is None or one.category is None or not is_cut(one.category, one.clip)
    ]
    return [
        Wanted(category, file, found.prompts.get(file, ()))
        for category, own in files.items()
        for file in own
        if file in found.prompts or is_cut(category, file)
    ]


def unknown_clips(experiment: Experiment, files: Mapping[str, Iterable[Path | str]]) -> list[str]:
    """A line for each name in `dataset.clips` that no clip has.

    Args:
        files: the clips' files, or stems, by category.
    """
    there = {
        clip_name(f"{category}/{file.stem if isinstance(file, Path) else file}")
        for category, own in files.items()
        for file in own
    }
    lines = []
    for name in experiment.dataset.clips:
        is_left_out = experiment.dataset.categories and name.partition("/")[0] not in files
        if name not in there and not is_left_out:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"dataset.clips: no clip is called {name}{hint}")
    return lines


def listed_clips(experiment: Experiment, folder: Path) -> list[Wanted]:
    """The clips that a list of jobs names, in its order.

    Raises:
        UserError: lines that name no clip; each with its place.
    """
    files = {
        category: {nfc(file.stem): file for file in own}
        for category, own in find_clips(experiment, folder).items()
    }
    categories = list(files)
    of_category = {nfc(category): category for category in categories}
    found: dict[Path, tuple[str, list[ListedJob]]] = {}
    # Jobs of the same parameters share their setting.
    settings: dict[tuple[int, Reading, Reading], Setting] = {}
    problems = unknown_clips(experiment, files)
    for job in read_job_list(experiment):
        given = categories[0] if job.category is None and len(categories) == 1 else job.category
        if given is None or nfc(given) not in of_category:
            what = "is missing" if given is None else f"no category is called {given!r}"
            problems.append(f"{job.place}: category: {what} (there are: {', '.join(categories)})")
            continue
        category = of_category[nfc(given)]
        # A person may well write the file's name.
        stem = Path(job.video).stem if Path(job.video).suffix in CLIP_SUFFIXES else job.video
        file = files[category].get(nfc(stem))
        if file is None:
            near = difflib.get_close_matches(stem, files[category], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(
                f"{job.place}: video: no clip is called {job.video!r} in "
                f"{shown(category_folder(folder, category))}{hint}"
            )
            continue
        usual = experiment.reading_of(category, file.stem)
        reading = replace(usual, **job.reading)
        key = (id(job.setting), reading, usual)
        if key not in settings:
            settings[key] = job.setting.read_as(reading, usual)
        job = replace(job, setting=settings[key])
        found.setdefault(file, (category, []))[1].append(job)
    if problems:
        raise UserError(*problems)
    return [
        Wanted(category, file, tuple(dict.fromkeys(job.prompt for job in jobs)), tuple(jobs))
        for file, (category, jobs) in found.items()
    ]


def point(category: str, video: str) -> dict[str, str]:
    return {"category": category, "video": video}


def read_clip_facts(experiment: Experiment, wanted: Wanted) -> tuple[Clip | None, list[str]]:
    """The clip in that file, None where nothing can be made of it; and what is wrong with it."""
    category, file = wanted.category, wanted.file
    settings = settings_wanted(experiment, wanted)
    path = path_of(experiment, file)
    if not settings:
        clip = Clip(category, file.stem, path, "", NOT_READ, wanted.prompts, wanted.listed)
        return clip, []
    try:
        info = probe(file)
    except BrokenVideo as error:
        return None, [f"{category}/{file.name}: {error.says}: {error}"]
    except OSError as error:
        return None, [f"{category}/{file.name}: cannot be read: {error.strerror}"]
    fitting = [s for s in settings if is_long_enough(info, s.parameters)]
    lines = lacks(experiment, info, settings)
    problems = [f"{category}/{file.name}: {line}" for line in lines]
    if not fitting:
        return None, problems
    sha256 = sha256_file(file)
    return Clip(category, file.stem, path, sha256, info, wanted.prompts, wanted.listed), problems


def settings_wanted(experiment: Experiment, wanted: Wanted | Clip) -> list[Setting]:
    """The settings with which something is to be made of a clip."""
    cut = experiment.cut.given(point(wanted.category, wanted.video))
    settings: Iterable[Setting] = experiment.settings_of(wanted.category, wanted.video)
    if wanted.listed is not None:
        settings = {id(job.setting): job.setting for job in wanted.listed}.values()
    return [setting for setting in settings if cut.given(setting.complete).may_keep]


def is_long_enough(info: VideoInfo, parameters: Mapping[str, Any]) -> bool:
    """Whether a clip has the frames that a job of these parameters reads of it."""
    start = Reading.of(parameters).start
    return bool(frames_available(info, parameters["fps"], start) >= parameters["num_frames"])


def lacks(experiment: Experiment, info: VideoInfo, settings: Sequence[Setting]) -> Iterator[str]:
    """In what a clip is too short for these settings, a line for each frame rate and start."""
    short: dict[tuple[float, Start], dict[int, None]] = {}
    for setting in settings:
        if not is_long_enough(info, setting.parameters):
            read = setting.parameters["fps"], Reading.of(setting.parameters).start
            short.setdefault(read, {})[setting.parameters["num_frames"]] = None
    asks = "axes.num_frames has" if "num_frames" in experiment.axes else "generation.num_frames is"
    if experiment.jobs is not None:
        asks = f"{experiment.jobs} asks for"
    for (fps, start), wanted in short.items():
        behind = "" if start in (0, "middle") else f" from {start:g} s on"
        yield (
            f"has {frames_available(info, fps, start)} frames at {fps:g} fps{behind} "
            f"({info.num_frames} at its own {info.fps:g}), but {asks} {', '.join(map(str, wanted))}"
        )


def path_of(experiment: Experiment, file: Path) -> str:
    """A clip's path as the experiment writes paths."""
    inside = file.relative_to(experiment.data / experiment.dataset.videos).as_posix()
    return f"{experiment.dataset.videos.rstrip('/')}/{inside}"


def read_own_prompts(experiment: Experiment) -> Prompts:
    """The prompts that an experiment names."""
    paths = [experiment.data / name for name in experiment.dataset.prompt_files]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{experiment.file}: dataset.prompts: no such file: {shown(path)} "
                f"(relative paths start at {shown(experiment.data)})"
            )
    return read_prompts(paths)


def find_clips(experiment: Experiment, folder: Path) -> dict[str, list[Path]]:
    """The clips of every category of an experiment, in its order."""
    return {
        category: find_videos(category_folder(folder, category))
        for category in find_categories(experiment, folder)
    }


def find_categories(experiment: Experiment, folder: Path) -> list[str]:
    """The categories of an experiment: the folders of `<videos>/<category>/<video>.mp4`, or
    where the clips lie in `<videos>` itself, one: as `dataset.categories` calls it, else as the
    folder is called.

    Raises:
        UserError: there is no such folder, or a name that no category can have.
    """
    if not folder.is_dir():
        raise UserError(
            f"{experiment.file}: dataset.videos: no such folder: {shown(folder)} "
            f"(relative paths start at {shown(experiment.data)})"
        )
    flat = is_flat(folder)
    there = [folder.resolve().name] if flat else subfolders(folder)
    chosen = there if experiment.dataset.categories is None else experiment.dataset.categories
    if flat and len(chosen) > 1:
        raise UserError(
            f"{experiment.file}: dataset.categories: the clips lie in {shown(folder)} itself, as "
            f"one category; name one instead of {', '.join(chosen)}, or sort them into folders"
        )
    missing = [name for name in chosen if not (flat or (folder / name).is_dir())]
    if missing:
        raise UserError(
            f"{experiment.file}: dataset.categories: no folder {missing[0]!r} in {shown(folder)} "
            f"(there are: {', '.join(there) or 'none'})"
        )
    if not chosen:
        raise UserError(
            f"{experiment.file}: dataset.videos: {shown(folder)} has neither clips nor category "
            "folders; clips belong in <videos>/<category>/<video>.mp4"
        )
    had = planned_categories(experiment) if RESERVED_LATER & set(chosen) else ()
    for name in chosen:
        try:
            check_category(name, had=had)
        except ValueError as error:
            raise UserError(f"{experiment.file}: dataset.videos: {error}") from None
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


def is_flat(folder: Path) -> bool:
    """Whether clips lie in a folder itself, and in none of its own folders."""
    return has_clips(folder) and not any(has_clips(folder / name) for name in subfolders(folder))


def has_clips(folder: Path) -> bool:
    return any(is_clip(path) for path in folder.iterdir())


def category_folder(folder: Path, category: str) -> Path:
    """Where the clips of a category lie."""
    return folder if is_flat(folder) else folder / category


def stems_elsewhere(folder: Path, clips: Mapping[str, object]) -> frozenset[str]:
    """The NFC stems of clips in categories that an experiment leaves out."""
    others = set(subfolders(folder)) - set(clips)
    files = (path for name in others for path in (folder / name).iterdir())
    return frozenset(nfc(path.stem) for path in files if is_clip(path))


def is_clip(path: Path) -> bool:
    return path.suffix.lower() in CLIP_SUFFIXES and not path.name.startswith(".")


def find_videos(folder: Path) -> list[Path]:
    """The clips of one category, by name."""
    files = sorted(path for path in folder.iterdir() if is_clip(path))
    if not files:
        raise UserError(
            f"{shown(folder)}: this category is empty; put clips there "
            f"({', '.join(CLIP_SUFFIXES)}), or leave it out of dataset.categories"
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
                "the clip, so rename one"
            )
    return files
