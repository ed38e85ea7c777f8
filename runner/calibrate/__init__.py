"""`sweep calibrate`: a few short videos of an experiment, with one, two, ... processes on a GPU.

Each number of processes is a small sweep of its own, through the same planning, workers and
publishing as the real one, in a temporary folder: what is measured is what a sweep does. Where
steps are alike few of them are made, and the seconds of one stand for all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import mean
from typing import Any

from ..backends.video_parameters import steps_of
from ..costs.calibration import Calibration, CalibrationRow, Mix, Share, folder_of, save
from ..costs.costs import plural_processes
from ..costs.kinds import Kind, kinds_of
from ..disk.manifest import read_manifest
from ..disk.publish import read_sidecar
from ..disk.run_folder import RunFolder
from ..experiment.device import check_backend
from ..experiment.experiment import Experiment
from ..experiment.loading import ExperimentFile
from ..job import METHOD, Alike, JobState
from ..job.failures import FailureKind
from ..job.slot_names import MOST_PROCESSES_PER_GPU, Slot
from ..machine.gpus import GpuWish, choose_gpus, find_gpus
from ..plan.fingerprint import identities_of
from ..queue import Queue
from ..sweeps.telling import Say, silent
from ..text.errors import UserError
from .calibration_sweep import (
    NAME,
    MeasuringPlan,
    Shortfall,
    end_of_log,
    make_videos,
    only_its_machine_file,
    write_experiment,
)

VIDEOS_PER_PROCESS = 2
"""At first. The first video of a process is slower, while libraries warm up, and is not counted. A
video beside which not all processes were at work is not counted either, except its reference."""
MORE_VIDEOS, MOST_VIDEOS = 4, 512
"""Where no video counted, `MORE_VIDEOS` times as many are made, up to `MOST_VIDEOS`."""
AT_WORK = ("prepare", "generate")
"""The stages of a video that a worker does one after the other; the others run beside the next."""
WORTHWHILE_GAIN = 1.02
"""How many times as many videos an hour the last process more must have brought for another one to
be tried."""
MOST_PROCESSES_TRIED = 8
"""Where no number was asked for."""
CALIBRATION_STEPS = 4


@dataclass(frozen=True)
class Measurement:
    """A row; `is_warm` where its `prepare` is of processes that had warmed up."""

    row: CalibrationRow
    device: str
    is_warm: bool


@dataclass(frozen=True)
class Telling:
    """Whom a calibration tells what: `say` lines for a person, `show` each row as soon as it is
    measured."""

    say: Say
    show: Callable[[Kind, CalibrationRow], object]


def _measure_kinds(
    path: Path, experiment: Experiment, measuring: MeasuringPlan, telling: Telling
) -> list[MeasuredKind]:
    """Measure each kind of an experiment's videos on this machine and keep the results.

    Raises:
        UserError: the experiment is wrong, or videos failed for another reason than that further
            processes did not fit; rows of fewer processes are kept.
    """
    if experiment.jobs is not None:
        raise UserError(f"{path}: jobs: what is calibrated must be a grid, with prompts")
    kinds = kinds_of(experiment, identities_of(experiment), _one_of_each(experiment))
    return [_measure_kind(experiment, kind, measuring, telling) for kind in kinds]


def _one_of_each(experiment: Experiment) -> list[Alike]:
    """A video of each of the experiment's parameters.

    Raises:
        UserError: they do not tell of its shape.
    """
    planners = {method.name: method.planner() for method in experiment.every_method}
    try:
        return [
            Alike(one.parameters, planners[one.parameters.get(METHOD)].shape(one.parameters, {}), 1)
            for one in experiment.parameter_sets
        ]
    except KeyError as error:
        raise UserError(
            f"{experiment.file}: a video's shape goes by its "
            f"{error.args[0]}, so that a few videos do not tell what others take; `sweep plan` "
            "goes by those that the sweep has made"
        ) from None


def _measure_kind(
    experiment: Experiment, kind: Kind, measuring: MeasuringPlan, telling: Telling
) -> MeasuredKind:
    alike = experiment.method_of(kind.parameters).steps_are_alike
    steps = measuring.steps or (CALIBRATION_STEPS if alike else kind.steps)
    if alike is False and steps != kind.steps:
        raise UserError(
            f"--steps {steps}: with these settings a video's time does not go by its steps, of "
            f"which there are {kind.steps}; leave --steps away"
        )
    per_group = jobs_per_group(experiment)
    tried: list[Measurement] = []
    rows: list[CalibrationRow] = []
    short = Shortfall("")
    for processes in measuring.processes or count(1):
        found = _measure(experiment, kind, replace(measuring, steps=steps), processes, telling.say)
        if isinstance(found, Shortfall):
            short = found
            break
        tried.append(found)
        rows = comparable(tried)
        telling.show(kind, rows[-1])
        if measuring.processes is None and not _goes_on(rows, kind.steps, per_group):
            break
    which = f" ({kind.name})" if kind.name else ""
    if not rows:
        raise UserError(f"{experiment.file}: cannot be calibrated{which}: {short.reason}")
    full = processes if short.is_memory else None
    device = tried[-1].device
    calibration = Calibration(kind.subject, device, time.time(), steps, tuple(rows), full)
    if not calibration.tells(kind.steps):
        raise UserError(
            f"--steps {steps}: the script tells of no denoising steps (job.step(n, {steps})), so "
            f"this says nothing of videos of {kind.steps}; leave --steps away"
        )
    file = save(folder_of(experiment), calibration)
    if short.reason and not short.is_memory:
        number = plural_processes(processes)
        raise UserError(f"{experiment.file}: {number} cannot be calibrated{which}: {short.reason}")
    return MeasuredKind(kind, Share(calibration, kind.steps, per_group, kind.number), file)


def comparable(tried: Sequence[Measurement]) -> list[CalibrationRow]:
    """The rows, with `prepare` of warmed up processes in all of them where it is in any: a row
    without takes that of the nearest number of processes."""
    warm = [one.row for one in tried if one.is_warm]

    def prepare(row: CalibrationRow) -> float:
        return min(warm, key=lambda other: abs(other.processes - row.processes)).prepare

    return [
        one.row if one.is_warm or not warm else replace(one.row, prepare=prepare(one.row))
        for one in tried
    ]


def jobs_per_group(experiment: Experiment) -> float:
    """How many videos share a reference, by the prompts and seeds of the run where it is planned,
    and by the seeds alone where it is not."""
    manifest = experiment.run_folder.manifest
    if manifest.exists():
        jobs = read_manifest(manifest).jobs
        return len(jobs) / max(len({(job.method, job.group) for job in jobs}), 1)
    return float(len(experiment.seeds) or 1)


def _goes_on(rows: Sequence[CalibrationRow], steps: int, per_group: float) -> bool:
    """Whether one process more may pay."""
    if len(rows) >= MOST_PROCESSES_TRIED:
        return False
    if len(rows) == 1:
        return True
    before, last = (row.videos_per_hour(steps, per_group) for row in rows[-2:])
    return last > WORTHWHILE_GAIN * before


def _measure(
    experiment: Experiment, kind: Kind, measuring: MeasuringPlan, processes: int, say: Say
) -> Measurement | Shortfall:
    """Measure this number of processes; return the measurement, or why there is none.

    Quick videos are made in greater numbers, until all processes were at work at once.
    """
    videos = VIDEOS_PER_PROCESS
    while (found := _measure_once(experiment, kind, measuring, processes, videos, say)) is None:
        videos *= MORE_VIDEOS
        if videos > MOST_VIDEOS:
            return Shortfall("its videos are too quick for all processes to be at work at once")
    return found


def _measure_once(
    experiment: Experiment,
    kind: Kind,
    measuring: MeasuringPlan,
    processes: int,
    videos: int,
    say: Say,
) -> Measurement | Shortfall | None:
    """Measure with this number of videos for each process; None where none of the videos counts."""
    with tempfile.TemporaryDirectory(prefix="sweep-calibrate-") as name:
        folder = Path(name)
        number = videos * processes
        file = write_experiment(experiment, folder, kind, measuring, processes, number)
        run = RunFolder(folder / "results" / NAME)
        with only_its_machine_file(folder):
            short = make_videos(file, run, number, say)
        if short is not None:
            return short
        alike = experiment.method_of(kind.parameters).steps_are_alike
        return _read(run, processes, are_denoising=bool(alike))


def _read(run: RunFolder, processes: int, *, are_denoising: bool) -> Measurement | Shortfall | None:
    """As `_measure_once`, of a sweep that has ended.

    Args:
        are_denoising: whether all time goes into denoising steps where nothing is told of them.
    """
    queue = Queue(run.queue)
    try:
        aside = queue.gate().aside
        workers = queue.workers.rows()
        done = [row.job for row in queue.rows(JobState.DONE)]
        failed = queue.rows(JobState.FAILED)
    finally:
        queue.close()
    if aside:
        name, reason = next(iter(aside.items()))
        # A whole GPU is set aside for its health.
        return Shortfall(reason, is_memory=Slot.parse(name) is not None)
    records = [record for job in done if (record := read_sidecar(run.sidecar(job))) is not None]
    if failed:
        first = failed[0]
        return Shortfall(first.error or "failed", first.kind is FailureKind.OUT_OF_GPU_MEMORY)
    if not records:
        return Shortfall(end_of_log(run))
    counted = made_beside_all(records, processes)
    if not counted:
        return None
    taken_in = told_of_prepare(records)
    steps = steps_of(counted[0]["parameters"])
    generate = mean(record["seconds"]["generate"] for record in counted)
    told = [record["seconds_per_step"] for record in counted]
    otherwise = generate / steps if are_denoising else 0.0
    a_step = mean(told) if all(told) else otherwise
    peaks = [record["peak_gpu_memory_gib"] for record in records]
    loads = [
        row.first_claim_at - row.started_at for row in workers if row.first_claim_at is not None
    ]
    row = CalibrationRow(
        processes=processes,
        load=round(max(loads), 2),
        prepare=round(_mean_of(taken_in or records, "prepare"), 4),
        step=round(a_step, 5),
        rest=round(max(0.0, generate - a_step * steps), 4),
        finish=round(sum(_mean_of(counted, stage) for stage in ("finish", "check", "publish")), 4),
        peak_gib=max((peak for peak in peaks if peak is not None), default=None),
    )
    return Measurement(row, str(records[0]["device"]), is_warm=bool(taken_in))


def made_beside_all(records: Sequence[dict[str, Any]], processes: int) -> list[dict[str, Any]]:
    """Of the videos' sidecars, those that tell what so many processes do: not their worker's first,
    and from claim to last step within the time that all workers were at work.

    A worker is at work from its first claim to its last video's last step.
    """
    per_worker: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=_begin):
        per_worker.setdefault(record["worker"], []).append(record)
    if len(per_worker) < processes:
        return []
    begin = max(_begin(own[0]) for own in per_worker.values())
    end = min(_end(own[-1]) for own in per_worker.values())
    return [
        record
        for own in per_worker.values()
        for record in own[1:]
        if begin <= _begin(record) and _end(record) <= end
    ]


def told_of_prepare(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the videos' sidecars, those that tell what a reference takes: the first of each reference,
    which a later worker may find kept, and not their worker's first, while libraries warm up."""
    known: set[tuple[str, ...]] = set()
    workers: set[str] = set()
    found = []
    for record in sorted(records, key=_begin):
        inputs, worker = record["inputs"].values(), record["worker"]
        # Of what another run has made, its place there.
        places = (one.get("path") or one.get("output") for one in inputs)
        files = tuple(sorted(filter(None, places)))
        if files not in known and worker in workers:
            found.append(record)
        known.add(files)
        workers.add(worker)
    return found


def _begin(record: dict[str, Any]) -> float:
    """When a video was claimed; Unix seconds."""
    return float(record["claimed_at"])


def _end(record: dict[str, Any]) -> float:
    """When a video was generated; Unix seconds."""
    seconds: dict[str, float] = record["seconds"]
    return _begin(record) + sum(seconds.get(stage, 0.0) for stage in AT_WORK)


def _mean_of(records: Sequence[dict[str, Any]], stage: str) -> float:
    values = [record["seconds"][stage] for record in records if stage in record["seconds"]]
    return mean(values) if values else 0.0


@dataclass(frozen=True)
class MeasuredKind:
    """What was measured of one kind of an experiment's videos, and the file that has it."""

    kind: Kind
    share: Share
    file: Path

    @property
    def calibration(self) -> Calibration:
        return self.share.calibration

    def videos_per_hour(self, row: CalibrationRow) -> float:
        return row.videos_per_hour(self.share.steps, self.share.jobs_per_group)

    def to_json(self, variant: MeasuredSetting) -> dict[str, Any]:
        values = self.calibration.to_json()
        for row, measured in zip(values["rows"], self.calibration.rows, strict=True):
            row["videos_per_hour"] = round(self.videos_per_hour(measured), 2)
        return {
            "setting": variant.setting,
            "kind": self.kind.name,
            "same_video": variant.same_video,
            "file": str(self.file),
            **values,
        }


@dataclass(frozen=True)
class MeasuredSetting:
    """One way to run an experiment: a further setting (None: as it is), and what it measured.

    `same_video` says whether the setting leaves every video as it is.
    """

    setting: str | None
    parts: tuple[MeasuredKind, ...]
    same_video: bool

    @property
    def mix(self) -> Mix:
        return Mix(tuple(part.share for part in self.parts))

    @property
    def videos_per_hour(self) -> float:
        """With the best number of processes; 0 where none was measured for every kind."""
        return self.mix.videos_per_hour(self.mix.best) if self.mix.best is not None else 0.0


@dataclass(frozen=True)
class Calibrated:
    """What was measured, as the experiment is and with each further setting; `failed` says of
    each setting that could not be measured why."""

    variants: tuple[MeasuredSetting, ...]
    failed: Mapping[str, str]

    @property
    def best(self) -> MeasuredSetting:
        """The variant with most videos an hour, of those whose videos are the same."""
        return max((v for v in self.variants if v.same_video), key=lambda v: v.videos_per_hour)

    def to_json(self) -> dict[str, Any]:
        """Every variant with the rows of each kind of videos, and which is best."""
        best = self.best
        return {
            "variants": [part.to_json(v) for v in self.variants for part in v.parts],
            "best": {"setting": best.setting, "processes_per_gpu": best.mix.best},
        }


def calibrate(
    experiment: Path | str,
    overrides: Sequence[str] = (),
    *,
    gpu: int | None = None,
    steps: int | None = None,
    processes: Sequence[int] | None = None,
    tried: Sequence[str] = (),
    say: Say = silent,
    show: Callable[[Kind, CalibrationRow], object] = lambda _kind, _row: None,
) -> Calibrated:
    """Make a few short videos of an experiment with one, two, ... processes on a GPU, and keep
    what they took, for plans to go by.

    Interrupted, it ends its workers and leaves nothing behind but what was measured.

    Args:
        gpu: its number; by default the first that the experiment would take.
        steps: of each video; by default 4, or all where steps are not alike.
        processes: how many to try; by default 1, 2 and so on while it pays.
        tried: `KEY=VALUE` settings to measure with as well, one at a time.
        say: told what is begun, and which setting failed.
        show: told of each row as soon as it is measured.

    Raises:
        UserError: the experiment or a setting is wrong, the GPU is not there or in use, or the
            experiment as it is cannot be measured.
    """
    file = ExperimentFile.read(Path(experiment))
    plain = file.experiment(overrides)
    numbers = None if processes is None else tuple(processes)
    if numbers is not None and not all(1 <= number <= MOST_PROCESSES_PER_GPU for number in numbers):
        told = ",".join(map(str, numbers))
        raise UserError(f"--processes {told}: must be from 1 to {MOST_PROCESSES_PER_GPU}")
    measuring = MeasuringPlan(_gpu_for(file.path, plain, gpu), steps, numbers)
    settings: dict[str | None, Experiment] = {None: plain}
    for setting in tried:
        # Before minutes are spent on the others.
        settings[setting] = file.experiment([*overrides, setting])
        check_backend(settings[setting], find_gpus())
    telling = Telling(say, show)
    measured: list[MeasuredSetting] = []
    failed: dict[str, str] = {}
    for one, with_it in settings.items():
        what = f"{'' if steps is None else f'{steps} steps a video '}on GPU {measuring.gpu}"
        say(f"calibrating{f' with {one}' if one else ''}: {what}")
        try:
            kinds = _measure_kinds(file.path, with_it, measuring, telling)
            measured.append(MeasuredSetting(one, tuple(kinds), _is_as(with_it, plain)))
        except UserError as error:
            if one is None:
                raise
            # What was measured with other settings is worth its table.
            say(f"sweep: with {one}: {error}")
            failed[one] = str(error)
    return Calibrated(tuple(measured), failed)


def _gpu_for(path: Path, experiment: Experiment, wanted: int | None) -> int:
    """The GPU to measure on.

    Raises:
        UserError: it is not there, or is in use by someone else.
    """
    gpus: Any = experiment.placement.gpus
    source = f"{path}: placement.gpus"
    if wanted is not None:
        gpus, source = [wanted], "--gpu"
    there = find_gpus()
    if wanted is None and there and gpus != "auto":
        # Whichever of the experiment's is here: it may be planned for another machine.
        known = {gpu.number for gpu in there}
        gpus = [number for number in gpus if number in known] or "auto"
    choice = choose_gpus(GpuWish(gpus, source), there)
    if not choice.numbers:
        raise UserError(f"{source}: no GPU is left to use")
    return choice.numbers[0]


def _is_as(experiment: Experiment, other: Experiment) -> bool:
    """Whether both make the same videos."""
    same = identities_of(experiment) == identities_of(other)
    return same and experiment.parameter_sets == other.parameter_sets
