"""What a checkpoint is, by headers of the published names, types and shapes, and what of it a
worker takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from wan_headers import (
    FIVE,
    LARGE,
    SMALL,
    UMT5,
    Shapes,
    camera,
    conv,
    dit,
    linear,
    lora,
    of_comfyui,
    of_diffusers,
    ref_conv,
    scaled,
    t5,
    t5_of_transformers,
    vace,
    vae,
    write_sparse,
)

from runner.backends.wan.checkpoint import Checkpoint
from runner.backends.wan.headers import TensorHeader, names_and_shapes_md5
from runner.backends.wan.judgement import judge
from runner.backends.wan.recognition import Recognised, recognise, recognise_file
from runner.backends.wan.tiny import tiny_checkpoint
from runner.backends.wan.variants import VARIANTS, ModelPart

POSITIONS = {"img_emb.emb_pos": (1, 514, 1280)}
T2V, I2V = dit(*LARGE, 16), dit(*LARGE, 36, image=True)

PUBLISHED: dict[str, tuple[Shapes, str]] = {
    "Wan2.1 T2V 14B": (T2V, "aafcfd9672c3a2456dc46e1cb6e52c70"),
    "Wan2.1 T2V 1.3B": (dit(*SMALL, 16), "9269f8db9040a9d860eaca435be61814"),
    "krea-realtime 14B": (
        {f"model.{name}": shape for name, shape in T2V.items()},
        "5ec04e02b42d2580483ad69f4e76346a",
    ),
    "Wan2.1 I2V 14B": (I2V, "6bfcfb3b342cb286ce886889d519a77e"),
    "Wan2.1 FLF2V 14B": (I2V | POSITIONS, "3ef3b1f8e1dab83d5b71fd7b617f859f"),
    "Wan2.1 Fun InP 1.3B": (
        dit(*SMALL, 36, image=True),
        "6d6ccde6845b95ad9114ab993d917893",
    ),
    "Wan2.1 Fun Control 14B": (
        dit(*LARGE, 48, image=True),
        "efa44cddf936c70abd0ea28b6cbe946c",
    ),
    "Wan2.1 Fun Control 1.3B": (
        dit(*SMALL, 48, image=True),
        "349723183fc063b2bfc10bb2835cf677",
    ),
    "Wan2.1 Fun V1.1 Control 14B": (
        dit(*LARGE, 48, image=True) | ref_conv(5120),
        "26bde73488a92e64cc20b0a7485b9e5b",
    ),
    "Wan2.1 Fun V1.1 Control 1.3B": (
        dit(*SMALL, 48, image=True) | ref_conv(1536),
        "70ddad9d3a133785da5ea371aae09504",
    ),
    "Wan2.1 Fun V1.1 Camera 14B": (
        dit(*LARGE, 32, image=True) | camera(5120),
        "b61c605c2adbd23124d152ed28e049ae",
    ),
    "Wan2.1 Fun V1.1 Camera 1.3B": (
        dit(*SMALL, 32, image=True) | camera(1536),
        "ac6a5aa74f4a0aab6f64eb9a72f19901",
    ),
    "Wan2.1 VACE 14B": (vace(*LARGE, 5), "7a513e1f257a861512b1afd387a8ecd9"),
    "Wan2.1 VACE 1.3B": (vace(*SMALL, 2), "a61453409b67cd3246cf0c3bebad47ba"),
    "Wan2.2 I2V A14B": (dit(*LARGE, 36), "5b013604280dd715f8457c6ed6d6a626"),
    "Wan2.2 Fun Control A14B": (
        dit(*LARGE, 52) | ref_conv(5120),
        "2267d489f0ceb9f21836532952852ee5",
    ),
    "Wan2.2 Fun Camera A14B": (
        dit(*LARGE, 36) | camera(5120),
        "47dbeab5e560db3180adf51dc0232fb1",
    ),
    "Wan2.2 TI2V 5B": (dit(*FIVE, 48, out=48), "1f5ab7703c6fc803fdded85ff040c316"),
    "Wan2.2 Animate 2 14B": (
        dit(*LARGE, 36, image=True, inside=".block"),
        "4536c21ad8740ba78367af4216ae85bf",
    ),
    "sweep's tiny model": (
        dit(256, 1024, 6, 16, text=128),
        "48c889d0fc7fcc4414713e57a2d0d8e2",
    ),
    "the VAE of Wan2.1": (vae(), "ccc42284ea13e1ad04693284c7a09be6"),
    "UMT5-XXL": (UMT5, "9c8818c2cbea55eca56c7b447df170da"),
    "sweep's tiny text encoder": (
        t5(1024, 128, 256, 2, heads=4),
        "98c0cbd4d9dc2d77332a2a36a1a32436",
    ),
}
"""Names and shapes of published files, by the table's name for them, and the MD5 by which
diffsynth's own table has them: it is what proves the shapes true."""

FROM_DIFFSYNTH = {
    "the VAE of Wan2.2 TI2V 5B": "e1de6c02cdac79f8b739f4d3698cd216",
    "sweep's tiny VAE": "512df99f50ea3cec3e9cc133e5569899",
    "Wan2.2 S2V 14B": "966cffdcc52f9c46c391768b27637614",
    "Wan2.2 Animate 14B": "31fa352acb8a1b1d33cd8764273d80a2",
}
"""Those whose shapes diffsynth's classes give; again the MD5."""

LOADED = {
    *("Wan2.1 T2V 14B", "Wan2.1 T2V 1.3B", "krea-realtime 14B"),
    *("Wan2.1 VACE 14B", "Wan2.1 VACE 1.3B", "sweep's tiny model"),
    *("UMT5-XXL", "sweep's tiny text encoder", "the VAE of Wan2.1", "sweep's tiny VAE"),
}


def tensors(shapes: Shapes, dtype: str = "BF16") -> dict[str, TensorHeader]:
    return {name: TensorHeader(dtype, shape) for name, shape in shapes.items()}


def told(found: Recognised) -> str:
    return f"{found.what}, {found.problem}; {found.remedy}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_published_model_is_known_by_its_header(tmp_path: Path, name: str) -> None:
    shapes, md5 = PUBLISHED[name]
    assert names_and_shapes_md5(tensors(shapes)) == md5
    path = write_sparse(tmp_path / "a.safetensors", shapes, "F32")
    found = recognise_file(path)
    assert found.what == f"{name} in F32"
    assert (found.problem is None) == (name in LOADED), told(found)
    assert found.problem is None or "fetch the files of Wan-AI/Wan2.1-T2V-" in found.remedy


def of_module(module: Any) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.fixture(scope="module")
def from_diffsynth() -> dict[str, Shapes]:
    """Shapes of what diffsynth has classes for, without a number in memory."""
    pytest.importorskip("modelscope")
    from runner.backends.wan.offline import import_torch

    torch = import_torch()
    from diffsynth.models.wan_video_animate_adapter import WanAnimateAdapter
    from diffsynth.models.wan_video_dit_s2v import WanS2VModel
    from diffsynth.models.wan_video_image_encoder import XLMRobertaCLIP
    from diffsynth.models.wan_video_vae import VideoVAE38_, VideoVAE_

    from runner.backends.wan.sizes import TINY

    size: dict[str, Any] = {"dim": 5120, "in_dim": 16, "ffn_dim": 13824, "out_dim": 16}
    size |= {"text_dim": 4096, "freq_dim": 256, "eps": 1e-6, "patch_size": (1, 2, 2)}
    size |= {"num_heads": 40, "num_layers": 40, "cond_dim": 16, "audio_dim": 1024}
    with torch.device("meta"):
        return {
            "the VAE of Wan2.2 TI2V 5B": of_module(VideoVAE38_(z_dim=48, dim=160)),
            "sweep's tiny VAE": of_module(VideoVAE_(**TINY.vae)),
            "Wan2.2 S2V 14B": of_module(WanS2VModel(**size, num_audio_token=4)),
            "Wan2.2 Animate 14B": I2V | of_module(WanAnimateAdapter()),
            "the CLIP image encoder of Wan's image-to-video models": of_module(XLMRobertaCLIP()),
        }


def test_the_other_published_parts_are_known_too(from_diffsynth: dict[str, Shapes]) -> None:
    """With the wav2vec2 encoder, of which two names are enough, every row of the table."""
    for name, shapes in from_diffsynth.items():
        found = recognise(tensors(shapes))
        assert found.what == f"{name} in BF16"
        assert (found.problem is None) == (name in LOADED)
        if md5 := FROM_DIFFSYNTH.get(name):
            assert names_and_shapes_md5(tensors(shapes)) == md5, name
    wav2vec = linear("wav2vec2.feature_projection.projection", 1024, 512)
    for number in range(24):
        wav2vec |= linear(f"wav2vec2.encoder.layers.{number}.attention.k_proj", 1024, 1024)
    sound = recognise(tensors(wav2vec))
    assert sound.part is ModelPart.AUDIO_ENCODER
    assert sound.variant is not None
    known = {*PUBLISHED, *from_diffsynth, sound.variant.name}
    assert known == {variant.name for variant in VARIANTS}


def test_a_worker_loads_what_the_table_says(from_diffsynth: dict[str, Shapes]) -> None:
    """diffsynth has a model of the right kind under each MD5 of the table, and knows no other
    text-to-video DiT than those."""
    from runner.backends.wan import tiny

    tiny.register()
    from diffsynth.configs import MODEL_CONFIGS

    kinds = {
        ModelPart.DIT: "wan_video_dit",
        ModelPart.TEXT_ENCODER: "wan_video_text_encoder",
        ModelPart.VAE: "wan_video_vae",
    }
    known = {(entry["model_hash"], entry["model_name"]) for entry in MODEL_CONFIGS}
    for variant in VARIANTS:
        assert bool(variant.md5) == (not variant.obstacle)
        assert all((md5, kinds[variant.part]) in known for md5 in variant.md5), variant.name
    plain = {
        entry["model_hash"]
        for entry in MODEL_CONFIGS
        if entry["model_class"].endswith("wan_video_dit.WanModel")
        and entry["extra_kwargs"]["in_dim"] == 16
        and not entry["extra_kwargs"]["has_image_input"]
    }
    assert plain == {
        md5 for variant in VARIANTS if variant.part is ModelPart.DIT for md5 in variant.md5
    }


def test_editions_of_one_shape_are_told_by_folder_and_file() -> None:
    def what(shapes: Shapes, *names: str) -> str:
        return recognise(tensors(shapes), names).what

    assert what(I2V, "models--Wan-AI--Wan2.1-I2V-14B-480P") == "Wan2.1 I2V 14B 480P in BF16"
    assert what(I2V, "Wan2.1-I2V-14B-720P") == "Wan2.1 I2V 14B 720P in BF16"
    assert what(I2V, "Wan2.1-Fun-14B-InP") == "Wan2.1 Fun InP 14B in BF16"
    assert what(I2V, "weights") == "Wan2.1 I2V 14B in BF16"
    high = what(T2V, "wan2.2_t2v_high_noise_14B_fp16.safetensors")
    assert high == "Wan2.2 T2V A14B (its half for high noise) in BF16"


FORMS: dict[str, tuple[Shapes, str, str]] = {
    "fp8 with scales": (
        scaled(T2V),
        "F8_E4M3",
        "Wan2.1 T2V 14B in F8_E4M3 with scales, whose weights mean nothing without scales, which "
        "diffsynth does not apply; fetch the files of Wan-AI/Wan2.1-T2V-14B and set model.fp8: "
        "true",
    ),
    "fp8 with scales, e5m2, 1.3B": (
        scaled(dit(*SMALL, 16)),
        "F8_E5M2",
        "Wan2.1 T2V 1.3B in F8_E5M2 with scales, whose weights mean nothing without scales, which "
        "diffsynth does not apply; fetch the files of Wan-AI/Wan2.1-T2V-1.3B and set model.fp8: "
        "true",
    ),
    "ComfyUI's names": (
        of_comfyui(T2V),
        "F16",
        "Wan2.1 T2V 14B in F16, with `model.diffusion_model.` before each name, as ComfyUI writes "
        "them, which diffsynth does not know; fetch the files of Wan-AI/Wan2.1-T2V-14B",
    ),
    "ComfyUI's names, I2V": (
        of_comfyui(scaled(I2V)),
        "F8_E4M3",
        "Wan2.1 I2V 14B in F8_E4M3 with scales, which starts from an image",
    ),
    "diffusers": (
        of_diffusers(T2V),
        "BF16",
        "Wan2.1 T2V 14B in BF16, in the layout of diffusers, which diffsynth does not know; fetch "
        "the files of Wan-AI/Wan2.1-T2V-14B, not its -Diffusers edition",
    ),
    "diffusers, I2V": (of_diffusers(I2V), "BF16", "Wan2.1 I2V 14B in BF16, which starts from"),
    "diffusers, FLF2V": (of_diffusers(I2V | POSITIONS), "BF16", "Wan2.1 FLF2V 14B in BF16"),
    "INT8": (T2V, "I8", "Wan2.1 T2V 14B in I8, whose weights mean nothing without scales"),
    "a tensor too many": (
        T2V | linear("extra", 8, 8),
        "BF16",
        "an unknown DiT (width 5120, 40 layers, 16 channels in, with extra) in BF16",
    ),
    "a bias less": (
        {name: shape for name, shape in T2V.items() if name != "blocks.7.norm3.bias"},
        "BF16",
        "Wan2.1 T2V 14B in BF16, but some tensors are missing or are more than its own",
    ),
    "another width": (
        dit(2048, 8192, 32, 16),
        "BF16",
        "an unknown DiT (width 2048, 32 layers, 16 channels in) in BF16, which is no model that "
        "this backend knows; fetch",
    ),
    "another architecture": (
        {f"double_blocks.{number}.img_attn_qkv.weight": (9216, 3072) for number in range(20)},
        "BF16",
        "something unknown (width 3072, 20 layers, 20 tensors double_blocks.*, 566 million "
        "weights) in BF16",
    ),
    "T5 of ComfyUI": (
        t5_of_transformers(256384, 4096, 10240, 24),
        "F8_E4M3",
        "UMT5-XXL in F8_E4M3, in the layout of transformers, which diffsynth does not know; fetch",
    ),
    "VAE of diffusers": (
        conv("encoder.conv_in", 96, 3, 3, 3, 3) | conv("post_quant_conv", 16, 16, 1, 1, 1),
        "F32",
        "the VAE of Wan2.1 in F32, in the layout of diffusers",
    ),
    "CLIP of ComfyUI": (
        {"vision_model.embeddings.patch_embedding.weight": (1280, 3, 14, 14)}
        | {f"vision_model.encoder.layers.{n}.mlp.fc1.bias": (5120,) for n in range(32)},
        "F16",
        "the CLIP image encoder of Wan's image-to-video models in F16, which is no part",
    ),
    "LoRA of PEFT": (
        lora(5120, 40, 64, style="peft"),
        "BF16",
        "a LoRA of rank 64 of Wan 14B, which is added to a model and is none; fuse it",
    ),
    "LoRA of ComfyUI": (lora(5120, 40, 32, style="comfyui"), "F16", "a LoRA of rank 32 of Wan 14B"),
    "LoRA of diffusers": (
        lora(3072, 30, 16, style="diffusers"),
        "F32",
        "a LoRA of rank 16 of Wan 5B",
    ),
    "LoRA of Kohya": (
        lora(1536, 30, 128, style="kohya"),
        "F16",
        "a LoRA of rank 128 of Wan 1.3B, which is added to a model and is none; fuse it into that "
        "model's weights, or take it away; fetch the files of Wan-AI/Wan2.1-T2V-1.3B",
    ),
    "whole differences": (
        {f"diffusion_model.blocks.{n}.self_attn.q.diff": (5120, 5120) for n in range(40)},
        "BF16",
        "a LoRA of Wan 14B",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_a_worker_could_not_load_is_said_with_the_remedy(tmp_path: Path, form: str) -> None:
    shapes, dtype, says = FORMS[form]
    types = {"scale_weight": "F32", "spiece_model": "U8"}
    found = recognise_file(write_sparse(tmp_path / "a.safetensors", shapes, dtype, **types))
    assert found.problem is not None
    assert found.remedy
    assert says in told(found)


def test_files_of_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "wan.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + bytes(64))
    assert "GGUF" in told(recognise_file(path))
    assert "in safetensors" in recognise_file(path).remedy
    for content in (b"PK\3\4" + bytes(60), b"\x80\2}q\0.", b"\x80\4\x95"):
        path.write_bytes(content)
        assert "pickle" in recognise_file(path).what
        assert recognise_file(path).problem is None


@pytest.mark.parametrize("form", ["as it is", "F8_E4M3", "F8_E5M2", "scaled", "prefix", "less"])
def test_the_workers_loader_agrees(tmp_path: Path, form: str) -> None:
    """What is recognised as loadable loads, and what is not does not: on the tiny model."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("modelscope")
    from safetensors.torch import load_file, save_file

    from runner.backends.wan.pipeline import load_pipeline

    folder = tmp_path / "tiny"
    shutil.copytree(tiny_checkpoint().folder, folder)
    checkpoint = Checkpoint(folder)
    (path,) = checkpoint.dit
    weights = load_file(path)
    if form in ("F8_E4M3", "F8_E5M2", "scaled"):
        kind = torch.float8_e5m2 if form == "F8_E5M2" else torch.float8_e4m3fn
        weights = {name: tensor.to(kind) for name, tensor in weights.items()}
    if form == "scaled":
        weights["blocks.0.ffn.0.scale_weight"] = torch.ones(())
    elif form == "prefix":
        weights = {f"model.diffusion_model.{name}": tensor for name, tensor in weights.items()}
    elif form == "less":
        del weights["blocks.0.norm3.bias"]
    save_file(weights, path)
    found = judge(checkpoint)
    assert found.what is not None
    assert "sweep's tiny model" in found.what
    is_refused = form in ("scaled", "prefix", "less")
    assert bool(found.wrong) == is_refused
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "managed": False}

    def load() -> Any:
        return load_pipeline(checkpoint, ["dit"], vram_limit=None, **options)

    if is_refused:
        with pytest.raises(ValueError, match="Cannot detect the model type"):
            load()
    else:
        held = load().dit.blocks[0].ffn[0].weight
        assert torch.equal(held, weights["blocks.0.ffn.0.weight"].to(torch.float32))


BAD: list[Any] = [None, -1, 1.5, "x", [], {}, [[1]], [None], ["a", 1], [1 << 70], True]


def test_no_header_is_more_than_a_bad_header(tmp_path: Path) -> None:
    """Whatever its JSON holds in place of what should be there, names of control characters too:
    the folder is examined to its end, and what is said fits a line of a terminal."""
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_checkpoint().folder, folder)
    (path,) = Checkpoint(folder).dit
    good = {"dtype": "BF16", "shape": [4, 2], "data_offsets": [0, 16]}
    headers: list[Any] = [*BAD, {"a": good, "b": good, "__metadata__": 7}]
    headers += [{"a": good | {key: bad}} for key in good for bad in BAD]
    headers += [{f"blocks.0.{part}.weight": good, "\x1b[2J\n" * 40: good} for part in ("x", "y")]
    headers += [
        {f"{name}.weight": good | {"shape": shape}}
        for name in ("patch_embedding", "blocks.0.self_attn.q", "conv2", "a.lora_A", "blocks.x")
        for shape in ([], [8], [2] * 5, [2] * 9, [0, 0])
    ]
    for header in headers:
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
        found = judge(Checkpoint(folder))
        problems = [state.problem for state in found.states if state.problem]
        assert problems, header
        assert all(problem.isprintable() and len(problem) < 500 for problem in problems)
