"""How a decoded frame is shown: turned as the container says, in pixels that are square, cropped or
padded to the size that a job wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frames = npt.NDArray[np.uint8]

Fit = Literal["crop", "pad"]
"""What becomes of a picture of another shape: its rims are cut off, or black ones are added."""


@dataclass(frozen=True)
class Turn:
    """One of the eight ways in which a picture can lie: transposed first, where it is, then
    mirrored."""

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False

    @classmethod
    def of_matrix(cls, matrix: Sequence[int]) -> Turn | None:
        """The turn that a display matrix describes (ISO/IEC 14496-12, 6.2.2: of its nine numbers
        the first, second, fourth and fifth turn); None for a turn by no multiple of 90 degrees."""
        a, b, c, d = (matrix[n] for n in (0, 1, 3, 4))
        if a and d and not b and not c:
            return cls(False, a < 0, d < 0)
        if b and c and not a and not d:
            # What was to the right goes down (b > 0) or up, what was below to the right (c > 0)
            # or to the left.
            return cls(True, c < 0, b < 0)
        return None

    def apply(self, frame: Frames) -> Frames:
        """A frame, (height, width, 3), as it is shown."""
        if self.transposed:
            frame = frame.swapaxes(0, 1)
        if self.left_right:
            frame = frame[:, ::-1]
        return frame[::-1] if self.upside_down else frame


UPRIGHT = Turn()


@dataclass(frozen=True)
class View:
    """What of a picture is seen in a frame of a job.

    Args:
        box: left, top, right and bottom of the part that is seen, in the picture's own pixels.
        size: width and height to which that part is scaled.
        kept: its share of the picture.
        enlarged: how many pixels are made of one, along the axis where they are more.
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    kept: float
    enlarged: float


def view_of(picture: tuple[int, int], aspect: Fraction, wanted: tuple[int, int], fit: Fit) -> View:
    """What is seen of a picture.

    Args:
        picture: width and height in its own pixels.
        aspect: width of one of these pixels over its height.
        wanted: width and height of a frame, in square pixels.
    """
    width, height = picture
    square = float(aspect)
    shown = (width * square, height)
    scales = (wanted[0] / shown[0], wanted[1] / shown[1])
    if fit == "pad":
        scale = min(scales)
        size = (
            min(wanted[0], max(1, round(shown[0] * scale))),
            min(wanted[1], max(1, round(shown[1] * scale))),
        )
        box = (0.0, 0.0, float(width), float(height))
    else:
        scale = max(scales)
        size = wanted
        left = max(0.0, (width - wanted[0] / scale / square) / 2)
        top = max(0.0, (height - wanted[1] / scale) / 2)
        box = (left, top, width - left, height - top)
    seen = (box[2] - box[0], box[3] - box[1])
    kept = seen[0] * seen[1] / (width * height)
    return View(box, size, kept, max(size[0] / seen[0], size[1] / seen[1]))


def fitted(frame: Frames, aspect: Fraction, wanted: tuple[int, int], fit: Fit) -> Frames:
    """A frame, uint8 (height, width, 3), scaled (Lanczos) to `wanted`, (width, height), and cropped
    or padded around its centre; pixels of the right size already are untouched."""
    import numpy as np
    from PIL import Image

    height, width, _ = frame.shape
    view = view_of((width, height), aspect, wanted, fit)
    if view.size == (width, height) and aspect == 1:
        scaled = frame
    else:
        image = Image.fromarray(np.ascontiguousarray(frame))
        scaled = np.asarray(image.resize(view.size, Image.Resampling.LANCZOS, view.box))
    if view.size == wanted:
        return scaled
    padded = np.zeros((wanted[1], wanted[0], 3), np.uint8)
    left, top = (wanted[0] - view.size[0]) // 2, (wanted[1] - view.size[1]) // 2
    padded[top : top + view.size[1], left : left + view.size[0]] = scaled
    return padded
