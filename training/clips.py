"""The training set: scenes drawn from seeds by all cores, rendered on the device."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runner.backends.wan.offline import import_torch
from runner.scenes.caption import captions
from runner.scenes.chance import random_scene
from runner.scenes.render import Batch, batch_of, draw, times_of
from runner.scenes.words import CATEGORIES, LEAST_SATURATION

from .tokenizer import TOKENS, UNWANTED, token_ids

torch = import_torch()

WIDTH, HEIGHT, NUM_FRAMES, FPS = 128, 80, 17, 8.0
PART = 250
CAPTIONS = 7

CROP_FRAMES, CROP = 9, 48
ANYWHERE = 0.02
"""Of a pixel without colour, how likely a crop is about it; 1 is that of a thing's pixel."""


@dataclass(frozen=True)
class Clips:
    """Scenes as arrays in host memory, a quarter of them of each category in turn.

    `ids` is (clips, CAPTIONS, TOKENS), `lengths` (clips, CAPTIONS): tokens of each caption;
    `shares` how often each caption is to be taken.
    """

    parts: list[Batch]
    ids: Any
    lengths: Any
    shares: Any

    def rendered(self, device: str, size: int) -> Iterator[Any]:
        """Every clip in order, in batches of at most `size`: (B, 3, F, H, W) from -1 to 1."""
        for part in self.parts:
            for start in range(0, PART, size):
                arrays = {
                    name: torch.from_numpy(array[start : start + size]).to(device)
                    for name, array in part.arrays().items()
                }
                picture = draw(torch, Batch(**arrays), WIDTH, HEIGHT)
                yield picture.permute(0, 4, 1, 2, 3) * 2 - 1


def make_clips(tokenizer: Path, count: int, seed: int, processes: int) -> Clips:
    """Draw at least `count` scenes that hold no held-out combination.

    The same count and seed give the same scenes, whatever the number of processes.
    """
    numbers = range(-(-count // PART))
    with ProcessPoolExecutor(processes) as pool:
        drawn = list(pool.map(_part, [(seed, number) for number in numbers], chunksize=4))
    texts = [text for _, part in drawn for text in part]
    ids = token_ids(tokenizer, texts)
    lengths = np.array([len(row) for row in ids], np.int64)
    padded = np.zeros((len(ids), TOKENS), np.int64)
    for row, found in zip(padded, ids, strict=True):
        row[: len(found)] = found
    return Clips(
        [batch for batch, _ in drawn],
        torch.from_numpy(padded.reshape(-1, CAPTIONS, TOKENS)),
        torch.from_numpy(lengths.reshape(-1, CAPTIONS)),
        torch.tensor(list(captions(_scene(seed, 0)).values())),
    )


def crops(frames: Any, count: int) -> Any:
    """Random pieces of clips, most of them about a thing.

    Args:
        frames: uint8 (clips, 3, F, H, W).
        count: how many.

    Returns:
        uint8 (count, 3, CROP_FRAMES, CROP, CROP), at even corners: there one colour stands for
        four pixels in a video file.
    """
    device = frames.device
    chosen = torch.randint(len(frames), (count,), device=device)
    first = torch.randint(frames.shape[2] - CROP_FRAMES + 1, (count,), device=device)
    height, width = frames.shape[3:]
    still = frames[chosen, :, first + CROP_FRAMES // 2]
    coloured = still.amax(1).int() - still.amin(1).int() >= LEAST_SATURATION
    about = torch.multinomial(coloured.flatten(1).float() + ANYWHERE, 1)[:, 0]
    top = ((about // width - CROP // 2).clamp(0, height - CROP) // 2) * 2
    left = ((about % width - CROP // 2).clamp(0, width - CROP) // 2) * 2
    along = torch.arange(CROP, device=device)
    return frames[
        chosen.view(-1, 1, 1, 1, 1),
        torch.arange(3, device=device).view(1, -1, 1, 1, 1),
        (first[:, None] + torch.arange(CROP_FRAMES, device=device)).view(count, 1, -1, 1, 1),
        (top[:, None] + along).view(count, 1, 1, -1, 1),
        (left[:, None] + along).view(count, 1, 1, 1, -1),
    ]


def unwanted_ids(tokenizer: Path) -> tuple[Any, Any]:
    """Token ids and lengths of the empty prompt, first, and of negative prompts."""
    ids = token_ids(tokenizer, ("", *UNWANTED))
    padded = torch.zeros(len(ids), TOKENS, dtype=torch.int64)
    for row, found in zip(padded, ids, strict=True):
        row[: len(found)] = torch.tensor(found)
    return padded, torch.tensor([len(found) for found in ids])


def _scene(seed: int, number: int) -> Any:
    category = CATEGORIES[number // PART % len(CATEGORIES)]
    return random_scene(np.random.default_rng((seed, number)), category)


def _part(which: tuple[int, int]) -> tuple[Batch, list[str]]:
    seed, number = which
    scenes = [_scene(seed, number * PART + i) for i in range(PART)]
    texts = []
    for scene in scenes:
        words = list(captions(scene))
        # Scenes with nothing to leave out have a caption twice.
        texts += (words * 2)[:CAPTIONS]
    return batch_of(scenes, times_of(NUM_FRAMES, FPS)), texts
