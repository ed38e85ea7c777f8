"""What lies where a model's files should be, and is known by its header for what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...text.errors import UserError
from .. import FileState
from .checkpoint import DIT, Checkpoint
from .recognition import FETCH, Recognised, recognise_shards
from .variants import T2V_LARGE, ModelPart

WEIGHTS = (".safetensors", ".gguf", ".pth", ".pt", ".bin", ".ckpt")
STRAYS_READ = 40
"""Files of other names that are looked into where the right ones are absent."""


def recognised(paths: Sequence[Path]) -> Recognised | None:
    """What files are together; None where one of them cannot be read."""
    try:
        return recognise_shards(paths)
    except (UserError, OSError):
        return None


def problem_of(found: Recognised) -> str:
    return f"is {found.what}, {found.problem}"


def strays(folder: Path) -> Iterator[FileState]:
    """What there is in place of a DiT: in a folder below, or under another name."""
    for below in _folders(folder):
        shards = Checkpoint(below).dit
        found = recognised(shards) if shards else None
        if found is None or found.part not in (None, ModelPart.DIT):
            continue
        name = below.name
        if found.problem is not None:
            yield FileState(name, problem=f"has {found.what}, {found.problem}", remedy=found.remedy)
        elif "noise" in name:
            yield FileState(
                name,
                problem=f"has {found.what}: of its two models a worker would load one",
                remedy=FETCH.format(T2V_LARGE),
            )
        else:
            remedy = f"move its files to {folder}, or set model.checkpoint to it"
            yield FileState(name, problem=f"has {found.what}, one folder too deep", remedy=remedy)
        return
    for path in _loose(folder):
        found = recognised([path])
        if found is None or found.part not in (None, ModelPart.DIT):
            continue
        if found.problem is None:
            what, name = found.what, f"{DIT}{path.suffix}"
            if path.suffix in (".safetensors", ".pth") and found.part is ModelPart.DIT:
                yield FileState(path.name, problem=f"is {what}", remedy=f"rename it to {name}")
        else:
            yield FileState(path.name, problem=problem_of(found), remedy=found.remedy)


def instead_of_folder(path: Path) -> FileState:
    found = recognised([path])
    if found is None or found.problem is None:
        what = "a file" if found is None else found.what
        remedy = (
            f"give the folder that has it as {DIT}{path.suffix}, text encoder and VAE beside it"
        )
        return FileState(path.name, problem=f"is {what}, and no folder", remedy=remedy)
    return FileState(path.name, problem=problem_of(found), remedy=found.remedy)


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_dir()][:STRAYS_READ]
    except OSError:
        return []


def _loose(folder: Path) -> list[Path]:
    try:
        files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in WEIGHTS]
    except OSError:
        return []
    return [path for path in files if path.is_file()][:STRAYS_READ]
