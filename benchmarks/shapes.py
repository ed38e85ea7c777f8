"""The sizes at which scale and overhead are measured, and how a benchmark is asked for them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Shape:
    """A grid: videos of four categories, each with as many prompts and seeds."""

    videos: int
    prompts: int
    seeds: int

    def clips(self) -> Iterator[tuple[str, str]]:
        """Category and name of each video, category by category."""
        for number in sorted(range(self.videos), key=lambda n: n % CATEGORIES):
            yield f"category_{number % CATEGORIES}", f"ref_镜头_{number:03d}"

    def texts(self) -> list[str]:
        """The prompts, alike in length."""
        scene = "a slow pan across a harbour at dusk, gulls over the water, 电影感"
        return [f"{number}: {scene}" for number in range(self.prompts)]


CATEGORIES = 4
SHAPES = {
    680: Shape(68, 5, 2),
    100_000: Shape(100, 100, 10),
    1_000_000: Shape(100, 100, 100),
}
"""By the number of jobs."""


def shape_of(jobs: int) -> Shape:
    """The grid of so many jobs.

    Raises:
        ValueError: the number is neither in `SHAPES` nor a multiple of 1,000.
    """
    if jobs in SHAPES:
        return SHAPES[jobs]
    prompts, rest = divmod(jobs, 1000)
    if rest or prompts < 1:
        raise ValueError(f"{jobs} is no multiple of 1,000")
    return Shape(100, prompts, 10)


def parser_of_sizes(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="also 1,000,000 jobs")
    parser.add_argument("--size", type=int, choices=SHAPES, action="append", help="only this")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    return parser


def sizes_of(arguments: argparse.Namespace) -> list[int]:
    """The numbers of jobs that were asked for."""
    return arguments.size or [n for n in SHAPES if arguments.full or n <= 100_000]
