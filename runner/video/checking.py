"""Checking videos: every frame decoded by ffmpeg, strictly."""

from __future__ import annotations

import math
import re
import subprocess
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..job.shape import Shape
from .errors import BrokenVideo
from .program import ffmpeg
from .whole import check_mp4

RATE_TOLERANCE = 5e-4
"""Relative difference at which two frame rates differ: 29.97 and 30 do, 23.976 and 23.98 not."""


@dataclass(frozen=True)
class Decoded:
    """What a strict decoding of every frame found. `codec` and `pix_fmt` are ffmpeg's names."""

    codec: str | None
    pix_fmt: str | None
    shape: Shape

    def to_json(self) -> dict[str, Any]:
        """As sidecars have it, which say nothing of sound here."""
        shape = self.shape.to_json()
        del shape["sound"]
        return {"codec": self.codec, "pix_fmt": self.pix_fmt, **shape}


def check_video(path: Path, shape: Shape) -> Decoded:
    """Decode every frame of a video, strictly, and compare it with the shape that it must have.

    A file cut short is always found. Damaged bytes often are not: H.264 has no checksum, and of
    flipped bits that change the picture about half still decode without a complaint. Only the
    file's hash tells those.

    Returns:
        What the file was found to be; its frame rate is that of its frames' times.

    Raises:
        BrokenVideo: cut short, the decoder complained, size, frame count or frame rate differ,
            or it has no sound where it must; the message names what.
        OSError: the file cannot be read at all.
        subprocess.CalledProcessError: ffmpeg was killed.
    """
    check_mp4(path)
    url = f"file:{path.absolute()}"
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-nostats"]
    # With its level before each message: one run tells what the file is, and what is wrong.
    command += ["-v", "level+info", "-xerror", "-threads", "1", "-i", url, "-map", "0:v:0"]
    # Where sound is wanted and there is none, that is the complaint.
    command += ["-map", "0:a:0"] if shape.sound else []
    # Frames as they are, at the times the file gives them, none doubled or dropped.
    command += ["-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc", "-"]
    limit_s = 60 + shape.most_frames
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
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, "ffmpeg", stderr=told)
    number, fps = _compare(done.stdout, shape)
    stream = _STREAM.search(told)
    codec, pix_fmt = (stream["codec"], stream["pix_fmt"]) if stream else (None, None)
    return Decoded(codec, pix_fmt, replace(shape, num_frames=number, fps=fps))


_COMPLAINT = re.compile(
    r"^(\[(?P<name>\w+)[^\]]* @ \w+\] )*\[(error|fatal|panic)\] (?P<message>.*)$", re.MULTILINE
)
_STREAM = re.compile(
    r"^\[info\] +Stream #0:.*: Video: (?P<codec>\w+)(?: \([^,]*\))*, (?P<pix_fmt>\w+)", re.MULTILINE
)
"""The input's video stream; ffmpeg describes it before it says anything of its own output."""


def _compare(framecrc: str, shape: Shape) -> tuple[int, float]:
    """Compare ffmpeg's framecrc report (https://ffmpeg.org/ffmpeg-formats.html#framecrc).

    Returns the number of frames and their rate.
    """
    header = dict(re.findall(r"^#(\w+) 0: (.+)$", framecrc, re.MULTILINE))
    lines = (line.split(",") for line in framecrc.splitlines() if line and line[0] != "#")
    rows = [line for line in lines if line[0].strip() == "0"]
    if header.get("dimensions") != f"{shape.width}x{shape.height}":
        raise BrokenVideo(f"size is {header.get('dimensions')}, not {shape.width}x{shape.height}")
    least, most = shape.frames
    if not least <= len(rows) <= most:
        wanted = f"{most}" if least == most else f"{least} to {most}"
        raise BrokenVideo(f"{len(rows)} frames, not {wanted}")
    tick = Fraction(header["tb"])
    times = [int(row[2]) for row in rows]
    steps = [b - a for a, b in pairwise(times)] or [int(rows[0][3])]
    if min(steps) <= 0 or max(steps) - min(steps) > 1 + 0.01 * min(steps):
        raise BrokenVideo("the time from frame to frame is not constant")
    rate = float(len(steps) / (sum(steps) * tick))
    if not math.isclose(rate, shape.fps, rel_tol=RATE_TOLERANCE):
        raise BrokenVideo(f"frame rate is {rate:g}, not {shape.fps:g}")
    return len(rows), rate
