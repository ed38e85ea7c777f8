"""Weights files as published, but for their numbers: true names, types and shapes in a true header,
and as many bytes as it tells of, which a sparse file need not keep."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

Shapes = dict[str, tuple[int, ...]]

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "U8": 1, "I8": 1}


def write_sparse(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16", **types: str
) -> Path:
    """A safetensors file of that type; `types` are those of tensors whose name ends so."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        own = next((kind for mark, kind in types.items() if name.endswith(mark)), dtype)
        start, end = end, end + BYTES[own] * math.prod(shape)
        header[name] = {"dtype": own, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def write_shards(folder: Path, shapes: Shapes, count: int, dtype: str = "BF16") -> list[Path]:
    """As a published DiT lies there: numbered files and their index."""
    names = list(shapes)
    paths, where, size = [], {}, 0
    for number in range(count):
        path = folder / f"diffusion_pytorch_model-{number + 1:05}-of-{count:05}.safetensors"
        start, end = (len(names) * part // count for part in (number, number + 1))
        own = {name: shapes[name] for name in names[start:end]}
        paths.append(write_sparse(path, own, dtype))
        where.update(dict.fromkeys(own, path.name))
        size += sum(BYTES[dtype] * math.prod(shape) for shape in own.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return paths


def linear(name: str, out: int, into: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def conv(name: str, out: int, *rest: int) -> Shapes:
    return {f"{name}.weight": (out, *rest), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def attention(name: str, width: int, *, image: bool = False) -> Shapes:
    parts = ["q", "k", "v", "o", *(["k_img", "v_img"] if image else [])]
    shapes: Shapes = {}
    for part in parts:
        shapes |= linear(f"{name}.{part}", width, width)
    for part in ("norm_q", "norm_k", *(["norm_k_img"] if image else [])):
        shapes[f"{name}.{part}.weight"] = (width,)
    return shapes


def block(name: str, width: int, ffn: int, *, image: bool = False) -> Shapes:
    return {
        f"{name}.modulation": (1, 6, width),
        **attention(f"{name}.self_attn", width),
        **attention(f"{name}.cross_attn", width, image=image),
        **norm(f"{name}.norm3", width),
        **linear(f"{name}.ffn.0", ffn, width),
        **linear(f"{name}.ffn.2", width, ffn),
    }


def image_embedding(width: int) -> Shapes:
    return {
        **norm("img_emb.proj.0", 1280),
        **linear("img_emb.proj.1", 1280, 1280),
        **linear("img_emb.proj.3", width, 1280),
        **norm("img_emb.proj.4", width),
    }


def dit(
    width: int,
    ffn: int,
    layers: int,
    channels: int,
    *,
    out: int = 16,
    text: int = 4096,
    image: bool = False,
    inside: str = "",
) -> Shapes:
    """A DiT in Wan's own layout: the names and shapes that its authors publish."""
    shapes = {
        **conv("patch_embedding", width, channels, 1, 2, 2),
        **linear("text_embedding.0", width, text),
        **linear("text_embedding.2", width, width),
        **linear("time_embedding.0", width, 256),
        **linear("time_embedding.2", width, width),
        **linear("time_projection.1", 6 * width, width),
        "head.modulation": (1, 2, width),
        **linear("head.head", 4 * out, width),
        **(image_embedding(width) if image else {}),
    }
    for number in range(layers):
        shapes |= block(f"blocks.{number}{inside}", width, ffn, image=image)
    return shapes


LARGE, SMALL, FIVE = (5120, 13824, 40), (1536, 8960, 30), (3072, 14336, 30)
"""Width, feed-forward width and layers of 14B, 1.3B and 5B."""


def vace(width: int, ffn: int, layers: int, every: int) -> Shapes:
    shapes = dit(width, ffn, layers, 16) | conv("vace_patch_embedding", width, 96, 1, 2, 2)
    for number in range(layers // every):
        name = f"vace_blocks.{number}"
        shapes |= block(name, width, ffn) | linear(f"{name}.after_proj", width, width)
    return shapes | linear("vace_blocks.0.before_proj", width, width)


def ref_conv(width: int) -> Shapes:
    return conv("ref_conv", width, 16, 2, 2)


def camera(width: int) -> Shapes:
    shapes = conv("control_adapter.conv", width, 24 * 64, 2, 2)
    for part in ("conv1", "conv2"):
        shapes |= conv(f"control_adapter.residual_blocks.0.{part}", width, width, 3, 3)
    return shapes


def t5(words: int, width: int, ffn: int, layers: int, *, heads: int = 64) -> Shapes:
    """UMT5's encoder in Wan's own layout."""
    shapes: Shapes = {"token_embedding.weight": (words, width), "norm.weight": (width,)}
    for number in range(layers):
        name = f"blocks.{number}"
        for part in ("q", "k", "v", "o"):
            shapes[f"{name}.attn.{part}.weight"] = (width, width)
        shapes |= {
            f"{name}.norm1.weight": (width,),
            f"{name}.norm2.weight": (width,),
            f"{name}.ffn.gate.0.weight": (ffn, width),
            f"{name}.ffn.fc1.weight": (ffn, width),
            f"{name}.ffn.fc2.weight": (width, ffn),
            f"{name}.pos_embedding.embedding.weight": (32, heads),
        }
    return shapes


def t5_of_transformers(words: int, width: int, ffn: int, layers: int) -> Shapes:
    """UMT5's encoder as transformers and ComfyUI name it."""
    shapes: Shapes = {"shared.weight": (words, width), "encoder.final_layer_norm.weight": (width,)}
    for number in range(layers):
        name = f"encoder.block.{number}.layer"
        for part in ("q", "k", "v", "o"):
            shapes[f"{name}.0.SelfAttention.{part}.weight"] = (width, width)
        shapes |= {
            f"{name}.0.SelfAttention.relative_attention_bias.weight": (32, 64),
            f"{name}.0.layer_norm.weight": (width,),
            f"{name}.1.layer_norm.weight": (width,),
            f"{name}.1.DenseReluDense.wi_0.weight": (ffn, width),
            f"{name}.1.DenseReluDense.wi_1.weight": (ffn, width),
            f"{name}.1.DenseReluDense.wo.weight": (width, ffn),
        }
    return shapes


RENAMED = (
    ("self_attn.q", "attn1.to_q"),
    ("self_attn.k", "attn1.to_k"),
    ("self_attn.v", "attn1.to_v"),
    ("self_attn.o", "attn1.to_out.0"),
    ("self_attn", "attn1"),
    ("cross_attn.k_img", "attn2.add_k_proj"),
    ("cross_attn.v_img", "attn2.add_v_proj"),
    ("cross_attn.norm_k_img", "attn2.norm_added_k"),
    ("cross_attn.q", "attn2.to_q"),
    ("cross_attn.k", "attn2.to_k"),
    ("cross_attn.v", "attn2.to_v"),
    ("cross_attn.o", "attn2.to_out.0"),
    ("cross_attn", "attn2"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
    ("norm3", "norm2"),
    ("head.modulation", "scale_shift_table"),
    ("head.head", "proj_out"),
    ("modulation", "scale_shift_table"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    ("img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
    ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
)


def of_diffusers(shapes: Shapes) -> Shapes:
    """A DiT's names as diffusers has them."""
    found: Shapes = {}
    for name, shape in shapes.items():
        for own, theirs in RENAMED:
            if own in name:
                name = name.replace(own, theirs)
                break
        found[name] = shape
    return found


def residual(name: str, into: int, out: int) -> Shapes:
    shapes = {
        f"{name}.residual.0.gamma": (into, 1, 1, 1),
        f"{name}.residual.3.gamma": (out, 1, 1, 1),
        **conv(f"{name}.residual.2", out, into, 3, 3, 3),
        **conv(f"{name}.residual.6", out, out, 3, 3, 3),
    }
    return shapes | (conv(f"{name}.shortcut", out, into, 1, 1, 1) if into != out else {})


def middle(name: str, width: int) -> Shapes:
    return {
        **residual(f"{name}.0", width, width),
        f"{name}.1.norm.gamma": (width, 1, 1),
        **conv(f"{name}.1.to_qkv", 3 * width, width, 1, 1),
        **conv(f"{name}.1.proj", width, width, 1, 1),
        **residual(f"{name}.2", width, width),
    }


def vae(width: int = 96, channels: int = 16) -> Shapes:
    """The VAE of Wan2.1."""
    wide = [width, width, 2 * width, 4 * width, 4 * width]
    top = wide[-1]
    shapes = {
        **conv("encoder.conv1", width, 3, 3, 3, 3),
        **middle("encoder.middle", top),
        "encoder.head.0.gamma": (top, 1, 1, 1),
        **conv("encoder.head.2", 2 * channels, top, 3, 3, 3),
        **conv("conv1", 2 * channels, 2 * channels, 1, 1, 1),
        **conv("conv2", channels, channels, 1, 1, 1),
        **conv("decoder.conv1", top, channels, 3, 3, 3),
        **middle("decoder.middle", top),
        "decoder.head.0.gamma": (width, 1, 1, 1),
        **conv("decoder.head.2", 3, width, 3, 3, 3),
    }
    for level in range(4):
        into, out = wide[level], wide[level + 1]
        name, number = "encoder.downsamples", 3 * level
        shapes |= residual(f"{name}.{number}", into, out) | residual(
            f"{name}.{number + 1}", out, out
        )
        if level < 3:
            shapes |= conv(f"{name}.{number + 2}.resample.1", out, out, 3, 3)
        if level in (1, 2):
            shapes |= conv(f"{name}.{number + 2}.time_conv", out, out, 3, 1, 1)
    for level, (into, out) in enumerate([(4, 4), (2, 4), (2, 2), (1, 1)]):
        name, number = "decoder.upsamples", 4 * level
        into, out = into * width, out * width
        for place in range(3):
            shapes |= residual(f"{name}.{number + place}", out if place else into, out)
        if level < 3:
            shapes |= conv(f"{name}.{number + 3}.resample.1", out // 2, out, 3, 3)
        if level < 2:
            shapes |= conv(f"{name}.{number + 3}.time_conv", 2 * out, out, 3, 1, 1)
    return shapes


UMT5: Shapes = t5(256384, 4096, 10240, 24)


def scaled(shapes: Shapes) -> Shapes:
    """With what ComfyUI's scaled FP8 files have beside the weights."""
    scales: Shapes = {
        f"{name.removesuffix('weight')}scale_weight": ()
        for name, shape in shapes.items()
        if name.startswith("blocks.") and len(shape) == 2
    }
    return shapes | scales | {"scaled_fp8": (2,)}


def of_comfyui(shapes: Shapes) -> Shapes:
    return {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()}


def lora(width: int, layers: int, rank: int, *, style: str) -> Shapes:
    """A LoRA as diffsynth and PEFT, ComfyUI, diffusers or Kohya's trainer write one."""
    names = {
        "peft": ("blocks.{}.self_attn.q.lora_A.default.weight", "lora_B.default"),
        "comfyui": ("diffusion_model.blocks.{}.self_attn.q.lora_down.weight", "lora_up"),
        "diffusers": ("transformer.blocks.{}.attn1.to_q.lora_A.weight", "lora_B"),
        "kohya": ("lora_unet_blocks_{}_self_attn_q.lora_down.weight", "lora_up"),
    }
    down, up = names[style]
    shapes: Shapes = {}
    for number in range(layers):
        name = down.format(number)
        shapes[name] = (rank, width)
        middle = (
            "lora_A.default" if "default" in name else ("lora_A" if "_A" in name else "lora_down")
        )
        shapes[name.replace(middle, up)] = (width, rank)
    return shapes
