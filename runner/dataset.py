"""The data set: reference clips on disk and their prompts, matched and checked as a whole."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .experiment import Experiment, check_category
from .run_folder import sha256_file
from .video import BrokenVideo, VideoInfo, frames_available, probe

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov"})


@dataclass(frozen=True)
class Clip:
    """A reference clip with its prompts.

    `path` is as the experiment writes it: relative to the project root, or absolute.
    """

    category: str
    video: str
    path: str
    sha256: str
    info: VideoInfo
    prompts: tuple[str, ...]


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
    prompts = read_prompts(experiment)
    problems: list[str] = []
    found: list[tuple[str, Path]] = []
    for category in find_categories(experiment, folder):
        files = find_videos(folder / category)
        own = prompts.pop(nfc(category), {})
        for file in files:
            if nfc(file.stem) not in own:
                problems.append(
                    f"{category}/{file.name}: has no prompts; add the key {file.stem!r} under "
                    f"{category!r} in {' or '.join(experiment.dataset.prompt_files)}"
                )
            else:
                found.append((category, file))
        stems = {nfc(file.stem) for file in files}
        for name in own:
            if name not in stems:
                problems.append(
                    f"{category}/{name}: has prompts but no video in {shown(folder / category)}"
                )
        prompts[nfc(category)] = own
    if experiment.dataset.categories is None:
        known = {nfc(category) for category, _ in found}
        for category in prompts:
            if category not in known and not (folder / category).is_dir():
                problems.append(f"{category}: has prompts but no folder in {shown(folder)}")

    def read(item: tuple[str, Path]) -> Clip | str:
        category, file = item
        return read_clip_facts(experiment, category, file, prompts[nfc(category)][nfc(file.stem)])

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(read, found))
    problems += [result for result in results if isinstance(result, str)]
    clips = tuple(result for result in results if isinstance(result, Clip))
    if problems and not skip_invalid:
        number = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
        raise UserError(
            f"{experiment.file}: dataset: {number} (--skip-invalid leaves such clips out):\n"
            + "\n".join(problems)
        )
    if not clips:
        raise UserError(f"{experiment.file}: dataset: no usable clip is left in {shown(folder)}")
    return Dataset(clips, tuple(problems))


def read_clip_facts(
    experiment: Experiment, category: str, file: Path, prompts: tuple[str, ...]
) -> Clip | str:
    """The clip in that file, or what is wrong with it."""
    generation = experiment.generation
    try:
        info = probe(file)
    except BrokenVideo as error:
        return f"{category}/{file.name}: cannot be decoded: {error}"
    except OSError as error:
        return f"{category}/{file.name}: cannot be read: {error.strerror}"
    available = frames_available(info, generation.fps)
    if available < generation.num_frames:
        return (
            f"{category}/{file.name}: has {available} frames at {generation.fps:g} fps "
            f"({info.num_frames} at its own {info.fps:g}), but generation.num_frames is "
            f"{generation.num_frames}"
        )
    return Clip(
        category=category,
        video=file.stem,
        path=f"{experiment.dataset.videos.rstrip('/')}/{category}/{file.name}",
        sha256=sha256_file(file),
        info=info,
        prompts=prompts,
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
