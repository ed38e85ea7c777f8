"""Kinds of videos: what a sweep makes, by what a video costs.

Values of an axis may cost alike (a seed, a strength) or not (a size, guidance or none, a method
of one's own). Videos of one kind differ in cost by no more than their number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..backends.video_parameters import steps_of
from ..experiment.experiment import Experiment
from ..job import METHOD, Alike
from ..plan.fingerprint import MethodIdentities
from ..plan.plan import mean_steps
from ..text.canonical import canonical_json
from .calibration import Subject


@dataclass(frozen=True)
class Kind:
    """Videos that cost the same but for their number of steps.

    Attributes:
        subject: what they are videos of.
        name: the values of axes that tell it from the others, `method=ours`; "" for the only one.
        videos: how many there are that are alike.
    """

    subject: Subject
    name: str
    videos: tuple[Alike, ...]

    @property
    def number(self) -> int:
        return sum(own.number for own in self.videos)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Of one of them."""
        return self.videos[0].parameters

    @property
    def steps(self) -> int:
        """Denoising steps of one of them, on average."""
        return mean_steps(self.videos)


def kinds_of(
    experiment: Experiment, identities: MethodIdentities, videos: Sequence[Alike]
) -> list[Kind]:
    """The kinds among these videos, in their order."""
    known = {method.name: method.steps_are_alike for method in experiment.every_method}
    found: dict[str, tuple[Subject, list[Alike]]] = {}
    for own in videos:
        method = own.parameters.get(METHOD)
        subject = Subject.of(experiment, identities[method], own.parameters, own.shape)
        # What a step of a script takes need not be known: then other steps are another kind.
        steps = None if known[method] else steps_of(own.parameters)
        key = canonical_json({**subject.to_json(), "steps": steps})
        found.setdefault(key, (subject, []))[1].append(own)
    everything = [own.parameters for own in videos]
    return [
        Kind(subject, _name([own.parameters for own in own_videos], everything), tuple(own_videos))
        for subject, own_videos in found.values()
    ]


def _name(own: Sequence[Mapping[str, Any]], everything: Sequence[Mapping[str, Any]]) -> str:
    """The parameters that tell a kind from the others: not all of their values occur in it.
    Parameters that only its method has tell it from no other kind of that method."""
    words = []
    methods = {one.get(METHOD) for one in own}
    if methods != {one.get(METHOD) for one in everything}:
        words.append(f"{METHOD}={'/'.join(map(str, methods))}")
        everything = [one for one in everything if one.get(METHOD) in methods]
    for name in everything[0]:
        values = {canonical_json(one.get(name)): one.get(name) for one in own}
        if len(values) < len({canonical_json(one.get(name)) for one in everything}):
            words.append(f"{name}={'/'.join(map(str, values.values()))}")
    return " ".join(words)
