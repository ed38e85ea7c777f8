"""Reading what the sweep itself wrote: whole videos of constant rate, checked before.

By decord, where it has a wheel (x86-64): its random access is fast, and on such files its frames
are exact. Elsewhere, and where it counts other frames than there should be, as PyAV reads them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..job.shape import Shape
from .clip import read_clip
from .errors import BrokenVideo
from .picture import fitted
from .whole import check_mp4

if TYPE_CHECKING:
    from .picture import Frames


def read_video(path: Path, shape: Shape, size: tuple[int, int] | None = None) -> Frames:
    """All frames of a video of the sweep.

    Args:
        shape: what it is, with a number of frames.
        size: width and height to which frames are scaled and cropped, as in `read_clip`, where
            they are not to be the video's own.

    Returns:
        uint8 RGB of shape (num_frames, height, width, 3).

    Raises:
        BrokenVideo: it cannot be decoded, or has fewer frames.
        OSError: the file cannot be read at all.
    """
    import numpy as np

    check_mp4(path)
    shape = shape if size is None else shape.sized(*size)
    wanted, count = (shape.width, shape.height), shape.most_frames
    reader = _decord_reader(path)
    if reader is None or len(reader) != count:
        return read_clip(path, shape)
    frames = np.empty((count, shape.height, shape.width, 3), np.uint8)
    for number in range(count):
        with _border(f"frame {number} of {count} cannot be decoded"):
            frame = reader[number].asnumpy()
        frames[number] = fitted(frame, Fraction(1), wanted, "crop")
    return frames


def _decord_reader(path: Path) -> Any:
    """decord's reader of a video, None on a machine that has no decord."""
    try:
        import decord
    except ImportError:
        return None
    # Its ffmpeg would write to standard error what is raised here.
    decord.logging.set_level(decord.logging.QUIET)
    with _border("no video stream that can be decoded"):
        # By default decord repeats a neighbour in place of a frame that does not decode.
        return decord.VideoReader(str(path.absolute()), num_threads=1, fault_tol=1e-6)


@contextlib.contextmanager
def _border(said: str) -> Iterator[None]:
    """What decord raises within this as a `BrokenVideo`; some of it are plain Exceptions."""
    import decord

    own = (decord.DECORDError, decord.DECORDLimitReachedError)
    try:
        yield
    except UnicodeEncodeError as error:
        raise BrokenVideo("its name is not valid UTF-8, rename it") from error
    except (*own, RuntimeError, AssertionError, StopIteration) as error:
        raise BrokenVideo(said) from error
