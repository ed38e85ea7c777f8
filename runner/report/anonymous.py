"""What a page leaves out where nobody shall learn who made it, and where (double-blind review)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .pictures import run_ffmpeg

RECORD_KEYS = frozenset(
    {
        *("job", "point", "parameters", "shape", "quality"),
        *("attempt", "seconds", "peak_gpu_memory_gib", "backend", "schema", "model_is"),
    }
)
"""What stays of a sidecar: what was asked for and what it cost."""

_PATH = re.compile(r"(?:[/~]|\\\\|[A-Za-z]:[\\/]|file:).*", re.DOTALL)


def without_paths(value: Any) -> Any:
    """A JSON value in which only the last name of every absolute path is left."""
    if isinstance(value, str):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if _PATH.fullmatch(value) else value
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    if isinstance(value, dict):
        return {key: without_paths(one) for key, one in value.items()}
    return value


def values_without_paths(values: Sequence[Any]) -> list[Any]:
    """An axis' values without paths; those that were different stay so, by a number behind."""
    short = [without_paths(value) for value in values]
    return [
        f"{one} ({short[: number + 1].count(one)})"
        if one != value and short.count(one) > 1
        else one
        for number, (one, value) in enumerate(zip(short, values, strict=True))
    ]


def hidden_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A sidecar without host, paths, user and commit."""
    kept = {key: value for key, value in record.items() if key in RECORD_KEYS}
    inputs = record.get("inputs") or {}
    # Of a file the path tells.
    texts = {role: one for role, one in inputs.items() if "text" in one}
    return {**kept, "inputs": texts, "parameters": without_paths(kept.get("parameters") or {})}


def hidden_effort(effort: Mapping[str, Any]) -> dict[str, Any]:
    """The dashboard's numbers without times of day, and without reasons: errors name paths."""
    return {
        **effort,
        **{"start": 0.0, "stop_at": None, "next_try_at": None},
        "set_aside": dict.fromkeys(effort["set_aside"], ""),
        "stopped_because": effort["stopped_because"] and "too much failed",
    }


def write_bare(video: Path, target: Path) -> None:
    """Copy a video without the texts that lie in its file beside pictures and sound: what made
    it may have written its settings there, paths and all.

    Raises:
        OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired: it cannot be copied.
    """
    options = ["-map", "0:a?", "-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1"]
    options += ["-fflags", "+bitexact", "-movflags", "+faststart", "-f", "mp4"]
    run_ffmpeg([], video, options, target)
