"""Importing torch for diffsynth: offline, and with a CPU-only torch too."""

from __future__ import annotations

import importlib
import os
from typing import Any

ENVIRONMENT = {
    "DIFFSYNTH_SKIP_DOWNLOAD": "True",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
"""What diffsynth, huggingface_hub and transformers read, some of it at their import."""

ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
"""How torch takes GPU memory: encoding, denoising and decoding want blocks of different sizes, and
what one has freed would otherwise not fit the next."""

_declared: list[Any] = []


def import_torch() -> Any:
    """Torch, imported such that diffsynth can be imported after it and reaches no network."""
    os.environ.update(ENVIRONMENT)
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)
    import torch

    if torch.version.cuda is None:
        _complete_torchvision(torch)
    return torch


def _complete_torchvision(torch: Any) -> None:
    """Make `import torchvision` work where its build does not fit a CPU-only torch.

    Package indexes offer torchvision built against CUDA. Beside a CPU-only torch its compiled
    part does not load, and its import then fails for want of two operators' declarations.
    diffsynth imports it but calls neither operator.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        # The declarations last only as long as the library object.
        _declared.append(library)
        importlib.import_module("torchvision")
