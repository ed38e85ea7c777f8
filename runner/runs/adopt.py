"""Adopting: taking videos that another script made into a sweep, each checked and on record."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..disk.publish import files_of, inputs_of, publish, state_on_disk
from ..disk.run_folder import RunFolder, make_folder, sha256_file
from ..experiment.experiment import Experiment
from ..experiment.method import Method
from ..job import Job, JobState
from ..job.pattern import Pattern
from ..plan.fingerprint import MethodIdentity
from ..plan.provenance import inputs_in_common
from ..queue import Queue
from ..queue.claim_job import claim_job
from ..queue.questions import JobRow
from ..text.errors import UserError
from ..text.text_file import nfc, shown
from ..video import BrokenVideo, Decoded, check_video

HOLDER = "adopt"
UNKNOWN = (
    *("worker", "attempt", "from_step", "kernels", "claimed_at", "finished_at", "seconds"),
    "seconds_per_step",
    *("peak_gpu_memory_gib", "peak_host_memory_gib", "model_is", "model_files"),
    "versions",
    *("host", "device", "gpu", "git_commit", "git_dirty"),
)
"""What nobody here can know of a video that another script made: null in its sidecar."""


class Fate(str, Enum):
    """What became of a job's file, or would (`ADOPTED` in a dry run)."""

    ADOPTED = "adopted"
    KEPT = "kept"
    """The job is done: its own video stays."""
    LEFT = "left"
    """The job cannot be given a video now."""
    BROKEN = "broken"
    MISSING = "missing"


@dataclass(frozen=True)
class AdoptedFile:
    """A job, the file that was expected for it (below FOLDER), and what became of it."""

    job: Job
    file: str
    fate: Fate
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "job": self.job.id,
            "video": self.job.output,
            "file": self.file,
            "fate": self.fate.value,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Adoption:
    """What became of every job's file, and the videos in the folder that no job expects."""

    findings: tuple[AdoptedFile, ...]
    unmatched: tuple[str, ...]

    def count(self, fate: Fate) -> int:
        return sum(finding.fate is fate for finding in self.findings)


@dataclass(frozen=True)
class Checked:
    """A file that was decoded: what it is, and its sha256 before and after the decoding."""

    found: Decoded
    sha256: str


def adopt(
    run: RunFolder,
    queue: Queue,
    experiment: Experiment,
    folder: Path,
    pattern: Pattern,
    *,
    dry_run: bool = False,
    on_finding: Callable[[AdoptedFile], object] = lambda _: None,
) -> Adoption:
    """Copy another script's videos to their jobs' places, each decoded and vouched for.

    A copy and not a link: the other script may write to its file again. What is done stays, and
    workers may run meanwhile: a job is claimed before its video is published.

    Raises:
        UserError: the pattern does not tell jobs apart or fits no file at all, the folder is
            not there, or the run's settings are not those that were planned.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    rows = [row for row in queue.rows() if row.state is not JobState.RETIRED]
    expected = pattern.paths([row.job for row in rows])
    file_of = {job.id: path for path, job in expected.items()}
    there = files_below(folder)
    if not any(nfc(path) in there for path in expected):
        example = next(iter(there.values()), None)
        lies = f"there is {shown(Path(example))!r}" if example else "there is no video at all"
        first = next(iter(expected), "no job")
        raise UserError(f"{folder}: no file fits --pattern: {first!r} is expected, {lies}")
    common = _common_records(run, experiment, [row.job for row in rows])

    def look(row: JobRow) -> tuple[JobRow, str, Checked | AdoptedFile]:
        path = file_of[row.job.id]
        return row, there.get(nfc(path), path), _look(row, path, folder, there)

    findings = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for row, path, seen in pool.map(look, rows):
            finding = seen
            if isinstance(seen, Checked):
                finding = AdoptedFile(row.job, path, Fate.ADOPTED)
                if not dry_run:
                    finding = _take_in(
                        run, queue, row.job, folder, path, seen, common[row.job.method]
                    )
            assert isinstance(finding, AdoptedFile)
            on_finding(finding)
            findings.append(finding)
    wanted = {nfc(path) for path in expected}
    unmatched = [path for key, path in there.items() if key not in wanted]
    return Adoption(tuple(findings), tuple(sorted(unmatched)))


def files_below(folder: Path) -> dict[str, str]:
    """Every .mp4 file below a folder, by its path there in Unicode's NFC form.

    A file system may spell a name in another Unicode form than the experiment.
    """
    return {nfc(path): path for path in _walk(folder)}


def _walk(folder: Path) -> Iterator[str]:
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(".mp4") and not name.startswith("."):
                yield os.path.relpath(Path(here) / name, folder)


def _look(row: JobRow, path: str, folder: Path, there: Mapping[str, str]) -> Checked | AdoptedFile:
    """A job's file, decoded, or why there is nothing to adopt."""
    job, own = row.job, there.get(nfc(path))
    if row.state is JobState.DONE:
        return AdoptedFile(job, own or path, Fate.KEPT, "its own video is done")
    if own is None:
        return AdoptedFile(job, path, Fate.MISSING, "no such file")
    if row.state is JobState.RUNNING:
        return AdoptedFile(job, own, Fate.LEFT, f"{row.worker} is making it")
    if row.state is JobState.STALE:
        reason = "it has a video of former inputs; `sweep resume --stale` remakes it"
        return AdoptedFile(job, own, Fate.LEFT, reason)
    source = folder / own
    try:
        before = sha256_file(source)
        found = check_video(source, job.shape)
        if sha256_file(source) != before:
            return AdoptedFile(job, own, Fate.BROKEN, "it was written to while it was read")
    except BrokenVideo as error:
        return AdoptedFile(job, own, Fate.BROKEN, str(error))
    except OSError as error:
        return AdoptedFile(job, own, Fate.BROKEN, f"cannot be read: {error.strerror}")
    return Checked(found, before)


def _take_in(
    run: RunFolder,
    queue: Queue,
    job: Job,
    folder: Path,
    path: str,
    checked: Checked,
    common: Mapping[str, Any],
) -> AdoptedFile:
    claim = claim_job(queue, job.id, HOLDER)
    if claim is None:
        return AdoptedFile(job, path, Fate.LEFT, "it was claimed or made meanwhile")
    video, source = run.video(job), folder / path
    temporary = run.temporary(job)
    try:
        if state_on_disk(run, job) is JobState.DONE:
            queue.finish(claim, files=files_of(str(video)))
            return AdoptedFile(job, path, Fate.KEPT, "its own video is done")
        make_folder(video.parent)
        shutil.copyfile(source, temporary)
        if sha256_file(temporary) != checked.sha256:
            queue.give_back(claim)
            return AdoptedFile(job, path, Fate.BROKEN, "it was written to while it was read")
        if not queue.renew(claim):
            return AdoptedFile(job, path, Fate.LEFT, "its claim was lost")
        publish(run, job, temporary, sidecar_record(job, checked, source, common))
        queue.finish(claim, files=files_of(str(video)))
    except BaseException:
        queue.give_back(claim)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return AdoptedFile(job, path, Fate.ADOPTED)


def sidecar_record(
    job: Job, checked: Checked, source: Path, common: Mapping[str, Any]
) -> dict[str, Any]:
    """What the sidecar of an adopted video says: the job's inputs, and null of the making."""
    where = os.fsencode(source.absolute()).decode("utf-8", "backslashreplace")
    return {
        **inputs_of(job),
        **common,
        "video": checked.found.to_json(),
        **dict.fromkeys(UNKNOWN),
        "linked": None,
        "adopted": {"source": where, "sha256": checked.sha256, "at": time.time()},
    }


def _common_records(
    run: RunFolder, experiment: Experiment, jobs: Sequence[Job]
) -> dict[str | None, dict[str, Any]]:
    """The inputs that all jobs of each method share."""
    return {
        method.name: _common_record(
            run,
            method,
            experiment.output.quality,
            [job for job in jobs if job.method == method.name],
        )
        for method in experiment.every_method
    }


def _common_record(
    run: RunFolder, method: Method, quality: float, jobs: Sequence[Job]
) -> dict[str, Any]:
    """Those of one method; what the model is only where it is on this machine."""
    try:
        identity = MethodIdentity.of(method, quality)
    except UserError:
        identity = None
    for job in jobs if identity is not None else ():
        assert identity is not None
        if identity.fingerprint_of(job) != job.fingerprint:
            raise UserError(
                f"{run.experiment}: settings or checkpoint are not those that were planned; run "
                f"`sweep plan {run.experiment}`, then adopt"
            )
    return {"quality": quality, **inputs_in_common(method, identity)}
