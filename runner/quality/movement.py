"""Movement in clips as dense optical flow, and how far two clips agree in it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..scenes.motion import Floats

if TYPE_CHECKING:
    from ..video import Frames

CELL_PIXELS = 4
"""Flow is averaged over cells of this many pixels: agreement is of motion, not of edges."""


def flow_of(frames: Frames) -> Floats:
    """Flow between consecutive frames, (frames - 1, height / CELL, width / CELL, 2) in pixels.

    Dense inverse search (Kroeger et al. 2016), OpenCV's, at its medium preset.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    height, width = grey[0].shape
    flows = []
    for before, after in pairwise(grey):
        flow = search.calc(before, after, np.zeros((height, width, 2), np.float32))
        size = (max(1, width // CELL_PIXELS), max(1, height // CELL_PIXELS))
        flows.append(cv2.resize(flow, size, interpolation=cv2.INTER_AREA))
    return np.asarray(flows, np.float32)


def agreement(one: Floats, other: Floats) -> float:
    """Pearson's correlation of two flows of one shape over all cells, frames and both
    components: 1 for the same motion at the same places, 0 for none in common or a still clip."""
    a, b = one.ravel() - one.mean(), other.ravel() - other.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 1e-6 else 0.0
