"""Verification: every finished video against its sidecar, by size, sha256 and strict decoding."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..disk.attempts import read_attempts
from ..disk.publish import read_sidecar, supersede
from ..disk.run_folder import RunFolder, sha256_file
from ..job import UNMADE, Job, JobState, Outcome
from ..job.shape import Shape
from ..queue.questions import JobRow
from ..video import BrokenVideo, check_video

ENDED_OTHERWISE = (JobState.FAILED, JobState.RUNNING)
"""Where no worker lives, nothing is running either."""


@dataclass(frozen=True)
class CheckedVideo:
    """What verification found of one job's video; `problem` is None where the video is whole."""

    job: Job
    problem: str | None
    state: JobState = JobState.DONE


def verify(
    run: RunFolder,
    rows: Sequence[JobRow],
    on_verdict: Callable[[CheckedVideo], object],
    *,
    moves: bool,
) -> list[CheckedVideo]:
    """Check the videos of these jobs, several at once; verdicts come in the rows' order.

    Args:
        moves: what is broken moves to `superseded/` at once, unless the job has been remade
            meanwhile.
    """

    def check(row: JobRow) -> CheckedVideo:
        stale = row.state is JobState.STALE
        problem = find_problem(run, row.job, is_stale=stale)
        if problem is not None:
            # A second look: a worker may just have been replacing the video.
            problem = find_problem(run, row.job, is_stale=stale)
        if problem is not None and moves:
            supersede(run, row.job)
        return CheckedVideo(row.job, problem, row.state)

    verdicts = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for verdict in pool.map(check, rows):
            on_verdict(verdict)
            verdicts.append(verdict)
    return verdicts


def forgotten(run: RunFolder, rows: Sequence[JobRow]) -> list[JobRow]:
    """Jobs that were made as their files tell, though the queue, which may have been damaged or
    made anew, takes them for not made. To be asked only while no worker lives.

    Of such a job there is a sidecar, or a video that `attempts.jsonl` says was published. A video
    without either was never finished; one whose sidecar has another fingerprint awaits its remake.
    """
    unmade = [row for row in rows if row.state in (*UNMADE, *ENDED_OTHERWISE)]
    if not unmade:
        return []
    attempts = read_attempts(run.attempts)
    published = {attempt["job"] for attempt in attempts if attempt.get("outcome") == Outcome.DONE}

    def was_made(job: Job) -> bool:
        path = run.sidecar(job)
        if not path.exists():
            return job.id in published and run.video(job).exists()
        sidecar = read_sidecar(path)
        return sidecar is None or sidecar.get("fingerprint") == job.fingerprint

    return [row for row in unmade if was_made(row.job)]


def find_problem(run: RunFolder, job: Job, *, is_stale: bool = False) -> str | None:
    """What is wrong with a job's video or sidecar, in one line, or None.

    The fingerprint of a stale video is known to be another.
    """
    video, sidecar = run.video(job), read_sidecar(run.sidecar(job))
    if not video.exists():
        return "the video is missing"
    if sidecar is None:
        return "the sidecar is missing or cannot be read"
    if sidecar.get("job") != job.id:
        return f"the sidecar is that of another job ({sidecar.get('job')})"
    if sidecar.get("fingerprint") != job.fingerprint and not is_stale:
        return "the sidecar's fingerprint is not the job's"
    if not run.holds(video):
        return "links lead from its place out of the run folder"
    record = sidecar["video"]
    try:
        size = video.stat().st_size
        if size != record.get("size"):
            return f"has {size} bytes, its sidecar says {record.get('size')}"
        if sha256_file(video) != record.get("sha256"):
            return "its content has changed since it was made (sha256 differs)"
        # A stale video was made of another shape, it may be, which only its sidecar knows.
        check_video(video, Shape.from_json(record) if is_stale else job.shape)
    except KeyError as error:
        return f"the sidecar does not say the video's {error}"
    except BrokenVideo as error:
        return f"cannot be decoded as it should: {error}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None
