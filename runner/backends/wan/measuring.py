"""A model measured by the names and shapes of its tensors, in each layout that they come in."""

from __future__ import annotations

from collections.abc import Callable

from .headers import TensorHeaders
from .variants import PREFIXES, ModelFacts, ModelPart


def without_prefix(tensors: TensorHeaders) -> tuple[TensorHeaders, str]:
    """The tensors by their bare names, and what stood before most of them."""
    for prefix in PREFIXES:
        bare = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if 2 * len(bare) > len(tensors):
            return bare, prefix
    return tensors, ""


def measured(tensors: TensorHeaders) -> tuple[ModelPart | None, ModelFacts | None, str]:
    """Part, facts and, where it is not Wan's own, the layout of the first that fits."""
    for tensor, part, layout, measure in LAYOUTS:
        if tensor in tensors:
            return part, measure(tensors), layout
    return None, None, ""


def _size(tensors: TensorHeaders, name: str, axis: int = 0) -> int:
    tensor = tensors.get(name)
    return tensor.shape[axis] if tensor is not None and len(tensor.shape) > axis else 0


def _count(tensors: TensorHeaders, prefix: str) -> int:
    """How many numbered layers begin with that name."""
    start = len(prefix)
    numbers = {name[start:].split(".")[0] for name in tensors if name.startswith(prefix)}
    return sum(number.isdecimal() for number in numbers)


_OWN = frozenset(
    {
        *("patch_embedding", "text_embedding", "time_embedding", "time_projection", "blocks"),
        *("head", "condition_embedder", "proj_out", "scale_shift_table", "scaled_fp8"),
        *("rope", "freqs"),
    }
)
"""First names of a text-to-video model's tensors, in either layout."""


def _branches(tensors: TensorHeaders) -> frozenset[str]:
    found = {name.split(".")[0] for name in tensors} - _OWN
    if any("image_embedder" in name for name in tensors):
        found.add("img_emb")
    if any(name.endswith(("img_emb.emb_pos", "image_embedder.pos_embed")) for name in tensors):
        found.add("emb_pos")
    if "blocks.0.block.modulation" in tensors:
        found.add("block")
    return frozenset(found)


def _dit(tensors: TensorHeaders) -> ModelFacts:
    inside = "blocks.0.block" if "blocks.0.block.modulation" in tensors else "blocks.0"
    # A patch is of 1 x 2 x 2 latent pixels.
    out = _size(tensors, "head.head.weight") // 4
    return ModelFacts(
        width=_size(tensors, "patch_embedding.weight"),
        layers=_count(tensors, "blocks."),
        ffn=_size(tensors, f"{inside}.ffn.0.weight"),
        channels=(_size(tensors, "patch_embedding.weight", 1), out),
        text=_size(tensors, "text_embedding.0.weight", 1),
        branches=_branches(tensors),
    )


def _dit_of_diffusers(tensors: TensorHeaders) -> ModelFacts:
    return ModelFacts(
        width=_size(tensors, "patch_embedding.weight"),
        layers=_count(tensors, "blocks."),
        ffn=_size(tensors, "blocks.0.ffn.net.0.proj.weight"),
        channels=(
            _size(tensors, "patch_embedding.weight", 1),
            _size(tensors, "proj_out.weight") // 4,
        ),
        text=_size(tensors, "condition_embedder.text_embedder.linear_1.weight", 1),
        branches=_branches(tensors),
    )


def _t5(tensors: TensorHeaders) -> ModelFacts:
    return ModelFacts(
        width=_size(tensors, "token_embedding.weight", 1),
        layers=_count(tensors, "blocks."),
        ffn=_size(tensors, "blocks.0.ffn.fc1.weight"),
        words=_size(tensors, "token_embedding.weight"),
    )


def _t5_of_transformers(tensors: TensorHeaders) -> ModelFacts:
    return ModelFacts(
        width=_size(tensors, "shared.weight", 1),
        layers=_count(tensors, "encoder.block."),
        ffn=_size(tensors, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
        words=_size(tensors, "shared.weight"),
    )


def _vae(first: str, last: str) -> Callable[[TensorHeaders], ModelFacts]:
    def measure(tensors: TensorHeaders) -> ModelFacts:
        channels = _size(tensors, last)
        return ModelFacts(width=_size(tensors, first), channels=(channels, channels))

    return measure


def _encoder(width: str, axis: int, layers: str) -> Callable[[TensorHeaders], ModelFacts]:
    def measure(tensors: TensorHeaders) -> ModelFacts:
        return ModelFacts(width=_size(tensors, width, axis), layers=_count(tensors, layers))

    return measure


_CLIP, _CLIP_OF_TRANSFORMERS = (
    "visual.patch_embedding.weight",
    "vision_model.embeddings.patch_embedding.weight",
)
_WAV2VEC = "wav2vec2.feature_projection.projection.weight"

LAYOUTS: tuple[tuple[str, ModelPart, str, Callable[[TensorHeaders], ModelFacts]], ...] = (
    ("blocks.0.self_attn.q.weight", ModelPart.DIT, "", _dit),
    ("blocks.0.block.self_attn.q.weight", ModelPart.DIT, "", _dit),
    ("blocks.0.attn1.to_q.weight", ModelPart.DIT, "diffusers", _dit_of_diffusers),
    ("blocks.0.attn.q.weight", ModelPart.TEXT_ENCODER, "", _t5),
    (
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        ModelPart.TEXT_ENCODER,
        "transformers",
        _t5_of_transformers,
    ),
    ("conv2.weight", ModelPart.VAE, "", _vae("encoder.conv1.weight", "conv2.weight")),
    (
        "post_quant_conv.weight",
        ModelPart.VAE,
        "diffusers",
        _vae("encoder.conv_in.weight", "post_quant_conv.weight"),
    ),
    (_CLIP, ModelPart.IMAGE_ENCODER, "", _encoder(_CLIP, 0, "visual.transformer.")),
    (
        _CLIP_OF_TRANSFORMERS,
        ModelPart.IMAGE_ENCODER,
        "transformers",
        _encoder(_CLIP_OF_TRANSFORMERS, 0, "vision_model.encoder.layers."),
    ),
    (_WAV2VEC, ModelPart.AUDIO_ENCODER, "", _encoder(_WAV2VEC, 0, "wav2vec2.encoder.layers.")),
)
"""By which tensor a part is known, in which layout it then is ("" for Wan's own), and what
measures it."""
