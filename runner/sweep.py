"""A sweep on disk: finding its run folder, and keeping experiment, manifest and queue in line."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .attempts import Attempt, record_attempt
from .damage import drop_damaged_queue, may_be_damaged, read_former, read_planned
from .dataset import Dataset, read_dataset
from .errors import UserError
from .experiment import Experiment, load_experiment
from .fingerprint import Recipe
from .job import Job, JobState, Outcome
from .manifest import Manifest, read_manifest, write_manifest
from .placement import Slot
from .plan import Changes, changes, expand
from .publish import Disk, state_on_disk
from .queue import Lost, Queue
from .run_folder import RunFolder, is_locked, locked, sha256_file, write_atomically


@dataclass(frozen=True)
class Planned:
    """What `plan` did: the run, its manifest, the changes and what was left out.

    `stale` are the jobs whose video was made from inputs that have changed since.
    """

    run: RunFolder
    experiment: Experiment
    manifest: Manifest
    changes: Changes
    left_out: tuple[str, ...]
    key_changes: tuple[str, ...]
    recipe: Recipe
    stale: tuple[Job, ...]


def is_experiment_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml"))


def find_run(text: str) -> RunFolder:
    """The run folder that RUN names: an experiment file, a run folder or a sweep's name.

    A name is looked up in `results/` of this folder, of those above it, and of the folder
    that holds this package.

    Raises:
        UserError: there is no such run.
    """
    path = Path(text)
    if path.name == "experiment.yaml" and (path.parent / "manifest.jsonl").exists():
        return RunFolder(path.parent.absolute())
    if is_experiment_file(text):
        run = load_experiment(path).run_folder
        if not run.experiment.exists():
            raise UserError(f"{text}: not planned yet; run `sweep plan {text}` first")
        return run
    if (path / "experiment.yaml").exists():
        return RunFolder(path.absolute())
    named = [folder / "results" / text for folder in _places() if "/" not in text]
    for folder in named:
        if (folder / "experiment.yaml").exists():
            return RunFolder(folder)
    if any(was_planned(RunFolder(folder)) for folder in (path, *named)):
        raise UserError(f"{text}: has lost its experiment.yaml; `sweep plan FILE` restores it")
    if path.is_dir():
        raise UserError(f"{text}: is no run folder (it has no experiment.yaml)")
    raise UserError(
        f"{text}: no such run; name an experiment file, a run folder, or a sweep in results/"
    )


def _places() -> Iterator[Path]:
    here = Path.cwd()
    yield here
    yield from here.parents
    yield Path(__file__).resolve().parents[1]


def planned_runs() -> list[RunFolder]:
    """The planned sweeps in the nearest `results/` that has any."""
    for folder in _places():
        found = sorted((folder / "results").glob("*/experiment.yaml"))
        if found:
            return [RunFolder(path.parent) for path in found]
    return []


def live_slots(run: RunFolder) -> list[Slot]:
    """The slots whose supervisor or worker is alive on this host."""
    if not run.locks.is_dir():
        return []
    slots = (Slot.parse(path.stem) for path in run.locks.glob("*.lock"))
    return sorted(slot for slot in slots if slot is not None and is_locked(run.lock(slot)))


def plan_sweep(
    path: Path, overrides: Sequence[str], *, skip_invalid: bool, take_changes: bool
) -> Planned:
    """Expand an experiment and bring its run folder in line with it.

    Args:
        take_changes: whether an existing run may be changed to match the file.

    Raises:
        UserError: the experiment is wrong, the run folder is another experiment's, or the
            file differs from the run and `take_changes` is False.
    """
    for override in overrides:
        if override.startswith("="):
            raise UserError(f"{override!r}: an override is key=value, such as seeds=[1,2,3]")
    experiment = load_experiment(path, overrides)
    run = experiment.run_folder
    key_changes: list[str] = []
    planned = read_planned(run, restoring=take_changes and path.absolute() != run.experiment)
    if planned is not None:
        if path.absolute() != run.experiment:
            kept = planned.overrides
            experiment = load_experiment(path, [*kept, *overrides])
            foreign = load_experiment(path, kept).differences(planned)
            if foreign and not take_changes:
                raise UserError(
                    f"{path}: differs from the run it has planned ({run.experiment}):\n"
                    + "\n".join(f"  {change}" for change in foreign)
                    + f"\n`sweep plan {shlex.quote(str(path))}` takes the changes in; "
                    f"`sweep resume {run.name}` goes on as planned"
                )
        key_changes = experiment.differences(planned)
    elif not was_planned(run) and has_content(run.path):
        raise UserError(f"{run.path}: is not empty and no run folder; change `name` or `results`")
    dataset = read_dataset(experiment, skip_invalid=skip_invalid)
    check_placement(experiment, dataset)
    recipe = Recipe.of(experiment)
    with locked(run.plan_lock):
        refuse_lost_queue(run)
        if run.queue.exists() and not live_slots(run):
            drop_damaged_queue(run)
        former = read_former(run)
        manifest = expand(experiment, dataset.clips, recipe, former)
        known = {job.id for job in (*former.jobs, *former.retired)}
        if known and not known & {job.id for job in manifest.jobs}:
            raise UserError(
                f"{run.path}: belongs to another experiment (no job in common); change `name`, "
                "or move that folder away"
            )
        text = experiment.to_yaml(run.path)
        if not run.experiment.exists() or run.experiment.read_text(encoding="utf-8") != text:
            write_atomically(run.experiment, text.encode())
        if manifest != former or not run.manifest.exists():
            sha256 = write_manifest(run.manifest, manifest)
        else:
            sha256 = sha256_file(run.manifest)
        queue = Queue(run.queue, create=True)
        _sync(queue, run, manifest, sha256)
        queue.set_policy(experiment.policy)
        stale = set(queue.ids(JobState.STALE))
        queue.close()
    return Planned(
        run=run,
        experiment=experiment,
        manifest=manifest,
        changes=changes(former, manifest),
        left_out=dataset.left_out,
        key_changes=tuple(key_changes),
        recipe=recipe,
        stale=tuple(job for job in manifest.jobs if job.id in stale) if stale else (),
    )


def was_planned(run: RunFolder) -> bool:
    """Whether a folder was a run's, even if it has lost its experiment."""
    return run.manifest.exists() or run.queue.exists()


def has_content(folder: Path) -> bool:
    """Whether a folder holds more than what a plan that was cut short leaves behind."""
    return folder.exists() and any(path.name != "work" for path in folder.iterdir())


def check_placement(experiment: Experiment, dataset: Dataset) -> None:
    """Raise UserError where `placement.assign` names a category that there is not."""
    categories = dict.fromkeys(clip.category for clip in dataset.clips)
    for category in experiment.placement.assign:
        if category not in categories:
            raise UserError(
                f"{experiment.file}: placement.assign: no category is called {category!r} "
                f"(there are: {', '.join(categories)})"
            )


def refuse_lost_queue(run: RunFolder) -> None:
    """Raise UserError where the queue is missing while workers hold claims in it."""
    if not run.queue.exists() and live_slots(run):
        raise UserError(
            f"{run.queue}: is gone while workers run; `sweep stop --now {run.name}`, then resume"
        )


def open_queue(run: RunFolder, *, look_at_disk: bool = False) -> Queue:
    """The queue of a planned run, made anew from manifest and disk where it is missing.

    Args:
        look_at_disk: bring the queue in line with the files even if it knows the manifest.

    Raises:
        UserError: there is no manifest, or the queue is missing while workers run.
    """
    refuse_lost_queue(run)
    if not run.manifest.exists():
        raise UserError(f"{run.path}: has no manifest; `sweep plan FILE` makes or restores it")
    if run.queue.exists() and not live_slots(run) and may_be_damaged(run.queue):
        with locked(run.plan_lock):
            drop_damaged_queue(run)
    missing = not run.queue.exists()
    if not missing:
        queue = Queue(run.queue)
        if _knows_manifest(queue, run):
            if look_at_disk:
                queue.sync_files(partial(state_on_disk, run), Disk(run).files)
                drop_scratch_of_done(run, queue)
            return queue
        queue.close()
    with locked(run.plan_lock):
        queue = Queue(run.queue, create=True)
        _sync(queue, run, read_manifest(run.manifest), sha256_file(run.manifest))
        queue.set_policy(load_experiment(run.experiment).policy)
    if look_at_disk:
        drop_scratch_of_done(run, queue)
    return queue


def drop_scratch_of_done(run: RunFolder, queue: Queue) -> None:
    """Delete what was in the making of videos that are made: a worker that was killed between
    publishing one and tidying up cannot, and the queue may have learned of it from the disk."""
    for scratch in run.path.glob("work/*"):
        rows = [] if scratch == run.locks else queue.find(id_start=scratch.name)
        if any(row.job.id == scratch.name and row.state is JobState.DONE for row in rows):
            shutil.rmtree(scratch, ignore_errors=True)


def _knows_manifest(queue: Queue, run: RunFolder) -> bool:
    """Whether the queue is in line with the manifest, which is read only if it was touched."""
    return queue.manifest_stamp() == _manifest_stamp(run) or queue.manifest_sha256() == sha256_file(
        run.manifest
    )


def _manifest_stamp(run: RunFolder) -> str:
    status = run.manifest.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _sync(queue: Queue, run: RunFolder, manifest: Manifest, sha256: str) -> None:
    queue.sync(
        manifest.jobs,
        manifest.retired,
        sha256,
        partial(state_on_disk, run),
        Disk(run).files,
        _manifest_stamp(run),
    )


def take_back(run: RunFolder, queue: Queue) -> list[Lost]:
    """Give the jobs of dead or silent workers back, and record those attempts."""
    now = time.time()
    lost = queue.reclaim(now)
    for one in lost:
        attempt = Attempt(
            job=one.claim.job.id,
            worker=one.claim.worker,
            outcome=Outcome.DIED,
            started_at=one.claim.claimed_at,
            ended_at=now,
            attempt=one.claim.attempt,
            kind=one.kind,
            error=one.error,
        )
        record_attempt(run.attempts, attempt)
    return lost
