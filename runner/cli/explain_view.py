"""A job's story as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..explain import Story, ToldAttempt, clock
from ..job import MadeInput, TextInput
from ..text.plain_text import printable

ATTEMPTS_WITH_LOG_LINES = 3
"""The last ones."""


def story_lines(story: Story) -> Iterator[str]:
    """The story of a job, a line at a time; what comes from files is made printable."""
    job, row = story.row.job, story.row
    yield f"{job.id}  {printable(job.output)}"
    held = " (held)" if row.held and row.state.value == "pending" else ""
    yield f"state: {row.state.value}{held}"
    for reason in story.why:
        yield f"  {printable(reason)}"
    yield "next:"
    for step in story.next:
        yield f"  {printable(step)}"
    yield "inputs:"
    for role, given in job.inputs.items():
        if isinstance(given, TextInput):
            place = f" {job.on(role)}" if role in job.series.point else ""
            yield f"  {role}{place}: {printable(given.text)}"
        elif isinstance(given, MadeInput):
            yield f"  {role}: {printable(given.path)} (job {given.id} of {given.run})"
        else:
            yield f"  {role}: {printable(given.path)} (sha256 {given.sha256[:16]})"
    yield f"  seed: {job.seed}"
    yield f"  shape: {job.shape}"
    settings = ", ".join(f"{key}={value}" for key, value in job.parameters.items())
    yield f"  generation: {printable(settings)}"
    yield f"  fingerprint: {job.fingerprint}"
    if story.sidecar is not None:
        yield from _video_lines(story)
    yield f"attempts: {len(story.attempts) or 'none on record'}"
    quiet = len(story.attempts) - ATTEMPTS_WITH_LOG_LINES
    for number, one in enumerate(story.attempts):
        yield from _try_lines(number + 1, one, with_log=number >= quiet)
    if story.former:
        yield "superseded videos:"
        for path in story.former:
            yield f"  {printable(path)}"


def _video_lines(story: Story) -> Iterator[str]:
    sidecar = story.sidecar or {}
    video = sidecar.get("video", {})
    told = {key: video.get(key) for key in ("codec", "pix_fmt", "fps", "size", "sha256")}
    yield "video:"
    yield f"  {printable(', '.join(f'{key} {value}' for key, value in told.items()))}"
    peaks = [
        f"{sidecar[key]} GiB of {what} memory"
        for key, what in (("peak_gpu_memory_gib", "GPU"), ("peak_host_memory_gib", "host"))
        if sidecar.get(key) is not None
    ]
    if peaks:
        yield f"  peak: {', '.join(peaks)}"
    commit = sidecar.get("git_commit")
    if commit:
        dirty = " with uncommitted changes" if sidecar.get("git_dirty") else ""
        yield f"  git: {printable(str(commit))}{dirty}"


def _try_lines(number: int, one: ToldAttempt, *, with_log: bool) -> Iterator[str]:
    record = one.record
    kind = f" ({record['kind']})" if record.get("kind") else ""
    took = _took(record)
    what = f"{record.get('worker')}  {record.get('outcome')}{kind}{took}"
    yield printable(f"  {number}. {clock(record.get('started_at'))}  {what}")
    if record.get("from_step"):
        yield f"     went on after step {printable(str(record['from_step']))}"
    if record.get("error"):
        yield f"     {printable(str(record['error']))}"
    seconds = record.get("seconds")
    if isinstance(seconds, dict) and seconds:
        stages = ", ".join(f"{stage} {value} s" for stage, value in seconds.items())
        yield f"     {printable(stages)}"
    if with_log and one.lines:
        yield f"     {one.log}:"
        for line in one.lines:
            yield f"     | {printable(line)}"


def _took(record: dict[str, Any]) -> str:
    started, ended = record.get("started_at"), record.get("ended_at")
    if not isinstance(started, (int, float)) or not isinstance(ended, (int, float)):
        return ""
    return f"  {ended - started:.1f} s"
