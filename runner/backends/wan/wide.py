"""bfloat16 on processors that have no arithmetic for it: products in float32, rounded.

Without AVX-512 a convolution of bfloat16 numbers takes thirty times as long as one of float32:
there is no fast code for it. What has such code adds up in float32 too and rounds the sum; done so
by hand one number in ten thousand differs, in its last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NARROW = ("DEFAULT", "AVX2")
"""Kinds of processors, as torch calls them, that have no arithmetic for bfloat16."""


def is_needed(device: str, dtype: Any) -> bool:
    """Whether numbers of this type are slow on this machine."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return device == "cpu" and dtype == torch.bfloat16 and capability in NARROW


def widen(model: Any) -> None:
    """Have a model's convolutions and products be computed in float32 and rounded; its weights, and
    what goes in and comes out, stay bfloat16."""
    import torch

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d)):
            setattr(module, "_conv_forward", _rounded(_convolution(module)))  # noqa: B010
        elif type(module) is torch.nn.Linear:
            setattr(module, "forward", _linear(module))  # noqa: B010 - mypy refuses methods


def _convolution(module: Any) -> Callable[..., Any]:
    """A module's own, or where all is plain oneDNN's: torch leaves small ones in three dimensions
    to code that takes up to five times as long."""
    import torch

    is_plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
    if not (is_plain and torch._C._has_mkldnn):
        own: Callable[..., Any] = module._conv_forward
        return own
    rest = (module.padding, module.stride, module.dilation, module.groups)

    def convolve(x: Any, weight: Any, bias: Any) -> Any:
        return torch.ops.aten.mkldnn_convolution(x.contiguous(), weight, bias, *rest)

    return convolve


def _rounded(convolve: Callable[..., Any]) -> Callable[..., Any]:
    def widened(x: Any, weight: Any, bias: Any) -> Any:
        wide = None if bias is None else bias.float()
        return convolve(x.float(), weight.float(), wide).to(x.dtype)

    return widened


def _linear(module: Any) -> Callable[..., Any]:
    import torch

    def widened(x: Any) -> Any:
        wide = None if module.bias is None else module.bias.float()
        return torch.nn.functional.linear(x.float(), module.weight.float(), wide).to(x.dtype)

    return widened
