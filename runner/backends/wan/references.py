"""Reference clips as latents: read ahead, encoded once a group, kept in the run folder's cache."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...job import canonical_json, sha256_of
from ...reading import deciding_frames, read_reference
from .. import Group
from .tensor_file import read_tensors, try_to_write

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frames = npt.NDArray[np.uint8]

logger = logging.getLogger("sweep.wan")


@dataclass(frozen=True)
class Ahead:
    """A clip that is being read: which, as what file, and its frames to come."""

    clip: tuple[Any, ...]
    file: tuple[int, ...]
    frames: Future[Frames]


class References:
    """The references of one loaded model.

    At most one clip is in memory ahead of its group, beside one that is being read.

    Args:
        folder: where latents are kept; shared by all workers of a sweep.
        encoder: what decides latents beside clip and shape: the VAE by content, tiling, the
            arithmetic's type, the device.
        encode: gives the latents of frames.
    """

    def __init__(
        self, folder: Path, encoder: dict[str, Any], encode: Callable[[Frames], Any]
    ) -> None:
        self._folder = folder
        self._encoder = encoder
        self._encode = encode
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reference")
        self._ahead: Ahead | None = None

    def look_ahead(self, group: Group) -> None:
        """Begin to read a group's clip on another thread, unless its latents are there."""
        if self._ahead is not None and self._ahead.clip == _clip(group):
            return
        if group.sha256 and self._path(group).exists():
            return
        try:
            file = _file(group.reference)
        except OSError:
            # Whether that matters is seen once the group is taken in.
            return
        self._ahead = Ahead(_clip(group), file, self._pool.submit(_read, group))

    def of(self, group: Group) -> Any:
        """The latents of a group's reference: kept ones on the CPU, else as `encode` gave them.

        Raises:
            BrokenVideo: the clip cannot be decoded.
            OSError: it cannot be read.
        """
        # Only of a known content can it be said that it is the same.
        path = self._path(group) if group.sha256 else None
        held = None if path is None else read_tensors(path)
        if held is not None:
            return held[0]["latents"]
        latents = self._encode(self._frames(group))
        if path is not None:
            try_to_write(path, {"latents": latents}, {})
        return latents

    def close(self) -> None:
        self._ahead = None
        self._pool.shutdown(cancel_futures=True)

    def _frames(self, group: Group) -> Frames:
        ahead, self._ahead = self._ahead, None
        # Another file may stand there by now.
        if ahead is not None and (ahead.clip, ahead.file) == (_clip(group), _file(group.reference)):
            try:
                return ahead.frames.result()
            except Exception as error:
                logger.warning("%s: read again: %s", group.reference, error)
        return _read(group)

    def _path(self, group: Group) -> Path:
        read = deciding_frames(group.parameters)
        key = {**self._encoder, **read, "clip": group.sha256}
        return self._folder / f"{sha256_of(key)}.safetensors"


def _clip(group: Group) -> tuple[Any, ...]:
    return (group.reference, group.sha256, canonical_json(deciding_frames(group.parameters)))


def _file(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(group: Group) -> Frames:
    return read_reference(group.reference, group.parameters)
