"""One job's whole story: its inputs, why it is in its state, every attempt, what to do next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from ..disk.attempts import read_attempts
from ..disk.logs import attempt_lines
from ..disk.publish import read_sidecar
from ..disk.run_folder import RunFolder
from ..disk.upstream import Upstream
from ..experiment.loading import load_experiment
from ..job import JobState, Outcome
from ..job.failures import FailureKind
from ..job.record import job_record
from ..job.slot_names import Slot
from ..queue import Queue
from ..queue.questions import JobRow
from ..runs.drift import Change, Now, drift
from ..runs.runs import live_slots
from ..runs.verify import find_problem
from ..text.plain_text import plural

LOG_LINES_PER_ATTEMPT = 12
WITH_LOG = frozenset({Outcome.FAILED.value, Outcome.DIED.value, Outcome.LOST_CLAIM.value})


@dataclass(frozen=True)
class ToldAttempt:
    """An attempt as `attempts.jsonl` has it, with what the worker's log says of it."""

    record: dict[str, Any]
    log: str | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Story:
    """All there is to say of a job.

    `why` are sentences; `next` are commands, or a sentence where none helps; `former` are the
    job's superseded videos, relative to the run folder; `sidecar` is that of the video now in
    place.
    """

    run: RunFolder
    row: JobRow
    why: tuple[str, ...]
    next: tuple[str, ...]
    changes: tuple[Change, ...]
    attempts: tuple[ToldAttempt, ...]
    former: tuple[str, ...]
    sidecar: dict[str, Any] | None = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        job = self.row.job
        queue = {
            key: value.value if isinstance(value, Enum) else value
            for key, value in vars(self.row).items()
            if key not in ("job", "state")
        }
        return {
            "sweep": self.run.name,
            **job_record(job),
            "job": job.id,
            "state": self.row.state.value,
            "why": list(self.why),
            "next": list(self.next),
            "queue": queue,
            "changes": [change.to_json() for change in self.changes],
            "attempts": [
                {**one.record, "log": one.log, "log_lines": list(one.lines)}
                for one in self.attempts
            ],
            "superseded": list(self.former),
            "adopted": (self.sidecar or {}).get("adopted"),
            "sidecar": self.sidecar,
        }


def explain(run: RunFolder, queue: Queue, row: JobRow) -> Story:
    """Gather a job's story; its video, where there is one, is decoded on the way."""
    job = row.job
    sidecar = read_sidecar(run.sidecar(job))
    changes: list[Change] = []
    if sidecar is not None and sidecar.get("fingerprint") != job.fingerprint:
        changes = drift(run, job, Now.of(load_experiment(run.experiment)))
    why, then = _reasons(run, queue, row, sidecar, changes)
    return Story(
        run=run,
        row=row,
        why=tuple(why),
        next=tuple(then),
        changes=tuple(changes),
        attempts=tuple(attempts_of(run, job.id)),
        former=tuple(former_videos(run, row)),
        sidecar=sidecar,
    )


def _reasons(
    run: RunFolder,
    queue: Queue,
    row: JobRow,
    sidecar: dict[str, Any] | None,
    changes: Sequence[Change],
) -> tuple[list[str], list[str]]:
    """Why a job is in its state, and what to do next."""
    name, job = run.name, row.job
    changed = [f"changed since its video was made: {change}" for change in changes]
    if row.state is JobState.DONE:
        return _why_done(run, row, sidecar)
    if row.state is JobState.STALE:
        problem = find_problem(run, job, is_stale=True)
        broken = [f"and its video is not good any more: {problem}"] if problem else []
        return changed + broken, [f"sweep resume {name} --stale"]
    if row.state is JobState.RETIRED:
        why = ["it was taken out of the experiment; what was made of it is kept, and not counted"]
        return why, ["put it back into the experiment, then `sweep plan` it, if it is wanted"]
    if row.state is JobState.RUNNING:
        if Slot.parse(row.worker or "") is None:
            return [f"it is being given a video made elsewhere ({row.worker})"], ["wait for that"]
        return _why_running(queue, row), [f"sweep logs {name} {row.worker} --follow"]
    if row.state is JobState.FAILED:
        why = [f"its last error: {_kind(row)}{row.error or 'not recorded'}"]
        why.append(f"{_attempts_so_far(row)}; it is not tried again before a `resume`")
        if row.kind is FailureKind.BAD_INPUT:
            return why, ["correct the input, `sweep plan` it, then", f"sweep resume {name}"]
        return why, [f"sweep resume {name}"]
    why, then = _why_pending(run, queue, row)
    if run.video(job).exists():
        problem = None if changes else find_problem(run, job)
        if changes:
            why.append("it is to be made again, for its video is of other inputs")
        elif problem:
            why.append(f"a video is in its place, and does not count: {problem}")
        else:
            why.append("a whole video is in its place, which the next command finds")
    return why + changed, then


def _why_done(
    run: RunFolder, row: JobRow, sidecar: dict[str, Any] | None
) -> tuple[list[str], list[str]]:
    problem = find_problem(run, row.job)
    if problem is not None or sidecar is None:
        why = [f"it was proven done, but now its video is not good: {problem}"]
        return why, [f"sweep verify {run.name}", f"sweep resume {run.name}"]
    why = []
    if adopted := sidecar.get("adopted"):
        when = clock(adopted.get("at"))
        why.append(f"adopted {when}, made by another script: {adopted.get('source')}")
    else:
        maker = f"{sidecar.get('worker')} on {sidecar.get('host')} ({sidecar.get('device')})"
        why.append(f"made by {maker}, published {clock(sidecar.get('finished_at'))}")
    if linked := sidecar.get("linked"):
        why.append(f"linked {clock(linked.get('at'))} from {linked.get('source')}, not made again")
    video = sidecar["video"]
    why.append(
        f"its sidecar has the job's fingerprint and vouches for the video, which was read and "
        f"decoded just now: {video.get('size')} bytes, {video.get('num_frames')} frames of "
        f"{video.get('width')}x{video.get('height')}"
    )
    return why, ["nothing: it is done"]


def _why_running(queue: Queue, row: JobRow) -> list[str]:
    for worker in queue.workers.rows():
        if worker.name == row.worker and worker.job == row.job.id:
            step = f", step {worker.step} of {worker.steps}" if worker.steps else ""
            return [f"{row.worker} (pid {worker.process.pid}) works on it{step}"]
    return [f"{row.worker} holds it, and encodes or checks its video"]


def _why_pending(run: RunFolder, queue: Queue, row: JobRow) -> tuple[list[str], list[str]]:
    why: list[str] = []
    resume = [f"sweep resume {run.name}"]
    if row.state is JobState.AWAITING:
        return _why_awaiting(run, row)
    if row.error:
        why.append(f"its last attempt ended with {_kind(row)}{row.error}")
    if row.failures or row.deaths:
        why.append(_attempts_so_far(row))
    if row.retry_at is not None and row.retry_at > queue.clock():
        why.append(f"its next attempt waits until {clock(row.retry_at)}")
    if row.held:
        why.append("it is outside the part of the sweep that is being run (--only, --sample)")
        return why, resume
    live = live_slots(run)
    gate = queue.gate()
    why += [f"{name} takes no more jobs: {reason}" for name, reason in gate.aside.items()]
    if gate.halted is not None:
        why.append(f"the sweep was stopped: {gate.halted}")
    ends_at = queue.clock() + (queue.mean_seconds() or 0.0)
    if gate.stop_at is not None and ends_at > gate.stop_at:
        why.append(f"a job begun now would not end before {clock(gate.stop_at)} (--stop-at)")
    if not live:
        why.append("no worker is running")
    if not live or gate.halted is not None:
        return why, resume
    if gate.is_draining():
        why.append("the workers were asked to stop")
        return why, resume
    rows = queue.workers.rows()
    why += [f"{row.name} {row.note}" for row in rows if row.note is not None]
    why.append(f"it waits for its turn; {plural(len(live), 'worker')} at work")
    return why, [f"sweep progress {run.name} --watch"]


def _why_awaiting(run: RunFolder, row: JobRow) -> tuple[list[str], list[str]]:
    """Which videos of other runs it lacks, and how those stand."""
    why, then = [], []
    upstream = Upstream.of(run)
    for one in row.job.series.made.values():
        if upstream.is_made(one):
            continue
        other = upstream.run(one.run)
        then.append(f"sweep explain {one.run} {one.id}")
        if read_sidecar(other.sidecar(one)) is not None:
            why.append(f"it awaits {one.path}, which is there, but made from other inputs")
            then.append(f"`sweep plan` this sweep again where {one.run} was planned anew")
        else:
            why.append(f"it awaits {one.path}, which is not made yet")
        if not live_slots(other):
            why.append(f"no worker of {one.run} is running")
            then.append(f"sweep resume {one.run}")
    return why, then or [f"sweep resume {run.name}"]


def _attempts_so_far(row: JobRow) -> str:
    attempts = plural(row.failures, "failed attempt")
    deaths = f" and {plural(row.deaths, 'worker death')}" if row.deaths else ""
    return f"{attempts}{deaths} so far"


def attempts_of(run: RunFolder, job_id: str) -> list[ToldAttempt]:
    """Every attempt of a job on record, oldest first."""
    return [_with_log(run, record) for record in read_attempts(run.attempts, job_id)]


def _with_log(run: RunFolder, record: dict[str, Any]) -> ToldAttempt:
    worker, started = record.get("worker"), record.get("started_at")
    if record.get("outcome") not in WITH_LOG or not isinstance(started, (int, float)):
        return ToldAttempt(record)
    if (slot := Slot.parse(str(worker))) is None:
        return ToldAttempt(record)
    lines = attempt_lines(run.log(slot), str(record["job"]), started, LOG_LINES_PER_ATTEMPT)
    return ToldAttempt(record, f"logs/{slot.log}", tuple(lines)) if lines else ToldAttempt(record)


def former_videos(run: RunFolder, row: JobRow) -> list[str]:
    """Where the job's superseded videos are, oldest first, relative to the run folder."""
    sample = run.superseded(row.job, "*")
    stem = Path(row.job.output).stem
    if not sample.parent.is_dir():
        return []
    return sorted(
        path.relative_to(run.path).as_posix()
        for path in sample.parent.iterdir()
        if path.suffix == ".mp4" and path.stem.rpartition(".")[0] == stem
    )


def clock(moment: Any) -> str:
    """Unix seconds as a person reads them, in local time."""
    if not isinstance(moment, (int, float)):
        return "at an unknown time"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _kind(row: JobRow) -> str:
    return "" if row.kind is None else f"{row.kind.value}: "
