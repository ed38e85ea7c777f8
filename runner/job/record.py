"""How records tell of a job's series: the same keys in manifest, queue and sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..text.forms import (
    Form,
    has_form,
    is_axis_value,
    is_fps,
    is_frames,
    is_input_record,
    is_size,
    is_truth,
    is_writable,
    mapping_of,
)
from . import CATEGORY, Job, Series, input_of
from .shape import Shape

SHAPE: Form = {
    "width": is_size,
    "height": is_size,
    "num_frames": is_frames,
    "fps": is_fps,
    "sound": is_truth,
}


def is_input(value: Any) -> bool:
    """Whether it is an input's record; what another run makes has a place that can be one."""
    if not is_input_record(value):
        return False
    if "run" in value:
        try:
            input_of(value)
        except ValueError:
            return False
    return True


def is_shape(value: Any) -> bool:
    """Whether it is a shape's record."""
    return has_form(value, SHAPE)


def is_point(value: Any) -> bool:
    """Whether it is a point's record, with or without the seed."""
    return mapping_of(is_axis_value)(value) and is_writable(value.get(CATEGORY))


SERIES: Form = {
    "point": is_point,
    "group": is_writable,
    "inputs": mapping_of(is_input),
}
"""What there is of a series beside its parameters and its shape."""


def series_record(series: Series) -> dict[str, Any]:
    """What records say of a series, beside its parameters and its shape."""
    return {
        "point": dict(series.point),
        "group": series.group,
        "inputs": inputs_record(series),
    }


def job_record(job: Job) -> dict[str, Any]:
    """All there is to say of a job."""
    return {
        "id": job.id,
        "seed": job.seed,
        "fingerprint": job.fingerprint,
        "output": job.output,
        **series_record(job.series),
        "shape": job.shape.to_json(),
        "parameters": dict(job.parameters),
    }


def job_of(record: Mapping[str, Any]) -> Job:
    """The job of what `job_record` made."""
    own = {key: record[key] for key in ("id", "seed", "fingerprint", "output")}
    shape = Shape.from_json(record["shape"])
    return Job(series=series_of(record, record["parameters"], shape), **own)


def inputs_record(series: Series) -> dict[str, Any]:
    return {role: one.to_json() for role, one in series.inputs.items()}


def series_of(record: Mapping[str, Any], parameters: Mapping[str, Any], shape: Shape) -> Series:
    """The series of a record that is one.

    Raises:
        KeyError, TypeError, AttributeError: it is none.
    """
    return Series(
        point=record["point"],
        group=record["group"],
        inputs={role: input_of(one) for role, one in record["inputs"].items()},
        parameters=parameters,
        shape=shape,
    )
