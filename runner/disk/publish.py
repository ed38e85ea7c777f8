"""Publishing a video, and what on disk proves that a job is done.

The sidecar is the commit record: it is written last, and names the size and sha256 of the video
that it vouches for. A video counts for nothing without a sidecar that describes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..job import Job, JobState, PlannedVideo, former_records
from ..job.record import SHAPE, inputs_record, is_input, is_shape
from ..text.forms import (
    Form,
    anything,
    is_axis_value,
    is_count,
    is_moment,
    is_number,
    is_size,
    is_text,
    is_truth,
    list_of,
    mapping_of,
    misfit,
    or_none,
    record_of,
)
from ..text.input_file import read_json
from .run_folder import RunFolder, flush_file, flush_folder, make_folder, replacing, sha256_file

SCHEMA = 2

_TEXT, _NUMBER = or_none(is_text), or_none(is_number)
_RECORD = or_none(mapping_of(anything))

FORM: Form = {
    "job": is_text,
    "fingerprint": is_text,
    "point": mapping_of(is_axis_value),
    "inputs": mapping_of(is_input),
    "parameters": mapping_of(anything),
    "shape": is_shape,
    "quality": is_number,
    "video": record_of(
        {
            "codec": _TEXT,
            "pix_fmt": _TEXT,
            **SHAPE,
            "num_frames": is_size,
            "file": is_text,
            "size": is_count,
            "sha256": is_text,
        }
    ),
    "worker": _TEXT,
    "attempt": or_none(is_count),
    "from_step": or_none(is_count),
    "kernels": _TEXT,
    "claimed_at": or_none(is_moment),
    "finished_at": or_none(is_moment),
    "seconds": or_none(mapping_of(_NUMBER)),
    "seconds_per_step": _NUMBER,
    "peak_gpu_memory_gib": _NUMBER,
    "peak_host_memory_gib": _NUMBER,
    "backend": is_text,
    "recipe": is_count,
    "model": _RECORD,
    "settings": or_none(mapping_of(record_of({"value": anything, "loss": is_text}))),
    "model_is": _TEXT,
    "model_identity": _RECORD,
    "model_files": or_none(list_of(mapping_of(anything))),
    "versions": or_none(mapping_of(_TEXT)),
    "host": _TEXT,
    "device": _TEXT,
    "gpu": _RECORD,
    "git_commit": _TEXT,
    "git_dirty": or_none(is_truth),
    "linked": or_none(record_of({"source": is_text, "job": is_text, "at": is_moment})),
    "adopted": or_none(record_of({"source": is_text, "at": is_moment})),
}
"""What each key of a sidecar must be where it is there (docs/sidecar.md)."""


def inputs_of(job: Job, lineage: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a sidecar says of a job's own inputs.

    Args:
        lineage: by role, the sha256 that each video of another run had when it was read.
    """
    inputs = inputs_record(job.series)
    for role, sha256 in (lineage or {}).items():
        inputs[role] = {**inputs[role], "sha256": sha256}
    return {
        "point": job.point,
        "inputs": inputs,
        "parameters": dict(job.parameters),
        "shape": job.shape.to_json(),
    }


def publish(run: RunFolder, job: Job, finished: Path, record: dict[str, Any]) -> None:
    """Move a finished, checked video to its place and commit it with its sidecar.

    A former video of the job goes to `superseded/` first, with its sidecar.

    Args:
        finished: the video, on the same file system as the run folder; it is moved.
        record: what the sidecar says beside `schema`, `job`, `fingerprint` and `video`'s
            size and sha256.
    """
    video, sidecar = run.video(job), run.sidecar(job)
    run.own(video.parent)
    flush_file(finished)
    size, sha256 = finished.stat().st_size, sha256_file(finished)
    content = {
        "schema": SCHEMA,
        "job": job.id,
        "fingerprint": job.fingerprint,
        **record,
        "video": {**record.get("video", {}), "file": video.name, "size": size, "sha256": sha256},
    }
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    # Written before anything moves: a full disk leaves all as it was.
    with replacing(sidecar, text.encode("utf-8", "backslashreplace")) as commit:
        supersede(run, job)
        finished.replace(video)
        flush_folder(video.parent)
        commit()


def supersede(run: RunFolder, job: Job) -> None:
    """Move a job's video and sidecar, where there are any, to `superseded/`.

    The sidecar goes first: from then on the video counts for nothing.
    """
    video, sidecar = run.video(job), run.sidecar(job)
    if not sidecar.exists() and not video.exists():
        return
    run.own(video.parent)
    stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{time.time_ns() % 1_000_000_000:09d}"
    target = run.superseded(job, stamp)
    run.own(target.parent)
    for former, new_path in (
        (sidecar, target.with_suffix(".json")),
        (video, target),
    ):
        if former.exists():
            make_folder(new_path.parent)
            former.rename(new_path)
            flush_folder(new_path.parent)
            flush_folder(former.parent)


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """The content of a sidecar; one of a former schema is turned into the present one. None where
    no sidecar can be read, or a key has a value that it cannot have. Any key but `schema` and
    `video` may be absent."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or "video" not in content:
        return None
    if content.get("schema") == former_records.SCHEMA:
        content = former_records.present_sidecar(content)
    elif content.get("schema") != SCHEMA:
        return None
    return content if misfit(content, FORM) is None else None


def state_on_disk(run: RunFolder, job: PlannedVideo) -> JobState:
    """What the files prove: `DONE`, `STALE` (made from other inputs) or `PENDING`.

    The video must have its sidecar's size. It is hashed only where it was written to after
    its sidecar, so that a whole sweep is looked through in a moment; `sweep verify` hashes
    and decodes everything.
    """
    sidecar = vouching_sidecar(run, job)
    if sidecar is None:
        return JobState.PENDING
    return JobState.DONE if sidecar.get("fingerprint") == job.fingerprint else JobState.STALE


def vouching_sidecar(run: RunFolder, job: PlannedVideo) -> dict[str, Any] | None:
    """The sidecar of the video at a job's path, whatever the video was made from. None where no
    sidecar vouches for the file there."""
    sidecar = read_sidecar(run.sidecar(job))
    if sidecar is None or sidecar.get("job") != job.id:
        return None
    video = run.video(job)
    try:
        status = video.stat()
        committed = run.sidecar(job).stat().st_mtime_ns
    except OSError:
        return None
    record = sidecar["video"]
    if status.st_size != record.get("size") or not run.holds(video):
        return None
    if status.st_mtime_ns > committed and sha256_file(video) != record.get("sha256"):
        return None
    return sidecar


class Disk:
    """The sizes and times of a run's files, with two calls of the system per video.

    A folder is listed once, since outputs come folder by folder and most of them may be absent.
    """

    def __init__(self, run: RunFolder) -> None:
        self._root = str(run.path)
        self._folder: str | None = None
        self._names: frozenset[str] = frozenset()

    def files(self, output: str) -> str:
        """Size and time (ns) of an output's video and sidecar; "" where either is absent."""
        stem = output.rpartition(".")[0]
        folder, _, name = stem.rpartition("/")
        if folder != self._folder:
            self._folder, self._names = folder, frozenset()
            with contextlib.suppress(OSError):
                # Path objects would cost more than the calls, at two hundred thousand files.
                self._names = frozenset(os.listdir(f"{self._root}/{folder}"))  # noqa: PTH208
        return files_of(f"{self._root}/{output}") if f"{name}.json" in self._names else ""


def files_of(video: str) -> str:
    """Size and time (ns) of a video and its sidecar; "" where either is absent."""
    try:
        one = os.stat(video)  # noqa: PTH116 - see Disk.files
        two = os.stat(f"{video.rpartition('.')[0]}.json")  # noqa: PTH116
    except OSError:
        return ""
    return f"{one.st_size} {one.st_mtime_ns} {two.st_size} {two.st_mtime_ns}"
