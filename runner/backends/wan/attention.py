"""Attention kernels: which there are, where they run, and how a DiT is made to use one.

diffsynth takes whatever attention package it finds; here the experiment says which kernel it is,
so that installing a package changes no video.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from ...text.errors import UserError

Kernel = Literal["torch", "cudnn", "flash", "flash_attention_4"]

Attend = Callable[[Any, Any, Any], Any]
"""Attention over queries, keys and values, each and the answer (batch, tokens, heads, size)."""

CAPABILITY: dict[str, tuple[int, int]] = {
    "cudnn": (8, 0),
    "flash": (8, 0),
    "flash_attention_4": (9, 0),
}
"""The CUDA compute capability from which a kernel runs."""


def require_kernel(kernel: Kernel, device: str, capability: tuple[int, int] | None) -> None:
    """Raise `UserError` where a kernel is not installed, or cannot run on this device.

    Args:
        capability: of the GPU; None where it is not known.
    """
    if kernel == "torch":
        return
    key = f"model.attention: {kernel}"
    remedy = "set model.attention: torch"
    if device != "cuda":
        raise UserError(f"{key} needs a GPU; {remedy}")
    needed = CAPABILITY[kernel]
    if capability is not None and capability < needed:
        has, wants = (".".join(map(str, pair)) for pair in (capability, needed))
        raise UserError(
            f"{key} needs a GPU of compute capability {wants}, this one has {has}; {remedy}"
        )
    if kernel == "flash_attention_4" and not _is_installed():
        raise UserError(f"{key} is not installed: pip install 'sweep-runner[fast]', or {remedy}")


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("flash_attn.cute") is not None
    except ModuleNotFoundError:
        return False


def chosen(kernel: Kernel) -> AbstractContextManager[None]:
    """Within this, torch's own attention uses that kernel; elsewhere it picks one itself."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    return sdpa_kernel(backend[kernel]) if kernel in backend else nullcontext()


def attend_with(kernel: Kernel) -> Attend:
    """The function of a kernel; those of torch want `chosen` around their calls."""
    return _flash_attention_4() if kernel == "flash_attention_4" else _torch_attention


def use_kernel(dit: Any, kernel: Kernel) -> None:
    """Have every attention of a DiT use a kernel.

    With `torch` it computes what diffsynth computes where no other attention package is there.
    """
    from diffsynth.models.wan_video_dit import AttentionModule

    attend = attend_with(kernel)
    for module in dit.modules():
        if isinstance(module, AttentionModule):
            module.forward = functools.partial(_with_heads_apart, attend, module.num_heads)


def _with_heads_apart(attend: Attend, heads: int, q: Any, k: Any, v: Any) -> Any:
    """Attention over (batch, tokens, heads x head size)."""
    split = (part.unflatten(2, (heads, -1)) for part in (q, k, v))
    return attend(*split).flatten(2)


def _torch_attention(q: Any, k: Any, v: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    parts = (part.transpose(1, 2) for part in (q, k, v))
    return scaled_dot_product_attention(*parts).transpose(1, 2)


@functools.cache
def _flash_attention_4() -> Attend:
    """flash-attn 4 as an operator of torch, which torch.compile does not look into."""
    import torch
    from flash_attn.cute import flash_attn_func

    def attend(q: Any, k: Any, v: Any) -> Any:
        out = flash_attn_func(q.contiguous(), k.contiguous(), v.contiguous())
        return out[0] if isinstance(out, tuple) else out

    def shape(q: Any, _k: Any, _v: Any) -> Any:
        return torch.empty_like(q, memory_format=torch.contiguous_format)

    schema = "(Tensor q, Tensor k, Tensor v) -> Tensor"
    operator: Any = torch.library.custom_op(
        "sweep::flash_attention_4", attend, mutates_args=(), schema=schema
    )
    operator.register_fake(shape)
    return operator  # type: ignore[no-any-return]
