"""The models of the Wan family and their parts, as a table: what tells each from the others in a
header, whether a worker of this backend makes videos with it, and what to fetch where it does not.

A variant that the backend learns to run loses its `obstacle`; a new one is a new row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class ModelPart(Enum):
    """The models that a checkpoint folder is made of."""

    DIT = "DiT"
    TEXT_ENCODER = "text encoder"
    VAE = "VAE"
    IMAGE_ENCODER = "image encoder"
    AUDIO_ENCODER = "audio encoder"


@dataclass(frozen=True)
class ModelFacts:
    """What names and shapes tell of a model; 0 where it has no such number.

    Args:
        width: of the features between its layers.
        layers: number of them.
        ffn: width inside a layer's feed-forward part.
        channels: of latents, taken in and given out.
        text: width of the text's embedding.
        words: number of tokens that it knows.
        branches: the first names of what it has beyond Wan's text-to-video model.
    """

    width: int
    layers: int = 0
    ffn: int = 0
    channels: tuple[int, int] = (0, 0)
    text: int = 0
    words: int = 0
    branches: frozenset[str] = frozenset()


@dataclass(frozen=True)
class KnownModel:
    """A row of the table.

    Args:
        name: as its authors call it.
        part: which part of a checkpoint it is.
        facts: by which it is told from the others.
        md5: of names and shapes, in the layouts that are loaded: how diffsynth knows it. Empty
            where diffsynth does not, or this backend makes nothing with it.
        obstacle: why this backend makes no videos with it; empty where it does.
        repository: where its files, or those to take in its place, are published.
        note: what a person should know who uses it.
        editions: of one name and shape: a pattern that the name of the file or folder has, and
            how it is called then.
    """

    name: str
    part: ModelPart
    facts: ModelFacts
    md5: tuple[str, ...] = ()
    obstacle: str = ""
    repository: str = "Wan-AI/Wan2.1-T2V-14B"
    note: str = ""
    editions: tuple[tuple[str, str], ...] = field(default=())

    def name_among(self, names: Sequence[str]) -> str:
        """Its name, as far as those of its files and folder tell of which edition it is."""
        for pattern, edition in self.editions:
            if any(re.search(pattern, name, re.IGNORECASE) for name in names):
                return edition
        return self.name


LARGE: dict[str, Any] = {"width": 5120, "ffn": 13824, "layers": 40, "text": 4096}
SMALL: dict[str, Any] = {"width": 1536, "ffn": 8960, "layers": 30, "text": 4096}
FIVE: dict[str, Any] = {"width": 3072, "ffn": 14336, "layers": 30, "text": 4096}
"""The sizes 14B, 1.3B and 5B."""

T2V_LARGE, T2V_SMALL = "Wan-AI/Wan2.1-T2V-14B", "Wan-AI/Wan2.1-T2V-1.3B"

IMAGE = "starts from an image, and the jobs of a sweep have a clip"
CONTROL = "follows a control video, and the jobs of a sweep have none"
CAMERA = "follows a camera path from an image, and the jobs of a sweep have neither"
AUDIO = "follows sound and an image, and the jobs of a sweep have neither"
ANIMATE = "moves a figure from an image, and the jobs of a sweep have none"
LARGER_VAE = "works on latents of another VAE (48 channels), which this backend does not have yet"
ADAPTERS = ("face_adapter", "face_encoder", "motion_encoder", "pose_patch_embedding")
VACE_NOTE = "only its text-to-video part is used, not its control"

EXPERTS = (
    ("high_noise", "Wan2.2 T2V A14B (its half for high noise)"),
    ("low_noise", "Wan2.2 T2V A14B (its half for low noise)"),
)


def _dit(
    name: str,
    size: dict[str, Any],
    channels: int,
    *branches: str,
    out: int = 16,
    repository: str = "",
    **rest: Any,
) -> KnownModel:
    facts = ModelFacts(channels=(channels, out), branches=frozenset(branches), **size)
    repository = repository or (T2V_SMALL if size is SMALL else T2V_LARGE)
    return KnownModel(name, ModelPart.DIT, facts, repository=repository, **rest)


VARIANTS = (
    # Of one shape the first is meant where the names of tensors do not tell.
    _dit(
        "Wan2.1 T2V 14B",
        LARGE,
        16,
        md5=("aafcfd9672c3a2456dc46e1cb6e52c70",),
        editions=EXPERTS,
    ),
    _dit("Wan2.1 T2V 1.3B", SMALL, 16, md5=("9269f8db9040a9d860eaca435be61814",)),
    _dit(
        "krea-realtime 14B",
        LARGE,
        16,
        md5=("5ec04e02b42d2580483ad69f4e76346a",),
        repository="krea/krea-realtime-video",
        note="distilled: it wants few steps and cfg_scale 1",
    ),
    _dit(
        "Wan2.1 I2V 14B",
        LARGE,
        36,
        "img_emb",
        obstacle=IMAGE,
        editions=(
            (r"inp\b", "Wan2.1 Fun InP 14B"),
            ("480p", "Wan2.1 I2V 14B 480P"),
            ("720p", "Wan2.1 I2V 14B 720P"),
        ),
    ),
    _dit("Wan2.1 FLF2V 14B", LARGE, 36, "img_emb", "emb_pos", obstacle=IMAGE),
    _dit("Wan2.1 Fun InP 1.3B", SMALL, 36, "img_emb", obstacle=IMAGE),
    _dit("Wan2.1 Fun Control 14B", LARGE, 48, "img_emb", obstacle=CONTROL),
    _dit("Wan2.1 Fun Control 1.3B", SMALL, 48, "img_emb", obstacle=CONTROL),
    _dit("Wan2.1 Fun V1.1 Control 14B", LARGE, 48, "img_emb", "ref_conv", obstacle=CONTROL),
    _dit("Wan2.1 Fun V1.1 Control 1.3B", SMALL, 48, "img_emb", "ref_conv", obstacle=CONTROL),
    _dit("Wan2.1 Fun V1.1 Camera 14B", LARGE, 32, "img_emb", "control_adapter", obstacle=CAMERA),
    _dit("Wan2.1 Fun V1.1 Camera 1.3B", SMALL, 32, "img_emb", "control_adapter", obstacle=CAMERA),
    _dit(
        "Wan2.1 VACE 14B",
        LARGE,
        16,
        "vace_blocks",
        "vace_patch_embedding",
        md5=("7a513e1f257a861512b1afd387a8ecd9",),
        repository="Wan-AI/Wan2.1-VACE-14B",
        note=VACE_NOTE,
    ),
    _dit(
        "Wan2.1 VACE 1.3B",
        SMALL,
        16,
        "vace_blocks",
        "vace_patch_embedding",
        md5=("a61453409b67cd3246cf0c3bebad47ba",),
        repository="Wan-AI/Wan2.1-VACE-1.3B",
        note=VACE_NOTE,
    ),
    _dit("Wan2.2 I2V A14B", LARGE, 36, obstacle=IMAGE),
    _dit("Wan2.2 Fun Control A14B", LARGE, 52, "ref_conv", obstacle=CONTROL),
    _dit("Wan2.2 Fun Camera A14B", LARGE, 36, "control_adapter", obstacle=CAMERA),
    _dit("Wan2.2 TI2V 5B", FIVE, 48, out=48, obstacle=LARGER_VAE),
    _dit(
        "Wan2.2 S2V 14B",
        LARGE,
        16,
        *("audio_injector", "casual_audio_encoder", "cond_encoder"),
        *("frame_packer", "trainable_cond_mask"),
        obstacle=AUDIO,
    ),
    _dit("Wan2.2 Animate 14B", LARGE, 36, "img_emb", *ADAPTERS, obstacle=ANIMATE),
    _dit("Wan2.2 Animate 2 14B", LARGE, 36, "img_emb", "block", obstacle=ANIMATE),
    _dit(
        "sweep's tiny model",
        {"width": 256, "ffn": 1024, "layers": 6, "text": 128},
        16,
        md5=("48c889d0fc7fcc4414713e57a2d0d8e2",),
    ),
    KnownModel(
        "UMT5-XXL",
        ModelPart.TEXT_ENCODER,
        ModelFacts(width=4096, layers=24, ffn=10240, words=256384),
        md5=("9c8818c2cbea55eca56c7b447df170da",),
    ),
    KnownModel(
        "sweep's tiny text encoder",
        ModelPart.TEXT_ENCODER,
        ModelFacts(width=128, layers=2, ffn=256, words=1024),
        md5=("98c0cbd4d9dc2d77332a2a36a1a32436",),
    ),
    KnownModel(
        "the VAE of Wan2.1",
        ModelPart.VAE,
        ModelFacts(width=96, channels=(16, 16)),
        md5=("ccc42284ea13e1ad04693284c7a09be6",),
    ),
    KnownModel(
        "the VAE of Wan2.2 TI2V 5B",
        ModelPart.VAE,
        ModelFacts(width=160, channels=(48, 48)),
        obstacle="belongs to Wan2.2 TI2V 5B alone, of all models of the family",
    ),
    KnownModel(
        "sweep's tiny VAE",
        ModelPart.VAE,
        ModelFacts(width=16, channels=(16, 16)),
        md5=("512df99f50ea3cec3e9cc133e5569899",),
    ),
    KnownModel(
        "the CLIP image encoder of Wan's image-to-video models",
        ModelPart.IMAGE_ENCODER,
        ModelFacts(width=1280, layers=32),
        obstacle="is no part of a text-to-video model",
    ),
    KnownModel(
        "the wav2vec2 audio encoder of Wan2.2 S2V",
        ModelPart.AUDIO_ENCODER,
        ModelFacts(width=1024, layers=24),
        obstacle="is no part of a text-to-video model",
    ),
)

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "module.")
"""What other programs put before each name; the first two are ComfyUI's."""

LORA = re.compile(r"lora_(A|B|up|down)\b|lora\.(up|down)|hada_w|lokr_|\.diff(_b|_m)?$")
"""In the names of what is added to a model and is none."""
LORA_DOWN = re.compile(r"lora_(A|down)\b|lora\.down")
SIZE_OF_WIDTH = {5120: "14B", 1536: "1.3B", 3072: "5B"}

SCALES = re.compile(r"(scale_weight|scale_input|weight_scale(_2)?|input_scale|scaled_fp8|absmax)$")
"""Names of tensors by which eight-bit weights are to be multiplied."""
FP8_TYPES = ("F8_E4M3", "F8_E5M2")
LOADED_TYPES = ("F64", "F32", "F16", "BF16", *FP8_TYPES)
"""Types whose numbers mean something by themselves, so that any other can be made of them."""
