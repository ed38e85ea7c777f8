"""Experiment and data set in, jobs and estimates out. Pure: nothing is read or written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .backends import PeakMemory
from .dataset import Clip
from .experiment import Experiment
from .fingerprint import Recipe
from .job import Job, Point, Reference, job_ids
from .manifest import Manifest
from .placement import Slot, home_categories, slots

ASSUMED_GPU_GIB = 79.6
"""What NVML shows of an 80 GB GPU; taken where a sweep is planned away from its GPUs."""

SIDECAR_BYTES = 4096

BITS_PER_PIXEL_AT_QUALITY_5 = 0.20
"""H.264 of natural video at imageio's quality 5; each step of quality is about a third more."""


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
    groups: int
    disk_bytes: int
    disk_source: str
    peak_memory: PeakMemory | None
    gpu_memory_gib: float
    gpu_memory_source: str
    problems: tuple[str, ...]


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
    experiment: Experiment, clips: Sequence[Clip], recipe: Recipe, former: Manifest
) -> Manifest:
    """The manifest of an experiment: categories x videos x prompts x seeds, in this order.

    Jobs of the former manifest that are no longer in the grid come back as retired.
    """
    numbers: dict[tuple[str, str], dict[int, str]] = {}
    for job in (*former.retired, *former.jobs):
        numbers.setdefault((job.category, job.video), {})[job.prompt] = job.prompt_text
    parameters = dict(recipe.parameters)
    seeds = experiment.seeds
    jobs: list[Job] = []
    for clip in clips:
        reference = Reference(clip.path, clip.sha256)
        prompt_numbers = number_prompts(numbers.get((clip.category, clip.video), {}), clip.prompts)
        for number, text in sorted(zip(prompt_numbers, clip.prompts, strict=True)):
            ids = job_ids(clip.category, clip.video, number, seeds)
            fingerprints = recipe.fingerprints(text, clip.sha256, seeds)
            jobs.extend(
                Job(
                    id=own_id,
                    category=clip.category,
                    video=clip.video,
                    prompt=number,
                    seed=seed,
                    prompt_text=text,
                    reference=reference,
                    parameters=parameters,
                    fingerprint=fingerprint,
                    output=f"{clip.category}/{clip.video}/seed_{seed}_prompt_{number}.mp4",
                )
                for seed, own_id, fingerprint in zip(seeds, ids, fingerprints, strict=True)
            )
    planned = {job.id for job in jobs}
    gone = {job.id: job for job in (*former.retired, *former.jobs) if job.id not in planned}
    return Manifest(tuple(jobs), tuple(gone.values()))


def changes(former: Manifest, manifest: Manifest) -> Changes:
    before = {job.id: job.fingerprint for job in former.jobs}
    kept = [job for job in manifest.jobs if job.id in before]
    return Changes(
        added=len(manifest.jobs) - len(kept),
        kept=len(kept),
        changed=sum(before[job.id] != job.fingerprint for job in kept),
        retired=len(before) - len(kept),
    )


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
    problems = []
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
        groups=len({job.group for job in jobs}),
        disk_bytes=len(jobs) * ((bytes_a_video or video_bytes(experiment)) + SIDECAR_BYTES),
        disk_source="arithmetic" if bytes_a_video is None else "the videos made so far",
        peak_memory=peak_memory,
        gpu_memory_gib=gpu_gib,
        gpu_memory_source="assumed: no GPU here" if gpu_memory_gib is None else "NVML",
        problems=tuple(problems),
    )


def video_bytes(experiment: Experiment) -> int:
    """What one video is expected to take on disk, in bytes."""
    generation = experiment.generation
    pixels = generation.width * generation.height * generation.num_frames
    bits = pixels * BITS_PER_PIXEL_AT_QUALITY_5 * 1.33 ** (experiment.output.quality - 5)
    return int(bits / 8)


def select(
    jobs: Sequence[Point], only: Mapping[str, Sequence[str]], sample: int | None
) -> set[str] | None:
    """The ids of a part of a sweep, or None for all of it.

    Args:
        only: values per axis (category, video, prompt, seed); a job must match each axis.
        sample: at most so many jobs per category, from different videos first.
    """
    if not only and sample is None:
        return None
    chosen = [
        job
        for job in jobs
        if all(str(getattr(job, axis)) in values for axis, values in only.items())
    ]
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


def slots_needed(all_slots: Sequence[Slot], claimable: int) -> list[Slot]:
    """No more slots than there are jobs to claim, every GPU before a second process."""
    return sorted(all_slots[:claimable])
