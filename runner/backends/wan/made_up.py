"""Checkpoint folders of made-up weights, in the layout and the formats of published ones."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checkpoint import DIT, TEXT_ENCODER, TOKENIZER, VAE
from .sizes import ModelSizes, Shapes, tensors_of
from .tokenizer import write_tokenizer

logger = logging.getLogger("sweep.wan")

Numbers = Callable[[str, tuple[int, ...]], Any]
"""Gives the bfloat16 CPU tensor of that name and shape."""


def write_checkpoint(
    folder: Path, sizes: ModelSizes, numbers: Numbers, *, shards: int, suffix: str = ".safetensors"
) -> None:
    """Write the DiT in several files, with their index, the text encoder, VAE and tokenizer.

    Host memory holds one tensor at a time for `.safetensors`, one file for `.pth`.

    Args:
        folder: is there already.
        sizes: of the models.
        numbers: the weights.
        shards: number of DiT files, of about equal size.
        suffix: ".safetensors" or ".pth".
    """
    tensors = tensors_of(sizes)
    weight_map: dict[str, str] = {}
    for number, part in enumerate(_split(tensors.dit, shards), start=1):
        path = folder / f"{DIT}-{number:05}-of-{shards:05}{suffix}"
        _write(path, part, numbers)
        weight_map.update(dict.fromkeys(part, path.name))
    index = folder / f"{DIT}{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}, indent=1) + "\n", encoding="utf-8")
    _write(folder / f"{TEXT_ENCODER}{suffix}", tensors.text_encoder, numbers)
    _write(folder / f"{VAE}{suffix}", tensors.vae, numbers)
    write_tokenizer(folder / TOKENIZER)


def _split(shapes: Shapes, parts: int) -> list[Shapes]:
    total = sum(map(math.prod, shapes.values()))
    split: list[Shapes] = [{} for _ in range(parts)]
    before = 0
    for name, shape in shapes.items():
        split[before * parts // total][name] = shape
        before += math.prod(shape)
    return split


def _write(path: Path, shapes: Shapes, numbers: Numbers) -> None:
    start = time.perf_counter()
    if path.suffix == ".pth":
        import torch

        torch.save({name: numbers(name, shape) for name, shape in shapes.items()}, path)
    else:
        _write_safetensors(path, shapes, numbers)
    seconds = time.perf_counter() - start
    logger.info("%s: %.3f GB in %.1f s", path.name, path.stat().st_size / 1e9, seconds)


def _write_safetensors(path: Path, shapes: Shapes, numbers: Numbers) -> None:
    # The format: https://huggingface.co/docs/safetensors. Its own writer takes all tensors at
    # once and copies them, which for the 11 GB text encoder is too much.
    import torch

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            file.write(numbers(name, shape).contiguous().view(torch.uint8).numpy().data)
