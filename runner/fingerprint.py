"""The fingerprint: a hash of everything that decides a video, computed by plan and worker alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .experiment import Experiment
from .job import sha256_of_each


@dataclass(frozen=True)
class Recipe:
    """What all jobs of a sweep have in common: backend, model, parameters, encoding."""

    backend: str
    recipe: int
    model: Mapping[str, Any]
    parameters: Mapping[str, Any]
    quality: float

    @classmethod
    def of(cls, experiment: Experiment) -> Recipe:
        """Reads the checkpoint's identity: a moment's work, and a `UserError` if it is absent."""
        backend = experiment.make_backend()
        return cls(
            backend=experiment.backend,
            recipe=backend.recipe,
            model=backend.identity(),
            parameters=experiment.generation.model_dump(mode="json"),
            quality=experiment.output.quality,
        )

    def fingerprint(self, prompt_text: str, reference_sha256: str, seed: int) -> str:
        """64 hex digits; two jobs share them exactly if they make the same video."""
        return next(self.fingerprints(prompt_text, reference_sha256, [seed]))

    def fingerprints(
        self, prompt_text: str, reference_sha256: str, seeds: Sequence[int]
    ) -> Iterator[str]:
        """The fingerprints of videos that differ in nothing but the seed."""
        common = {
            "backend": self.backend,
            "recipe": self.recipe,
            "model": dict(self.model),
            "parameters": dict(self.parameters),
            "prompt": prompt_text,
            "reference": reference_sha256,
            "quality": self.quality,
        }
        return sha256_of_each(common, "seed", seeds)
