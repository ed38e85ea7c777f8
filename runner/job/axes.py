"""The input axes that a backend declares: what a grid is made of beside seeds and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from . import CATEGORY, SEED
from .naming import group_key, path_around_seed


class InputKind(str, Enum):
    """What the values of an input axis stand for."""

    CLIP = "clip"
    AUDIO = "audio"
    TEXT = "text"

    @property
    def is_file(self) -> bool:
        return self is not InputKind.TEXT


@dataclass(frozen=True)
class InputAxis:
    """One input axis.

    Args:
        name: of the axis: `video`.
        role: how a job calls the input: `reference`.
        key: of the experiment's `dataset` section: `videos`.
        kind: files have their names as values, texts are numbered.
        is_optional: whether an experiment may leave it out.
        gives_frames: of clips: whether a video has the frames that are read of one, which then
            must have as many.
    """

    name: str
    role: str
    key: str
    kind: InputKind
    is_optional: bool = False
    gives_frames: bool = False


VIDEO = InputAxis("video", "reference", "videos", InputKind.CLIP, gives_frames=True)
AUDIO = InputAxis("audio", "audio", "audios", InputKind.AUDIO)
PROMPT = InputAxis("prompt", "prompt", "prompts", InputKind.TEXT)

EVERY_NAME = (CATEGORY, VIDEO.name, AUDIO.name, PROMPT.name, SEED)
"""The names of all axes that a grid may have beside parameters, for code that does not know which
grid it is."""


@dataclass(frozen=True)
class Axes:
    """The input axes of a backend.

    Args:
        inputs: as a grid goes through them from the outside inwards. The first one leads: its
            items lie in folders, which are the categories, and jobs are grouped by it.
        shared: further axes whose values the jobs of a group share.
    """

    inputs: tuple[InputAxis, ...]
    shared: tuple[InputAxis, ...] = ()

    @property
    def leading(self) -> InputAxis:
        return self.inputs[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the axes that every grid of this backend has, parameters left out."""
        return (CATEGORY, *(axis.name for axis in self.inputs), SEED)

    @property
    def files(self) -> tuple[InputAxis, ...]:
        """Those whose values are files."""
        return tuple(axis for axis in self.inputs if axis.kind.is_file)

    @property
    def texts(self) -> tuple[InputAxis, ...]:
        """Those whose values are texts."""
        return tuple(axis for axis in self.inputs if not axis.kind.is_file)

    @property
    def grouping(self) -> tuple[InputAxis, ...]:
        """Those by whose values jobs are grouped."""
        return (self.leading, *self.shared)

    def outer_point(self, category: str, name: str) -> dict[str, str | int]:
        """The outer part of a point: where an item of the leading axis stands."""
        return {CATEGORY: category, self.leading.name: name}

    def group(self, point: Mapping[str, str | int]) -> str:
        """The group of a point, `category/video`."""
        return group_key(point, [axis.name for axis in self.grouping])

    def path_around_seed(self, point: Mapping[str, str | int]) -> tuple[str, str]:
        return path_around_seed(point, self.leading.name)
