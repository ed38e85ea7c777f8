"""Run folders and their queues: finding one, and opening its queue in line with the disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..disk.attempts import AttemptRecord, record_attempt
from ..disk.manifest import Manifest, read_manifest
from ..disk.publish import Disk, state_on_disk
from ..disk.run_folder import HALF_WRITTEN, RunFolder, is_locked, locked, sha256_file
from ..disk.upstream import Upstream
from ..job import UNMADE, JobState, Outcome
from ..job.failures import is_disk_full
from ..job.slot_names import Slot
from ..machine.waiting import Busy, Waiting
from ..queue import Queue
from ..queue.awaiting import follow_upstream
from ..queue.claims import Lost
from ..queue.damaged import DamagedQueue, OtherVersion
from ..text.errors import UserError
from ..text.input_file import MOST_MANIFEST_BYTES, NotAnInput
from .borrowed import BorrowedQueue, copy_of_queue, is_ours_to_write, new_queue
from .damage import mend_queue, set_queue_aside

RECLAIM_SECONDS = 2.0
"""Who asks how a sweep stands waits no longer for others that write."""

log = logging.getLogger("sweep")

T = TypeVar("T")

# `experiment` is imported where it is used: its models take longer to make than a question to a
# queue does to answer.


def is_experiment_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml"))


def find_run(text: str) -> RunFolder:
    """The run folder that RUN names: an experiment file, a run folder or a sweep's name.

    Raises:
        UserError: there is no such run, or links lead its folders elsewhere.
    """
    run = _find_run(text)
    run.refuse_links()
    return run


def _find_run(text: str) -> RunFolder:
    """As `find_run`.

    A name is looked up in `results/` of this folder, of those above it, and of the folder
    that holds this package, and where the machine file has run folders go.

    Raises:
        UserError: there is no such run.
    """
    path = Path(text)
    if path.name == "experiment.yaml" and (path.parent / "manifest.jsonl").exists():
        return RunFolder(path.parent.absolute())
    if is_experiment_file(text):
        from ..experiment.loading import load_experiment

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
    if (elsewhere := _results_of_machine()) is not None and "/" not in text:
        named.append(elsewhere / text)
        if (named[-1] / "experiment.yaml").exists():
            return RunFolder(named[-1])
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
    yield Path(__file__).resolve().parents[2]


def _results_of_machine() -> Path | None:
    """Where run folders go on this machine, where a machine file says so."""
    from ..machine.machine_file import read_machine

    for folder in _places():
        machine = read_machine(folder)
        if machine.results is not None:
            return machine.path(machine.results)
    return None


def planned_runs() -> list[RunFolder]:
    """The planned sweeps in the nearest `results/` that has any."""
    for folder in _places():
        found = sorted((folder / "results").glob("*/experiment.yaml"))
        if found:
            return [RunFolder(path.parent) for path in found]
    return []


def live_slots(run: RunFolder) -> list[Slot]:
    """The slots whose supervisor or worker is alive on this host.

    Raises:
        UserError: one of them is none that this version can work with.
    """
    if not run.locks.is_dir():
        return []
    slots = (Slot.of_lock(path.name) for path in run.locks.glob("*.lock"))
    alive = [slot for slot in slots if slot is not None and is_locked(run.lock(slot))]
    return sorted(Slot.read(slot.name) for slot in alive)


def was_planned(run: RunFolder) -> bool:
    """Whether a folder was a run's, even if it has lost its experiment."""
    return run.manifest.exists() or os.path.lexists(run.queue)


def refuse_lost_queue(run: RunFolder) -> None:
    """Raise UserError where the queue is missing while workers hold claims in it."""
    if not os.path.lexists(run.queue) and live_slots(run):
        raise UserError(
            f"{run.queue}: is gone while workers run; `sweep stop --now {run.name}`, then resume"
        )


def open_queue(run: RunFolder, *, look_at_disk: bool = False, is_mending: bool = False) -> Queue:
    """The queue of a planned run, made anew from manifest and disk where it is missing.

    Of a run that is not ours to write it is a copy, and nothing of the run is changed. So it is
    where another version has made the queue, unless it may be set aside.

    Args:
        look_at_disk: bring the queue in line with the files even if it knows the manifest.
        is_mending: set one aside that is damaged, or of another version, unless workers run.

    Raises:
        UserError: there is no manifest, or the queue is missing while workers run.
        DamagedQueue: it is damaged.
    """
    if not run.manifest.exists():
        raise UserError(f"{run.path}: has no manifest; `sweep plan FILE` makes or restores it")
    if not is_ours_to_write(run):
        return borrow_queue(run, look_at_disk=look_at_disk)
    refuse_lost_queue(run)
    if is_mending and not live_slots(run):
        with locked(run.plan_lock):
            mend_queue(run)
    if os.path.lexists(run.queue):
        try:
            queue = Queue(run.queue)
        except OtherVersion as error:
            log.warning("%s", error)
            return _asked_of_files(run)
        if _knows_manifest(queue, run):
            if look_at_disk:
                queue.sync_files(partial(state_on_disk, run), Disk(run).files)
                drop_leftovers(run, queue)
            release_made(run, queue)
            return queue
        queue.close()
    from ..experiment.loading import load_experiment

    with locked(run.plan_lock):
        queue = Queue(run.queue, create=True)
        bring_in_line(queue, run, read_manifest(run.manifest), sha256_file(run.manifest))
        queue.set_policy(load_experiment(run.experiment).policy)
    if look_at_disk:
        drop_leftovers(run, queue)
    return queue


def borrow_queue(run: RunFolder, *, look_at_disk: bool) -> BorrowedQueue:
    """As `open_queue`, of a run that is not ours to write."""
    queue = copy_of_queue(run)
    if queue is not None and _knows_manifest(queue, run):
        if look_at_disk:
            queue.sync_files(partial(state_on_disk, run), Disk(run).files)
        return queue
    if queue is None:
        log.warning("%s: its queue cannot be read; asked of its manifest and files", run.name)
        return _asked_of_files(run)
    bring_in_line(queue, run, read_manifest(run.manifest), sha256_file(run.manifest))
    return queue


def _asked_of_files(run: RunFolder) -> BorrowedQueue:
    """A queue made of a run's manifest and files alone, to answer a question."""
    queue = new_queue()
    bring_in_line(queue, run, read_manifest(run.manifest), sha256_file(run.manifest))
    return queue


def set_damaged_aside(damage: DamagedQueue) -> None:
    """Set a queue aside whose damage has shown while it was worked with.

    Raises:
        UserError: workers run, who have it open.
    """
    run = RunFolder(damage.path.parent)
    if live_slots(run):
        raise UserError(
            f"{damage.path} {damage.what}; it is not set aside while workers run: `sweep stop "
            f"--now {run.name}`, then `sweep resume {run.name}`"
        ) from damage
    with locked(run.plan_lock):
        set_queue_aside(run, damage.what)


def mending(act: Callable[[], T]) -> T:
    """What `act` returns; where it meets a damaged queue, that is set aside, and `act` is done
    anew, once."""
    try:
        return act()
    except DamagedQueue as damage:
        set_damaged_aside(damage)
    return act()


def drop_leftovers(run: RunFolder, queue: Queue) -> None:
    """Delete what workers that were killed could not tidy up: what was in the making of videos
    that are made, which the queue may have learned from the disk, and the cache's half-written
    files."""
    for scratch in run.path.glob("work/*"):
        rows = [] if scratch == run.locks else queue.find(id_start=scratch.name)
        if any(row.job.id == scratch.name and row.state is JobState.DONE for row in rows):
            run.drop(scratch)
    if not live_slots(run):
        for half in run.cache.rglob(HALF_WRITTEN):
            half.unlink(missing_ok=True)


def _knows_manifest(queue: Queue, run: RunFolder) -> bool:
    """Whether the queue is in line with the manifest, which is read only if it was touched."""
    if queue.manifest_stamp() == _manifest_stamp(run):
        return True
    try:
        return queue.manifest_sha256() == sha256_file(run.manifest, MOST_MANIFEST_BYTES)
    except NotAnInput:
        # Whoever reads it says so.
        return False


def _manifest_stamp(run: RunFolder) -> str:
    status = run.manifest.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def bring_in_line(queue: Queue, run: RunFolder, manifest: Manifest, sha256: str) -> None:
    """Bring a queue in line with the manifest, of that hash, and with what is on disk."""
    queue.sync(
        manifest.jobs,
        manifest.retired,
        sha256,
        partial(state_on_disk, run),
        Disk(run).files,
        _manifest_stamp(run),
    )
    if manifest.is_chained:
        follow_upstream(queue, Upstream.of(run).made, UNMADE)


def release_made(run: RunFolder, queue: Queue) -> None:
    """Let jobs be claimed whose inputs other runs have made meanwhile. On a full disk, or beside
    someone who holds the queue, they are left as they are: workers look as well."""
    made, waiting = Upstream.of(run).made, Waiting.at_most(RECLAIM_SECONDS)
    _if_it_can_be_written(lambda: follow_upstream(queue, made, waiting=waiting))


def take_back(run: RunFolder, queue: Queue) -> list[Lost]:
    """Give the jobs of dead or silent workers back, and record those attempts. On a full disk, or
    beside someone who holds the queue, they are left as they are: no attempt goes unrecorded. So
    they are in a run that is not ours to write while workers live there, who do it themselves."""
    if isinstance(queue, BorrowedQueue):
        return [] if live_slots(run) else queue.reclaim()

    def record(one: Lost) -> None:
        attempt = AttemptRecord(
            job=one.claim.job.id,
            worker=one.claim.worker,
            outcome=Outcome.DIED,
            started_at=one.claim.claimed_at,
            ended_at=queue.clock(),
            attempt=one.claim.attempt,
            kind=one.kind,
            error=one.error,
        )
        record_attempt(run.attempts, attempt)

    waiting = Waiting.at_most(RECLAIM_SECONDS)
    return _if_it_can_be_written(lambda: queue.reclaim(record, waiting)) or []


def _if_it_can_be_written(act: Callable[[], T]) -> T | None:
    """What `act` returns; None where the disk is full, or another process holds the queue."""
    try:
        return act()
    except Busy:
        return None
    except Exception as error:
        if not is_disk_full(error):
            raise
        return None
