"""People's clips: what they are, and the frames of one that a job reads, as a player shows them."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..job.shape import Shape
from .errors import BrokenVideo, UnfitVideo
from .picture import UPRIGHT, Fit, Turn, View, fitted, view_of
from .program import ffmpeg
from .pyav import HLG, PQ, OpenedClip, Packet, opened, pixels_of, time_of, turn_of
from .timing import ClipStart, TimesDoNotRise, Timing, nearest

if TYPE_CHECKING:
    import av

    from .picture import Frames

TONE_MAPPING = (
    "zscale=tin={transfer}:min=bt2020nc:pin=bt2020:rin=tv:t=linear:npl=100,format=gbrpf32le,"
    "zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)
"""HDR to SDR, as ffmpeg does it: https://ffmpeg.org/ffmpeg-filters.html#tonemap-1"""

ENCODING = ("-c:v", "libx264", "-crf", "14", "-c:a", "aac")
FILM = Fraction(1000, 1001)
USUAL_RATES = [rate * slower for rate in (24, 25, 30, 50, 60) for slower in (Fraction(1), FILM)]
"""Frames a second; those that are no whole numbers come last, since times are rounded."""


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is, as it is shown.

    Args:
        picture: width and height in its own pixels, turned as they are shown.
        timing: when its frames are shown.
        aspect: width of one of these pixels over its height.
        turn: how a frame as it lies in the file is turned to be shown.
        is_interlaced: each frame has lines of two moments.
        has_sound: there is sound beside the pictures.
    """

    picture: tuple[int, int]
    timing: Timing
    aspect: Fraction = Fraction(1)
    turn: Turn = UPRIGHT
    is_interlaced: bool = False
    has_sound: bool = False

    @classmethod
    def steady(cls, width: int, height: int, num_frames: int, fps: float) -> VideoInfo:
        """A clip of square pixels and of constant rate."""
        return cls((width, height), Timing.steady(num_frames, fps))

    @property
    def width(self) -> int:
        """In square pixels; none of its own is lost."""
        return round(self.picture[0] * max(self.aspect, Fraction(1)))

    @property
    def height(self) -> int:
        """In square pixels; none of its own is lost."""
        return round(self.picture[1] / min(self.aspect, Fraction(1)))

    @property
    def num_frames(self) -> int:
        return self.timing.num_frames

    @property
    def fps(self) -> float:
        """Frames a second, the average where the rate is not constant."""
        return self.timing.fps

    def view(self, width: int, height: int, fit: Fit = "crop") -> View:
        """What of it is seen in a frame of this size."""
        return view_of(self.picture, self.aspect, (width, height), fit)


def probe(path: Path) -> VideoInfo:
    """What a clip is: by its container, without decoding more than its first frame.

    Shown are the frames that no edit list leaves out, from the first key frame's time on: what
    comes before refers to frames that were cut away. Packets are read, not only the container's
    index, since an index has no times of presentation (MP4) or only key frames (MKV). All frames
    are decoded only where packets and first frame contradict each other.

    Raises:
        BrokenVideo: empty, cut short, of no kind that is read, or its first frame does not decode.
        UnfitVideo: HDR, turned askew, or with frames whose times do not rise.
        OSError: the file cannot be read at all.
    """
    first: av.VideoFrame | None = None
    packets: list[Packet] = []
    with opened(path) as source:
        for packet in source.packets():
            if packet.size:
                packets.append(source.said(packet))
            if first is None:
                first = next(iter(source.decoded(packet)), None)
        if first is None:
            raise BrokenVideo("no frame of it can be decoded")
        picture, aspect, turn = _lie(source, first)
        times = shown_times(packets)
        in_order = [said.seconds for said in packets if not said.is_discarded]
        # Frames that may come in another order than their packets, which are in that of their
        # times: these are not times of presentation then, as in AVI. And a first frame that comes
        # at another time than the first packet: what is in between is not shown.
        has_no_times = None in in_order or (source.may_reorder and in_order == times)
        is_told = not has_no_times and time_of(first) == min(times, default=None)
        timing = _timing(source, times, first) if is_told else None
        is_interlaced, has_sound = bool(first.interlaced_frame), source.has_sound
    if timing is None:
        # Only decoding tells.
        timing = decoded_timing(path)
    return VideoInfo(picture, timing, aspect, turn, is_interlaced, has_sound)


def shown_times(packets: Sequence[Packet]) -> list[Fraction]:
    """The times of the packets whose frames are shown, in order."""
    begins = next((packet.seconds for packet in packets if packet.is_key), None)
    return sorted(
        packet.seconds
        for packet in packets
        if packet.seconds is not None
        and not packet.is_discarded
        and (begins is None or packet.seconds >= begins)
    )


def decoded_timing(path: Path) -> Timing:
    """When the frames of a clip are shown, by decoding every one.

    Raises:
        BrokenVideo, UnfitVideo, OSError: as `probe`.
    """
    first: av.VideoFrame | None = None
    times = []
    with opened(path) as source:
        for time, frame in source.frames():
            times.append(time)
            first = first or frame
        if first is None:
            raise BrokenVideo("no frame of it can be decoded")
        return _timing(source, times, first)


def frames_available(info: VideoInfo, fps: float, start: ClipStart = 0.0) -> int:
    """How many frames a clip yields at `fps` frames a second, as `timing` defines them."""
    return info.timing.available(fps, start)


def read_clip(path: Path, shape: Shape, *, start: ClipStart = 0.0, fit: Fit = "crop") -> Frames:
    """The frames of a clip that a job of this shape reads, as `timing` defines them: as many as its
    video has at most, at its rate.

    Each is turned as it is shown, scaled (Lanczos) to square pixels and cropped or padded around
    its centre; pixels of a clip that has the right size already are untouched.

    Returns:
        uint8 RGB of shape (num_frames, height, width, 3).

    Raises:
        BrokenVideo: it cannot be decoded, or yields fewer frames than asked for.
        UnfitVideo: as `probe`.
        OSError: the file cannot be read at all.
    """
    import numpy as np

    info = probe(path)
    wanted = (shape.width, shape.height)
    moments = info.timing.moments(shape.most_frames, shape.fps, start)
    frames = np.empty((shape.most_frames, shape.height, shape.width, 3), np.uint8)
    found = 0
    last: av.VideoFrame | None = None
    with opened(path) as source:
        try:
            # One frame at a time: a whole 4K clip at once would take gigabytes.
            for number, frame in nearest(_since_first(source.frames()), moments, info.timing.gap):
                if frame is last:
                    frames[number] = frames[number - 1]
                else:
                    shown = info.turn.apply(pixels_of(frame))
                    frames[number] = fitted(shown, info.aspect, wanted, fit)
                last, found = frame, number + 1
        except TimesDoNotRise:
            raise _times_do_not_rise(source) from None
    if found < shape.most_frames:
        raise BrokenVideo(
            f"{found} frames at {shape.fps:g} fps, {shape.most_frames} are needed"
            f" (it has {info.num_frames} at {info.fps:g} fps)"
        )
    return frames


def _since_first(
    frames: Iterator[tuple[Fraction, av.VideoFrame]],
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Frames with their times counted from the first one's."""
    begins: Fraction | None = None
    for time, frame in frames:
        begins = time if begins is None else begins
        yield time - begins, frame


def _lie(source: OpenedClip, first: av.VideoFrame) -> tuple[tuple[int, int], Fraction, Turn]:
    """Width and height as they are shown, in the clip's own pixels, the aspect of one of these
    pixels, and how frames are turned to be shown so.

    Raises:
        UnfitVideo: it cannot be shown by turning alone.
    """
    for transfer, name, named in ((PQ, "PQ", "smpte2084"), (HLG, "HLG", "arib-std-b67")):
        if transfer in (source.transfer, int(first.color_trc)):
            mend = ["-vf", TONE_MAPPING.format(transfer=named)]
            raise UnfitVideo(f"is HDR ({name}), which is not read; {_ffmpeg(source, mend)}")
    turn = turn_of(first)
    if turn is None:
        raise UnfitVideo(f"is turned askew by its display matrix; {_ffmpeg(source, [])}")
    if turn.transposed:
        return (first.height, first.width), 1 / source.aspect, turn
    return (first.width, first.height), source.aspect, turn


def _timing(source: OpenedClip, times: Sequence[Fraction], first: av.VideoFrame) -> Timing:
    """Raises UnfitVideo where times do not rise."""
    duration = Fraction(0)
    if first.duration and first.time_base:
        duration = first.duration * first.time_base
    try:
        return Timing.of(times, tick=source.tick, duration=duration, rates=source.rates)
    except TimesDoNotRise:
        raise _times_do_not_rise(source) from None


def _times_do_not_rise(source: OpenedClip) -> UnfitVideo:
    rate = _usual_rate(source.rates)
    mend = ["-vf", f"setpts=N/({rate})/TB", "-r", str(rate)]
    before = ["-ignore_editlist", "1"] if source.kind == "mov" else []
    return UnfitVideo(
        "does not tell when its frames are shown (their times do not rise); if it has "
        f"{float(rate):g} frames a second: {_ffmpeg(source, mend, before)}"
    )


def _usual_rate(rates: Iterable[Fraction]) -> Fraction:
    """The usual frame rate that the first of these comes near to which is near one."""
    near = (min(USUAL_RATES, key=lambda usual: abs(usual - rate)) for rate in rates)
    likely = (u for u, rate in zip(near, rates, strict=True) if abs(u - rate) < u / 50)
    return next(likely, Fraction(30))


def _ffmpeg(source: OpenedClip, options: Sequence[str], before: Sequence[str] = ()) -> str:
    """The command line that writes a clip as it should be, beside it, and what to do then."""
    path = source.path.absolute()
    words = [ffmpeg_word(), *before, "-i", str(path), *options, *ENCODING]
    command = shlex.join([*words, str(path.with_name(f"{path.stem}_mended.mp4"))])
    return f"{command} and have that in its place"


def ffmpeg_word() -> str:
    """What a person types to run ffmpeg: the command where there is one, else the path of the one
    that imageio brings."""
    return "ffmpeg" if shutil.which("ffmpeg") else ffmpeg()
