"""The videos of another run as the values of an axis: `videos: {run: NAME, only: {seed: 42}}`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..disk.manifest import read_manifest
from ..disk.run_folder import RunFolder
from ..experiment.experiment import Experiment
from ..experiment.rules import Rule, as_tuple, check_rules
from ..experiment.sections import RunVideos
from ..job import Job, MadeInput
from ..job.axes import InputAxis
from ..text.errors import UserError
from ..text.text_file import nfc
from ..video import VideoInfo

MOST_NAME_BYTES = 200
"""Of such a value's name, which becomes a folder's."""


@dataclass(frozen=True)
class RunVideo:
    """One video of another run, made or yet to be.

    Its name is the path below its category: `ref_a_seed_42_prompt_0`.
    """

    run: str
    id: str
    job: Job = field(compare=False)

    @classmethod
    def of(cls, run: str, job: Job) -> RunVideo:
        return cls(run, job.id, job)

    @property
    def stem(self) -> str:
        path = Path(self.job.output).with_suffix("")
        return "_".join(path.parts[1:])

    @property
    def name(self) -> str:
        return f"{self.stem}.mp4"

    @property
    def lead(self) -> str:
        """The value of that run's leading axis: what this is a version of."""
        names = [str(value) for value in self.job.series.point.values()]
        return names[1] if len(names) > 1 else self.stem

    @property
    def input(self) -> MadeInput:
        job = self.job
        return MadeInput(self.run, job.id, job.fingerprint, job.output)

    @property
    def info(self) -> VideoInfo:
        """What it will be; of frames whose number is not known before, the least."""
        shape = self.job.shape
        return VideoInfo.steady(
            width=shape.width, height=shape.height, num_frames=shape.frames[0], fps=shape.fps
        )


def run_videos(
    experiment: Experiment, axis: InputAxis, source: RunVideos
) -> dict[str, list[RunVideo]]:
    """The other run's videos by their category, in its manifest's order.

    Raises:
        UserError: there is no such run, it is the experiment's own, or nothing is left of it.
    """
    place = f"{experiment.file}: dataset.{axis.key}"
    own = experiment.run_folder
    if source.run == own.name:
        raise UserError(f"{place}.run: {source.run}: a sweep cannot be made from its own videos")
    run = RunFolder(own.path.parent / source.run)
    if not run.manifest.exists():
        raise UserError(
            f"{place}.run: no sweep called {source.run} is planned in {own.path.parent}; "
            "`sweep plan` its experiment first"
        )
    jobs = chosen(read_manifest(run.manifest).jobs, source, place)
    found: dict[str, list[RunVideo]] = {}
    names: dict[tuple[str, str], Job] = {}
    for job in jobs:
        video = RunVideo.of(source.run, job)
        if len(video.stem.encode()) > MOST_NAME_BYTES:
            raise UserError(f"{place}: {job.output}: too long a name to make a folder of")
        former = names.setdefault((nfc(job.category), nfc(video.stem)), job)
        if former is not job:
            raise UserError(f"{place}: {job.output} and {former.output} would have the same name")
        found.setdefault(job.category, []).append(video)
    return found


def chosen(jobs: Sequence[Job], source: RunVideos, place: str) -> list[Job]:
    """The jobs that `only` leaves."""
    if not source.only:
        return list(jobs)
    points = dict.fromkeys(name for job in jobs for name in job.series.point)
    parameters = dict.fromkeys(name for job in jobs[:1] for name in job.parameters)
    check_rules(f"{place}.only", [source.only], [*points, "seed"], [*parameters])
    wanted = {axis: as_tuple(value) for axis, value in source.only.items()}
    rule = Rule("only", wanted)

    def fits(job: Job) -> bool:
        known = {axis: job.on(axis) for axis in wanted}
        return rule.given(known) is not None

    left = [job for job in jobs if fits(job)]
    if not left:
        raise UserError(f"{place}.only: no video of {source.run} is so")
    return left
