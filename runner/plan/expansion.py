"""Experiment and data set in, the manifest's jobs out. Pure: nothing is read or written here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from typing import Any

from ..dataset.dataset import ItemByAxis, Lead, is_long_enough, stem_of
from ..disk.manifest import Manifest
from ..experiment.experiment import Experiment
from ..experiment.grid import ParameterSet
from ..experiment.rules import Cut, Fitted
from ..job import Input, Job, Series, TextInput
from ..job.axes import PROMPT, Axes, InputAxis
from ..job.naming import job_ids
from ..text.errors import UserError
from ..text.text_file import nfc
from .fingerprint import MethodIdentities


def number_prompts(former: Mapping[int, str], texts: Sequence[str]) -> list[int]:
    """The prompt number of each text of one video.

    A text that has a number keeps it wherever it now stands. A new text that stands where a text
    was that is gone takes the number of that one. All other new texts get the lowest free numbers.

    Args:
        former: number -> text, as in the manifest, retired ones included.
        texts: the prompts as they are now, each text once.
    """
    present = set(texts)
    number_of = {text: number for number, text in former.items()}
    numbers: dict[int, int] = {
        index: number_of[text] for index, text in enumerate(texts) if text in number_of
    }
    taken = set(numbers.values())
    for index in range(len(texts)):
        gone = index in former and former[index] not in present
        if index not in numbers and gone and index not in taken:
            numbers[index] = index
            taken.add(index)
    free = iter(n for n in range(len(former) + len(texts) + 1) if n not in former)
    for index in range(len(texts)):
        if index not in numbers:
            number = next(n for n in free if n not in taken)
            numbers[index] = number
            taken.add(number)
    return [numbers[index] for index in range(len(texts))]


def expand(
    experiment: Experiment,
    leads: Sequence[Lead],
    identities: MethodIdentities,
    former: Manifest,
    *,
    is_partial: bool = False,
) -> Manifest:
    """The manifest of an experiment: categories x items of the leading axis x parameter axes x
    further files x prompts x seeds. In this order, jobs that need the same preparation of their
    reference stand next to each other.

    Jobs that `include` and `exclude` cut away are not in it, nor are jobs for which a clip is too
    short. Jobs of the former manifest that are no longer in the grid come back as retired.

    Args:
        is_partial: whether files were left out, so that a rule may rightly fit nothing.

    Raises:
        UserError: a rule fits nothing, or nothing is left.
    """
    axes = experiment.input_axes
    numbers = prompt_numbers(former, axes.leading)
    cut, fitted = experiment.cut, Fitted()
    jobs: list[Job] = []
    for lead in leads:
        given = number_prompts(numbers.get((lead.category, lead.name), {}), lead.prompts)
        number_of = dict(zip(lead.prompts, given, strict=True))
        # Series share what is in them.
        inputs: dict[tuple[int, str | None], dict[str, Input]] = {}
        for one in points_of(experiment, lead, number_of, cut, fitted):
            point = axes.outer_point(lead.category, lead.name)
            point |= {name: item.name for name, item in one.beside.items()}
            key = (id(one.beside), one.text)
            if key not in inputs:
                inputs[key] = inputs_of(lead, one, axes)
            if one.text is not None:
                point[PROMPT.name] = number_of[one.text]
            method = experiment.method_of(one.parameter_set.parameters)
            series = Series(
                point=point,
                group=axes.group(point),
                inputs=inputs[key],
                parameters=one.parameter_set.parameters,
                shape=method.shape(one.parameter_set.parameters, facts_of(lead, one, axes)),
            )
            ids = job_ids(point, one.seeds, one.parameter_set.differing)
            fingerprints = identities[method.name].fingerprints(
                series.inputs, one.seeds, series.parameters
            )
            start, end = axes.path_around_seed(point)
            end += f"{one.parameter_set.suffix}.mp4"
            jobs.extend(
                Job(own_id, series, seed, fingerprint, f"{start}{seed}{end}")
                for seed, own_id, fingerprint in zip(one.seeds, ids, fingerprints, strict=True)
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


@dataclass(frozen=True)
class Some:
    """The jobs of one item of the leading axis that differ only in the seed.

    `beside` are the items of the further file axes. `text` is the prompt; None where the backend
    takes no prompts.
    """

    parameter_set: ParameterSet
    beside: ItemByAxis
    text: str | None
    seeds: Sequence[int]


def points_of(
    experiment: Experiment, lead: Lead, number_of: Mapping[str, int], cut: Cut, fitted: Fitted
) -> Iterator[Some]:
    """All jobs of one item of the leading axis, those that differ only in the seed together.

    Args:
        number_of: the number of each prompt.
        fitted: notes which rules fit.
    """
    own = fitted.note(cut.given(experiment.input_axes.outer_point(lead.category, lead.name)))
    is_read = experiment.input_axes.leading.gives_frames
    # Settings are shared objects, and each is asked of a clip once.
    long_enough: dict[int, bool] = {}
    for one in uncut_points(experiment, lead, number_of) if own.may_keep else ():
        of_setting = fitted.note(own.given(one.parameter_set.complete))
        inner: dict[str, Any] = {name: item.name for name, item in one.beside.items()}
        if one.text is not None:
            inner[PROMPT.name] = number_of[one.text]
        last = fitted.note(of_setting.given(inner))
        if not last.may_keep:
            continue
        if is_read:
            key = id(one.parameter_set)
            if key not in long_enough:
                long_enough[key] = is_long_enough(experiment, lead.info, one.parameter_set)
            if not long_enough[key]:
                continue
        if kept := last.keep(one.seeds, fitted):
            yield one if kept is one.seeds else replace(one, seeds=kept)


def uncut_points(
    experiment: Experiment, lead: Lead, number_of: Mapping[str, int]
) -> Iterator[Some]:
    if lead.listed is None:
        parameter_sets = experiment.parameter_sets_of(lead.category, lead.name)
        prompts = sorted(lead.prompts, key=lambda text: number_of[text])
        for parameter_set, beside, text in product(parameter_sets, lead.beside, prompts or (None,)):
            yield Some(parameter_set, beside, text, experiment.seeds)
        return
    combinations = {tuple(nfc(item.name) for item in one.values()): one for one in lead.beside}
    axes = {axis.name: axis for axis in experiment.input_axes.files}
    for _, alike in groupby(
        lead.listed, key=lambda job: (id(job.parameter_set), job.prompt, job.names)
    ):
        first, *more = alike
        names = tuple(stem_of(axes[name], first.names[name]) for name in lead.beside[0])
        seeds = [job.seed for job in (first, *more)]
        yield Some(first.parameter_set, combinations[names], first.prompt, seeds)


def inputs_of(lead: Lead, one: Some, axes: Axes) -> dict[str, Input]:
    """What the values of a point stand for, by role."""
    inputs: dict[str, Input] = {axes.leading.role: lead.item.given}
    for axis in axes.files[1:]:
        if axis.name in one.beside:
            inputs[axis.role] = one.beside[axis.name].given
    if one.text is not None:
        inputs[PROMPT.role] = TextInput(one.text)
    return inputs


def facts_of(lead: Lead, one: Some, axes: Axes) -> dict[str, Any]:
    """What was read of a point's files, by role."""
    facts = {axes.leading.role: lead.info}
    return facts | {
        axis.role: one.beside[axis.name].info for axis in axes.files[1:] if axis.name in one.beside
    }


def prompt_numbers(former: Manifest, leading: InputAxis) -> dict[tuple[str, str], dict[int, str]]:
    """The prompts that a manifest has numbered, by category and item of the leading axis."""
    numbers: dict[tuple[str, str], dict[int, str]] = {}
    for job in (*former.retired, *former.jobs):
        point = job.series.point
        if PROMPT.name in point and leading.name in point:
            item = (job.category, str(point[leading.name]))
            text = job.series.text(PROMPT.role)
            numbers.setdefault(item, {})[int(point[PROMPT.name])] = text
    return numbers
