"""Linking: a job whose fingerprint is done elsewhere gets that video, and is not made again.

Elsewhere is another run folder of the same `results`, or this one under another id: what was made
with strength 0.8 is there already when 0.8 becomes the value of an axis. A video is linked as a
hard link (a copy where the file system has none), for no video is ever written to in its place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ..disk.manifest import Manifest
from ..disk.publish import files_of, inputs_of, publish, read_sidecar, state_on_disk
from ..disk.run_folder import RunFolder, make_folder
from ..job import UNMADE, Job, JobState, check_id_and_output
from ..queue import Queue
from ..queue.claim_job import claim_job
from ..text.errors import UserError
from .borrowed import queue_to_ask
from .verify import find_problem

HOLDER = "link"
OWN = ("schema", "job", "fingerprint")
"""Of a sidecar, what `publish` says of each video itself."""


@dataclass(frozen=True)
class Linked:
    """A job, and the video that it was given: the run that made it, and the job there."""

    job: Job
    run: RunFolder
    made: Job

    @property
    def source(self) -> str:
        """The video's path in `results`."""
        return f"{self.run.name}/{self.made.output}"


def link_made(
    run: RunFolder, queue: Queue, manifest: Manifest, formerly: Iterable[Job]
) -> list[Linked]:
    """Link what has been made elsewhere: each video hashed and decoded before it counts.

    Args:
        formerly: jobs of this run as they were, under ids that now stand for something else.
    """
    others = siblings(run)
    own = {job.fingerprint: job for job in (*formerly, *manifest.retired)}
    candidates = [job for job in manifest.jobs if others or job.fingerprint in own]
    open_ids = set(queue.ids(*UNMADE, JobState.FAILED)) if candidates else set()
    wanted: dict[str, list[Job]] = {}
    for job in candidates if open_ids else ():
        if job.id in open_ids:
            wanted.setdefault(job.fingerprint, []).append(job)
    found: dict[str, Linked] = {}
    for fingerprint in own.keys() & wanted.keys():
        for job in wanted[fingerprint]:
            found[job.id] = Linked(job, run, own[fingerprint])
    for job_id, one in look_up(others if wanted else (), wanted).items():
        found.setdefault(job_id, one)
    return [one for one in whole(found.values()) if take_in(run, queue, one)]


def link_before_a_launch(
    run: RunFolder,
    queue: Queue,
    states: Collection[JobState],
    chosen: Collection[str] | None,
) -> list[Linked]:
    """Link what other run folders have made since this one was planned; checked as by a plan.

    Args:
        states: of the jobs that would be made; the video of a stale one is superseded.
        chosen: the ids of the part of the sweep that would be made; None for all of it.
    """
    others = siblings(run)
    if not others:
        return []
    wanted: dict[str, list[Job]] = {}
    for row in queue.rows(*states):
        if chosen is None or row.job.id in chosen:
            wanted.setdefault(row.job.fingerprint, []).append(row.job)
    good = whole(look_up(others if wanted else (), wanted).values())
    if good and JobState.STALE in states:
        queue.retry([JobState.STALE], {one.job.id for one in good})
    return [one for one in good if take_in(run, queue, one)]


def siblings(run: RunFolder) -> list[RunFolder]:
    """The other run folders of the same `results`."""
    folders = (path.parent for path in sorted(run.path.parent.glob("*/sweep.db")))
    return [RunFolder(path) for path in folders if path != run.path]


def look_up(runs: Iterable[RunFolder], wanted: Mapping[str, Sequence[Job]]) -> dict[str, Linked]:
    """For each job, by its id, where its video was made; the first of these runs counts.

    Args:
        wanted: the jobs by their fingerprint.
    """
    found: dict[str, Linked] = {}
    for run in runs:
        for job_id, fingerprint, output in made_in(run):
            if fingerprint not in wanted or not is_inside(run, job_id, output):
                continue
            for job in wanted[fingerprint]:
                found.setdefault(job.id, Linked(job, run, replace(job, id=job_id, output=output)))
    return found


def is_inside(run: RunFolder, job_id: str, output: str) -> bool:
    """Whether what another run's queue names is a video in its own folder, links resolved."""
    try:
        check_id_and_output(job_id, output)
        video = run.path / output
        return run.holds(video) and run.holds(video.with_suffix(".json"))
    except ValueError:
        return False


def whole(linked: Collection[Linked]) -> list[Linked]:
    """Those whose video is as its sidecar says, and decodes."""
    if not linked:
        return []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        problems = pool.map(lambda one: find_problem(one.run, one.made), linked)
        return [one for one, p in zip(linked, problems, strict=True) if p is None]


def made_in(run: RunFolder) -> Iterator[tuple[str, str, str]]:
    """Id, fingerprint and output of what a run's queue says is done; nothing of one that cannot
    be read."""
    with contextlib.suppress(UserError, sa.exc.DatabaseError):
        queue = queue_to_ask(run)
        if queue is None:
            return
        try:
            yield from queue.made()
        finally:
            queue.close()


def take_in(run: RunFolder, queue: Queue, one: Linked) -> bool:
    """Give a job the video that was made elsewhere; False where it was claimed or made
    meanwhile."""
    job, source = one.job, one.run.video(one.made)
    record = read_sidecar(one.run.sidecar(one.made))
    claim = claim_job(queue, job.id, HOLDER) if record is not None else None
    if claim is None or record is None:
        return False
    temporary, video = run.temporary(job), run.video(job)
    try:
        if state_on_disk(run, job) is not JobState.DONE:
            make_folder(video.parent)
            is_copy = not hard_link(str(source), str(temporary))
            if is_copy:
                shutil.copyfile(source, temporary)
            publish(run, job, temporary, sidecar_record(one, record, is_copy=is_copy))
        queue.finish(claim, files=files_of(str(video)))
    except BaseException:
        queue.give_back(claim)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return True


def hard_link(source: str, target: str) -> bool:
    """Make a hard link; False where this file system or its border has none."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def sidecar_record(one: Linked, record: dict[str, Any], *, is_copy: bool) -> dict[str, Any]:
    """What the sidecar says: how the video was made, for which job, and where from."""
    inputs = record.get("inputs") or {}
    lineage = {role: inputs[role].get("sha256") for role in one.job.series.made if role in inputs}
    return {
        **{key: value for key, value in record.items() if key not in OWN},
        **inputs_of(one.job, lineage),
        "linked": {
            "source": one.source,
            "job": one.made.id,
            "is_copy": is_copy,
            "sha256": record["video"].get("sha256"),
            "at": time.time(),
        },
    }


def linked_line(linked: Sequence[Linked]) -> str:
    """How many were linked, and the runs that made them."""
    runs = ", ".join(dict.fromkeys(one.run.name for one in linked))
    videos = "1 video that was" if len(linked) == 1 else f"{len(linked)} videos that were"
    return f"linked: {videos} made already, in {runs}; `reuse: false` would make them again"
