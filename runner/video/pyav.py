"""The one border to PyAV: a clip's packets and frames in the order of the decoder, and what its
container says of how they are shown. Whatever PyAV raises becomes a `BrokenVideo` here.

FFmpeg itself guesses what a file is, and some of what it guesses opens further files. So the kind
is told by the first bytes, and FFmpeg is given no choice.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .errors import BrokenVideo
from .picture import UPRIGHT, Turn
from .whole import check_whole

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

    from .picture import Frames

    Encoded = av.Packet[VideoStream]

PQ, HLG = 16, 18
"""Of ITU-T H.273, table 3: the transfer characteristics of HDR."""


@dataclass(frozen=True)
class Packet:
    """What a container says of one frame without its being decoded; `seconds` is its time, None
    where it is not told. `is_discarded`: an edit list leaves it out."""

    seconds: Fraction | None
    is_key: bool
    is_discarded: bool


@dataclass
class OpenedClip:
    """An opened clip: its first video stream that is no cover picture."""

    path: Path
    kind: str
    """FFmpeg's name of what it is: `mov` for MP4 too, `matroska` for WebM too."""
    _container: av.container.InputContainer
    _stream: VideoStream

    @property
    def tick(self) -> Fraction:
        """What times are rounded to, in seconds."""
        return self._stream.time_base or Fraction(1, 1000)

    @property
    def rates(self) -> list[Fraction]:
        """The frame rates that the file tells or FFmpeg guesses, the likeliest first."""
        found = (self._stream.guessed_rate, self._stream.average_rate, self._stream.base_rate)
        return [Fraction(rate) for rate in found if rate]

    @property
    def aspect(self) -> Fraction:
        """Width of a pixel over its height, as it lies in the file."""
        found = self._stream.sample_aspect_ratio
        return Fraction(found) if found and found > 0 else Fraction(1)

    @property
    def transfer(self) -> int:
        """The transfer characteristic (ITU-T H.273, table 3); 2 where the file does not say."""
        return int(self._stream.codec_context.color_trc)

    @property
    def may_reorder(self) -> bool:
        """Whether the decoder may give frames in another order than the packets have."""
        return bool(self._stream.codec_context.has_b_frames)

    @property
    def has_sound(self) -> bool:
        return bool(self._container.streams.audio)

    def packets(self) -> Iterator[Encoded]:
        """Every packet of the stream, in the order of the file; then an empty one, which has the
        decoder give what is still in it."""
        with _border():
            yield from self._container.demux(self._stream)

    def said(self, packet: Encoded) -> Packet:
        """What a packet says without being decoded."""
        seconds = None if packet.pts is None else packet.pts * self.tick
        return Packet(seconds, packet.is_keyframe, packet.is_discard)

    def decoded(self, packet: Encoded, begins: Fraction | None = None) -> list[av.VideoFrame]:
        """The frames that a packet gives. One that cannot be decoded gives none where nothing is
        shown yet: a cut clip begins with such.

        Args:
            begins: the time of the first frame that was decoded, where there is one.

        Raises:
            BrokenVideo: a later one cannot be decoded.
        """
        import av

        try:
            return list(packet.decode())
        except av.FFmpegError as error:
            seconds = self.said(packet).seconds
            if not packet.size or begins is None or (seconds is not None and seconds <= begins):
                return []
            place = "" if seconds is None else f" at {float(seconds - begins):.2f} s"
            raise BrokenVideo(f"what is shown{place} cannot be decoded") from error

    def frames(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Every frame with its time in seconds, in the order of the decoder.

        Raises:
            BrokenVideo: the file cannot be read on, or a frame is damaged or has no time.
        """
        begins: Fraction | None = None
        for packet in self.packets():
            for frame in self.decoded(packet, begins):
                time = time_of(frame)
                if time is None:
                    raise BrokenVideo("a frame has no time")
                begins = time if begins is None else begins
                yield time, frame


@contextlib.contextmanager
def opened(path: Path) -> Iterator[OpenedClip]:
    """Open a clip.

    Raises:
        BrokenVideo: it is cut short, of no kind that is read, or has no video stream.
        OSError: the file cannot be read at all.
    """
    kind = check_whole(path)
    with _border():
        import av

        # It would write to standard error what is raised here.
        av.logging.set_level(av.logging.PANIC)
        container = av.open(f"file:{path.absolute()}", format=kind)
    with contextlib.closing(container):
        stream = next((s for s in container.streams.video if not _is_cover(s)), None)
        if stream is None or stream.codec_context is None:
            raise BrokenVideo("no video stream that can be decoded")
        context = stream.codec_context
        context.thread_count = 1
        # Cropping to the pixel: without it FFmpeg keeps what makes rows begin at round addresses.
        context.flags |= av.codec.context.Flags.unaligned
        yield OpenedClip(path, kind, container, stream)


def time_of(frame: av.VideoFrame) -> Fraction | None:
    """When a frame is shown, in seconds of its file's clock; None where it has no time."""
    return None if frame.pts is None or not frame.time_base else frame.pts * frame.time_base


def turn_of(frame: av.VideoFrame) -> Turn | None:
    """How a frame is turned before it is shown, by its display matrix: `frame.rotation` cannot
    tell a mirrored one. None for a turn by no multiple of 90 degrees."""
    from av.sidedata.sidedata import Type

    # By its kind, which the types of PyAV do not have for a key.
    of_kind: Any = frame.side_data
    matrix = of_kind.get(Type.DISPLAYMATRIX)
    return UPRIGHT if matrix is None else Turn.of_matrix(struct.unpack("=9i", bytes(matrix)[:36]))


def pixels_of(frame: av.VideoFrame) -> Frames:
    """A frame as uint8 RGB, (height, width, 3), as it lies in the file."""
    with _border():
        pixels: Any = frame.to_ndarray(format="rgb24")
    return cast("Frames", pixels)


def _is_cover(stream: VideoStream) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


@contextlib.contextmanager
def _border() -> Iterator[None]:
    """What PyAV raises within this as a `BrokenVideo`, or as an `OSError` where it is one."""
    import av

    try:
        yield
    except UnicodeEncodeError as error:
        raise BrokenVideo("its name is not valid UTF-8, rename it") from error
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno and error.errno < _FFMPEGS_OWN:
            raise OSError(error.errno, error.strerror) from error
        raise BrokenVideo(f"no video stream that can be decoded ({_said(error)})") from error


_FFMPEGS_OWN = 1000
"""Error numbers from here on are FFmpeg's, not the system's."""


def _said(error: Any) -> str:
    return str(error.strerror or error).splitlines()[0]
