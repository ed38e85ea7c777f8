"""The data set: reference clips on disk and their prompts, matched and checked as a whole."""

from __future__ import annotations

import difflib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .experiment import Experiment, check_category
from .grid import Setting
from .job_list import ListedJob, read_job_list
from .run_folder import sha256_file
from .video import BrokenVideo, VideoInfo, frames_available, probe

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov"})


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


NOT_READ = VideoInfo(width=0, height=0, num_frames=0, fps=1.0)
"""Of a clip from which nothing is made: it may be broken, and need not be looked at."""


@dataclass(frozen=True)
class Dataset:
    """The clips of an experiment in order, and what was left out of it, one line each."""

    clips: tuple[Clip, ...]
    left_out: tuple[str, ...]


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
            f"{experiment.file}: dataset: {number} (--skip-invalid leaves such clips out):\n"
            + "\n".join(problems)
        )
    if not clips:
        raise UserError(f"{experiment.file}: dataset: no usable clip is left in {shown(folder)}")
    return Dataset(clips, tuple(problems))


@dataclass(frozen=True)
class Wanted:
    """A clip's file, and what is to be made of it: see `Clip`."""

    category: str
    file: Path
    prompts: tuple[str, ...]
    listed: tuple[ListedJob, ...] | None = None


def clips_with_prompts(experiment: Experiment, folder: Path, problems: list[str]) -> list[Wanted]:
    """The clips of a grid with their prompts; what does not match is added to the problems."""
    prompts = read_prompts(experiment)
    found: list[Wanted] = []
    for category in find_categories(experiment, folder):
        files = find_videos(folder / category)
        own = prompts.pop(nfc(category), {})
        for file in files:
            is_left_out = not experiment.cut.given(point(category, file)).may_keep
            if nfc(file.stem) not in own and not is_left_out:
                problems.append(
                    f"{category}/{file.name}: has no prompts; add the key {file.stem!r} under "
                    f"{category!r} in {' or '.join(experiment.dataset.prompt_files)}"
                )
            else:
                found.append(Wanted(category, file, own.get(nfc(file.stem), ())))
        stems = {nfc(file.stem) for file in files}
        for name in own:
            if name not in stems:
                problems.append(
                    f"{category}/{name}: has prompts but no video in {shown(folder / category)}"
                )
        prompts[nfc(category)] = own
    if experiment.dataset.categories is None:
        known = {nfc(one.category) for one in found}
        for category in prompts:
            if category not in known and not (folder / category).is_dir():
                problems.append(f"{category}: has prompts but no folder in {shown(folder)}")
    return found


def listed_clips(experiment: Experiment, folder: Path) -> list[Wanted]:
    """The clips that a list of jobs names, in its order.

    Raises:
        UserError: lines that name no clip; each with its place.
    """
    categories = find_categories(experiment, folder)
    of_category = {nfc(category): category for category in categories}
    files = {
        category: {nfc(file.stem): file for file in find_videos(folder / category)}
        for category in categories
    }
    found: dict[Path, tuple[str, list[ListedJob]]] = {}
    problems = []
    for job in read_job_list(experiment):
        given = categories[0] if job.category is None and len(categories) == 1 else job.category
        if given is None or nfc(given) not in of_category:
            what = "is missing" if given is None else f"no category is called {given!r}"
            problems.append(f"{job.place}: category: {what} (there are: {', '.join(categories)})")
            continue
        category = of_category[nfc(given)]
        # A person may well write the file's name.
        stem = Path(job.video).stem if Path(job.video).suffix in VIDEO_SUFFIXES else job.video
        file = files[category].get(nfc(stem))
        if file is None:
            near = difflib.get_close_matches(stem, files[category], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(
                f"{job.place}: video: no clip is called {job.video!r} in "
                f"{shown(folder / category)}{hint}"
            )
            continue
        found.setdefault(file, (category, []))[1].append(job)
    if problems:
        raise UserError("\n".join(problems))
    return [
        Wanted(category, file, tuple(dict.fromkeys(job.prompt for job in jobs)), tuple(jobs))
        for file, (category, jobs) in found.items()
    ]


def point(category: str, file: Path) -> dict[str, str]:
    return {"category": category, "video": file.stem}


def read_clip_facts(experiment: Experiment, wanted: Wanted) -> tuple[Clip | None, list[str]]:
    """The clip in that file, None where nothing can be made of it; and what is wrong with it."""
    category, file = wanted.category, wanted.file
    settings = settings_wanted(experiment, wanted)
    path = f"{experiment.dataset.videos.rstrip('/')}/{category}/{file.name}"
    if not settings:
        clip = Clip(category, file.stem, path, "", NOT_READ, wanted.prompts, wanted.listed)
        return clip, []
    try:
        info = probe(file)
    except BrokenVideo as error:
        return None, [f"{category}/{file.name}: cannot be decoded: {error}"]
    except OSError as error:
        return None, [f"{category}/{file.name}: cannot be read: {error.strerror}"]
    fitting = [s for s in settings if is_long_enough(info, s.parameters)]
    lines = lacks(experiment, info, settings)
    problems = [f"{category}/{file.name}: {line}" for line in lines]
    if not fitting:
        return None, problems
    sha256 = sha256_file(file)
    return Clip(category, file.stem, path, sha256, info, wanted.prompts, wanted.listed), problems


def settings_wanted(experiment: Experiment, wanted: Wanted) -> list[Setting]:
    """The settings with which something is to be made of a clip."""
    cut = experiment.cut.given(point(wanted.category, wanted.file))
    settings: Iterable[Setting] = experiment.settings
    if wanted.listed is not None:
        settings = {id(job.setting): job.setting for job in wanted.listed}.values()
    return [setting for setting in settings if cut.given(setting.parameters).may_keep]


def is_long_enough(info: VideoInfo, parameters: Mapping[str, Any]) -> bool:
    """Whether a clip has the frames that a job of these parameters reads of it."""
    return bool(frames_available(info, parameters["fps"]) >= parameters["num_frames"])


def lacks(experiment: Experiment, info: VideoInfo, settings: Sequence[Setting]) -> Iterator[str]:
    """In what a clip is too short for these settings, a line for each frame rate."""
    short: dict[float, dict[int, None]] = {}
    for setting in settings:
        fps, num_frames = setting.parameters["fps"], setting.parameters["num_frames"]
        if frames_available(info, fps) < num_frames:
            short.setdefault(fps, {})[num_frames] = None
    asks = "axes.num_frames has" if "num_frames" in experiment.axes else "generation.num_frames is"
    if experiment.jobs is not None:
        asks = f"{experiment.jobs} asks for"
    for fps, wanted in short.items():
        yield (
            f"has {frames_available(info, fps)} frames at {fps:g} fps ({info.num_frames} at its "
            f"own {info.fps:g}), but {asks} {', '.join(map(str, wanted))}"
        )


def find_categories(experiment: Experiment, folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(
            f"{experiment.file}: dataset.videos: no such folder: {shown(folder)} "
            f"(relative paths start at {shown(experiment.data)})"
        )
    there = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__"))
    )
    chosen = experiment.dataset.categories
    if chosen is None:
        chosen = there
    missing = [name for name in chosen if not (folder / name).is_dir()]
    if missing:
        raise UserError(
            f"{experiment.file}: dataset.categories: no folder {missing[0]!r} in {shown(folder)} "
            f"(there are: {', '.join(there) or 'none'})"
        )
    if not chosen:
        raise UserError(
            f"{experiment.file}: dataset.videos: {shown(folder)} has no category folders; "
            "clips belong in <videos>/<category>/<video>.mp4"
        )
    for name in chosen:
        try:
            check_category(name)
        except ValueError as error:
            raise UserError(f"{experiment.file}: dataset.videos: {error}") from None
    return list(chosen)


def find_videos(folder: Path) -> list[Path]:
    """The clips of one category, by name."""
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
    )
    if not files:
        raise UserError(
            f"{shown(folder)}: this category is empty; put clips (.mp4 or .mov) there, or leave it "
            "out of dataset.categories"
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


def read_prompts(experiment: Experiment) -> dict[str, dict[str, tuple[str, ...]]]:
    """All prompts of all files as {category: {video: prompts}}, names in Unicode's NFC form.

    A file system may spell a name in another Unicode form than the JSON beside it.
    """
    merged: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in experiment.dataset.prompt_files:
        for category, videos in read_prompt_file(experiment, name).items():
            own = merged.setdefault(nfc(category), {})
            for video, prompts in videos.items():
                key = nfc(video)
                own[key] = own.get(key, ()) + prompts
                repeated = [text for text in own[key] if own[key].count(text) > 1]
                if repeated:
                    raise UserError(
                        f"{name}: {category}/{video}: the prompt {repeated[0]!r} is there twice; "
                        "for another take of it, add a seed"
                    )
    return merged


def read_prompt_file(experiment: Experiment, name: str) -> dict[str, dict[str, tuple[str, ...]]]:
    path = experiment.data / name
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{experiment.file}: dataset.prompts: no such file: {shown(path)} "
            f"(relative paths start at {shown(experiment.data)})"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{shown(path)}: is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    try:
        values = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{shown(path)}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)}: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{shown(path)}: must be {{category: {{video: [prompt, ...]}}}}")
    for category, videos in values.items():
        if not isinstance(videos, dict):
            raise UserError(f"{shown(path)}: {category}: must be {{video: [prompt, ...]}}")
        for video, prompts in videos.items():
            if not isinstance(prompts, list) or not all(
                isinstance(prompt, str) and prompt.strip() and is_utf8(prompt) for prompt in prompts
            ):
                raise UserError(f"{shown(path)}: {category}/{video}: must be a list of prompts")
            videos[video] = tuple(prompts)
    return {
        category: {video: prompts for video, prompts in videos.items() if prompts}
        for category, videos in values.items()
    }


def unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} is there twice")
        values[key] = value
    return values


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def shown(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
