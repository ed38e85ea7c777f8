"""Reference clips as latents: read ahead, encoded once a group, kept in the run folder's cache."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...job import Series
from ...job.axes import VIDEO
from ...text.canonical import canonical_json, sha256_of
from ...video.reading import deciding_frames, read_reference
from .tensor_file import read_tensors, try_to_write

if TYPE_CHECKING:
    from ...video import Frames

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

    def look_ahead(self, series: Series) -> None:
        """Begin to read a series' clip on another thread, unless its latents are there."""
        if self._ahead is not None and self._ahead.clip == _clip(series):
            return
        if _content(series) and self._path(series).exists():
            return
        try:
            file = _file(series)
        except OSError:
            # Whether that matters is seen once the series is taken in.
            return
        self._ahead = Ahead(_clip(series), file, self._pool.submit(read_reference, series))

    def of(self, series: Series) -> Any:
        """The latents of a series' reference: kept ones on the CPU, else as `encode` gave them.

        Raises:
            BrokenVideo: the clip cannot be decoded.
            OSError: it cannot be read.
        """
        # Only of a known content can it be said that it is the same.
        path = self._path(series) if _content(series) else None
        held = None if path is None else read_tensors(path)
        if held is not None:
            return held[0]["latents"]
        latents = self._encode(self._frames(series))
        if path is not None:
            try_to_write(path, {"latents": latents}, {})
        return latents

    def close(self) -> None:
        self._ahead = None
        self._pool.shutdown(cancel_futures=True)

    def _frames(self, series: Series) -> Frames:
        ahead, self._ahead = self._ahead, None
        # Another file may stand there by now.
        if ahead is not None and (ahead.clip, ahead.file) == (_clip(series), _file(series)):
            try:
                return ahead.frames.result()
            except Exception as error:
                logger.warning("%s: read again: %s", series.file(VIDEO.role).path, error)
        return read_reference(series)

    def _path(self, series: Series) -> Path:
        key = {**self._encoder, **deciding_frames(series), "clip": _content(series)}
        return self._folder / f"{sha256_of(key)}.safetensors"


def _content(series: Series) -> str:
    """The clip's sha256, "" where nobody has looked."""
    return series.file(VIDEO.role).sha256


def _clip(series: Series) -> tuple[Any, ...]:
    return (series.file(VIDEO.role), canonical_json(deciding_frames(series)))


def _file(series: Series) -> tuple[int, ...]:
    found = Path(series.file(VIDEO.role).path).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
