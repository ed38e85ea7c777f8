"""What a sweep will cost: seconds a video by the best source there is, GPU-hours, its end. Pure.

A source is, in this order, a calibration on this kind of GPU, jobs of this sweep that were
measured on it, jobs of a former one, and arithmetic from model and video size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .calibration import Calibration, Mix

TFLOPS = {
    "H200": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H100": 989,
    "H800": 989,
    "H20": 148,
    "B200": 2250,
    "A100": 312,
    "A800": 312,
    "A40": 150,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L20": 119,
    "L4": 121,
    "RTX 6000 Ada": 364,
    "RTX A6000": 155,
    "RTX 5090": 210,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bfloat16 tensor TFLOP/s with float32 sums, as the makers' data sheets have them, by a
part of the GPU's name; of two parts the longer one counts."""

DENOISING_SHARE_USED = (0.35, 0.65)
"""The share of the peak that a whole denoising step reaches: 0.53 was measured on an H200
(docs/measurements.md), and smaller videos and older kernels reach less."""

MEASURED_SPREAD = 0.1
"""What one measurement may be off by, as a share of it."""
OTHER_PROCESSES_SPREAD = 0.25
"""The same for one made with another number of processes on the GPU."""
GAIN_WORTH_SAYING = 1.02
"""More than measurements differ by."""


@dataclass(frozen=True)
class Measured:
    """What a video that was made has cost its worker, in seconds, by its sidecar.

    `step` is None where the sidecar has no seconds a step.
    """

    gpu: str
    processes: int
    steps: int
    prepare: float
    generate: float
    step: float | None
    video_bytes: int

    def seconds(self, steps: int, jobs_per_group: float) -> float | None:
        """The seconds that it would have taken with this number of steps; None where that cannot be
        told."""
        generate = self.generate
        if steps != self.steps:
            if self.step is None:
                return None
            generate += (steps - self.steps) * self.step
        return generate + self.prepare / max(jobs_per_group, 1.0)


@dataclass(frozen=True)
class Pace:
    """Seconds of one GPU for a video, all its processes together: the likely number, the least
    and the most; `source` says how it was come by."""

    seconds: float
    least: float
    most: float
    source: str


@dataclass(frozen=True)
class Portion:
    """A number of videos of one kind (see `Kind.name`), and the pace at which they are made."""

    name: str
    videos: int
    pace: Pace

    def to_json(self) -> dict[str, Any]:
        pace = self.pace
        return {
            "name": self.name,
            "videos_left": self.videos,
            "gpu_seconds_a_video": {
                "likely": round(pace.seconds, 2),
                "least": round(pace.least, 2),
                "most": round(pace.most, 2),
            },
            "source": pace.source,
        }


@dataclass(frozen=True)
class Cost:
    """What is left of a sweep, in hours, each number with its least and its most.

    `portions` are the kinds of videos, where there are several.
    """

    videos: int
    gpu_seconds_a_video: tuple[float, float, float]
    gpu_hours: tuple[float, float, float]
    hours: tuple[float, float, float]
    source: str
    portions: tuple[Portion, ...] = ()

    def to_json(self, now: float) -> dict[str, Any]:
        likely, least, most = range(3)

        def shown(values: tuple[float, float, float], digits: int) -> dict[str, float]:
            return {
                "likely": round(values[likely], digits),
                "least": round(values[least], digits),
                "most": round(values[most], digits),
            }

        return {
            "videos_left": self.videos,
            "gpu_seconds_a_video": shown(self.gpu_seconds_a_video, 2),
            "gpu_hours": shown(self.gpu_hours, 6),
            "hours": shown(self.hours, 6),
            "ends_at": shown(
                (
                    now + 3600 * self.hours[likely],
                    now + 3600 * self.hours[least],
                    now + 3600 * self.hours[most],
                ),
                0,
            ),
            "source": self.source,
            "kinds": [portion.to_json() for portion in self.portions],
        }


@dataclass(frozen=True)
class Work:
    """What is left to do, and who does it.

    Attributes:
        left: jobs per category.
        steps: denoising steps of a video.
        jobs_per_group: jobs that share a reference video, on average.
        home: for each GPU the categories it begins with.
        processes: on each GPU.
        static: whether a category never leaves its GPUs.
    """

    left: Mapping[str, int]
    steps: int
    jobs_per_group: float
    home: Mapping[int, Sequence[str]]
    processes: int
    static: bool

    @property
    def videos(self) -> int:
        return sum(self.left.values())


def pace_of_calibration(calibration: Calibration, work: Work) -> Pace:
    """From the row with as many processes, or else from the one that comes nearest."""
    row = calibration.row(work.processes)
    measured = row is not None
    if row is None:
        row = min(calibration.rows, key=lambda one: abs(one.processes - work.processes))
    seconds = 3600 / row.videos_per_hour(work.steps, work.jobs_per_group)
    off = MEASURED_SPREAD if measured else OTHER_PROCESSES_SPREAD
    with_processes = f" with {plural_processes(row.processes)}" if not measured else ""
    return Pace(
        seconds,
        seconds * (1 - off),
        seconds * (1 + off),
        f"calibrated on {calibration.gpu}{with_processes}",
    )


def pace_of_jobs(jobs: Sequence[Measured], work: Work, whose: str) -> Pace | None:
    """The pace by jobs that were made; None where none of them tells.

    Args:
        whose: names the sweep they are of.
    """
    told: list[float] = []
    processes: set[int] = set()
    scaled = False
    for job in jobs:
        seconds = job.seconds(work.steps, work.jobs_per_group)
        if seconds is not None:
            told.append(seconds / job.processes)
            processes.add(job.processes)
            scaled = scaled or job.steps != work.steps
    if not told:
        return None
    middle = median(told)
    same = processes == {work.processes}
    off = MEASURED_SPREAD if same and not scaled else OTHER_PROCESSES_SPREAD
    notes = [] if same else [f"with {plural_processes(min(processes))}"]
    notes += ["scaled to the number of steps"] if scaled else []
    source = f"measured: {len(told)} videos of {whose} on {jobs[0].gpu}"
    return Pace(
        middle,
        min(*told, middle * (1 - off)),
        max(*told, middle * (1 + off)),
        ", ".join([source, *notes]),
    )


def pace_of_arithmetic(flops: float, gpu: str | None) -> Pace:
    """From the floating-point operations of a video alone.

    Args:
        flops: of one video.
        gpu: the GPU's name; where it is not known, or none is here, an H100's numbers are taken.
    """
    tflops, name = peak_of(gpu)
    low, high = DENOISING_SHARE_USED
    least, most = (flops / (tflops * 1e12 * share) for share in (high, low))
    return Pace(
        flops / (tflops * 1e12 * (low + high) * 0.5),
        least,
        most,
        f"arithmetic, not measured: {flops / 1e15:.3g} PFLOP a video at {low:.0%} to "
        f"{high:.0%} of {name}'s {tflops:g} TFLOP/s; `sweep calibrate` measures it",
    )


def peak_of(gpu: str | None) -> tuple[float, str]:
    """The TFLOP/s of a GPU by its name, and whose they are."""
    parts = [part for part in TFLOPS if gpu is not None and part in gpu]
    if not parts or gpu is None:
        return TFLOPS["H100"], "an H100" if gpu is None else f"an H100 (for {gpu})"
    return TFLOPS[max(parts, key=len)], gpu


def pace_of_all(portions: Sequence[Portion]) -> Pace:
    """Of one video of a sweep, on average."""
    number = sum(portion.videos for portion in portions)
    if len(portions) == 1 or not number:
        return portions[0].pace

    def mean(values: Iterable[float]) -> float:
        weights = (portion.videos for portion in portions)
        return sum(v * w for v, w in zip(values, weights, strict=True)) / number

    return Pace(
        mean(portion.pace.seconds for portion in portions),
        mean(portion.pace.least for portion in portions),
        mean(portion.pace.most for portion in portions),
        "; ".join(dict.fromkeys(portion.pace.source for portion in portions)),
    )


def cost(work: Work, pace: Pace, portions: Sequence[Portion] = ()) -> Cost:
    """What the rest of a sweep costs at that pace, loading left out."""
    values = (pace.seconds, pace.least, pace.most)
    return Cost(
        videos=work.videos,
        gpu_seconds_a_video=values,
        gpu_hours=_each(values, lambda seconds: work.videos * seconds / 3600),
        hours=_each(values, lambda seconds: makespan(work, seconds) / 3600),
        source=pace.source,
        portions=tuple(portions) if len(portions) > 1 else (),
    )


def _each(values: tuple[float, float, float], call: Any) -> tuple[float, float, float]:
    likely, least, most = (float(call(value)) for value in values)
    return likely, least, most


def makespan(work: Work, gpu_seconds: float) -> float:
    """Seconds until the last video: by the GPU that has most, or, with stealing, shared.

    With fewer videos than workers each takes as long as one video of one process.
    """
    if not work.videos:
        return 0.0
    one = gpu_seconds * work.processes
    if not work.static:
        return max(work.videos * gpu_seconds / len(work.home), one)
    load = dict.fromkeys(work.home, 0.0)
    for category, count in work.left.items():
        own = [gpu for gpu, names in work.home.items() if category in names]
        for gpu in own:
            load[gpu] += count / len(own)
    return max(max(load.values()) * gpu_seconds, one)


def advice(work: Work, pace: Pace, mix: Mix | None) -> list[str]:
    """Where the placement wastes GPUs, and what would be better, by how much.

    Args:
        mix: the calibrations of all that is left to make, where there are.
    """
    lines: list[str] = []
    if not work.videos:
        return lines
    if work.static and len(work.home) > 1:
        shared = makespan(_stealing(work), pace.seconds)
        pinned = makespan(work, pace.seconds)
        if pinned > 1.05 * shared:
            idle = 1 - shared / pinned
            lines.append(
                f"placement.balance: static leaves the GPUs idle for {idle:.0%} of their time: "
                f"{hours(pinned)} instead of {hours(shared)} with balance: steal "
                f"({pinned / shared:.2f} x)"
            )
    workers = len(work.home) * work.processes
    if work.videos < workers:
        lines.append(
            f"{work.videos} videos are left for {workers} workers: "
            f"{workers - work.videos} of them get none"
        )
    if mix is not None and (best := mix.best) is not None:
        if work.processes in mix.processes:
            gain = mix.videos_per_hour(best) / mix.videos_per_hour(work.processes)
            if gain >= GAIN_WORTH_SAYING:
                lines.append(
                    f"placement.processes_per_gpu={best} makes {gain - 1:.0%} more videos an hour "
                    f"than {work.processes} (calibrated)"
                )
        if mix.full is not None and work.processes >= mix.full:
            lines.append(
                f"{plural_processes(mix.full)} did not fit the memory of {mix.gpu}; set "
                f"placement.processes_per_gpu={best}"
            )
    return lines


def _stealing(work: Work) -> Work:
    return Work(work.left, work.steps, work.jobs_per_group, work.home, work.processes, False)


def plural_processes(number: int) -> str:
    return f"{number} process{'es' if number != 1 else ''} a GPU"


def hours(seconds: float) -> str:
    """A time as a person plans with it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
