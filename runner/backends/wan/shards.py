"""Files of a checkpoint by their names: which belong together, which are copies, which have not
come whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...text.input_file import read_json
from .headers import BadFile

_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})$")
_COPY = re.compile(
    r"(?P<stem>.*?)(?: ?\(\d+\)|[ -]+(?:copy|kopie|副本)(?: ?\(?\d+\)?)?)$", re.IGNORECASE
)

UNFINISHED = (
    *(".aria2", ".part", ".partial", ".incomplete", ".crdownload", ".download"),
    *(".downloading", ".xltd", ".td", ".tmp"),
)
"""What browsers and download tools put behind a file's name, or beside it, until it is whole."""
DOWNLOADING = (".cache/huggingface/download", "../../blobs", "._____temp")
"""Where, seen from a model's folder, Hugging Face's and ModelScope's tools keep what has not come
whole."""


@dataclass(frozen=True)
class Name:
    """A weights file's name, taken apart: `count` shards of that `stem`, 0 of a single file."""

    stem: str
    count: int
    suffix: str
    original: str | None
    """The name that it is a copy of, as a browser or a file manager writes one."""

    @classmethod
    def of(cls, path: Path) -> Name:
        copied = _COPY.match(path.stem)
        stem = copied["stem"] if copied else path.stem
        original = f"{stem}{path.suffix}" if copied else None
        if numbered := _SHARD.match(stem):
            return cls(numbered["stem"], int(numbered["count"]), path.suffix, original)
        return cls(stem, 0, path.suffix, original)

    def siblings(self) -> list[str]:
        """Every file of its set."""
        if not self.count:
            return [f"{self.stem}{self.suffix}"]
        return [
            f"{self.stem}-{number:05}-of-{self.count:05}{self.suffix}"
            for number in range(1, self.count + 1)
        ]


def expected(paths: Sequence[Path]) -> set[str]:
    """The files that these and their index say there must be.

    Raises:
        BadFile: the index is none.
    """
    found: set[str] = set()
    for path in paths:
        name = Name.of(path)
        if name.count:
            found.update(name.siblings())
    if index := index_of(paths):
        found.update(read_index(index).values())
    return found


def index_of(paths: Sequence[Path]) -> Path | None:
    """The index that lies beside shards."""
    if not paths:
        return None
    stem = re.split(r"[-. (]", paths[0].stem)[0]
    path = paths[0].with_name(f"{stem}{paths[0].suffix}.index.json")
    return path if path.is_file() else None


def read_index(path: Path) -> dict[str, str]:
    """Which file has each tensor, by an index of shards.

    Raises:
        BadFile: it is none.
    """
    try:
        found = read_json(path)["weight_map"].items()
        return {str(tensor): str(file) for tensor, file in found}
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise BadFile(path, "is no index of shards") from error


def bytes_by_index(path: Path) -> int | None:
    """Bytes of all tensors, as an index says."""
    try:
        size = read_json(path)["metadata"]["total_size"]
    except (ValueError, TypeError, KeyError, OSError):
        return None
    return int(size) if isinstance(size, (int, float)) and 0 <= size < 1e18 else None


def mixed(paths: Sequence[Path]) -> Iterator[tuple[str, str, str]]:
    """What must not be loaded together, though it lies together: file, problem and remedy."""
    names = {path.name: Name.of(path) for path in paths}
    for name, parts in names.items():
        if parts.original in names:
            yield name, f"is a second copy of {parts.original}", "delete it"
        elif parts.original is not None:
            yield name, "has the name of a copy", f"rename it to {parts.original}"
    sets: dict[tuple[str, int], list[str]] = {}
    for name, parts in names.items():
        if parts.original is None:
            sets.setdefault((parts.stem, parts.count), []).append(name)
    if len(sets) > 1:
        told = [
            f"{len(own)} of {count} shards {stem}-…-of-{count:05}" if count else own[0]
            for (stem, count), own in sets.items()
        ]
        first = next(iter(sets.values()))[0]
        problem = f"belongs to one of {len(sets)} sets of weights in one folder: {', '.join(told)}"
        yield first, problem, "move all but one set to another folder"


def without_mark(name: str) -> str:
    """A file's name without what a download tool put behind it."""
    return next((name.removesuffix(ending) for ending in UNFINISHED if name.endswith(ending)), name)


def unfinished(path: Path) -> str | None:
    """The file beside a file that tells that its download has not ended."""
    for ending in UNFINISHED:
        if os.path.lexists(beside := path.with_name(path.name + ending)):
            return beside.name
    return None


def why_absent(folder: Path, names: Iterable[str]) -> str:
    """What there is in place of a file of one of these names, relative to the folder; ""
    where there is nothing."""
    for name in names:
        path = folder / name
        if path.is_symlink() and not path.exists():
            return f"it is a link to {path.readlink()}, which is not there"
        if (beside := unfinished(path)) is not None:
            return f"its download has not ended: {beside}"
        for other in _in_folder(path.parent):
            if Name.of(other).original == path.name:
                return f"there is {other.name!r}: rename it"
    return ""


def still_downloading(folder: Path) -> list[str]:
    """Files that tools which download whole models have not ended, relative to the folder."""
    found: list[str] = []
    for subfolder in DOWNLOADING:
        # What lies two folders up counts only where they are a cache's.
        if subfolder.startswith("..") and folder.parent.name != "snapshots":
            continue
        for path in _in_folder(folder / subfolder):
            if path.name.endswith(UNFINISHED) or subfolder.endswith("temp"):
                found.append(f"{subfolder}/{path.name}")
    return found


def _in_folder(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
