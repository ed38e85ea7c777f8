"""Whether a video file is whole, and of which kind it is, by its outermost parts alone.

This sees any cut without reading the file, also where the index comes first and a decoder would
notice only on reaching the cut.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from ..text.input_file import open_input
from .errors import BrokenVideo

CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif")
"""Of the files that are clips."""

FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


def check_whole(path: Path) -> str:
    """FFmpeg's name of a file's kind.

    Raises:
        BrokenVideo: it is empty, cut short, or of no kind that is read.
        OSError: it cannot be read at all.
    """
    with open_input(path) as file:
        end = path.stat().st_size
        if end == 0:
            raise BrokenVideo("the file is empty")
        head = file.read(16)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            _check_matroska(file, end)
            return "matroska"
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            _refuse_shorter(end, struct.unpack("<I", head[4:8])[0] + 8)
            return "avi"
        if head[:4] == b"GIF8":
            _check_gif(file, end)
            return "gif"
        if head[4:8] not in FIRST_BOXES:
            raise BrokenVideo("not a video of a kind that is read: MP4, MOV, MKV, WebM, AVI, GIF")
        _check_boxes(file, end)
        return "mov"


def check_mp4(path: Path) -> None:
    """Raise `BrokenVideo` where a file is no whole MP4."""
    if check_whole(path) != "mov":
        raise BrokenVideo("not an MP4 video")


def _check_boxes(file: BinaryIO, end: int) -> None:
    """ISO/IEC 14496-12, 4.2."""
    kinds: list[bytes] = []
    position = 0
    while position < end:
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            break
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        elif size == 0:
            size = end - position
        if size < 8:
            break
        position += size
        kinds.append(kind)
    _refuse_shorter(end, position)
    if b"moov" not in kinds:
        raise BrokenVideo("cut short: its index (the moov box) is missing")


def _check_matroska(file: BinaryIO, end: int) -> None:
    """RFC 8794 and RFC 9559: the header, and the segment behind it, whose size may be unknown."""
    position = 0
    for _ in range(2):
        file.seek(position)
        head = file.read(16)
        id_length = _vint_length(head[:1])
        size_length = _vint_length(head[id_length : id_length + 1])
        data = head[id_length : id_length + size_length]
        if not id_length or len(data) < size_length or not size_length:
            raise BrokenVideo("cut short in its first bytes")
        size = int.from_bytes(data, "big") & ((1 << 7 * size_length) - 1)
        if size == (1 << 7 * size_length) - 1:
            return
        position += id_length + size_length + size
        _refuse_shorter(end, position)


def _vint_length(first: bytes) -> int:
    """Bytes of a number of variable length that begins so; 0 for none."""
    return 9 - first[0].bit_length() if first and first[0] else 0


def _check_gif(file: BinaryIO, end: int) -> None:
    """GIF89a, 27: the trailer, behind which some programs leave zeros."""
    file.seek(max(0, end - 16))
    if not file.read().rstrip(b"\0").endswith(b";"):
        raise BrokenVideo("cut short: its end mark is missing")


def _refuse_shorter(end: int, needed: int) -> None:
    if needed > end:
        raise BrokenVideo(f"cut short: {end} bytes of at least {needed}")
