"""The DiT's blocks as one function of tensors, for torch.compile and for FP8.

It computes what diffsynth's `DiTBlock.forward` does, with three differences. Positions are turned
in real float32 numbers where diffsynth's rotary embedding takes complex float64, which does not
compile. On a GPU, GELU is taken of a product's float32 sums, before they are rounded. And with FP8
each linear layer multiplies eight-bit floats: rows of activations and of weights scaled to the
type's range, as in "FP8 Formats for Deep Learning" (https://arxiv.org/abs/2209.05433), with one
scale a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from . import inductor
from .attention import Attend

if TYPE_CHECKING:
    from torch import Tensor

FLOAT8 = torch.float8_e4m3fn
FLOAT8_MAX = 448.0
SMALLEST_DIVIDED = 1e-12


class Linear(NamedTuple):
    """A linear layer; `scale` (1, outputs) belongs to an FP8 weight, and is None otherwise."""

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None


class Attention(NamedTuple):
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    norm_q: Tensor
    norm_k: Tensor


class BlockWeights(NamedTuple):
    """All tensors of one block."""

    modulation: Tensor
    self_attention: Attention
    cross_attention: Attention
    norm_weight: Tensor
    norm_bias: Tensor
    ffn_in: Linear
    ffn_out: Linear


class BlockSizes(NamedTuple):
    heads: int
    eps: float


class Rotation:
    """Cosines and sines of the positions, kept for all blocks of a pass."""

    def __init__(self) -> None:
        self._of: Tensor | None = None
        self._parts: tuple[Tensor, Tensor] | None = None

    def parts(self, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """Of complex (tokens, 1, head size / 2), two float32 tensors of that shape."""
        if self._parts is None or self._of is not frequencies:
            self._of = frequencies
            self._parts = (frequencies.real.float(), frequencies.imag.float())
        return self._parts


class FastBlock(torch.nn.Module):
    """Stands in for a `DiTBlock`."""

    def __init__(
        self, weights: BlockWeights, sizes: BlockSizes, run: Any, rotation: Rotation
    ) -> None:
        super().__init__()
        self._weights = weights
        self._sizes = sizes
        self._run = run
        self._rotation = rotation

    def sizes(self) -> dict[str, int]:
        """What beside the width decides a block's products."""
        return {"heads": self._sizes.heads, "ffn_width": self._weights.ffn_in.weight.shape[0]}

    def forward(self, x: Tensor, context: Tensor, t_mod: Tensor, freqs: Tensor) -> Tensor:
        cos, sin = self._rotation.parts(freqs)
        out: Tensor = self._run(self._weights, self._sizes, x, context, t_mod, cos, sin)
        return out


def use_fast_blocks(dit: Any, attend: Attend, *, compiled: bool, fp8: bool) -> None:
    """Replace the blocks of a DiT. With `fp8` its former weights are freed one by one."""

    def run(
        weights: BlockWeights,
        sizes: BlockSizes,
        x: Tensor,
        context: Tensor,
        t_mod: Tensor,
        *turn: Tensor,
    ) -> Tensor:
        return block_forward(weights, sizes, attend, x, context, t_mod, *turn)

    if compiled:
        inductor.set_up()
    # One graph serves all blocks, for their tensors are its arguments.
    function = torch.compile(run, fullgraph=True, dynamic=False) if compiled else run
    rotation = Rotation()
    for number, block in enumerate(dit.blocks):
        sizes = BlockSizes(block.num_heads, block.norm1.eps)
        dit.blocks[number] = FastBlock(_weights_of(block, fp8=fp8), sizes, function, rotation)


def block_forward(
    weights: BlockWeights,
    sizes: BlockSizes,
    attend: Attend,
    x: Tensor,
    context: Tensor,
    t_mod: Tensor,
    cos: Tensor,
    sin: Tensor,
) -> Tensor:
    """One block: self-attention, cross-attention and feed-forward, each with its residual.

    Args:
        x: (batch, tokens, width).
        context: (batch, text tokens, width).
        t_mod: (batch, 6, width): shift, scale and gate by the time step, twice.
        cos: (tokens, 1, head size / 2).
        sin: as `cos`.
    """
    shift, scale, gate, shift_ffn, scale_ffn, gate_ffn = (
        weights.modulation.to(t_mod.dtype) + t_mod
    ).chunk(6, dim=1)
    normed = functional.layer_norm(x, x.shape[-1:], eps=sizes.eps) * (1 + scale) + shift
    own = weights.self_attention
    q = _turned(_heads(_rms_norm(linear(own.q, normed), own.norm_q, sizes), sizes), cos, sin)
    k = _turned(_heads(_rms_norm(linear(own.k, normed), own.norm_k, sizes), sizes), cos, sin)
    v = _heads(linear(own.v, normed), sizes)
    x = x + gate * linear(own.o, attend(q, k, v).flatten(2))

    across = weights.cross_attention
    normed = functional.layer_norm(
        x, x.shape[-1:], weights.norm_weight, weights.norm_bias, sizes.eps
    )
    q = _heads(_rms_norm(linear(across.q, normed), across.norm_q, sizes), sizes)
    k = _heads(_rms_norm(linear(across.k, context), across.norm_k, sizes), sizes)
    v = _heads(linear(across.v, context), sizes)
    x = x + linear(across.o, attend(q, k, v).flatten(2))

    normed = functional.layer_norm(x, x.shape[-1:], eps=sizes.eps) * (1 + scale_ffn) + shift_ffn
    return x + gate_ffn * linear(weights.ffn_out, _gelu_linear(weights.ffn_in, normed))


def linear(part: Linear, x: Tensor) -> Tensor:
    """A linear layer over (batch, tokens, inputs)."""
    if part.scale is None:
        return functional.linear(x, part.weight, part.bias)
    rows, row_scale = to_float8(x.flatten(0, 1))
    if x.device.type == "cuda":
        out = torch._scaled_mm(
            rows,
            part.weight.t(),
            scale_a=row_scale,
            scale_b=part.scale,
            bias=part.bias,
            out_dtype=x.dtype,
            use_fast_accum=True,
        )
    else:
        # The same numbers; a CPU has no such product.
        product = rows.float() @ part.weight.float().t() * row_scale * part.scale
        out = (product if part.bias is None else product + part.bias.float()).to(x.dtype)
    return out.reshape(*x.shape[:2], -1)


def _gelu_linear(part: Linear, x: Tensor) -> Tensor:
    """GELU of a linear layer; on a GPU the product applies it to its float32 sums."""
    if part.scale is None and part.bias is not None and x.is_cuda:
        return _gelu_of_product(x, part.weight, part.bias)  # type: ignore[no-any-return]
    return functional.gelu(linear(part, x), approximate="tanh")


def _product_with_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    # cuBLASLt's epilogue, GELU by tanh as the DiT has it. On a CPU the same call takes GELU by erf.
    rows = torch._addmm_activation(bias, x.flatten(0, 1), weight.t(), use_gelu=True)
    return rows.reshape(*x.shape[:2], -1)


# An operator of its own, which torch.compile does not look into.
_gelu_of_product: Any = torch.library.custom_op(
    "sweep::gelu_of_product",
    _product_with_gelu,
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor bias) -> Tensor",
)
_gelu_of_product.register_fake(lambda x, weight, _bias: x.new_empty(*x.shape[:2], weight.shape[0]))


def to_float8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as eight-bit floats, and the float32 scale (rows, 1) that gives them back."""
    largest = rows.abs().amax(dim=1, keepdim=True).float()
    scale = largest.clamp(min=SMALLEST_DIVIDED) / FLOAT8_MAX
    return (rows.float() / scale).clamp(-FLOAT8_MAX, FLOAT8_MAX).to(FLOAT8), scale


def _heads(x: Tensor, sizes: BlockSizes) -> Tensor:
    return x.reshape(*x.shape[:2], sizes.heads, -1)


def _rms_norm(x: Tensor, weight: Tensor, sizes: BlockSizes) -> Tensor:
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + sizes.eps)
    return normed.to(x.dtype) * weight


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().reshape(*x.shape[:3], -1, 2).unbind(-1)
    turned = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def _weights_of(block: Any, *, fp8: bool) -> BlockWeights:
    def layer(module: Any) -> Linear:
        weight, bias = module.weight.detach(), module.bias
        bias = None if bias is None else bias.detach()
        if not fp8:
            return Linear(weight, bias, None)
        rows, scale = to_float8(weight)
        module.weight = None
        return Linear(rows, bias, scale.t().contiguous())

    def attention(module: Any) -> Attention:
        return Attention(
            q=layer(module.q),
            k=layer(module.k),
            v=layer(module.v),
            o=layer(module.o),
            norm_q=module.norm_q.weight.detach(),
            norm_k=module.norm_k.weight.detach(),
        )

    return BlockWeights(
        modulation=block.modulation.detach(),
        self_attention=attention(block.self_attn),
        cross_attention=attention(block.cross_attn),
        norm_weight=block.norm3.weight.detach(),
        norm_bias=block.norm3.bias.detach(),
        ffn_in=layer(block.ffn[0]),
        ffn_out=layer(block.ffn[2]),
    )
