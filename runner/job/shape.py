"""What a video must be: size, number of frames, frame rate, sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one job's video, or of one that was made.

    Args:
        width: pixels.
        height: pixels.
        num_frames: how many, or the least and the most where only the engine will know.
        fps: frames per second.
        sound: whether it must have a sound track.
    """

    width: int
    height: int
    num_frames: int | tuple[int, int]
    fps: float
    sound: bool = False

    @property
    def frames(self) -> tuple[int, int]:
        """The least number of frames and the most."""
        own = self.num_frames
        return own if isinstance(own, tuple) else (own, own)

    @property
    def most_frames(self) -> int:
        return self.frames[1]

    @property
    def most_pixels(self) -> int:
        """Of all frames together, at most."""
        return self.width * self.height * self.most_frames

    def sized(self, width: int, height: int) -> Shape:
        """This shape with that size in pixels."""
        return replace(self, width=width, height=height)

    @property
    def without_rate(self) -> Shape:
        """This shape at one frame a second: for what goes by frames, however fast they follow."""
        return replace(self, fps=1.0)

    def to_json(self) -> dict[str, Any]:
        own = self.num_frames
        return {
            "width": self.width,
            "height": self.height,
            "num_frames": list(own) if isinstance(own, tuple) else own,
            "fps": self.fps,
            "sound": self.sound,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Shape:
        """The shape of a record; one of a video that was made need not speak of sound.

        Raises:
            KeyError: it does not say one of the others.
        """
        own = record["num_frames"]
        return cls(
            record["width"],
            record["height"],
            (own[0], own[1]) if isinstance(own, list) else own,
            record["fps"],
            record.get("sound", False),
        )

    def __str__(self) -> str:
        least, most = self.frames
        frames = f"{most}" if least == most else f"{least} to {most}"
        sound = ", with sound" if self.sound else ""
        return f"{self.width}x{self.height}, {frames} frames at {self.fps:g} fps{sound}"
