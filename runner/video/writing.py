"""Writing videos: H.264 in MP4, by imageio's ffmpeg, in BT.709 and saying so.

The path is handed on as an absolute one, so that no name, whatever it holds, is taken for an
option, a protocol or a pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# numpy, imageio and Pillow are imported where they are used: a command that touches no video
# starts without them.
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
        OSError: ffmpeg could not write the file.
    """
    import imageio.v2 as imageio
    import numpy as np

    if not 0 <= quality <= 10:
        raise ValueError(f"quality must be from 0 to 10, not {quality:g}")
    if len(frames) == 0:
        raise ValueError("a video needs at least one frame")
    path.unlink(missing_ok=True)
    writer = imageio.get_writer(
        str(path.absolute()),
        format="FFMPEG",
        mode="I",
        fps=fps,
        codec="libx264",
        pixelformat="yuv420p",
        macro_block_size=1,  # any other value lets imageio change the size
        ffmpeg_log_level="error",
        # imageio-ffmpeg's own formula for `quality`, which it refuses to apply to 0.
        quality=None,
        output_params=[
            *("-vf", COLOUR),
            *("-crf", str(int((1 - quality / 10) * 51))),
            # The thread count decides how x264 looks ahead, and so the bytes. One is fastest
            # for small frames and leaves the cores to the other workers.
            *("-threads", "1", "-x264-params", "cpu-independent=1"),
        ],
    )
    with writer:
        for frame in frames:
            pixels = np.asarray(frame if isinstance(frame, np.ndarray) else frame.convert("RGB"))
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
                raise ValueError(f"frames must be uint8 RGB, not {pixels.dtype} {pixels.shape}")
            if pixels.shape[0] % 2 or pixels.shape[1] % 2:
                raise ValueError(
                    f"width and height must be even, not {pixels.shape[1]}x{pixels.shape[0]}"
                )
            writer.append_data(pixels)
    # imageio does not look at ffmpeg's exit status.
    if not path.exists() or path.stat().st_size == 0:
        raise OSError(f"ffmpeg wrote nothing to {path}")
