"""The fingerprint: a hash of everything that decides a video, computed by plan and worker alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .backends import Planner
from .backends.registry import planner_class
from .canonical import sha256_of_each
from .experiment import Experiment
from .job import SEED, Input, Job


@dataclass(frozen=True)
class Recipe:
    """What all jobs of a sweep have in common: backend, model, encoding."""

    backend: str
    recipe: int
    model: Mapping[str, Any]
    quality: float

    @classmethod
    def of(cls, experiment: Experiment, planner: Planner[Any, Any] | None = None) -> Recipe:
        """Reads the checkpoint's identity: a moment's work, and a `UserError` if it is absent.

        Args:
            planner: the experiment's, where there is one already.
        """
        planner = planner or experiment.planner()
        return cls(
            backend=experiment.backend,
            recipe=planner.recipe,
            model=planner.identity(),
            quality=experiment.output.quality,
        )

    def model_of(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of the model decides the jobs of these parameters."""
        return planner_class(self.backend).deciding(self.model, parameters)

    def fingerprint_of(self, job: Job) -> str:
        """What a job's fingerprint would be were it planned now."""
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
            "model": dict(self.model_of(parameters)),
            "parameters": dict(parameters),
            "quality": self.quality,
            **{role: one.identity for role, one in inputs.items()},
        }
        return sha256_of_each(common, SEED, seeds)


def files_of_job(
    files: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Those of a backend's `model_files` that a job of these parameters is made with: one of
    several methods' files say whose they are."""
    own = (None, parameters.get("method"))
    return [record for record in files if record.get("method") in own]
