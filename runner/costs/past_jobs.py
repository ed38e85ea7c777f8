"""Videos that were made already, as a measure of what further ones will cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from statistics import median
from typing import Any

from ..backends.video_parameters import is_guided, steps_of
from ..disk.publish import read_sidecar
from ..disk.run_folder import RunFolder
from ..experiment.experiment import Experiment
from ..experiment.loading import load_experiment
from ..job.shape import Shape
from ..runs.borrowed import queue_to_ask
from ..text.errors import UserError
from ..text.forms import is_amount, is_count, is_size, is_text
from .calibration import Subject
from .costs import Measured

VIDEOS_READ = 40
"""The last videos of a sweep that are read, for each of its parameters and shapes."""


def measured(experiment: Experiment, subject: Subject) -> list[Measured]:
    """What the last videos of a sweep took that are of a subject; [] before there are any."""
    run = experiment.run_folder
    if not run.queue.exists():
        return []
    queue = queue_to_ask(run)
    if queue is None:
        return []
    try:
        done = queue.last_done(VIDEOS_READ, partial(_costs_alike, subject))
    finally:
        queue.close()
    paths = [run.sidecar(job) for job in done if run.holds(run.sidecar(job))]
    records = [record for path in paths if (record := read_sidecar(path)) is not None]
    told = [record for record in records if _is_of(record, subject)]
    # Only the first video of a group has it, and a worker's first one takes longer.
    prepared = [record["seconds"]["prepare"] for record in told if "prepare" in record["seconds"]]
    prepare = median(prepared) if prepared else 0.0
    return [
        Measured(
            gpu=record["device"],
            processes=experiment.placement.processes_per_gpu,
            steps=steps_of(record["parameters"]),
            prepare=prepare,
            generate=record["seconds"]["generate"],
            step=record.get("seconds_per_step"),
            video_bytes=record["video"]["size"],
        )
        for record in told
    ]


def former_sweeps(run: RunFolder, subject: Subject) -> Iterator[tuple[str, list[Measured]]]:
    """The other sweeps beside a run folder that made videos of a subject, newest first, each
    with its name. Those that cannot be read are left out."""
    times: dict[RunFolder, float] = {}
    # Without its manifest, an experiment's own words would say where its run folder is.
    for path in run.path.parent.glob("*/manifest.jsonl"):
        with contextlib.suppress(OSError):
            if path.parent != run.path:
                other = RunFolder(path.parent)
                times[other] = other.experiment.stat().st_mtime
    for other in sorted(times, key=lambda one: -times[one]):
        with contextlib.suppress(UserError, OSError):
            if found := measured(load_experiment(other.experiment), subject):
                yield other.name, found


def _is_of(record: Mapping[str, Any], subject: Subject) -> bool:
    """Whether a sidecar is of a video that costs what the subject's do, but for its steps."""
    return (
        record.get("backend") == subject.backend
        and record.get("model_identity") == subject.identity
        and "shape" in record
        and _costs_alike(subject, record.get("parameters") or {}, Shape.from_json(record["shape"]))
        # A video that went on from an earlier attempt's latents took less.
        and not record.get("from_step")
        and is_amount((record.get("seconds") or {}).get("generate"))
        and is_amount((record.get("seconds") or {}).get("prepare", 0.0))
        and is_size(steps_of(record.get("parameters") or {}))
        and is_text(record.get("device"))
        and is_count(record["video"].get("size"))
    )


def _costs_alike(subject: Subject, parameters: Mapping[str, Any], shape: Shape) -> bool:
    """Whether videos with these take a step as long as the subject's do, of the same model."""
    is_alike = is_guided(parameters) == subject.guided
    return is_alike and shape.without_rate == subject.shape
