"""The data set: files on disk and their prompts, matched, read and checked as a whole."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from ..disk.run_folder import sha256_file
from ..experiment.experiment import Experiment
from ..experiment.grid import ParameterSet
from ..experiment.sections import clip_name
from ..job import FileInput, Input
from ..job.axes import InputAxis, InputKind
from ..job.shape import Shape
from ..text.errors import UserError
from ..text.text_file import nfc, shown
from ..video import BrokenVideo, ClipStart, VideoInfo, frames_available, probe, probe_audio
from ..video.reading import Reading
from .files import (
    SUFFIXES,
    FileValue,
    find_companions,
    find_leads,
    folder_of,
    source_of,
    stems_elsewhere,
)
from .job_list import ListedJob, read_job_list
from .matching import match
from .prompts import Prompts, read_prompts
from .remarks import Remark, remarks_on
from .run_videos import RunVideo

NOT_READ = VideoInfo.steady(width=0, height=0, num_frames=0, fps=1.0)
"""Of a file from which nothing is made: it may be broken, and need not be looked at."""

READERS: Mapping[InputKind, Callable[[Path], Any]] = {
    InputKind.CLIP: probe,
    InputKind.AUDIO: probe_audio,
}
"""What is read of a file, by its kind: the facts that a job's shape may depend on."""


@dataclass(frozen=True)
class Item:
    """A value of a file axis.

    Args:
        given: what jobs are given; the path of a file is as the experiment writes it: relative
            to where the data lies, or absolute.
        info: what was read of it.
    """

    name: str
    given: Input
    info: Any


ItemByAxis = Mapping[str, Item]
"""What goes with an item of the leading axis: an item of each further file axis, by its name."""


@dataclass(frozen=True)
class Lead:
    """An item of the leading axis, and what goes with it.

    Args:
        prompts: its texts; () where the backend takes none.
        beside: each combination of items of the further file axes.
        listed: its jobs, where the experiment has a list of jobs in the place of a grid.
    """

    category: str
    item: Item
    prompts: tuple[str, ...]
    beside: tuple[ItemByAxis, ...] = ({},)
    listed: tuple[ListedJob, ...] | None = None

    @property
    def name(self) -> str:
        return self.item.name

    @property
    def info(self) -> Any:
        return self.item.info

    @property
    def file(self) -> FileInput | None:
        """The item as a file; None where another run makes it."""
        return self.item.given if isinstance(self.item.given, FileInput) else None

    @property
    def label(self) -> str:
        """How a person calls it: `<category>/<name>`."""
        return f"{self.category}/{self.name}"


@dataclass(frozen=True)
class DatasetContent:
    """What an experiment makes videos of, in order, what was left out of it, one line each, and
    what is worth knowing of its clips."""

    leads: tuple[Lead, ...]
    left_out: tuple[str, ...]
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class WantedLead:
    """A value of the leading axis, and what is to be made of it: see `Lead`."""

    category: str
    file: FileValue
    prompts: tuple[str, ...] = ()
    listed: tuple[ListedJob, ...] | None = None

    @property
    def name(self) -> str:
        return self.file.stem


def read_dataset(experiment: Experiment, *, skip_invalid: bool = False) -> DatasetContent:
    """Find, read and match every file and prompt of an experiment.

    Args:
        skip_invalid: leave out files that cannot be used (too short, broken, without prompts)
            and prompts without a file, instead of raising.

    Raises:
        UserError: something does not fit; every unfit file is named, one line each.
    """
    problems: list[str] = []
    if experiment.jobs is not None:
        wanted = listed_leads(experiment)
    elif experiment.input_axes.texts:
        wanted = leads_with_prompts(experiment, problems)
    else:
        found = find_leads(experiment)
        wanted = [WantedLead(category, file) for category, own in found.items() for file in own]
    with ThreadPoolExecutor() as pool:
        companions = read_companions(experiment, {one.category for one in wanted}, pool, problems)
        results = list(pool.map(lambda one: read_lead(experiment, one, companions), wanted))
    problems += [problem for _, own in results for problem in own]
    leads = tuple(lead for lead, _ in results if lead is not None)
    if problems and not skip_invalid:
        number = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
        raise UserError(
            f"{experiment.file}: dataset: {number} (--skip-invalid leaves such files out):",
            *problems,
        )
    if not leads:
        source = source_of(experiment, experiment.input_axes.leading)
        raise UserError(f"{experiment.file}: dataset: no usable file is left in {source}")
    remarks = [remark for lead in leads for remark in remarks_of(experiment, lead)]
    return DatasetContent(leads, tuple(problems), tuple(remarks))


def remarks_of(experiment: Experiment, lead: Lead) -> Iterator[Remark]:
    """What is worth knowing of a clip, which is nothing where nothing is made of it."""
    is_read = lead.info is not NOT_READ and lead.file is not None
    if is_read and experiment.input_axes.leading.gives_frames:
        wanted = [
            (shape.width, shape.height, Reading.of(parameter_set.parameters).fit)
            for parameter_set in parameter_sets_wanted(experiment, lead)
            for shape in [shape_for(experiment, lead.info, parameter_set)]
        ]
        yield from remarks_on(lead.label, lead.info, wanted)


# Finding what belongs together.


def leads_with_prompts(experiment: Experiment, problems: list[str]) -> list[WantedLead]:
    """The files of a grid with their prompts; what does not match is added to the problems."""
    axes = experiment.input_axes
    files = find_leads(experiment)
    problems += unknown_clips(experiment, files)
    elsewhere: frozenset[str] = frozenset()
    if experiment.dataset.run_videos(axes.leading) is None:
        folder = folder_of(experiment, axes.leading)
        elsewhere = stems_elsewhere(folder, files, axes.leading.kind)
    found = match(
        files,
        read_own_prompts(experiment),
        folder=source_of(experiment, axes.leading),
        source=" or ".join(experiment.dataset.text_files(axes.texts[0])),
        is_subset=experiment.dataset.categories is not None,
        elsewhere=elsewhere,
    )

    def is_cut(category: str, file: FileValue) -> bool:
        return not experiment.cut.given(axes.outer_point(category, file.stem)).may_keep

    problems += [
        str(one)
        for one in found.leftovers
        if one.clip is None or one.category is None or not is_cut(one.category, one.clip)
    ]
    return [
        WantedLead(category, file, found.prompts.get(file, ()))
        for category, own in files.items()
        for file in own
        if file in found.prompts or is_cut(category, file)
    ]


def unknown_clips(experiment: Experiment, files: Mapping[str, Iterable[FileValue]]) -> list[str]:
    """A line for each name in `dataset.clips` that no clip has.

    Args:
        files: the clips by category.
    """
    there = {
        clip_name(f"{category}/{file.stem}") for category, own in files.items() for file in own
    }
    lines = []
    for name in getattr(experiment.dataset, "clips", ()):
        is_left_out = experiment.dataset.categories and name.partition("/")[0] not in files
        if name not in there and not is_left_out:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"dataset.clips: no clip is called {name}{hint}")
    return lines


def listed_leads(experiment: Experiment) -> list[WantedLead]:
    """The files that a list of jobs names, in its order.

    Raises:
        UserError: lines that name no file; each with its place.
    """
    leading = experiment.input_axes.leading
    files = {
        category: {nfc(file.stem): file for file in own}
        for category, own in find_leads(experiment).items()
    }
    categories = list(files)
    of_category = {nfc(category): category for category in categories}
    found: dict[FileValue, tuple[str, list[ListedJob]]] = {}
    # Jobs of the same parameters share their set.
    parameter_sets: dict[tuple[int, Reading, Reading], ParameterSet] = {}
    problems = unknown_clips(experiment, {c: list(own.values()) for c, own in files.items()})
    for job in read_job_list(experiment):
        given = categories[0] if job.category is None and len(categories) == 1 else job.category
        if given is None or nfc(given) not in of_category:
            what = "is missing" if given is None else f"no category is called {given!r}"
            problems.append(f"{job.where}: category: {what} (there are: {', '.join(categories)})")
            continue
        category = of_category[nfc(given)]
        file = files[category].get(stem_of(leading, job.names[leading.name]))
        if file is None:
            problems.append(
                no_file(job.where, leading, job.names[leading.name], files[category], category)
            )
            continue
        usual = experiment.reading_of(category, file.stem)
        reading = replace(usual, **job.reading)
        key = (id(job.parameter_set), reading, usual)
        if key not in parameter_sets:
            parameter_sets[key] = job.parameter_set.read_as(reading, usual)
        job = replace(job, parameter_set=parameter_sets[key])
        found.setdefault(file, (category, []))[1].append(job)
    if problems:
        raise UserError(*problems)
    return [
        WantedLead(
            category,
            file,
            tuple(dict.fromkeys(job.prompt for job in jobs if job.prompt is not None)),
            tuple(jobs),
        )
        for file, (category, jobs) in found.items()
    ]


def stem_of(axis: InputAxis, text: str) -> str:
    """A file's name as one form of it: a person may well write it with its suffix."""
    path = Path(text)
    return nfc(path.stem if path.suffix.lower() in SUFFIXES[axis.kind] else text)


def no_file(where: str, axis: InputAxis, text: str, there: Iterable[str], category: str) -> str:
    """The line for a name that no file has."""
    near = difflib.get_close_matches(text, list(there), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{where}: {axis.name}: no {axis.kind.value} is called {text!r} in {category}{hint}"


# Reading files.


Companions = Mapping[str, Mapping[str, Mapping[str, Item]]]
"""By category and axis, each item by its NFC name."""


def read_companions(
    experiment: Experiment,
    categories: Collection[str],
    pool: ThreadPoolExecutor,
    problems: list[str],
) -> Companions:
    """The items of the further file axes that go with each category; what cannot be used is added
    to the problems. A file that goes with several is read once."""
    axes = [axis for axis in experiment.input_axes.files[1:] if experiment.dataset.has(axis)]
    files: dict[tuple[str, str], list[FileValue]] = {}
    axis_of: dict[FileValue, InputAxis] = {}
    for axis in axes:
        for category, there in find_companions(experiment, axis, categories).items():
            files[category, axis.name] = there
            axis_of |= dict.fromkeys(there, axis)
    items = pool.map(lambda file: read_item(experiment, axis_of[file], file), axis_of)
    read = dict(zip(axis_of, items, strict=True))
    problems += [item for item in read.values() if isinstance(item, str)]
    found: dict[str, dict[str, dict[str, Item]]] = {}
    for (category, name), own in files.items():
        own_items = {nfc(file.stem): read[file] for file in own}
        good = {stem: item for stem, item in own_items.items() if isinstance(item, Item)}
        found.setdefault(category, {})[name] = good
    return found


def item_of(experiment: Experiment, axis: InputAxis, value: FileValue) -> Item:
    """What a value is and what was read of it; a video that another run makes is as planned.

    Raises:
        BrokenVideo, OSError: it cannot be read.
    """
    if isinstance(value, RunVideo):
        return Item(value.stem, value.input, value.info)
    info = READERS[axis.kind](value)
    given = FileInput(path_of(experiment, axis, value), sha256_file(value))
    return Item(value.stem, given, info)


def read_item(experiment: Experiment, axis: InputAxis, file: FileValue) -> Item | str:
    """The item of a value, or in one line why it cannot be used."""
    called = f"{axis.name} {file.name}"
    try:
        return item_of(experiment, axis, file)
    except BrokenVideo as error:
        return f"{called}: {error.says}: {error}"
    except OSError as error:
        return f"{called}: cannot be read: {error.strerror}"


def read_lead(
    experiment: Experiment, wanted: WantedLead, companions: Companions
) -> tuple[Lead | None, list[str]]:
    """The `Lead` of that file, None where nothing can be made of it, and the problems of it."""
    axis = experiment.input_axes.leading
    category, file = wanted.category, wanted.file
    parameter_sets = parameter_sets_wanted(experiment, wanted)
    called = f"{category}/{file.name}"
    own = companions.get(category, {})
    combinations = product(*(items.values() for items in own.values()))
    beside: tuple[ItemByAxis, ...] = tuple(dict(zip(own, one, strict=True)) for one in combinations)
    rest = (wanted.prompts, beside, wanted.listed)
    unknown = list(unknown_names(experiment, wanted, own))
    if unknown or not beside:
        return None, unknown
    if not parameter_sets:
        return Lead(category, Item(file.stem, FileInput("", ""), NOT_READ), *rest), []
    try:
        item = item_of(experiment, axis, file)
    except BrokenVideo as error:
        return None, [f"{called}: {error.says}: {error}"]
    except OSError as error:
        return None, [f"{called}: cannot be read: {error.strerror}"]
    problems = []
    if axis.gives_frames:
        problems = [f"{called}: {line}" for line in lacks(experiment, item.info, parameter_sets)]
        if not any(
            is_long_enough(experiment, item.info, parameter_set) for parameter_set in parameter_sets
        ):
            return None, problems
    return Lead(category, item, *rest), problems


def unknown_names(
    experiment: Experiment, wanted: WantedLead, own: Mapping[str, Mapping[str, Item]]
) -> Iterator[str]:
    """A line for each name in a list of jobs that no file of a further axis has."""
    for axis in experiment.input_axes.files[1:]:
        for job in wanted.listed or ():
            if axis.name in own and axis.name not in job.names:
                yield f"{job.where}: {axis.name}: is missing; every job needs one"
            elif axis.name in own and stem_of(axis, job.names[axis.name]) not in own[axis.name]:
                text = job.names[axis.name]
                yield no_file(job.where, axis, text, own[axis.name], wanted.category)


def parameter_sets_wanted(experiment: Experiment, wanted: WantedLead | Lead) -> list[ParameterSet]:
    """The sets of parameters with which videos are to be made of a file."""
    cut = experiment.cut.given(experiment.input_axes.outer_point(wanted.category, wanted.name))
    parameter_sets: Iterable[ParameterSet] = experiment.parameter_sets_of(
        wanted.category, wanted.name
    )
    if wanted.listed is not None:
        parameter_sets = {
            id(job.parameter_set): job.parameter_set for job in wanted.listed
        }.values()
    return [
        parameter_set
        for parameter_set in parameter_sets
        if cut.given(parameter_set.complete).may_keep
    ]


def shape_for(experiment: Experiment, info: VideoInfo, parameter_set: ParameterSet) -> Shape:
    """What a video is that has its frames from a clip."""
    leading = experiment.input_axes.leading
    method = experiment.method_of(parameter_set.parameters)
    return method.shape(parameter_set.parameters, {leading.role: info})


def is_long_enough(experiment: Experiment, info: VideoInfo, parameter_set: ParameterSet) -> bool:
    """Whether a clip has the frames that jobs with these parameters read of it."""
    shape = shape_for(experiment, info, parameter_set)
    start = Reading.of(parameter_set.parameters).start
    return frames_available(info, shape.fps, start) >= shape.most_frames


def lacks(
    experiment: Experiment, info: VideoInfo, parameter_sets: Sequence[ParameterSet]
) -> Iterator[str]:
    """Why a clip is too short for these parameters, a line for each frame rate and start."""
    short: dict[tuple[float, ClipStart], dict[int, None]] = {}
    for parameter_set in parameter_sets:
        if not is_long_enough(experiment, info, parameter_set):
            shape = shape_for(experiment, info, parameter_set)
            read = shape.fps, Reading.of(parameter_set.parameters).start
            short.setdefault(read, {})[shape.most_frames] = None
    asks = "axes.num_frames has" if "num_frames" in experiment.axes else "generation.num_frames is"
    if experiment.jobs is not None:
        asks = f"{experiment.jobs} asks for"
    for (fps, start), wanted in short.items():
        behind = "" if start in (0, "middle") else f" from {start:g} s on"
        yield (
            f"has {frames_available(info, fps, start)} frames at {fps:g} fps{behind} "
            f"({info.num_frames} at its own {info.fps:g}), but {asks} {', '.join(map(str, wanted))}"
        )


def path_of(experiment: Experiment, axis: InputAxis, file: Path) -> str:
    """A file's path as the experiment writes paths."""
    inside = file.relative_to(folder_of(experiment, axis)).as_posix()
    return f"{(experiment.dataset.source(axis) or '').rstrip('/')}/{inside}"


def read_own_prompts(experiment: Experiment) -> Prompts:
    """The prompts that an experiment names."""
    (axis, *_) = experiment.input_axes.texts
    paths = [experiment.data / name for name in experiment.dataset.text_files(axis)]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{experiment.file}: dataset.{axis.key}: no such file: {shown(path)} "
                f"(relative paths start at {shown(experiment.data)})"
            )
    return read_prompts(paths)
