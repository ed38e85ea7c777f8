"""What the files of a sweep are worth, and one job's story."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..experiment.loading import load_experiment
from ..job import Job, JobState
from ..runs.borrowed import is_ours_to_write
from ..runs.drift import Change, Now, drift
from ..runs.runs import live_slots, open_queue, take_back
from ..runs.verify import CheckedVideo, forgotten
from ..runs.verify import verify as check_videos
from .opening import Named, OpenRun, folder_of
from .telling import TrackNumber, untracked

if TYPE_CHECKING:
    from ..explain import Story


@dataclass(frozen=True)
class Verification:
    """What `verify` has found.

    Attributes:
        good: how many videos are whole, stale ones included.
        broken: the other videos, each with its problem.
        unmade: how many jobs have no video yet.
        stale: jobs whose video is whole but was made from other inputs, and what has changed of
            these.
        moves: whether broken videos were moved to `superseded/`; they stay where the run is not
            ours to write.
    """

    run: OpenRun
    good: int
    broken: tuple[CheckedVideo, ...]
    unmade: int
    stale: tuple[tuple[Job, tuple[Change, ...]], ...]
    moves: bool

    def to_json(self) -> dict[str, Any]:
        old = [
            {"job": job.id, "video": job.output, "changes": [c.to_json() for c in changes]}
            for job, changes in self.stale
        ]
        bad = [{"job": v.job.id, "video": v.job.output, "problem": v.problem} for v in self.broken]
        answer = {"sweep": self.run.name, "good": self.good, "unmade": self.unmade, "broken": bad}
        return {**answer, "stale": old}


def verify(run: Named, *, track: TrackNumber = untracked) -> Verification:
    """Check every finished video: size, sha256, and a strict decoding of every frame.

    What is broken moves to `superseded/`, so that `resume` makes it again.

    Raises:
        UserError: there is no such run.
    """
    folder = folder_of(run)
    with closing(open_queue(folder)) as queue:
        rows = [row for row in queue.rows() if row.state is not JobState.RETIRED]
    finished = [row for row in rows if row.state in (JobState.DONE, JobState.STALE)]
    if not live_slots(folder):
        finished += forgotten(folder, rows)
    moves = is_ours_to_write(folder)
    step = track(len(finished))
    verdicts = check_videos(folder, finished, lambda _: step(), moves=moves)
    broken = [verdict for verdict in verdicts if verdict.problem is not None]
    if broken and moves:
        open_queue(folder, look_at_disk=True).close()
    stale = [v.job for v in verdicts if v.problem is None and v.state is JobState.STALE]
    now = Now.of(load_experiment(folder.experiment)) if stale else Now({})
    return Verification(
        run=OpenRun(folder),
        good=len(finished) - len(broken),
        broken=tuple(broken),
        unmade=len(rows) - len(finished),
        stale=tuple((job, tuple(drift(folder, job, now))) for job in stale),
        moves=moves,
    )


def explain(words: Sequence[str]) -> Story:
    """One job's story: its inputs, why it is in its state, every attempt with the log lines of
    those that failed, and what to do next.

    Args:
        words: an id, the path of a video or sidecar, or a run and the job's point in its grid.

    Raises:
        UserError: these words name no job, or several.
    """
    from ..explain import explain as gather
    from ..runs.lookup import look_up

    folder, row = look_up(words)
    with closing(open_queue(folder)) as queue:
        take_back(folder, queue)
        row = next(iter(queue.find(id_start=row.job.id)), row)
        return gather(folder, queue, row)
