"""When the frames of a clip are shown, and which of them a job takes. Pure arithmetic, in exact
fractions of a second.

A job of `fps` frames a second takes, as its frame j, the frame of the clip that is nearest in time
to `start + j / fps`, counted from the clip's first shown frame; of two equally near, the earlier.
A clip has a frame j as long as that moment is no later than its last frame's time plus half the
time between its last two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import Literal, TypeVar

ClipStart = float | Literal["middle"]
"""Seconds after a clip's first shown frame, or as far as leaves as much before as behind."""

STEADY = Fraction(1, 10)
"""Relative difference of two frames' durations below which the rate counts as constant."""

Frame = TypeVar("Frame")


class TimesDoNotRise(ValueError):
    """Two frames that come one after the other are not shown one after the other."""


@dataclass(frozen=True)
class Timing:
    """When a clip's frames are shown.

    Args:
        span: seconds from the first shown frame to the last.
        gap: seconds between the last two; of a single frame how long it is shown.
        rate: frames a second, the average where it is not constant.
    """

    num_frames: int
    span: Fraction
    gap: Fraction
    rate: Fraction
    is_variable: bool = False

    @classmethod
    def steady(cls, num_frames: int, fps: float) -> Timing:
        """That of a clip of constant rate."""
        rate = exact(fps)
        return cls(num_frames, (num_frames - 1) / rate, 1 / rate, rate)

    @classmethod
    def of(
        cls,
        times: Sequence[Fraction],
        *,
        tick: Fraction,
        duration: Fraction,
        rates: Iterable[Fraction] = (),
    ) -> Timing:
        """That of frames with these times, in the order in which they come.

        Args:
            tick: what times were rounded to, in seconds.
            duration: how long a single frame is shown.
            rates: what the file says that its rate be; the first that its times bear out is
                taken for the average, which rounding makes crooked.

        Raises:
            TimesDoNotRise: the order of the frames is not that of their times.
        """
        gaps = [later - sooner for sooner, later in pairwise(times)]
        if not gaps:
            return cls(1, Fraction(0), duration, 1 / duration if duration else Fraction(1))
        if min(gaps) <= 0:
            raise TimesDoNotRise
        span = times[-1] - times[0]
        rate = len(gaps) / span
        for said in rates:
            if said > 0 and abs(len(gaps) / said - span) <= 2 * tick:
                rate = said
                break
        usual = median_low(gaps)
        uneven = max(max(gaps) - usual, usual - min(gaps))
        return cls(len(times), span, gaps[-1], rate, uneven > 2 * tick + STEADY * usual)

    @property
    def fps(self) -> float:
        """Frames a second."""
        return float(self.rate)

    def available(self, fps: float, start: ClipStart = 0.0) -> int:
        """How many frames a job of that rate and start could take."""
        if start == "middle":
            return self.available(fps)
        left = self.span + self.gap / 2 - exact(start)
        return max(0, math.floor(left * exact(fps)) + 1)

    def moments(self, num_frames: int, fps: float, start: ClipStart = 0.0) -> list[Fraction]:
        """The seconds, from the first shown frame on, whose nearest frames a job takes."""
        step = 1 / exact(fps)
        first = self.start_seconds(num_frames, fps, start)
        return [first + j * step for j in range(num_frames)]

    def start_seconds(self, num_frames: int, fps: float, start: ClipStart) -> Fraction:
        """Where in the clip a job begins, in seconds from the first shown frame on."""
        if start != "middle":
            return exact(start)
        return max(Fraction(0), (self.span - (num_frames - 1) / exact(fps)) / 2)


def exact(value: float) -> Fraction:
    """A rate or a time, free of float noise: every rate in use is a small fraction (30000/1001),
    so that rounding to one restores it."""
    return Fraction(value).limit_denominator(10_000)


def nearest(
    frames: Iterable[tuple[Fraction, Frame]],
    moments: Sequence[Fraction],
    only_gap: Fraction = Fraction(0),
) -> Iterator[tuple[int, Frame]]:
    """For each moment its number and the frame nearest to it; of two equally near, the earlier.

    It reads no more frames than are needed, and ends early where the frames do: at the last one
    plus half the time between the last two.

    Args:
        frames: (seconds, frame) in the order of time.
        moments: seconds, in order.
        only_gap: how long a single frame is shown.

    Raises:
        TimesDoNotRise: times that do not rise; nothing was yielded of what comes after.
    """
    number = 0
    before: tuple[Fraction, Frame] | None = None
    gap = only_gap
    for time, frame in frames:
        if before is not None:
            gap = time - before[0]
            if gap <= 0:
                raise TimesDoNotRise
            while number < len(moments) and moments[number] <= before[0] + gap / 2:
                yield number, before[1]
                number += 1
        if number == len(moments):
            return
        before = time, frame
    while before is not None and number < len(moments) and moments[number] <= before[0] + gap / 2:
        yield number, before[1]
        number += 1
