"""Video files: people's clips as a player shows them (PyAV), and what the sweep writes, checks and
reads itself (imageio's ffmpeg, decord)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checking import Decoded, check_video
from .clip import VideoInfo, decoded_timing, frames_available, probe, read_clip
from .errors import BrokenVideo, UnfitVideo
from .own import read_video
from .picture import Fit, View
from .sound import AUDIO_SUFFIXES, AudioInfo, probe_audio
from .timing import ClipStart, Timing
from .whole import CLIP_SUFFIXES
from .writing import write_video

if TYPE_CHECKING:
    from .picture import Frames as Frames

__all__ = [
    "AUDIO_SUFFIXES",
    "CLIP_SUFFIXES",
    "AudioInfo",
    "BrokenVideo",
    "ClipStart",
    "Decoded",
    "Fit",
    "Timing",
    "UnfitVideo",
    "VideoInfo",
    "View",
    "check_video",
    "decoded_timing",
    "frames_available",
    "probe",
    "probe_audio",
    "read_clip",
    "read_video",
    "write_video",
]
