"""The fingerprint: a hash of everything that decides a video, computed by plan and worker alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..backends import Planner
from ..experiment.experiment import Experiment
from ..experiment.method import Method
from ..job import SEED, Input, Job
from ..text.canonical import sha256_of_each


@dataclass(frozen=True)
class MethodIdentity:
    """What decides the videos of a method beside each job's own inputs and parameters.

    `recipe` is the backend's number, `model` what its planner tells of the model, `quality` the
    encoding's.
    """

    backend: str
    recipe: int
    model: Mapping[str, Any]
    quality: float

    @classmethod
    def of(
        cls, method: Method, quality: float, planner: Planner[Any, Any] | None = None
    ) -> MethodIdentity:
        """Read what the model is from its files, which takes a moment.

        Args:
            quality: of the encoding, `output.quality`.
            planner: the method's, where there is one already.

        Raises:
            UserError: the model is not on this machine.
        """
        planner = planner or method.planner()
        with method.named():
            identity = planner.identity()
        return cls(backend=method.backend, recipe=planner.recipe, model=identity, quality=quality)

    def fingerprint_of(self, job: Job) -> str:
        """What the fingerprint of a job of this method would be were it planned now."""
        return next(self.fingerprints(job.inputs, [job.seed], job.parameters))

    def fingerprints(
        self, inputs: Mapping[str, Input], seeds: Sequence[int], parameters: Mapping[str, Any]
    ) -> Iterator[str]:
        """The fingerprints of videos that differ in nothing but the seed, 64 hex digits each; two
        jobs share one exactly if they make the same video.

        Args:
            parameters: as in `Series.parameters`.
        """
        common = {
            "backend": self.backend,
            "recipe": self.recipe,
            "model": dict(self.model),
            "parameters": dict(parameters),
            "quality": self.quality,
            **{role: one.identity for role, one in inputs.items()},
        }
        return sha256_of_each(common, SEED, seeds)


MethodIdentities = Mapping[str | None, MethodIdentity]
"""The identity of each of an experiment's methods, by the method's name."""


def identities_of(experiment: Experiment) -> dict[str | None, MethodIdentity]:
    """The identities of all methods.

    Raises:
        UserError: a method's model is not on this machine.
    """
    quality = experiment.output.quality
    return {method.name: MethodIdentity.of(method, quality) for method in experiment.every_method}
