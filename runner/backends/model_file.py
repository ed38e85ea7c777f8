"""A model file's content in brief, and a folder's: enough to tell it from every other, quick on
40 GB."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..text.canonical import sha256_of
from ..text.input_file import open_input

BLOCK_BYTES = 64 * 1024
BLOCKS_READ = 64
MOST_HEADER_BYTES = 100_000_000
"""What safetensors allows itself."""


def content_of(path: Path) -> dict[str, Any]:
    """A file's size, sha256 of its header, and sha256 of blocks sampled at fixed places.

    The first and the last block are among them; a file of up to 4 MiB is read whole.
    """
    size = path.stat().st_size
    sampled = hashlib.sha256()
    with open_input(path) as file:
        header = file.read(8 + header_bytes(path)) if path.suffix == ".safetensors" else b""
        header = header or file.read(BLOCK_BYTES)
        whole = size <= BLOCK_BYTES * BLOCKS_READ
        starts = (
            [0]
            if whole
            else [i * (size - BLOCK_BYTES) // (BLOCKS_READ - 1) for i in range(BLOCKS_READ)]
        )
        for start in starts:
            file.seek(start)
            sampled.update(file.read(size if whole else BLOCK_BYTES))
    return {
        "size": size,
        "header": hashlib.sha256(header).hexdigest(),
        "blocks": sampled.hexdigest(),
    }


def header_bytes(path: Path) -> int:
    # https://huggingface.co/docs/safetensors: eight little-endian bytes give the length of a
    # JSON header. A length that cannot be true is left for the loader to refuse.
    with open_input(path) as file:
        length = int.from_bytes(file.read(8), "little")
    return length if length <= min(path.stat().st_size, MOST_HEADER_BYTES) else 0


def contents(path: Path) -> list[dict[str, Any]]:
    """A file's record, or those of all files in a folder, by their paths in it.

    Each has `file`, `size`, `header` and `blocks`: see `content_of`. What begins with a dot, and
    compiled Python, does not count.
    """
    if path.is_file():
        return [{"file": "", **content_of(path)}]
    return [
        {"file": file.relative_to(path).as_posix(), **content_of(file)}
        for file in sorted(path.rglob("*"))
        if file.is_file() and _counts(file.relative_to(path))
    ]


def _counts(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def digest(path: Path) -> str:
    """Hex digest of a file's or a folder's contents, the same wherever it lies."""
    return sha256_of({record.pop("file"): record for record in contents(path)})
