"""Jobs of a reference clip and a prompt, made and changed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.job import FileInput, Job, Series, TextInput
from runner.job.naming import job_ids, path_around_seed
from runner.job.shape import Shape

SIZE = {"width": 112, "height": 64, "num_frames": 9, "fps": 15.0}


def a_job(
    category: str = "c",
    video: str = "v",
    prompt: int = 0,
    seed: int = 1,
    *,
    prompt_text: str = "",
    reference: FileInput | None = None,
    parameters: Mapping[str, Any] | None = None,
    fingerprint: str = "",
    id: str | None = None,
    output: str | None = None,
) -> Job:
    """A job at that point; its shape is what its parameters say of one."""
    own = dict(SIZE if parameters is None else parameters)
    point: dict[str, str | int] = {"category": category, "video": video, "prompt": prompt}
    clip = reference or FileInput(f"videos/{category}/{video}.mp4", "0" * 64)
    series = Series(
        point=point,
        group=f"{category}/{video}",
        inputs={"reference": clip, "prompt": TextInput(prompt_text)},
        parameters=own,
        shape=Shape(*({**SIZE, **own}[key] for key in SIZE)),
    )
    start, end = path_around_seed(point, "video")
    return Job(
        id=id or next(job_ids(point, [seed])),
        series=series,
        seed=seed,
        fingerprint=fingerprint,
        output=output or f"{start}{seed}{end}.mp4",
    )


def but(
    job: Job,
    *,
    prompt_text: str | None = None,
    reference: FileInput | None = None,
    parameters: Mapping[str, Any] | None = None,
    **own: Any,
) -> Job:
    """That job with another prompt, clip or parameters; id and fingerprint stay as they are."""
    series = job.series
    inputs = dict(series.inputs)
    if prompt_text is not None:
        inputs["prompt"] = TextInput(prompt_text)
    if reference is not None:
        inputs["reference"] = reference
    told = series.parameters if parameters is None else parameters
    return replace(job, series=replace(series, inputs=inputs, parameters=told), **own)
