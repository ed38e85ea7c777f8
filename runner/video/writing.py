"""Writing videos: H.264 in MP4, in BT.709 and saying so, by the ffmpeg that imageio brings.

It is run here and not by imageio, which does not look at its exit status: a killed encoder
could not be told from a broken video.

The path is handed on as an absolute one, so that no name, whatever it holds, is taken for an
option, a protocol or a pattern.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .program import ffmpeg

# numpy is imported where it is used: a command that touches no video starts without it.
if TYPE_CHECKING:
    from PIL import Image

    from .picture import Frames

COLOUR = (
    "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
)
"""ffmpeg's filters that turn RGB to BT.709 in limited range, and have the file say so: the options
of these names are ignored. A player takes a video that says nothing for BT.709 or for BT.601, by
its size."""

FFMPEG_LOG_BYTES = 4000


def write_video(
    path: Path, frames: Sequence[Image.Image] | Frames, *, fps: float, quality: float
) -> None:
    """Write frames as an H.264 MP4 (yuv420p, BT.709, limited range), overwriting `path`, which
    must end in `.mp4`.

    The same frames, rate and quality give the same bytes with the same ffmpeg, whatever the
    machine's cores; nothing of path, time or host goes into the file. A failure may leave a
    part of the file behind.

    Args:
        frames: images of one size, or uint8 RGB of shape (frames, height, width, 3); 4:2:0
            colour needs an even width and height.
        quality: imageio's, from 0 (worst) to 10 (lossless but for colour).

    Raises:
        ValueError: frames or quality are not as above.
        OSError: ffmpeg could not write the file; says why in ffmpeg's words.
        subprocess.CalledProcessError: ffmpeg was killed.
    """
    import numpy as np

    if not 0 <= quality <= 10:
        raise ValueError(f"quality must be from 0 to 10, not {quality:g}")
    if len(frames) == 0:
        raise ValueError("a video needs at least one frame")
    path.unlink(missing_ok=True)
    height, width = _rgb(frames[0]).shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"width and height must be even, not {width}x{height}")
    with tempfile.TemporaryFile() as told, _ffmpeg(path, width, height, fps, quality, told) as run:
        assert run.stdin is not None
        # One that has died is asked for its reason below.
        with contextlib.suppress(BrokenPipeError), run.stdin:
            for frame in frames:
                pixels = _rgb(frame)
                if pixels.shape[:2] != (height, width):
                    raise ValueError(f"frames of two sizes: {pixels.shape[:2]}, {(height, width)}")
                run.stdin.write(np.ascontiguousarray(pixels).data)
        status = run.wait()
        told.seek(0)
        reason = told.read(FFMPEG_LOG_BYTES).decode("utf-8", "replace").strip()
    if status < 0:
        raise subprocess.CalledProcessError(status, "ffmpeg", stderr=reason)
    if status or not path.exists() or path.stat().st_size == 0:
        raise OSError(f"ffmpeg could not write {path}: {reason or f'it ended with {status}'}")


def _rgb(frame: Image.Image | Any) -> Any:
    """A frame's pixels: uint8 of shape (height, width, 3)."""
    import numpy as np

    pixels = np.asarray(frame if isinstance(frame, np.ndarray) else frame.convert("RGB"))
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"frames must be uint8 RGB, not {pixels.dtype} {pixels.shape}")
    return pixels


@contextlib.contextmanager
def _ffmpeg(
    path: Path, width: int, height: int, fps: float, quality: float, told: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """An encoder that takes raw frames on its standard input; ended with this, whatever happens."""
    command = [ffmpeg(), "-y", "-v", "error"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps}"]
    command += ["-i", "-", "-an", "-codec:v", "libx264", "-pix_fmt", "yuv420p", "-vf", COLOUR]
    command += ["-crf", str(int((1 - quality / 10) * 51))]
    # The thread count decides how x264 looks ahead, and so the bytes. One is fastest for small
    # frames and leaves the cores to the other workers.
    command += ["-threads", "1", "-x264-params", "cpu-independent=1"]
    run = subprocess.Popen(
        [*command, str(path.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=told,
    )
    try:
        yield run
    finally:
        run.kill()
        run.wait()
