"""What every sidecar of a worker says of software, machine and model."""

from __future__ import annotations

import contextlib
import platform
import re
import socket
import subprocess
from importlib import metadata
from typing import Any

from ..backends import Planner
from ..backends.settings import settings_record, settings_set
from ..experiment.method import Method
from ..machine.git_state import git_state
from ..machine.gpus import driver_versions, find_gpus, processor_name
from ..video.program import ffmpeg
from .fingerprint import MethodIdentity

PACKAGES = (
    *("sweep-runner", "diffsynth", "torch", "transformers", "numpy", "Pillow"),
    *("av", "decord", "imageio-ffmpeg"),
)


def provenance(
    method: Method, planner: Planner[Any, Any], identity: MethodIdentity, device: str
) -> dict[str, Any]:
    """What all videos of a worker of that method on `device` ("cuda" or "cpu") have in common.

    `docs/sidecar.md` says what each key means.
    """
    gpu = next(iter(find_gpus()), None) if device == "cuda" else None
    commit, dirty = git_state(method.root)
    return {
        **inputs_in_common(method, identity),
        "model_is": planner.examine().what,
        "model_files": planner.model_files(),
        "versions": {**versions(), **planner.versions()},
        "host": socket.gethostname(),
        "device": gpu.name if gpu else processor_name(),
        "gpu": gpu and {"number": gpu.number, "uuid": gpu.uuid, "memory_gib": gpu.memory_gib},
        "git_commit": commit,
        "git_dirty": dirty,
        "adopted": None,
        "linked": None,
    }


def inputs_in_common(method: Method, identity: MethodIdentity | None) -> dict[str, Any]:
    """The part of the record that decides the videos; `identity` is None where the model is not on
    this machine."""
    return {
        "backend": method.backend,
        "recipe": method.planner().recipe,
        "model": method.model.model_dump(mode="json"),
        "settings": settings_record(settings_set(method.model)),
        "model_identity": None if identity is None else dict(identity.model),
    }


def versions() -> dict[str, str]:
    """Of Python, of the packages that touch a video's pixels, of ffmpeg and of the driver."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    if ffmpeg := ffmpeg_version():
        found["ffmpeg"] = ffmpeg
    return {**found, **driver_versions()}


def ffmpeg_version() -> str | None:
    """The version of the ffmpeg that writes and checks videos; None where it does not start."""
    said = _said_by(ffmpeg(), "-version")
    match = re.match(r"ffmpeg version (\S+)", said or "")
    return match[1] if match else None


def _said_by(*command: str) -> str | None:
    """A command's standard output, or None where it failed."""
    try:
        result = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.decode("utf-8", "replace") if result.returncode == 0 else None
