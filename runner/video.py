"""Video files: read (decord), write (imageio's ffmpeg) and check (ffmpeg, strictly).

Every path is handed on as an absolute one, so that no name, whatever it holds, is taken for
an option, a protocol or a pattern.
"""

from __future__ import annotations

import math
import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

# decord, imageio, numpy and Pillow are imported where they are used: a command that touches
# no video starts without them.
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    Frames = npt.NDArray[np.uint8]

RATE_TOLERANCE = 5e-4
"""Relative difference at which two frame rates differ: 29.97 and 30 do, 23.976 and 23.98 not."""


class BrokenVideo(Exception):
    """A file that is not a whole, decodable video. The message is one line, without the path."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video's container says; `fps` is its average frame rate."""

    width: int
    height: int
    num_frames: int
    fps: float


@dataclass(frozen=True)
class Decoded:
    """What a strict decoding of every frame found. `codec` and `pix_fmt` are ffmpeg's names."""

    codec: str | None
    pix_fmt: str | None
    width: int
    height: int
    num_frames: int
    fps: float


def probe(path: Path) -> VideoInfo:
    """Size, frame count and frame rate of a video, after decoding its first frame.

    Raises:
        BrokenVideo: empty, cut short, not an MP4 video, or its first frame does not decode.
        OSError: the file cannot be read at all.
    """
    reader = _open(path)
    height, width, _ = _decode(reader, 0).shape
    return VideoInfo(width, height, len(reader), float(reader.get_avg_fps()))


def frames_available(info: VideoInfo, fps: float) -> int:
    """How many frames a clip yields at `fps` frames per second.

    Frame i of the resampled clip is the source frame nearest to the time i/fps (of two equally
    near, the earlier), with source frame j at the time j/info.fps. The clip yields every i
    whose nearest frame it has: at its own rate exactly `info.num_frames`.
    """
    return _available(info.num_frames, _source_step(info.fps, fps))


def read_clip(path: Path, *, width: int, height: int, num_frames: int, fps: float) -> Frames:
    """The first `num_frames` frames of a clip at `fps`, as `frames_available` defines them.

    Each frame is scaled (Lanczos) to cover `width` x `height` and cropped around its centre;
    pixels of a clip that has that size already are untouched.

    Returns:
        uint8 RGB of shape (num_frames, height, width, 3).

    Raises:
        BrokenVideo: it cannot be decoded, or yields fewer frames than asked for.
        OSError: the file cannot be read at all.
    """
    import numpy as np

    reader = _open(path)
    source_fps = float(reader.get_avg_fps())
    step = _source_step(source_fps, fps)
    available = _available(len(reader), step)
    if available < num_frames:
        raise BrokenVideo(
            f"{available} frames at {fps:g} fps, {num_frames} are needed"
            f" (it has {len(reader)} at {source_fps:g} fps)"
        )
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    previous = -1
    # One frame at a time: a whole 4K clip at once would take gigabytes.
    for i in range(num_frames):
        index = _source_index(i, step)
        if index == previous:
            frames[i] = frames[i - 1]
        else:
            frames[i] = _cover(_decode(reader, index), width, height)
        previous = index
    return frames


def write_video(
    path: Path, frames: Sequence[Image.Image] | Frames, *, fps: float, quality: float
) -> None:
    """Write frames as an H.264 MP4 (yuv420p), overwriting `path`, which must end in `.mp4`.

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


def check_video(path: Path, *, width: int, height: int, num_frames: int, fps: float) -> Decoded:
    """Decode every frame of a video, strictly, and compare it with what it should be.

    A file cut short is always found. Damaged bytes often are not: H.264 has no checksum, and of
    flipped bits that change the picture about half still decode without a complaint. Only the
    file's hash tells those.

    Returns:
        What the file was found to be; its frame rate is that of its frames' times.

    Raises:
        BrokenVideo: cut short, the decoder complained, or size, frame count or frame rate
            differ; the message names what.
        OSError: the file cannot be read at all.
        subprocess.CalledProcessError: ffmpeg was killed.
    """
    import imageio_ffmpeg

    _check_boxes(path)
    url = f"file:{path.absolute()}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-nostats"]
    # With its level before each message: one run tells what the file is, and what is wrong.
    command += ["-v", "level+info", "-xerror", "-threads", "1", "-i", url, "-map", "0:v:0"]
    # Frames as they are, at the times the file gives them, none doubled or dropped.
    command += ["-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc", "-"]
    limit_s = 60 + num_frames
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenVideo(f"not decoded within {limit_s} s") from error
    told = done.stderr.replace(url, "the file")
    if complaint := _COMPLAINT.search(told):
        # ffmpeg's "[h264 @ 0x5581e0]": the address is different every time.
        name = f"{complaint['name']}: " if complaint["name"] else ""
        raise BrokenVideo(name + complaint["message"].strip())
    done.check_returncode()
    fps = _compare(done.stdout, width, height, num_frames, fps)
    stream = _STREAM.search(told)
    codec, pix_fmt = (stream["codec"], stream["pix_fmt"]) if stream else (None, None)
    return Decoded(codec, pix_fmt, width, height, num_frames, fps)


_COMPLAINT = re.compile(
    r"^(\[(?P<name>\w+)[^\]]* @ \w+\] )*\[(error|fatal|panic)\] (?P<message>.*)$", re.MULTILINE
)
_STREAM = re.compile(
    r"^\[info\] +Stream #0:.*: Video: (?P<codec>\w+)(?: \([^,]*\))*, (?P<pix_fmt>\w+)", re.MULTILINE
)
"""The input's video stream; ffmpeg describes it before it says anything of its own output."""


def _compare(framecrc: str, width: int, height: int, num_frames: int, fps: float) -> float:
    """Compare ffmpeg's framecrc report (https://ffmpeg.org/ffmpeg-formats.html#framecrc).

    Returns the frame rate.
    """
    header = dict(re.findall(r"^#(\w+) 0: (.+)$", framecrc, re.MULTILINE))
    rows = [line.split(",") for line in framecrc.splitlines() if line and line[0] != "#"]
    if header.get("dimensions") != f"{width}x{height}":
        raise BrokenVideo(f"size is {header.get('dimensions')}, not {width}x{height}")
    if len(rows) != num_frames:
        raise BrokenVideo(f"{len(rows)} frames, not {num_frames}")
    tick = Fraction(header["tb"])
    times = [int(row[2]) for row in rows]
    steps = [b - a for a, b in pairwise(times)] or [int(rows[0][3])]
    if min(steps) <= 0 or max(steps) - min(steps) > 1 + 0.01 * min(steps):
        raise BrokenVideo("the time from frame to frame is not constant")
    rate = float(len(steps) / (sum(steps) * tick))
    if not math.isclose(rate, fps, rel_tol=RATE_TOLERANCE):
        raise BrokenVideo(f"frame rate is {rate:g}, not {fps:g}")
    return rate


def _source_step(source_fps: float, fps: float) -> Fraction:
    """Source frames per resampled frame, free of float noise.

    Every rate in use is a small fraction (30000/1001), so rounding to one restores it.
    """
    return Fraction(source_fps).limit_denominator(10_000) / Fraction(fps).limit_denominator(10_000)


def _source_index(i: int, step: Fraction) -> int:
    """The source frame nearest to resampled frame `i`; of two equally near, the earlier."""
    return math.ceil(i * step - Fraction(1, 2))


def _available(num_frames: int, step: Fraction) -> int:
    """How many i have `_source_index(i, step) < num_frames`."""
    return math.floor((num_frames - Fraction(1, 2)) / step) + 1


def _cover(frame: Frames, width: int, height: int) -> Frames:
    import numpy as np
    from PIL import Image

    source_height, source_width, _ = frame.shape
    if (source_width, source_height) == (width, height):
        return frame
    scale = max(width / source_width, height / source_height)
    left = max(0.0, (source_width - width / scale) / 2)
    top = max(0.0, (source_height - height / scale) / 2)
    box = (left, top, source_width - left, source_height - top)
    image = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS, box)
    return np.asarray(image)


def _open(path: Path) -> Any:
    """A decord reader of a video that looks whole and has a frame rate."""
    _check_boxes(path)
    import decord

    # Its ffmpeg would write to standard error what is raised here.
    decord.logging.set_level(decord.logging.QUIET)
    try:
        # By default decord repeats a neighbour in place of a frame that does not decode.
        reader = decord.VideoReader(str(path.absolute()), num_threads=1, fault_tol=1e-6)
    except (decord.DECORDError, RuntimeError, AssertionError) as error:
        raise BrokenVideo("no video stream that can be decoded") from error
    except UnicodeEncodeError as error:
        raise BrokenVideo("its name is not valid UTF-8, rename it") from error
    fps = float(reader.get_avg_fps())
    if not (math.isfinite(fps) and fps > 0):
        raise BrokenVideo("it gives no frame rate")
    return reader


def _decode(reader: Any, index: int) -> Frames:
    import decord

    try:
        frame: Frames = reader[index].asnumpy()
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        raise BrokenVideo(f"frame {index} of {len(reader)} cannot be decoded") from error
    return frame


def _check_boxes(path: Path) -> None:
    """Raise `BrokenVideo` where a file's outermost boxes (ISO/IEC 14496-12, 4.2) are not whole.

    This sees any cut through a box without reading the file, also where the index comes first
    and a decoder would notice only on reaching the cut.
    """
    kinds: list[bytes] = []
    end = path.stat().st_size
    position = 0
    if end == 0:
        raise BrokenVideo("the file is empty")
    with path.open("rb") as file:
        while position < end:
            file.seek(position)
            head = file.read(16)
            if len(head) < 8:
                break
            size, kind = struct.unpack(">I4s", head[:8])
            if not kinds and kind not in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
                raise BrokenVideo("not an MP4 video")
            if size == 1 and len(head) == 16:
                (size,) = struct.unpack(">Q", head[8:])
            elif size == 0:
                size = end - position
            if size < 8:
                break
            position += size
            kinds.append(kind)
    if position > end:
        raise BrokenVideo(f"cut short: {end} bytes of at least {position}")
    if b"moov" not in kinds:
        raise BrokenVideo("cut short: its index (the moov box) is missing")
