"""The measures of a run's finished videos: what they show, how they move, how they differ."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Engine, Machine
from ..disk.run_folder import RunFolder
from ..job import Job
from ..job.axes import PROMPT, VIDEO
from ..scenes.words import mentions
from ..text.canonical import canonical_json
from ..video import read_video
from ..video.reading import deciding_frames, read_reference
from .looks import JudgedMention, Outlines, judge, share
from .movement import agreement, flow_of

if TYPE_CHECKING:
    from ..video import Frames


@dataclass(frozen=True)
class Measures:
    """The measures of the videos of one sweep at one denoising strength.

    Attributes:
        strength: `denoising_strength`; 1 ignores the reference.
        videos: how many were measured.
        things: coloured things that their prompts speak of; 0 where prompts are of another kind.
        colour, shape: shares of those things that are right; None where none could be judged.
        own, other: mean correlation of a video's optical flow with that of its own reference,
            and with those of the category's other references.
        seeds: mean root of the squared difference, of 255, of two videos that differ in nothing
            but the seed; None with one seed.
    """

    strength: float
    videos: int
    things: int
    colour: float | None
    shape: float | None
    own: float | None
    other: float | None
    seeds: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    run: RunFolder,
    root: Path,
    jobs: Sequence[Job],
    outlines: Outlines,
    on_video: Callable[[], object] = lambda: None,
) -> list[Measures]:
    """Measure these finished jobs of a run, by strength, from the weakest.

    Args:
        run: where the videos are.
        root: the project root, where the references are.
        jobs: the finished ones.
        outlines: what shapes are told by.
        on_video: called after each.
    """
    by_strength: dict[float, list[Job]] = defaultdict(list)
    for job in jobs:
        by_strength[float(job.parameters.get("denoising_strength", 1.0))].append(job)
    references = {_reference(job): flow_of(_read(root, job)) for job in jobs}
    measured = []
    for strength, some in sorted(by_strength.items()):
        judged: list[JudgedMention] = []
        own: list[float] = []
        other: list[float] = []
        alike: dict[Any, list[Frames]] = defaultdict(list)
        for job in some:
            frames = read_video(run.video(job), job.shape)
            judged += judge(frames, mentions(job.series.text(PROMPT.role)), outlines)
            flow = flow_of(frames)
            for key, reference in references.items():
                if reference.shape != flow.shape or key[0] != job.category:
                    continue
                (own if key == _reference(job) else other).append(agreement(flow, reference))
            alike[job.group, job.on(PROMPT.name), canonical_json(job.parameters)].append(frames)
            on_video()
        apart = [
            float(np.sqrt(np.mean((one.astype(np.float32) - two) ** 2)))
            for videos in alike.values()
            for one, two in combinations(videos, 2)
        ]
        measured.append(
            Measures(
                strength=strength,
                videos=len(some),
                things=len(judged),
                colour=share(one.colour for one in judged),
                shape=share(one.shape for one in judged),
                own=mean(own) if own else None,
                other=mean(other) if other else None,
                seeds=mean(apart) if apart else None,
            )
        )
    return measured


def reconstructed(engine: Engine, root: Path, jobs: Sequence[Job]) -> Iterator[tuple[Job, Frames]]:
    """A job of each group with the frames of its reference after the engine's encoding and
    decoding, uint8 (F, H, W, 3).

    Nothing where the engine has no such thing. Loads its model, on the CPU.
    """
    with tempfile.TemporaryDirectory() as cache:
        engine.load(Machine("cpu", Path(cache)))
        try:
            for job in {job.group: job for job in jobs}.values():
                frames = engine.reconstruct(job.series.resolved(root))
                if frames is None:
                    return
                yield job, frames
        finally:
            engine.close()


def fidelity(root: Path, some: Iterable[tuple[Job, Frames]]) -> float | None:
    """Mean PSNR in dB of `reconstructed` references; None without any."""
    values = []
    for job, frames in some:
        difference = frames.astype(np.float64) - _read(root, job)
        error = max(float(np.mean(difference**2)), 1e-9)
        values.append(10 * float(np.log10(255**2 / error)))
    return mean(values) if values else None


def _reference(job: Job) -> tuple[Any, ...]:
    clip = job.series.file(VIDEO.role)
    return (job.category, clip.sha256, canonical_json(deciding_frames(job.series)))


def _read(root: Path, job: Job) -> Frames:
    return read_reference(job.series.resolved(root))
