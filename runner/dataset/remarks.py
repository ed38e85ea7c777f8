"""What is worth knowing of a clip that can be used: what of it the model will not see as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..video import Fit, VideoInfo

MOST_SHARE_LOST = 0.3
"""Of a picture, by cropping."""
MOST_TIMES_ENLARGED = 1.5
"""Along one axis."""
CLIPS_NAMED = 12
"""In a line; `sweep plan --json` names all."""


class RemarkKind(str, Enum):
    """What a remark is about."""

    LOSES_PICTURE = "loses_picture"
    ENLARGED = "enlarged"
    INTERLACED = "interlaced"
    VARIABLE_RATE = "variable_rate"
    SOUND_LEFT_OUT = "sound_left_out"


SAID = {
    RemarkKind.LOSES_PICTURE: (
        "loses",
        "lose",
        "more than 30 % of the picture (dataset.fit: pad keeps all of it)",
    ),
    RemarkKind.ENLARGED: ("is", "are", "enlarged more than 1.5 times (a smaller size would not)"),
    RemarkKind.INTERLACED: (
        "is",
        "are",
        "interlaced, with lines of two moments in each frame (ffmpeg -vf bwdif makes whole ones)",
    ),
    RemarkKind.VARIABLE_RATE: ("is", "are", "of variable rate (each frame is read by its time)"),
    RemarkKind.SOUND_LEFT_OUT: ("has", "have", "sound, which is left out"),
}


@dataclass(frozen=True)
class Remark:
    """One thing about one clip, `<category>/<video>`.

    Args:
        value: the share of its picture that is lost, how many times it is enlarged, or its
            average frame rate; None where there is nothing to count.
    """

    clip: str
    kind: RemarkKind
    value: float | None = None

    def __str__(self) -> str:
        if self.kind is RemarkKind.LOSES_PICTURE:
            return f"{self.clip} ({100 * (self.value or 0):.0f} %)"
        if self.kind is RemarkKind.ENLARGED:
            return f"{self.clip} ({self.value:.1f} times)"
        if self.kind is RemarkKind.VARIABLE_RATE:
            return f"{self.clip} ({self.value:.3g} frames a second on average)"
        return self.clip

    def to_json(self) -> dict[str, Any]:
        return {"clip": self.clip, "kind": self.kind.value, "value": self.value}


def remarks_on(
    clip: str, info: VideoInfo, wanted: Iterable[tuple[int, int, Fit]]
) -> Iterator[Remark]:
    """What is worth knowing of a clip.

    Args:
        wanted: the widths and heights in pixels at which it is read, and how it is fitted there.
    """
    views = [info.view(width, height, fit) for width, height, fit in {*wanted}]
    lost = max((1 - view.kept for view in views), default=0.0)
    if lost > MOST_SHARE_LOST:
        yield Remark(clip, RemarkKind.LOSES_PICTURE, round(lost, 3))
    enlarged = max((view.enlarged for view in views), default=1.0)
    if enlarged > MOST_TIMES_ENLARGED:
        yield Remark(clip, RemarkKind.ENLARGED, round(enlarged, 2))
    if info.is_interlaced:
        yield Remark(clip, RemarkKind.INTERLACED)
    if info.timing.is_variable:
        yield Remark(clip, RemarkKind.VARIABLE_RATE, round(info.fps, 3))
    if info.has_sound:
        yield Remark(clip, RemarkKind.SOUND_LEFT_OUT)


def by_kind(remarks: Iterable[Remark]) -> dict[RemarkKind, list[Remark]]:
    """Remarks of one kind together, the gravest kind first."""
    found: dict[RemarkKind, list[Remark]] = {kind: [] for kind in RemarkKind}
    for remark in remarks:
        found[remark.kind].append(remark)
    return {kind: own for kind, own in found.items() if own}


def remark_lines(remarks: Iterable[Remark], most: int = CLIPS_NAMED) -> list[str]:
    """A line for each kind of remark, which names the first clips."""
    return [line_of(kind, own, most) for kind, own in by_kind(remarks).items()]


def line_of(kind: RemarkKind, remarks: list[Remark], most: int = CLIPS_NAMED) -> str:
    """`2 clips lose more than 30 % ...: a/b (44 %), a/c (38 %)`."""
    one, several, what = SAID[kind]
    number = len(remarks)
    subject = f"1 clip {one}" if number == 1 else f"{number} clips {several}"
    named = ", ".join(map(str, remarks[:most]))
    rest = f" and {number - most} more (sweep plan --json names all)" if number > most else ""
    return f"{subject} {what}: {named}{rest}"
