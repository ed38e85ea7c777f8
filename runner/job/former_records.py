"""Records of schema 1, as they lie in people's run folders: read for ever, and only here.

In that schema a job had one reference clip, one prompt and one size, each under a name of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA = 1

SHAPE = ("width", "height", "num_frames", "fps")


def present_job(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a manifest of schema 1 as one of today's.

    Raises:
        KeyError, TypeError: it is none.
    """
    return {
        **{key: record[key] for key in ("id", "seed", "fingerprint", "output", "retired")},
        "point": {key: record[key] for key in ("category", "video", "prompt")},
        "group": f"{record['category']}/{record['video']}",
        "inputs": {
            "reference": record["reference"],
            "prompt": {"text": record["prompt_text"]},
        },
        "parameters": record["parameters"],
        "shape": shape_of(record["parameters"]),
        **({"lines": record["lines"]} if "lines" in record else {}),
    }


def present_sidecar(record: Mapping[str, Any]) -> dict[str, Any]:
    """A sidecar of schema 1 as one of today's; what it does not say, this does not say either."""
    rest = dict(record)
    point = {
        "category": rest.pop("category", None),
        "video": rest.pop("video_name", None),
        "seed": rest.pop("seed", None),
    }
    inputs: dict[str, Any] = {}
    if "reference" in rest:
        inputs["reference"] = rest.pop("reference")
    if "prompt" in rest:
        prompt = rest.pop("prompt")
        is_whole = isinstance(prompt, Mapping)
        inputs["prompt"] = {"text": prompt.get("text")} if is_whole else prompt
        point["prompt"] = prompt.get("number") if is_whole else None
    own: dict[str, Any] = {
        "point": {key: value for key, value in point.items() if value is not None}
    }
    if inputs:
        own["inputs"] = inputs
    parameters = rest.get("parameters")
    if isinstance(parameters, Mapping) and all(key in parameters for key in SHAPE):
        own["shape"] = shape_of(parameters)
    return {**rest, **own}


def shape_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of a job of schema 1: its parameters say it."""
    return {**{key: parameters[key] for key in SHAPE}, "sound": False}
