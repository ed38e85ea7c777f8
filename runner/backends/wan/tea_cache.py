"""TeaCache: steps whose input has hardly changed since the last computed one reuse its residual.

The method is Liu et al., "Timestep Embedding Tells: It's Time to Cache for Video Diffusion Model"
(https://arxiv.org/abs/2411.19108), as diffsynth has it. What it carries from step to step is large:
the residuals of both guidance branches. All of it follows from the latents that went into the last
step that was computed, so a job that goes on elsewhere does that step again, and computes it.
"""

from __future__ import annotations

import math
from typing import Any

from diffsynth.pipelines.wan_video import TeaCache

COEFFICIENTS = {1536: "Wan2.1-T2V-1.3B", 5120: "Wan2.1-T2V-14B"}
"""By the DiT's width, the model for which the paper fitted its polynomial."""


class ResumableTeaCache(TeaCache):  # type: ignore[misc]
    """One guidance branch's cache. `has_computed` says whether the last step was computed.

    Args:
        steps: of the whole video.
        threshold: accumulated relative change up to which steps are left out.
        width: the DiT's; one that no polynomial was fitted for takes the 14B model's.
        first: the step, from 0, that the job goes on with.
    """

    def __init__(self, steps: int, threshold: float, width: int, *, first: int = 0) -> None:
        model = COEFFICIENTS.get(width, COEFFICIENTS[5120])
        super().__init__(steps, rel_l1_thresh=threshold, model_id=model)
        self.has_computed = False
        self.step = first
        self._is_first = True

    def check(self, dit: Any, x: Any, t_mod: Any) -> bool:
        """Whether this step is left out."""
        if self._is_first:
            self._is_first = False
            # Whatever was accumulated before, this one is computed, as it was then.
            self.previous_modulated_input = t_mod.abs() + 1
            self.accumulated_rel_l1_distance = math.inf
        is_left_out: bool = super().check(dit, x, t_mod)
        self.has_computed = not is_left_out
        return is_left_out
