"""The device that an experiment's videos are made on here, and whether it will do."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..machine.gpus import VISIBLE, Gpu, every_gpu, hidden_by_mistake
from ..text.errors import UserError
from .experiment import Experiment


def check_backend(experiment: Experiment, gpus: Sequence[Gpu]) -> str:
    """The device that an experiment's videos are made on.

    Raises:
        UserError: this machine lacks it, or what the backend of one of its methods needs.
    """
    device = choose_device(experiment, bool(gpus))
    for method in experiment.every_method:
        with method.named():
            method.planner().check_launch(device, explicit=experiment.placement.device == device)
    return device


def choose_device(experiment: Experiment, has_gpus: bool) -> str:
    """ "cuda" or "cpu".

    Raises:
        UserError: GPUs are asked for, by the experiment or by CUDA_VISIBLE_DEVICES, and none of
            these is there.
    """
    wanted = experiment.placement.device
    if wanted != "cpu" and not has_gpus:
        mistake = hidden_by_mistake(every_gpu(), os.environ.get(VISIBLE))
        if mistake is not None:
            raise UserError(mistake)
    if wanted == "cuda" and not has_gpus:
        raise UserError(
            f"{experiment.file}: placement.device: cuda is asked for, but NVML shows no GPU here"
        )
    if wanted == "auto":
        return "cuda" if has_gpus else "cpu"
    return wanted
