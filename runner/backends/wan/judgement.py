"""Whether a checkpoint folder is a model that a worker can load, what it is, and what to do where
it is not. Headers and names are read, no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...text.errors import UserError
from .. import FileState
from ..model_file import header_bytes
from .checkpoint import DIT, Checkpoint
from .headers import BadFile, header_problem, tensors_in
from .recognition import Recognised, brief, said
from .shards import (
    bytes_by_index,
    index_of,
    mixed,
    read_index,
    still_downloading,
    unfinished,
    why_absent,
)
from .strays import instead_of_folder, problem_of, recognised, strays
from .variants import ModelPart

COPY = "copy it here, or set model.checkpoint"
AGAIN = "copy it again"


@dataclass(frozen=True)
class JudgedCheckpoint:
    """A checkpoint folder as it was found.

    Args:
        what: what the DiT is, such as `Wan2.1 T2V 14B in BF16, 14.3 billion weights`; None where
            nothing here tells.
        wrong: what makes it another model than it should be, or several in one.
        absent: what must be there and is not.
        present: the files that would be loaded.
    """

    what: str | None
    wrong: tuple[FileState, ...]
    absent: tuple[FileState, ...]
    present: tuple[FileState, ...]

    @property
    def states(self) -> list[FileState]:
        told = {state.file for state in self.wrong}
        rest = (state for state in self.present if state.file not in told)
        return [*self.wrong, *self.absent, *rest]


def judge(checkpoint: Checkpoint) -> JudgedCheckpoint:
    """All that names and headers tell of a folder; bad ones raise nothing."""
    folder = checkpoint.folder
    if folder.is_file():
        return JudgedCheckpoint(None, (instead_of_folder(folder),), (), ())
    present = tuple(_present(checkpoint))
    try:
        missing = list(checkpoint.absent())
        wrong = [*_mixed(checkpoint), *_by_index(checkpoint)]
    except BadFile as error:
        bad = FileState(error.path.name, problem=error.reason, remedy=AGAIN)
        return JudgedCheckpoint(None, (bad,), (), present)
    absent = [_absent(folder, name, names) for name, names in missing]
    is_whole = not any(name.startswith(DIT) for name, _ in missing)
    dit = None
    if is_whole and not wrong:
        dit = recognised(checkpoint.dit)
    elif not checkpoint.dit:
        wrong += strays(folder)
    if dit is not None:
        wrong += _other(checkpoint, dit)
        if dit.problem is not None:
            # What else it lacks for being another model is of no matter.
            absent = []
    if is_whole and not wrong:
        present += tuple(_size_by_index(checkpoint))
    return JudgedCheckpoint(
        None if dit is None else _described(dit), tuple(wrong), tuple(absent), present
    )


def _described(dit: Recognised) -> str:
    weights = f", {said(dit.weights)}" if dit.weights else ""
    note = f" ({dit.variant.note})" if dit.variant and dit.variant.note else ""
    return f"{dit.what}{weights}{note}"


def require(found: JudgedCheckpoint, folder: Path, remedy: str) -> None:
    """Raise `UserError` where a worker could not load a folder: it is another model, files are
    missing, which are all named with `remedy`, or one was not copied whole."""
    if not folder.exists():
        raise UserError(f"model.checkpoint: no such folder: {folder}; {remedy}")
    refuse(found, folder)
    if found.absent:
        told = ", ".join(_said(state) for state in found.absent)
        raise UserError(f"model.checkpoint: {folder} lacks {told}; {remedy}")
    bad = [state for state in found.present if state.problem is not None]
    if bad:
        raise UserError(_line(folder, bad[0], len(bad) - 1))


def refuse(found: JudgedCheckpoint, folder: Path) -> None:
    """Raise `UserError` where what is in a folder is another model than a worker can load."""
    if found.wrong:
        raise UserError(_line(folder, found.wrong[0], len(found.wrong) - 1))


def _line(folder: Path, state: FileState, more: int) -> str:
    path = folder if folder.is_file() else folder / state.file
    others = f" (and {more} more: sweep doctor)" if more else ""
    return f"model.checkpoint: {path} {state.problem}; {state.remedy}{others}"


def _said(state: FileState) -> str:
    reason = (state.problem or "").partition("; ")[2]
    return f"{state.file} ({reason})" if reason else state.file


def _present(checkpoint: Checkpoint) -> Iterator[FileState]:
    """Each file that would be loaded, whether it is whole, and what it is."""
    for path in (*checkpoint.dit, checkpoint.text_encoder, checkpoint.vae):
        if not path.is_file():
            continue
        name, size = path.relative_to(checkpoint.folder).as_posix(), path.stat().st_size
        problem, remedy = header_problem(path), AGAIN
        if problem is None and (beside := unfinished(path)) is not None:
            problem = f"has {beside} beside it: its download has not ended"
            remedy = f"let it end, or delete {beside} if the file is whole"
        note = "its header is whole"
        if path.suffix == ".pth":
            note = "a Python pickle, taken by its name: only torch can list its tensors"
        elif problem is None and path not in checkpoint.dit:
            found = recognised([path])
            note = note if found is None else f"{found.what}, {note}"
        yield FileState(name, size, problem, remedy if problem else "", note)


def _other(checkpoint: Checkpoint, dit: Recognised) -> Iterator[FileState]:
    """Where a part is another than its name says, or belongs to another model."""
    first, more = checkpoint.dit[0].name, len(checkpoint.dit) - 1
    file = f"{first} (and {more} more)" if more else first
    if dit.problem is not None:
        yield FileState(file, problem=problem_of(dit), remedy=dit.remedy)
        return
    if dit.part not in (None, ModelPart.DIT):
        yield FileState(file, problem=f"is {dit.what}, and no DiT", remedy=AGAIN)
        return
    for part, path in (
        (ModelPart.TEXT_ENCODER, checkpoint.text_encoder),
        (ModelPart.VAE, checkpoint.vae),
    ):
        found = recognised([path]) if path.is_file() else None
        if found is None:
            continue
        if found.problem is not None:
            yield FileState(path.name, problem=problem_of(found), remedy=found.remedy)
        elif found.part is None:
            continue
        elif found.part is not part:
            problem = f"is {found.what}, and no {part.value}"
            yield FileState(path.name, problem=problem, remedy=AGAIN)
        elif not _fit(dit, found):
            problem = f"is {found.what}, which does not belong to {dit.what}"
            yield FileState(path.name, problem=problem, remedy="take both from one model")


def _fit(dit: Recognised, other: Recognised) -> bool:
    """Whether a text encoder or VAE speaks with a DiT in numbers of its kind."""
    if dit.facts is None or other.facts is None:
        return True
    if other.part is ModelPart.TEXT_ENCODER:
        return other.facts.width == dit.facts.text
    return other.facts.channels[0] == dit.facts.channels[1]


def _mixed(checkpoint: Checkpoint) -> Iterator[FileState]:
    for file, problem, remedy in mixed(checkpoint.dit):
        yield FileState(file, problem=problem, remedy=remedy)


def _by_index(checkpoint: Checkpoint) -> Iterator[FileState]:
    """Shards that are not those that their index was written for."""
    shards = {path.name: path for path in checkpoint.dit}
    index = index_of(checkpoint.dit)
    if index is None or checkpoint.dit[0].suffix != ".safetensors":
        return
    wanted: dict[str, list[str]] = {}
    for tensor, file in read_index(index).items():
        wanted.setdefault(file, []).append(tensor)
    if not wanted.keys() <= shards.keys() or any(map(header_problem, shards.values())):
        return
    held = {name: tensors_in(path) for name, path in shards.items()}
    for file, tensors in wanted.items():
        lacking = [tensor for tensor in tensors if tensor not in held[file]]
        if lacking:
            problem = (
                f"lacks {len(lacking)} of the {len(tensors)} tensors that {index.name} says it "
                f"has ({brief(lacking[0])}): it is of another set"
            )
            yield FileState(file, problem=problem, remedy="copy shards and index from one place")


def _size_by_index(checkpoint: Checkpoint) -> Iterator[FileState]:
    """A word where shards hold more or fewer bytes than their index says: harmless by itself, for
    numbers of another type come to that too."""
    index = index_of(checkpoint.dit)
    wanted = None if index is None else bytes_by_index(index)
    if index is None or wanted is None:
        return
    held = sum(path.stat().st_size - 8 - header_bytes(path) for path in checkpoint.dit)
    if held != wanted:
        note = f"it says {wanted} bytes of tensors, and its shards hold {held}"
        yield FileState(index.name, index.stat().st_size, note=note)


def _absent(folder: Path, name: str, names: Sequence[str]) -> FileState:
    reason = why_absent(folder, names)
    if not reason and (begun := still_downloading(folder)):
        reason = f"a download has not ended: {begun[0]}"
    return FileState(name, problem=f"is missing{f'; {reason}' if reason else ''}", remedy=COPY)
