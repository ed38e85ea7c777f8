"""What an experiment file would say of a folder of clips, their prompts and a former script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backends.wan.checkpoint import Checkpoint
from ..backends.wan.finding import find_checkpoint
from ..dataset.files import find_files, has_any, is_flat, is_one, subfolders
from ..dataset.matching import Match, match
from ..dataset.prompts import SUFFIXES, Prompts, is_utf8, read_prompts
from ..dataset.remarks import remark_lines, remarks_on
from ..experiment.sections import check_category
from ..job.axes import InputKind
from ..machine.machine_file import MachineFile
from ..text.errors import UserError
from ..text.text_file import nfc, shown
from ..video import CLIP_SUFFIXES, BrokenVideo, Fit, VideoInfo, frames_available, probe
from .former_config import FormerConfig
from .shape import TINY, WAN, four_n_plus_1, of_16, propose_shape

FULL_CHECKPOINT = "models/Wan2.1-T2V-14B"
PROMPT_NAMES = ("prompt", "prompts")
OTHER_VIDEOS = frozenset({".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".vob"})


@dataclass(frozen=True)
class InitWish:
    """What a person names: paths as given, each None where it is not."""

    root: Path
    machine: MachineFile
    videos: Path | None = None
    prompts: Path | None = None
    checkpoint: str | None = None
    config: FormerConfig | None = None

    @property
    def data(self) -> Path:
        """Where the data set's relative paths start."""
        named = self.machine.data
        return self.root if named is None else self.machine.path(named)


@dataclass(frozen=True)
class Proposal:
    """An experiment to be written. `values` and `notes` are by dotted key, notes for a comment.

    `problems` keep it from being planned as it is; `remarks` are worth knowing.
    """

    values: Mapping[str, Any]
    notes: Mapping[str, str]
    categories: Mapping[str, int]
    prompts: int
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def clips(self) -> int:
        return sum(self.categories.values())

    @property
    def videos(self) -> int:
        """So many jobs."""
        return self.prompts * len(self.values["seeds"])


@dataclass
class _Draft:
    """A proposal in the making."""

    values: dict[str, Any]
    notes: dict[str, str]
    problems: list[str]
    remarks: list[str]


def propose(wish: InitWish) -> Proposal:
    """Look at clips, prompts and configuration, and say what an experiment of them would be.

    Raises:
        UserError: there are no clips, no prompts are found, or one of these cannot be read.
    """
    config = wish.config
    draft = _Draft({}, {}, [], [])
    folder = videos_folder(wish)
    clips = find_categories(folder, draft)
    prompt_path, prompts = find_prompts(wish, folder, clips)
    if is_flat(folder, InputKind.CLIP):
        (files,) = clips.values()
        clips = {flat_name(folder, prompts): files}
        draft.values["dataset.categories"] = list(clips)
        draft.notes["dataset.categories"] = (
            "what the clips are called together; a job's name has it"
        )
    draft.values["dataset.videos"] = written(folder, wish.data)
    draft.values["dataset.prompts"] = written(prompt_path, wish.data)
    draft.notes["dataset.prompts"] = "JSON, YAML, CSV, TSV, .txt or a folder of <video>.txt"
    source = draft.values["dataset.prompts"]
    found = match(clips, prompts, folder=shown(folder), source=source)
    draft.problems += map(str, found.leftovers)
    infos = probe_all(clips, draft)
    add_model(wish, draft)
    add_shape(infos, draft, config)
    if config is not None:
        add_config(config, draft)
    draft.values.setdefault("seeds", [42])
    draft.values.setdefault("placement.gpus", "auto")
    draft.values.setdefault("placement.processes_per_gpu", 1)
    check_assignment(draft, clips)
    add_lengths(infos, draft)
    add_remarks(infos, draft)
    return Proposal(
        draft.values,
        draft.notes,
        {category: len(files) for category, files in clips.items()},
        count_prompts(found),
        tuple(draft.problems),
        tuple(draft.remarks),
    )


def count_prompts(found: Match) -> int:
    return sum(len(texts) for texts in found.prompts.values())


def videos_folder(wish: InitWish) -> Path:
    """The folder of clips that a person names, else the one that the configuration does."""
    if wish.videos is not None:
        folder = wish.videos.absolute()
        if not folder.is_dir():
            raise UserError(f"--videos: no such folder: {shown(folder)}")
        return folder
    if wish.config is None or "dataset.videos" not in wish.config.values:
        raise UserError("where are the clips? say --videos FOLDER")
    folder = near_config(wish.config, wish.config.values["dataset.videos"])
    if not folder.is_dir():
        raise UserError(f"{shown(wish.config.file)}: no such folder: {shown(folder)}; say --videos")
    return folder


def near_config(config: FormerConfig, path: str) -> Path:
    """A path of a configuration: seen from its folder, or from where the shell stands."""
    beside = config.file.absolute().parent / path
    return beside if beside.exists() or not Path(path).exists() else Path(path).absolute()


def find_categories(folder: Path, draft: _Draft) -> dict[str, list[Path]]:
    """The clips by category; what cannot be a category is told of and left out."""
    if is_flat(folder, InputKind.CLIP):
        draft.remarks += unreadable(folder)
        return {"": find_files(folder, InputKind.CLIP)}
    clips: dict[str, list[Path]] = {}
    left_out = False
    for name in subfolders(folder):
        draft.remarks += unreadable(folder / name)
        if not has_any(folder / name, InputKind.CLIP):
            draft.remarks.append(
                f"{name}: left out, for there are no clips in it ({', '.join(CLIP_SUFFIXES)})"
            )
            left_out = True
            continue
        written(folder / name, folder)
        try:
            check_category(name)
        except ValueError as error:
            raise UserError(f"{shown(folder)}: {error}") from None
        clips[name] = find_files(folder / name, InputKind.CLIP)
    if not clips:
        raise UserError(
            f"{shown(folder)}: has no clips; they belong in <category>/<video>.mp4 or <video>.mp4 "
            f"below it ({', '.join(CLIP_SUFFIXES)})"
        )
    loose = sum(is_one(path, InputKind.CLIP) for path in folder.iterdir())
    if loose:
        draft.remarks.append(f"{loose} clips lie beside the category folders and are left out")
    if left_out:
        draft.values["dataset.categories"] = list(clips)
    return clips


def unreadable(folder: Path) -> Iterator[str]:
    """A line for videos of a kind that is not read."""
    others = [path.name for path in folder.iterdir() if path.suffix.lower() in OTHER_VIDEOS]
    if others:
        yield (
            f"{shown(folder)}: {len(others)} files such as {sorted(others)[0]} are not read; turn "
            "them into MP4 (ffmpeg -i FILE FILE.mp4)"
        )


def flat_name(folder: Path, prompts: Prompts) -> str:
    """What to call clips without folders: as the prompts do, else as their own folder."""
    names = list(prompts.by_category) or [folder.resolve().name]
    try:
        check_category(names[0])
    except ValueError:
        return "clips"
    return names[0] if len(names) == 1 else "clips"


def find_prompts(
    wish: InitWish, folder: Path, clips: Mapping[str, Sequence[Path]]
) -> tuple[Path, Prompts]:
    """The prompts that are named, else those that lie beside the clips and fit most of them.

    Raises:
        UserError: there are none.
    """
    named = wish.prompts
    if named is None and wish.config is not None and "dataset.prompts" in wish.config.values:
        named = near_config(wish.config, wish.config.values["dataset.prompts"])
    if named is not None:
        if not named.exists():
            raise UserError(f"--prompts: no such file: {shown(named)}")
        return named.absolute(), read_prompts([named])
    best: tuple[int, Path, Prompts] | None = None
    for path in prompt_places(folder, wish.root):
        try:
            prompts = read_prompts([path])
        except UserError:
            # It only looked like one.
            continue
        fits = sum(
            bool(prompts.of(category, [file.stem, file.name]))
            for category, files in clips.items()
            for file in files
        )
        if fits and (best is None or fits > best[0]):
            best = (fits, path, prompts)
    if best is None:
        raise UserError(
            f"{shown(folder)}: no prompts for these clips lie beside it; say --prompts FILE (JSON, "
            "YAML, CSV, TSV, a .txt for every clip, or a folder of <video>.txt)"
        )
    return best[1], best[2]


def prompt_places(folder: Path, root: Path) -> Iterator[Path]:
    """Where prompts for a folder of clips usually lie, the likeliest first."""
    seen: set[Path] = set()
    for searched in (folder.parent, folder, folder.parent / "prompts", root / "prompts", root):
        if not searched.is_dir():
            continue
        files = sorted(path for path in searched.iterdir() if path.suffix.lower() in SUFFIXES)
        likely = [path for path in files if nfc(path.stem).lower() in PROMPT_NAMES]
        inside = files if searched.name == "prompts" else []
        for path in (*likely, *inside):
            if path not in seen and path.is_file() and path.suffix.lower() != ".txt":
                seen.add(path)
                yield path
        texts = searched / "prompts" if searched.name != "prompts" else searched
        if texts.is_dir() and texts not in seen:
            seen.add(texts)
            yield texts
        yield from (path for path in likely if path.suffix.lower() == ".txt")
    yield folder


def probe_all(clips: Mapping[str, Sequence[Path]], draft: _Draft) -> dict[str, VideoInfo]:
    """What every clip is, by `category/file`; those that cannot be decoded are problems.

    Raises:
        UserError: none can be decoded.
    """
    files = [(f"{category}/{file.name}", file) for category in clips for file in clips[category]]

    def look(item: tuple[str, Path]) -> VideoInfo | str:
        try:
            return probe(item[1])
        except BrokenVideo as error:
            return f"{item[0]}: {error.says}: {error}"
        except OSError as error:
            return f"{item[0]}: cannot be read: {error.strerror}"

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(look, files))
    draft.problems += [result for result in results if isinstance(result, str)]
    infos = {
        name: result
        for (name, _), result in zip(files, results, strict=True)
        if isinstance(result, VideoInfo)
    }
    if not infos:
        raise UserError("no clip can be decoded:", *draft.problems[:10])
    return infos


def add_model(wish: InitWish, draft: _Draft) -> None:
    """The checkpoint that is named, one that lies in models/, or the place for one."""
    config = wish.config
    named = wish.checkpoint or (config.values.get("model.checkpoint") if config else None)
    if named == "tiny":
        draft.values["model.checkpoint"] = "tiny"
        draft.notes["model.checkpoint"] = (
            "the small model that ships with sweep; a folder otherwise"
        )
        return
    folder: Path | None
    if named is None:
        weights_files = sorted((wish.root / "models").glob("*/diffusion_pytorch_model*"))
        folder = next((p.parent for p in weights_files if not Checkpoint(p.parent).missing()), None)
        folder = folder or wish.root / FULL_CHECKPOINT
    elif wish.checkpoint is None and config is not None:
        folder = near_config(config, named)
    else:
        folder = Path(named).absolute()
    draft.values["model.checkpoint"] = written(folder, wish.root)
    draft.notes["model.checkpoint"] = "folder of the published Wan2.1 files, or tiny to try it out"
    kept = [wish.machine.path(text) for text in wish.machine.checkpoints]
    folder = find_checkpoint(wish.root, draft.values["model.checkpoint"], kept)
    absent = Checkpoint(folder).missing()
    if absent:
        draft.values["model.identity"] = folder.name or "Wan2.1"
        draft.notes["model.identity"] = (
            "a name that stands for the weights; without it they are read and hashed"
        )
        draft.remarks.append(
            f"model.checkpoint: {shown(folder)} lacks {', '.join(absent)}; a launch needs them"
        )


def add_shape(infos: Mapping[str, VideoInfo], draft: _Draft, config: FormerConfig | None) -> None:
    tiny = draft.values["model.checkpoint"] == "tiny"
    limits = TINY if tiny else WAN
    if config is not None:
        # A rate or a frame count that is given bounds what the other can be.
        fps = config.values.get("generation.fps", limits.fps)
        frames = config.values.get("generation.num_frames", limits.num_frames)
        limits = replace(limits, fps=fps, num_frames=frames)
    proposed = propose_shape(infos, limits)
    for key, note in proposed.notes.items():
        draft.values[f"generation.{key}"] = getattr(proposed.shape, key)
        draft.notes[f"generation.{key}"] = note
    if tiny:
        draft.values |= {"generation.num_inference_steps": 12, "generation.cfg_scale": 3.5}
        draft.values["generation.denoising_strength"] = 0.7


def add_config(config: FormerConfig, draft: _Draft) -> None:
    """What a former script was told wins; Wan's own rules of size and frames stay."""
    for key, value in config.values.items():
        if key in ("dataset.videos", "dataset.prompts", "model.checkpoint"):
            continue
        draft.values[key] = value
        draft.notes[key] = f"{config.spelled[key]} in {config.file.name}"
    for key in ("generation.width", "generation.height"):
        adjust(draft, key, of_16(draft.values[key]), "a multiple of 16")
    frames = draft.values["generation.num_frames"]
    adjust(draft, "generation.num_frames", four_n_plus_1(frames), "4n+1")
    name = config.file.name
    draft.remarks += [f"{name}: not understood: {line}" for line in config.not_understood]


def adjust(draft: _Draft, key: str, value: int, rule: str) -> None:
    if draft.values[key] != value:
        draft.remarks.append(f"{key}: {draft.values[key]} is not {rule}; {value} is written")
        draft.values[key] = value


def check_assignment(draft: _Draft, clips: Mapping[str, object]) -> None:
    assign = draft.values.get("placement.assign", {})
    gpus = draft.values["placement.gpus"]
    for category in list(assign):
        if category not in clips:
            draft.remarks.append(f"placement.assign: {category}: left out, for there is none")
            del assign[category]
        elif gpus != "auto" and set(assign[category]) - set(gpus):
            draft.problems.append(
                f"placement.assign: {category}: {assign[category]} is not among the GPUs {gpus}"
            )
    if "placement.assign" in draft.values and not assign:
        del draft.values["placement.assign"]


def add_lengths(infos: Mapping[str, VideoInfo], draft: _Draft) -> None:
    """A problem for every clip that is too short for what is asked for."""
    fps, frames = draft.values["generation.fps"], draft.values["generation.num_frames"]
    for name, info in infos.items():
        available = frames_available(info, fps)
        if available < frames:
            draft.problems.append(
                f"{name}: has {available} frames at {fps:g} fps ({info.num_frames} at its own "
                f"{info.fps:g}), and num_frames is {frames}"
            )


def add_remarks(infos: Mapping[str, VideoInfo], draft: _Draft) -> None:
    """What is worth knowing of the clips at the proposed size."""
    width, height = (draft.values[f"generation.{side}"] for side in ("width", "height"))
    wanted: list[tuple[int, int, Fit]] = [(width, height, "crop")]
    remarks = [one for name, info in infos.items() for one in remarks_on(name, info, wanted)]
    draft.remarks += remark_lines(remarks, most=len(infos))


def written(path: Path, root: Path) -> str:
    """A path as the experiment writes it: relative to `root` where it lies below.

    Raises:
        UserError: no file could hold it.
    """
    # A link keeps its name, but what goes up has to be followed.
    path, root = (p.resolve() if ".." in p.parts else p.absolute() for p in (path, root))
    if not is_utf8(str(path)):
        raise UserError(f"{shown(path)}: is not UTF-8; rename it")
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
