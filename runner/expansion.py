"""Experiment and data set in, the manifest's jobs out. Pure: nothing is read or written here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, product

from .axes import PROMPT, VIDEO
from .dataset import Clip, is_long_enough
from .errors import UserError
from .experiment import Experiment
from .fingerprint import Recipe
from .grid import Setting
from .job import CATEGORY, FileInput, Input, Job, Series, TextInput
from .manifest import Manifest
from .naming import job_ids
from .rules import Cut, Fitted


def number_prompts(former: Mapping[int, str], texts: Sequence[str]) -> list[int]:
    """The prompt number of each text of one video.

    A text that has a number keeps it wherever it now stands. Of the rest, a text in the place
    of one that is gone takes that number; the others get the lowest free ones.

    Args:
        former: number -> text, as in the manifest, retired ones included.
        texts: the prompts as they are now, each text once.
    """
    present = set(texts)
    number_of = {text: number for number, text in former.items()}
    numbers: dict[int, int] = {
        place: number_of[text] for place, text in enumerate(texts) if text in number_of
    }
    taken = set(numbers.values())
    for place in range(len(texts)):
        gone = place in former and former[place] not in present
        if place not in numbers and gone and place not in taken:
            numbers[place] = place
            taken.add(place)
    free = iter(n for n in range(len(former) + len(texts) + 1) if n not in former)
    for place in range(len(texts)):
        if place not in numbers:
            number = next(n for n in free if n not in taken)
            numbers[place] = number
            taken.add(number)
    return [numbers[place] for place in range(len(texts))]


def expand(
    experiment: Experiment,
    clips: Sequence[Clip],
    recipe: Recipe,
    former: Manifest,
    *,
    is_partial: bool = False,
) -> Manifest:
    """The manifest of an experiment: categories x videos x parameter axes x prompts x seeds, in
    this order, so that what needs its reference prepared alike stands together.

    What `include` and `exclude` cut away is not in it, nor what a clip is too short for. Jobs of
    the former manifest that are no longer in the grid come back as retired.

    Args:
        is_partial: clips were left out, so that a rule may well fit nothing.

    Raises:
        UserError: a rule fits nothing, or nothing is left.
    """
    axes, planner = experiment.input_axes, experiment.planner()
    numbers: dict[str, dict[int, str]] = {}
    for job in (*former.retired, *former.jobs):
        if PROMPT.name in job.series.point:
            number = int(job.series.point[PROMPT.name])
            numbers.setdefault(job.group, {})[number] = job.series.text(PROMPT.role)
    cut, fitted = experiment.cut, Fitted()
    jobs: list[Job] = []
    for clip in clips:
        reference = FileInput(clip.path, clip.sha256)
        prompt_numbers = number_prompts(numbers.get(clip.group, {}), clip.prompts)
        number_of = dict(zip(clip.prompts, prompt_numbers, strict=True))
        inputs: dict[str, dict[str, Input]] = {
            text: {VIDEO.role: reference, PROMPT.role: TextInput(text)} for text in number_of
        }
        for setting, text, seeds in points_of(experiment, clip, number_of, cut, fitted):
            point: dict[str, str | int] = {
                CATEGORY: clip.category,
                VIDEO.name: clip.video,
                PROMPT.name: number_of[text],
            }
            series = Series(
                point=point,
                group=clip.group,
                inputs=inputs[text],
                parameters=setting.parameters,
                shape=planner.shape(setting.parameters, {VIDEO.role: clip.info}),
            )
            ids = job_ids(point, seeds, setting.differing)
            fingerprints = recipe.fingerprints(series.inputs, seeds, series.parameters)
            start, end = axes.path_around_seed(point)
            end += f"{setting.suffix}.mp4"
            jobs.extend(
                Job(own_id, series, seed, fingerprint, f"{start}{seed}{end}")
                for seed, own_id, fingerprint in zip(seeds, ids, fingerprints, strict=True)
            )
    missing = fitted.missing(cut)
    if missing and not is_partial:
        raise UserError(
            f"{experiment.file}: {missing[0]}: this rule fits nothing of what the other rules "
            "leave; correct it, or take it out"
        )
    if not jobs:
        raise UserError(f"{experiment.file}: include, exclude: these rules leave no job")
    planned = {job.id for job in jobs}
    gone = {job.id: job for job in (*former.retired, *former.jobs) if job.id not in planned}
    return Manifest(tuple(jobs), tuple(gone.values()))


def points_of(
    experiment: Experiment, clip: Clip, number_of: Mapping[str, int], cut: Cut, fitted: Fitted
) -> Iterator[tuple[Setting, str, Sequence[int]]]:
    """What is made of a clip: setting and prompt, and the seeds with which they are made.

    Args:
        number_of: the number of each prompt.
        fitted: notes which rules fit.
    """
    own = fitted.note(cut.given({"category": clip.category, "video": clip.video}))
    for setting, text, seeds in uncut_points(experiment, clip, number_of) if own.may_keep else ():
        of_setting = fitted.note(own.given(setting.complete))
        last = fitted.note(of_setting.given({"prompt": number_of[text]}))
        if not last.may_keep or not is_long_enough(clip.info, setting.parameters):
            continue
        if kept := last.keep(seeds, fitted):
            yield setting, text, kept


def uncut_points(
    experiment: Experiment, clip: Clip, number_of: Mapping[str, int]
) -> Iterator[tuple[Setting, str, Sequence[int]]]:
    if clip.listed is None:
        prompts = sorted(clip.prompts, key=lambda text: number_of[text])
        for setting, text in product(experiment.settings_of(clip.category, clip.video), prompts):
            yield setting, text, experiment.seeds
        return
    for (_, text), jobs in groupby(clip.listed, key=lambda job: (id(job.setting), job.prompt)):
        alike = list(jobs)
        yield alike[0].setting, text, [job.seed for job in alike]
