"""Experiment and data set in, jobs and estimates out. Pure: nothing is read or written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .backends import Backend, Generation, PeakMemory
from .errors import UserError
from .experiment import Experiment
from .job import AXES, Job, Point, is_said
from .manifest import Manifest
from .placement import home_categories
from .reading import PARAMETERS, own_parameters
from .sections import Placement
from .slot_names import Slot, slots

ASSUMED_GPU_GIB = 79.6
"""What NVML shows of an 80 GB GPU; taken where a sweep is planned away from its GPUs."""

SIDECAR_BYTES = 4096

BITS_PER_PIXEL_AT_QUALITY_5 = 0.20
"""H.264 of natural video at imageio's quality 5; each step of quality is about a third more."""

SHAPE = ("width", "height", "num_frames")
"""The parameters on which GPU memory depends."""

OF_A_CLIP = frozenset({"prompt", "reference clip"})
NAMED = 3
"""So many clips are named of which something has changed."""


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
    """The numbers; `changed` is that of `changed_jobs`."""
    before = {job.id for job in former.jobs}
    kept = sum(job.id in before for job in manifest.jobs)
    return Changes(
        added=len(manifest.jobs) - kept, kept=kept, changed=changed, retired=len(before) - kept
    )


def changed_jobs(former: Manifest, manifest: Manifest) -> list[tuple[Job, Job]]:
    """The jobs of both manifests whose fingerprint is another now, as they were and as they are."""
    before = {job.id: job for job in former.jobs}
    both = ((before.get(job.id), job) for job in manifest.jobs)
    return [(old, new) for old, new in both if old and old.fingerprint != new.fingerprint]


def reasons(changed: Sequence[tuple[Job, Job]]) -> list[str]:
    """What has changed of these jobs, such as `prompt changed in camera_motion/ref_a`."""
    places: dict[str, dict[str, None]] = {}
    for old, new in changed:
        for what in _differences(old, new):
            places.setdefault(what, {})[new.group] = None
    lines = []
    for what, groups in places.items():
        where = ""
        if what in OF_A_CLIP:
            first = list(groups)[:NAMED]
            more = f" and {len(groups) - NAMED} more" if len(groups) > NAMED else ""
            where = f" in {', '.join(first)}{more}"
        lines.append(f"{what} changed{where}")
    return lines


def _differences(old: Job, new: Job) -> list[str]:
    found = []
    if old.prompt_text != new.prompt_text:
        found.append("prompt")
    if old.reference.sha256 != new.reference.sha256:
        found.append("reference clip")
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
        gpus: the GPU numbers it will use.
        peak_memory: of one worker, from the backend.
        gpu_memory_gib: of the smallest GPU, or None where this machine has none.
        bytes_a_video: what videos of this sweep were found to take, or None.
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
    problems = [*ignored_references(jobs), *assigned_elsewhere(placement, gpus)]
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
        steps=mean_steps(jobs),
        groups=len({job.group for job in jobs}),
        disk_bytes=disk_bytes(jobs, experiment.output.quality, bytes_a_video),
        disk_source="arithmetic" if bytes_a_video is None else "the videos made so far",
        peak_memory=peak_memory,
        gpu_memory_gib=gpu_gib,
        gpu_memory_source="assumed: no GPU here" if gpu_memory_gib is None else "NVML",
        problems=tuple(problems),
    )


def ignored_references(jobs: Sequence[Job]) -> list[str]:
    """A line where jobs are denoised from pure noise, so that their reference says nothing."""
    number = sum(n for own, n in number_by_parameters(jobs) if own.get("denoising_strength") == 1)
    if not number:
        return []
    return [
        f"denoising_strength 1.0 ignores the reference, in {number} of {len(jobs)} jobs; take a "
        "value below 1 (0.8) to follow its motion"
    ]


def model_problems(backend: Backend[Any]) -> list[str]:
    """A line where this machine lacks what a launch of the model needs: a sweep may be planned
    away from its weights, by their identity."""
    found = [f"{one.file}: {one.problem}" for one in backend.look_at_files() if one.problem]
    if not found:
        return []
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [f"a launch here would be refused: {'; '.join(found[:NAMED])}{more}"]


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


def peak_memory(
    backend: Backend[Any], experiment: Experiment, jobs: Sequence[Job]
) -> PeakMemory | None:
    """Peak GPU memory of one worker at the costliest of these jobs."""
    shapes = {tuple(own[key] for key in SHAPE): own for own, _ in number_by_parameters(jobs)}
    peaks = [backend.peak_memory(generation_of(experiment, own)) for own in shapes.values()]
    known = [peak for peak in peaks if peak is not None]
    return max(known, key=lambda peak: peak.gib, default=None)


def generation_of(experiment: Experiment, parameters: Mapping[str, Any]) -> Generation:
    """A job's parameters as the backend's own."""
    return type(experiment.generation).model_validate(own_parameters(parameters))


def mean_steps(jobs: Sequence[Job]) -> int:
    """Denoising steps of one of these jobs, on average."""
    steps: int = sum(own["num_inference_steps"] * n for own, n in number_by_parameters(jobs))
    return round(steps / max(len(jobs), 1))


def flops_a_video(
    backend: Backend[Any], experiment: Experiment, videos: Sequence[tuple[Mapping[str, Any], int]]
) -> float | None:
    """Floating-point operations of one of these videos, on average; None where it is not known.

    Args:
        videos: how many there are of each of several parameters.
    """
    known = [(backend.flops(generation_of(experiment, own)), n) for own, n in videos]
    if not known or any(flops is None for flops, _ in known):
        return None
    return sum((flops or 0.0) * n for flops, n in known) / sum(n for _, n in known)


def number_by_parameters(jobs: Sequence[Job]) -> list[tuple[dict[str, Any], int]]:
    """How many of these jobs have each of their parameters, which they share."""
    shared = {id(job.parameters): job.parameters for job in jobs}
    number = Counter(id(job.parameters) for job in jobs)
    return [(shared[key], n) for key, n in number.items()]


def disk_bytes(jobs: Sequence[Job], quality: float, bytes_a_video: int | None) -> int:
    """What the videos of these jobs are expected to take on disk, with their sidecars.

    Args:
        bytes_a_video: the mean size of those made so far, where there are some.
    """
    return sum(
        n * ((bytes_a_video or video_bytes(own, quality)) + SIDECAR_BYTES)
        for own, n in number_by_parameters(jobs)
    )


def video_bytes(parameters: Mapping[str, Any], quality: float) -> int:
    """What one video is expected to take on disk, in bytes."""
    pixels = parameters["width"] * parameters["height"] * parameters["num_frames"]
    bits = pixels * BITS_PER_PIXEL_AT_QUALITY_5 * 1.33 ** (quality - 5)
    return int(bits / 8)


def largest_video(experiment: Experiment) -> int:
    """What a video of the largest setting is expected to take on disk, in bytes."""
    return max(video_bytes(s.parameters, experiment.output.quality) for s in experiment.settings)


def select(
    jobs: Sequence[Point], only: Mapping[str, Sequence[str]], sample: int | None
) -> set[str] | None:
    """The ids of a part of a sweep, or None for all of it.

    Args:
        only: values per axis (category, video, prompt, seed, or a parameter); a job must match
            each axis.
        sample: at most so many jobs per category, from different videos first.

    Raises:
        UserError: an axis that there is not.
    """
    if not only and sample is None:
        return None
    chosen = [job for job in jobs if _is_in(job, {a: only[a] for a in only if a in AXES})]
    for axis in only:
        if axis not in AXES:
            chosen = _with_parameter(jobs, chosen, axis, only[axis])
    if sample is not None:
        place_in_group: Counter[str] = Counter()
        ranked: dict[str, list[tuple[int, int, Point]]] = {}
        for position, job in enumerate(chosen):
            ranked.setdefault(job.category, []).append((place_in_group[job.group], position, job))
            place_in_group[job.group] += 1
        chosen = [
            job
            for own in ranked.values()
            for _, _, job in sorted(own, key=lambda r: r[:2])[:sample]
        ]
    return {job.id for job in chosen}


def _is_in(job: Point, only: Mapping[str, Sequence[str]]) -> bool:
    return all(str(getattr(job, axis)) in values for axis, values in only.items())


def _with_parameter(
    jobs: Sequence[Point], chosen: Sequence[Point], name: str, texts: Sequence[str]
) -> list[Point]:
    """Those of `chosen` whose parameter has one of these values; what is shared is looked at
    once."""
    shared = {id(job.parameters): job.parameters for job in jobs}
    if not any(name in parameters for parameters in shared.values()):
        names = dict.fromkeys(key for parameters in shared.values() for key in parameters)
        raise UserError(
            f"{name}={texts[0]}: no axis is called {name} (there are: {', '.join(AXES)}, and the "
            f"parameters {', '.join(names)})"
        )
    fitting = {
        key
        for key, parameters in shared.items()
        if name in parameters and any(is_said(parameters[name], text) for text in texts)
    }
    return [job for job in chosen if id(job.parameters) in fitting]


def slots_needed(all_slots: Sequence[Slot], claimable: int) -> list[Slot]:
    """No more slots than there are jobs to claim, every GPU before a second process."""
    return sorted(all_slots[:claimable])
