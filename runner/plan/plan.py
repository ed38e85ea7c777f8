"""Experiment and data set in, jobs and estimates out. Pure: nothing is read or written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..backends import Examined, PeakMemory
from ..backends.video_parameters import steps_of
from ..disk.manifest import Manifest
from ..experiment.experiment import Experiment
from ..experiment.sections import Placement
from ..job import (
    METHOD,
    NOTHING_UNSAID,
    SEED,
    Alike,
    InGrid,
    Job,
    Series,
    Unsaid,
    changed_roles,
    is_on,
)
from ..job.shape import Shape
from ..job.slot_names import Slot, slots
from ..text.errors import UserError
from ..video.reading import PARAMETERS
from .placement import home_categories

ASSUMED_GPU_GIB = 79.6
"""What NVML shows for an 80 GB GPU: assumed where a sweep is planned on a machine without GPUs."""

SIDECAR_BYTES = 4096

BITS_PER_PIXEL_AT_QUALITY_5 = 0.20
"""H.264 of natural video at imageio's quality 5; each step of quality is about a third more."""

GROUPS_NAMED = 3
"""Of the groups in which something has changed, those that a line names."""


@dataclass(frozen=True)
class Changes:
    """What a plan changes in a sweep, in numbers of jobs."""

    added: int
    kept: int
    changed: int
    retired: int


@dataclass(frozen=True)
class Estimate:
    """What a sweep will take. Sizes in bytes and GiB; `problems` are lines for a person."""

    jobs: int
    jobs_per_category: dict[str, int]
    jobs_per_gpu: dict[int, int]
    categories_per_gpu: dict[int, list[str]]
    sessions: int
    processes_per_gpu: int
    steps: int
    groups: int
    disk_bytes: int
    disk_source: str
    peak_memory: PeakMemory | None
    gpu_memory_gib: float
    gpu_memory_source: str
    problems: tuple[str, ...]


def changes(former: Manifest, manifest: Manifest, changed: int) -> Changes:
    """Count what the plan changes; `changed` is the number of `changed_jobs`."""
    before = {job.id for job in former.jobs}
    kept = sum(job.id in before for job in manifest.jobs)
    return Changes(
        added=len(manifest.jobs) - kept, kept=kept, changed=changed, retired=len(before) - kept
    )


def changed_jobs(former: Manifest, manifest: Manifest) -> list[tuple[Job, Job]]:
    """The jobs that are in both manifests with different fingerprints: as they were, and as they
    are."""
    before = {job.id: job for job in former.jobs}
    both = ((before.get(job.id), job) for job in manifest.jobs)
    return [(old, new) for old, new in both if old and old.fingerprint != new.fingerprint]


def reasons(changed: Sequence[tuple[Job, Job]]) -> list[str]:
    """What has changed of these jobs, such as `prompt changed in camera_motion/ref_a`."""
    places: dict[str, dict[str, None]] = {}
    roles = {role for _, new in changed for role in new.inputs}
    for old, new in changed:
        for what in _differences(old, new):
            places.setdefault(what, {})[new.group] = None
    lines = []
    for what, groups in places.items():
        where = ""
        if what in roles:
            first = list(groups)[:GROUPS_NAMED]
            more = f" and {len(groups) - GROUPS_NAMED} more" if len(groups) > GROUPS_NAMED else ""
            where = f" in {', '.join(first)}{more}"
        lines.append(f"{what} changed{where}")
    return lines


def _differences(old: Job, new: Job) -> list[str]:
    found = changed_roles(old.inputs, new.inputs)
    if old.parameters is not new.parameters and old.parameters != new.parameters:
        names = dict.fromkeys((*old.parameters, *new.parameters))
        found += [
            name if name in PARAMETERS else f"generation.{name}"
            for name in names
            if old.parameters.get(name) != new.parameters.get(name)
        ]
    return found or ["model, backend or quality"]


def estimate(
    experiment: Experiment,
    jobs: Sequence[Job],
    gpus: Sequence[int],
    peak_memory: PeakMemory | None,
    gpu_memory_gib: float | None,
    bytes_a_video: int | None = None,
) -> Estimate:
    """Sessions, disk and GPU memory of a sweep.

    Args:
        gpus: the numbers of the GPUs that it will use.
        peak_memory: of one worker, from the planner.
        gpu_memory_gib: of the smallest GPU; None on a machine without GPUs.
        bytes_a_video: the mean size of this sweep's videos; None before there are any.
    """
    placement = experiment.placement
    per_category = dict(Counter(job.category for job in jobs))
    home = home_categories(per_category, gpus, placement.assign)
    per_gpu = dict.fromkeys(gpus, 0.0)
    for category, count in per_category.items():
        own = [gpu for gpu in gpus if category in home[gpu]]
        for gpu in own:
            per_gpu[gpu] += count / len(own)
    gpu_gib = ASSUMED_GPU_GIB if gpu_memory_gib is None else gpu_memory_gib
    videos = alike(jobs)
    problems = [*ignored_references(videos), *assigned_elsewhere(placement, gpus)]
    if peak_memory is not None:
        need = peak_memory.gib * placement.processes_per_gpu
        if need > gpu_gib:
            fitting = int(gpu_gib / peak_memory.gib)
            remedy = (
                f"placement.processes_per_gpu={fitting} fits"
                if fitting
                else "not even one fits: try model.vram=managed or a larger GPU"
            )
            problems.append(
                f"{placement.processes_per_gpu} x {peak_memory.gib:.1f} GiB = {need:.1f} GiB do "
                f"not fit a GPU of {gpu_gib:.1f} GiB; {remedy}"
            )
    return Estimate(
        jobs=len(jobs),
        jobs_per_category=per_category,
        jobs_per_gpu={gpu: round(count) for gpu, count in per_gpu.items()},
        categories_per_gpu=home,
        sessions=len(slots(gpus, placement.processes_per_gpu)),
        processes_per_gpu=placement.processes_per_gpu,
        steps=mean_steps(videos),
        groups=len({(job.method, job.group) for job in jobs}),
        disk_bytes=disk_bytes(jobs, experiment.output.quality, bytes_a_video),
        disk_source="arithmetic" if bytes_a_video is None else "the videos made so far",
        peak_memory=peak_memory,
        gpu_memory_gib=gpu_gib,
        gpu_memory_source="assumed: no GPU here" if gpu_memory_gib is None else "NVML",
        problems=tuple(problems),
    )


def ignored_references(videos: Sequence[Alike]) -> list[str]:
    """A line that says that jobs are denoised from pure noise, so that their reference decides
    nothing."""
    number = sum(own.number for own in videos if own.parameters.get("denoising_strength") == 1)
    if not number:
        return []
    return [
        f"denoising_strength 1.0 ignores the reference, in {number} of "
        f"{sum(own.number for own in videos)} jobs; take a value below 1 (0.8) to follow its motion"
    ]


def model_problems(models: Mapping[str | None, Examined]) -> list[str]:
    """A line for each thing that a launch of these methods' models would lack on this machine. It
    is no error, since a sweep may be planned where its weights are not."""
    found = [
        f"{'' if name is None else f'{METHOD} {name}: '}{one.file}: {one.problem}"
        for name, model in models.items()
        for one in model.problems
    ]
    if not found:
        return []
    more = f" and {len(found) - GROUPS_NAMED} more" if len(found) > GROUPS_NAMED else ""
    return [f"a launch here would be refused: {'; '.join(found[:GROUPS_NAMED])}{more}"]


def assigned_elsewhere(placement: Placement, gpus: Sequence[int]) -> list[str]:
    """A line for each category whose own GPUs are not all among those that are used."""
    static = placement.balance == "static"
    lines = []
    for category, own in placement.assign.items():
        absent = [gpu for gpu in own if gpu not in gpus]
        if absent:
            rest = "it starts on the others"
            if len(absent) == len(own):
                rest = "nothing makes it (static)" if static else "any GPU may start it"
            lines.append(
                f"placement.assign: {category}: GPU {', '.join(map(str, absent))} is not among the "
                f"GPUs that are used ({', '.join(map(str, gpus))}): {rest}"
            )
    return lines


def peak_memory(experiment: Experiment, jobs: Sequence[Job]) -> PeakMemory | None:
    """Peak GPU memory of one worker at the costliest of these jobs; it has one method's model
    loaded at a time."""
    planners = {method.name: method.planner() for method in experiment.every_method}
    different = {(one.method, one.shape): one.parameters for one in each_series(jobs)}
    known: list[PeakMemory] = []
    for (name, _), own in different.items():
        method = experiment.method_of(own)
        with method.named():
            peak = planners[name].peak_memory(method.generation.from_parameters(own))
        if peak is not None:
            known.append(replace(peak, source=method.say(peak.source)))
    return max(known, key=lambda peak: peak.gib, default=None)


def mean_steps(videos: Sequence[Alike]) -> int:
    """Denoising steps of one of these videos, on average."""
    steps = sum(steps_of(own.parameters) * own.number for own in videos)
    return round(steps / max(sum(own.number for own in videos), 1))


def flops_a_video(experiment: Experiment, videos: Sequence[Alike]) -> float | None:
    """Floating-point operations of one of these videos, on average, or None where that is not
    known. All of them are of one method."""
    method = experiment.method_of(videos[0].parameters)
    planner, read = method.planner(), method.generation.from_parameters
    known = [(planner.flops(read(own.parameters)), own.number) for own in videos]
    if not known or any(flops is None for flops, _ in known):
        return None
    return sum((flops or 0.0) * n for flops, n in known) / sum(n for _, n in known)


def each_series(jobs: Sequence[Job]) -> list[Series]:
    """The series of these jobs, in their order."""
    return list({id(job.series): job.series for job in jobs}.values())


def alike(jobs: Sequence[Job]) -> list[Alike]:
    """These jobs, counted by parameters and shape. Jobs of the same parameters share the object."""
    number: dict[tuple[int, Shape], int] = {}
    shared: dict[int, Mapping[str, Any]] = {}
    of_series = Counter(id(job.series) for job in jobs)
    for series in each_series(jobs):
        key = (id(series.parameters), series.shape)
        shared[id(series.parameters)] = series.parameters
        number[key] = number.get(key, 0) + of_series[id(series)]
    return [Alike(shared[own], shape, n) for (own, shape), n in number.items()]


def disk_bytes(jobs: Sequence[Job], quality: float, bytes_a_video: int | None) -> int:
    """The disk space that the videos of these jobs and their sidecars are expected to take, in
    bytes.

    Args:
        bytes_a_video: the mean size of those made so far; None before there are any.
    """
    number = Counter(id(job.series) for job in jobs)
    return sum(
        number[id(series)] * ((bytes_a_video or video_bytes(series.shape, quality)) + SIDECAR_BYTES)
        for series in each_series(jobs)
    )


def largest_video(shapes: Iterable[Shape], quality: float) -> int:
    """The size that the largest of these videos is expected to have, in bytes; 0 without videos."""
    return max((video_bytes(shape, quality) for shape in shapes), default=0)


def video_bytes(shape: Shape, quality: float) -> int:
    """The size that one video is expected to have, in bytes."""
    bits = shape.most_pixels * BITS_PER_PIXEL_AT_QUALITY_5 * 1.33 ** (quality - 5)
    return int(bits / 8)


def select(
    jobs: Sequence[InGrid],
    only: Mapping[str, Sequence[str]],
    sample: int | None,
    unsaid: Unsaid = NOTHING_UNSAID,
) -> set[str] | None:
    """The ids of a part of a sweep; None stands for all of it.

    Args:
        only: values per axis of the grid, or parameter; a job must match each.
        sample: the most jobs per category, from different videos first; None takes all.
        unsaid: parameters that jobs have without saying so.

    Raises:
        UserError: the sweep has no such axis.
    """
    if not only and sample is None:
        return None
    of_series = {id(job.series): job.series for job in jobs}
    for axis, texts in only.items():
        if axis != SEED and not any(
            has_axis(series, axis, unsaid) for series in of_series.values()
        ):
            raise UserError(unknown_axis(axis, texts[0], list(of_series.values())))
    wanted = {axis: own for axis, own in only.items() if axis != SEED}
    fitting = {
        key
        for key, series in of_series.items()
        if all(is_on(series, axis, texts, unsaid) for axis, texts in wanted.items())
    }
    seeds = only.get(SEED)
    chosen = [
        job
        for job in jobs
        if id(job.series) in fitting and (seeds is None or str(job.seed) in seeds)
    ]
    if sample is not None:
        place_in_group: Counter[str] = Counter()
        ranked: dict[str, list[tuple[int, int, InGrid]]] = {}
        for position, job in enumerate(chosen):
            ranked.setdefault(job.category, []).append((place_in_group[job.group], position, job))
            place_in_group[job.group] += 1
        chosen = [
            job
            for own in ranked.values()
            for _, _, job in sorted(own, key=lambda r: r[:2])[:sample]
        ]
    return {job.id for job in chosen}


def has_axis(series: Series, axis: str, unsaid: Unsaid) -> bool:
    named = (series.point, series.parameters, unsaid.get(series.method, {}))
    return any(axis in names for names in named)


def unknown_axis(axis: str, text: str, known: Sequence[Series]) -> str:
    """The message for an axis that a sweep does not have."""
    axes = dict.fromkeys((*(name for series in known for name in series.point), SEED))
    names = dict.fromkeys(name for series in known for name in series.parameters)
    return (
        f"{axis}={text}: no axis is called {axis} (there are: {', '.join(axes)}, and the "
        f"parameters {', '.join(names)})"
    )


def slots_needed(all_slots: Sequence[Slot], claimable: int) -> list[Slot]:
    """The slots to start: at most one for each job that can be claimed, and every GPU before a
    second process on one."""
    return sorted(all_slots[:claimable])
