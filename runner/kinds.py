"""Kinds of videos: what a sweep makes, by what a video costs.

Values of an axis may cost alike (a seed, a strength) or not (a size, guidance or none, a method
of one's own). Videos of one kind differ in cost by no more than their number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .calibration import Subject
from .canonical import canonical_json
from .experiment import Experiment
from .fingerprint import Recipe


@dataclass(frozen=True)
class Kind:
    """Videos that cost the same but for their number of steps.

    Attributes:
        subject: what they are videos of.
        name: the values of axes that tell it from the others, `method=ours`; "" for the only one.
        videos: how many there are of each of its parameters, which are as in `Job.parameters`.
    """

    subject: Subject
    name: str
    videos: tuple[tuple[Mapping[str, Any], int], ...]

    @property
    def number(self) -> int:
        return sum(number for _, number in self.videos)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of one of them."""
        return self.videos[0][0]

    @property
    def steps(self) -> int:
        """Denoising steps of one of them, on average."""
        steps: int = sum(own["num_inference_steps"] * number for own, number in self.videos)
        return round(steps / max(self.number, 1))


def kinds_of(
    experiment: Experiment, recipe: Recipe, videos: Sequence[tuple[Mapping[str, Any], int]]
) -> list[Kind]:
    """The kinds among these videos, in their order.

    Args:
        videos: how many there are of each of several parameters.
    """
    known = experiment.steps_are_alike
    found: dict[str, tuple[Subject, list[tuple[Mapping[str, Any], int]]]] = {}
    for own, number in videos:
        subject = Subject.of(experiment, recipe, own)
        # What a step of a script takes need not be known: then other steps are another kind.
        steps = None if known else own["num_inference_steps"]
        key = canonical_json({**vars(subject), "steps": steps})
        found.setdefault(key, (subject, []))[1].append((own, number))
    everything = [own for own, _ in videos]
    return [
        Kind(subject, _name([own for own, _ in own_videos], everything), tuple(own_videos))
        for subject, own_videos in found.values()
    ]


def _name(own: Sequence[Mapping[str, Any]], everything: Sequence[Mapping[str, Any]]) -> str:
    """The parameters of which not all values that there are occur in a kind."""
    words = []
    for name in everything[0]:
        values = {canonical_json(one.get(name)): one.get(name) for one in own}
        if len(values) < len({canonical_json(one.get(name)) for one in everything}):
            words.append(f"{name}={'/'.join(map(str, values.values()))}")
    return " ".join(words)
