"""Audio files as inputs: how long they sound, told by decoding them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import BrokenVideo

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus")


@dataclass(frozen=True)
class AudioInfo:
    """An audio file: its length in seconds, samples a second, and channels."""

    seconds: float
    rate: int
    channels: int


def probe_audio(path: Path) -> AudioInfo:
    """What an audio file is: decoded to its end, for a container's own length is often a guess.

    Raises:
        BrokenVideo: it has no audio stream that can be decoded.
        OSError: the file cannot be read at all.
    """
    import av

    with path.open("rb") as file:
        try:
            with av.open(file, mode="r") as container:
                if not container.streams.audio:
                    raise BrokenVideo("it has no sound")
                stream = container.streams.audio[0]
                samples = sum(int(frame.samples) for frame in container.decode(stream))
                rate, channels = stream.rate, stream.channels
        except av.FFmpegError as error:
            raise BrokenVideo(f"its sound cannot be decoded: {error.strerror}") from error
    if not samples:
        raise BrokenVideo("its sound is empty")
    return AudioInfo(samples / rate, rate, channels)
