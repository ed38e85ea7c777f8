"""An experiment read and expanded, and its run folder's manifest and queue brought in line with
it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..backends import Examined
from ..dataset.dataset import DatasetContent, read_dataset
from ..dataset.remarks import Remark
from ..disk.manifest import Manifest, write_manifest
from ..disk.run_folder import RunFolder, locked, make_folder, sha256_file, write_atomically
from ..disk.run_id import ensure_run_id
from ..experiment.experiment import Experiment
from ..experiment.loading import ExperimentFile, load_experiment
from ..experiment.overrides import takes_back
from ..job import UNMADE, Alike, Job, JobState
from ..machine.gpus import Gpu
from ..plan.expansion import expand
from ..plan.fingerprint import MethodIdentities, identities_of
from ..plan.plan import Changes, changed_jobs, changes, reasons
from ..queue import Queue
from ..runs.damage import mend_queue, read_former, set_aside
from ..runs.links import Linked, link_made
from ..runs.runs import bring_in_line, live_slots, refuse_lost_queue, was_planned
from ..text.errors import UserError

log = logging.getLogger("sweep")


@dataclass(frozen=True)
class Planned:
    """What planning has found and changed.

    Args:
        left_out: the files that were left out, a line for each.
        key_changes: the keys of the experiment that differ from the former plan's, a line for each.
        identities: what decides the videos of each method.
        stale: the jobs whose video was made from inputs that have changed since.
        left: the number of jobs yet to be made, per category.
        left_alike: the same jobs, counted by what they cost.
        awaiting: how many jobs wait for videos that other runs have yet to make.
        made_stale: how many jobs became stale by this plan.
        reasons: what this plan changed of jobs that were there before.
        linked: the jobs whose video another run had made.
        remarks: what is worth knowing of the clips.
        models: what was found of each method's model on this machine.
    """

    run: RunFolder
    experiment: Experiment
    manifest: Manifest
    changes: Changes
    left_out: tuple[str, ...]
    key_changes: tuple[str, ...]
    identities: MethodIdentities
    stale: tuple[Job, ...]
    left: dict[str, int]
    left_alike: tuple[Alike, ...]
    awaiting: int
    made_stale: int
    reasons: tuple[str, ...]
    linked: tuple[Linked, ...]
    remarks: tuple[Remark, ...]
    models: Mapping[str | None, Examined]


def plan_sweep(
    path: Path,
    overrides: Sequence[str],
    *,
    skip_invalid: bool,
    take_changes: bool,
    gpus: Sequence[Gpu] = (),
) -> Planned:
    """Expand an experiment and bring its run folder in line with it.

    Args:
        take_changes: whether an existing run may be changed to match the file.
        gpus: of this machine, where the placement is to be checked against them.

    Raises:
        UserError: the experiment is wrong, the run folder is another experiment's, or the
            file differs from the run and `take_changes` is False.
    """
    experiment, key_changes = _read(path, overrides, take_changes=take_changes)
    run = experiment.run_folder
    dataset = read_dataset(experiment, skip_invalid=skip_invalid)
    check_placement(experiment, dataset)
    check_gpus(experiment, gpus)
    identities = identities_of(experiment)
    make_folder(run.path)
    with locked(run.plan_lock):
        ensure_run_id(run)
        refuse_lost_queue(run)
        if not live_slots(run):
            mend_queue(run)
        former = read_former(run)
        is_partial = bool(dataset.left_out)
        manifest = expand(experiment, dataset.leads, identities, former, is_partial=is_partial)
        _refuse_other_experiment(run, former, manifest)
        _write_experiment(experiment, run)
        if manifest != former or not run.manifest.exists():
            sha256 = write_manifest(run.manifest, manifest)
        else:
            sha256 = sha256_file(run.manifest)
        queue = Queue(run.queue, create=True)
        bring_in_line(queue, run, manifest, sha256)
        queue.set_policy(experiment.policy)
        stale = set(queue.ids(JobState.STALE))
    changed = changed_jobs(former, manifest)
    # The videos are decoded, for which no worker has to wait: the lock is not held.
    formerly = [old for old, _ in changed]
    linked = link_made(run, queue, manifest, formerly) if experiment.reuse else []
    left = queue.left({*UNMADE, JobState.RUNNING})
    left_alike = queue.left_alike({*UNMADE, JobState.RUNNING})
    awaiting = len(queue.ids(JobState.AWAITING)) if manifest.is_chained else 0
    queue.close()
    return Planned(
        run=run,
        experiment=experiment,
        manifest=manifest,
        changes=changes(former, manifest, len(changed)),
        left_out=dataset.left_out,
        key_changes=key_changes,
        identities=identities,
        stale=tuple(job for job in manifest.jobs if job.id in stale) if stale else (),
        left=left,
        left_alike=tuple(left_alike),
        awaiting=awaiting,
        made_stale=sum(job.id in stale for _, job in changed),
        reasons=tuple(reasons(changed)),
        linked=tuple(linked),
        remarks=dataset.remarks,
        models={one.name: one.planner().examine() for one in experiment.every_method},
    )


def _read(
    path: Path, overrides: Sequence[str], *, take_changes: bool
) -> tuple[Experiment, tuple[str, ...]]:
    """The experiment with the overrides that its run was planned with and these, and which keys
    differ from what the run was planned with.

    Raises:
        UserError: as `plan_sweep`.
    """
    file = ExperimentFile.read(path)
    given = [override for override in overrides if not takes_back(override)]
    experiment = file.experiment(given)
    run = experiment.run_folder
    run.refuse_links()
    is_runs_own = path.absolute() == run.experiment
    planned = read_planned(run, restoring=take_changes and not is_runs_own)
    kept = [] if planned is None or is_runs_own else planned.overrides
    if kept or len(given) < len(overrides):
        experiment = file.experiment([*kept, *overrides])
    if planned is not None:
        if not is_runs_own and not take_changes:
            _refuse_changes(path, file.experiment(kept), planned)
        return experiment, tuple(experiment.differences(planned))
    if not was_planned(run) and has_content(run.path):
        raise UserError(f"{run.path}: is not empty and no run folder; change `name` or `results`")
    return experiment, ()


def _refuse_other_experiment(run: RunFolder, former: Manifest, manifest: Manifest) -> None:
    """Raise UserError where a run folder's jobs are all other ones."""
    known = {job.id for job in (*former.jobs, *former.retired)}
    if known and not known & {job.id for job in manifest.jobs}:
        raise UserError(
            f"{run.path}: belongs to another experiment (no job in common); change `name`, "
            "or move that folder away"
        )


def _write_experiment(experiment: Experiment, run: RunFolder) -> None:
    text = experiment.to_yaml(run.path)
    if not run.experiment.exists() or run.experiment.read_text(encoding="utf-8") != text:
        write_atomically(run.experiment, text.encode())


def _refuse_changes(path: Path, experiment: Experiment, planned: Experiment) -> None:
    """Raise UserError where an experiment's file says else than the run that it has planned."""
    if changes := experiment.differences(planned):
        run = planned.run_folder
        raise UserError(
            f"{path}: differs from the run it has planned ({run.experiment}):",
            *(f"  {change}" for change in changes),
            f"`sweep plan {shlex.quote(str(path))}` takes the changes in; "
            f"`sweep resume {run.name}` goes on as planned",
        )


def has_content(folder: Path) -> bool:
    """Whether a folder holds more than a plan leaves that was cut short."""
    return folder.exists() and any(path.name != "work" for path in folder.iterdir())


def check_placement(experiment: Experiment, dataset: DatasetContent) -> None:
    """Raise UserError where `placement.assign` names a category that does not exist."""
    categories = dict.fromkeys(lead.category for lead in dataset.leads)
    for category in experiment.placement.assign:
        if category not in categories:
            raise UserError(
                f"{experiment.file}: placement.assign: no category is called {category!r} "
                f"(there are: {', '.join(categories)})"
            )


def check_gpus(experiment: Experiment, gpus: Sequence[Gpu]) -> None:
    """Raise UserError where this machine has GPUs, but not one that the placement names.

    On a machine without GPUs, a sweep may be planned for another one.
    """
    wanted = experiment.placement.gpus
    if not gpus or isinstance(wanted, str) or experiment.placement.device == "cpu":
        return
    here = [gpu.number for gpu in gpus]
    missing = [number for number in wanted if number not in here]
    if missing:
        machine = experiment.machine
        file = experiment.file if machine.gpus is None else machine.file
        raise UserError(
            f"{file}: placement.gpus: GPU {', '.join(map(str, missing))} is not there (this "
            f"machine has {', '.join(map(str, here))}); choose among these, or say auto",
            "to plan for another machine, hide them: CUDA_VISIBLE_DEVICES= sweep plan ...",
        )


def read_planned(run: RunFolder, *, restoring: bool) -> Experiment | None:
    """The experiment that a run was planned with; None where the run has no experiment file.

    Args:
        restoring: whether a file that cannot be read may be set aside, since another takes its
            place.

    Raises:
        UserError: the file cannot be read.
    """
    if not run.experiment.exists():
        return None
    try:
        return load_experiment(run.experiment)
    except UserError as error:
        if not restoring:
            raise
        aside = set_aside(run.experiment)
        log.warning(
            "%s; kept as %s; overrides that the run was planned with must be given again",
            *(error.lines[0], aside.name),
        )
        return None
