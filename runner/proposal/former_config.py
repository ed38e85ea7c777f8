"""The settings file of another script: what is recognisable of it, as keys of an experiment."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dataset.prompts import YAML_SUFFIXES, parse_json
from ..text.errors import UserError
from ..text.text_file import read_text, shown
from ..text.yaml_file import parse_yaml

MOST_GPUS = 64


@dataclass(frozen=True)
class FormerConfig:
    """What a settings file says: `values` by the experiment's dotted key, `spelled` what the file
    calls it, and a line for everything that was not understood."""

    file: Path
    values: dict[str, Any] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    not_understood: tuple[str, ...] = ()


def read_config(file: Path) -> FormerConfig:
    """Read a JSON or YAML file of settings, sections and all.

    Raises:
        UserError: it cannot be read, or is no mapping.
    """
    parse = parse_yaml if file.suffix.lower() in YAML_SUFFIXES else parse_json
    content = parse(file, read_text(file, "configuration file"))
    if not isinstance(content, dict):
        raise UserError(f"{shown(file)}: must be a mapping of settings")
    values: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    puzzles: list[str] = []
    for where, word, value in settings_in(content, ()):
        kind = KEYS.get(normal(word))
        if kind is None:
            puzzles.append(f"{where}: {brief(value)}: no setting of that name is known")
            continue
        try:
            found = READERS[kind](value)
        except (ValueError, TypeError, OverflowError):
            puzzles.append(f"{where}: {brief(value)}: is no value for {kind}")
            continue
        for key, one in found.items():
            if key in values and values[key] != one:
                puzzles.append(f"{where}: {brief(value)}: {spelled[key]} says otherwise")
            elif key not in values:
                values[key], spelled[key] = one, where
    return FormerConfig(file, values, spelled, tuple(puzzles))


def settings_in(section: dict[Any, Any], above: tuple[str, ...]) -> Iterator[tuple[str, str, Any]]:
    """Every setting, however deep: its place, its own name, its value."""
    for key, value in section.items():
        names = (*above, str(key))
        if isinstance(value, dict) and normal(str(key)) not in KEYS and len(names) < 20:
            yield from settings_in(value, names)
        elif value is not None:
            yield ".".join(names), str(key), value


def normal(word: str) -> str:
    """A name without case and separators: numInferenceSteps is num_inference_steps."""
    return re.sub(r"[\W_]", "", word.lower())


def brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole(value: Any, least: int = 1, most: int = 2**63 - 1) -> int:
    """A whole number in a range, however it is written.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool):
        raise TypeError(value)
    number = int(value) if isinstance(value, str) else value
    if number != int(number) or not least <= number <= most:
        raise ValueError(value)
    return int(number)


def number(value: Any, least: float, most: float) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    found = float(value)
    if not math.isfinite(found) or not least <= found <= most:
        raise ValueError(value)
    return int(found) if found == int(found) else found


def text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(value)
    value.encode()
    return value


def path(value: Any) -> str:
    if not text(value).strip():
        raise ValueError(value)
    return str(value)


def list_of(value: Any, least: int = 0, most: int = 2**63 - 1) -> list[int]:
    """Numbers as a list, as `0,1`, or one alone; each once."""
    if isinstance(value, str):
        value = re.split(r"[,\s]+", value.strip())
    items = value if isinstance(value, list) else [value]
    numbers = [
        whole(item.removeprefix("cuda:") if isinstance(item, str) else item, least, most)
        for item in items
    ]
    if not numbers:
        raise ValueError(value)
    return list(dict.fromkeys(numbers))


def gpu_list(value: Any) -> list[int]:
    return list_of(value, most=MOST_GPUS - 1)


def size(value: Any) -> dict[str, Any]:
    """`832x480`, `832*480` or [832, 480]: width first."""
    parts = re.split(r"\s*[xX*×,]\s*", value.strip()) if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError(value)
    width, height = (whole(part, 2, 16384) for part in parts)
    return {"generation.width": width, "generation.height": height}


def assignment(value: Any) -> dict[str, Any]:
    """{category: GPU or GPUs}."""
    if not isinstance(value, dict) or not value:
        raise ValueError(value)
    return {"placement.assign": {text(name): gpu_list(gpus) for name, gpus in value.items()}}


def dtype(value: Any) -> str:
    known = {"bfloat16": "bfloat16", "bf16": "bfloat16", "float32": "float32", "fp32": "float32"}
    name = known.get(text(value).rpartition(".")[2].lower())
    if name is None:
        raise ValueError(value)
    return name


def switch(value: Any) -> str:
    if not isinstance(value, bool):
        raise TypeError(value)
    return "on" if value else "off"


def _one(key: str, read: Callable[..., Any], *limits: float) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {key: read(value, *limits)}


READERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "videos": _one("dataset.videos", path),
    "prompts": _one("dataset.prompts", path),
    "model path": _one("model.checkpoint", path),
    "dtype": _one("model.dtype", dtype),
    "tiling": _one("model.vae_tiling", switch),
    "seeds": _one("seeds", list_of),
    "steps": _one("generation.num_inference_steps", whole, 1, 10_000),
    "cfg": _one("generation.cfg_scale", number, -1000, 1000),
    "denoising strength": _one("generation.denoising_strength", number, 1e-6, 1),
    "sigma shift": _one("generation.sigma_shift", number, 1e-6, 1000),
    "negative prompt": _one("generation.negative_prompt", text),
    "width": _one("generation.width", whole, 2, 16384),
    "height": _one("generation.height", whole, 2, 16384),
    "size": size,
    "frames": _one("generation.num_frames", whole, 1, 100_000),
    "fps": _one("generation.fps", number, 0.001, 240),
    "quality": _one("output.quality", number, 0, 10),
    "gpus": _one("placement.gpus", gpu_list),
    "number of GPUs": lambda value: {"placement.gpus": list(range(whole(value, 1, MOST_GPUS)))},
    "processes": _one("placement.processes_per_gpu", whole, 1, 64),
    "assignment": assignment,
}
"""How each kind of setting is read: a value of theirs in, keys and values of ours out."""

SPELLINGS = {
    "videos": "videos video_dir video_folder video_path videos_dir video_root dataset dataset_dir "
    "dataset_path dataset_root data_dir data_root data_path input_dir reference_dir "
    "reference_videos ref_video_dir reference_video_dir",
    "prompts": "prompts prompt_file prompt_path prompts_file prompts_path prompt_json prompts_json",
    "model path": "model_path model_dir model_root model_folder checkpoint checkpoint_path "
    "checkpoint_dir ckpt ckpt_path ckpt_dir base_model pretrained_model_name_or_path weights "
    "model_id model",
    "dtype": "dtype torch_dtype precision",
    "tiling": "tiled tiling vae_tiling",
    "seeds": "seeds seed random_seed random_seeds seed_list",
    "steps": "num_inference_steps inference_steps steps num_steps sampling_steps sample_steps "
    "denoising_steps",
    "cfg": "cfg_scale cfg guidance_scale guidance sample_guide_scale text_guidance_scale",
    "denoising strength": "denoising_strength denoise_strength strength denoise denoising",
    "sigma shift": "sigma_shift flow_shift shift sample_shift",
    "negative prompt": "negative_prompt neg_prompt n_prompt negative negative_prompts",
    "width": "width w video_width output_width",
    "height": "height h video_height output_height",
    "size": "size resolution video_size output_size",
    "frames": "num_frames frames frame_num n_frames video_length frame_count",
    "fps": "fps frame_rate output_fps video_fps save_fps",
    "quality": "quality video_quality output_quality",
    "gpus": "gpus gpu gpu_ids gpu_id gpu_list devices device_ids cuda_visible_devices",
    "number of GPUs": "num_gpus n_gpus gpu_count ngpu number_of_gpus",
    "processes": "processes_per_gpu process_per_gpu procs_per_gpu num_processes_per_gpu "
    "workers_per_gpu num_workers_per_gpu instances_per_gpu processes",
    "assignment": "assign assignment gpu_assignment category_gpu category_gpus category_to_gpu "
    "category_gpu_map gpu_map",
}
"""What other scripts call each kind of setting."""

KEYS = {normal(word): kind for kind, words in SPELLINGS.items() for word in words.split()}
