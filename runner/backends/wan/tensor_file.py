"""Files of named tensors that prove themselves whole: safetensors with a sha256 of the content."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from ...disk.run_folder import write_atomically
from ...text.canonical import canonical_json

logger = logging.getLogger("sweep.wan")

SHA256 = "sha256"

Tensors = dict[str, Any]
FileFacts = dict[str, str]


def write_tensors(path: Path, tensors: Tensors, facts: FileFacts) -> None:
    """Write tensors, from whatever device, and facts about them in one rename.

    Raises:
        OSError: the file cannot be written, of a full disk for one; a former one stays.
    """
    from safetensors.torch import save

    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(held, {**facts, SHA256: _digest(held, facts)}))


def try_to_write(path: Path, tensors: Tensors, facts: FileFacts) -> bool:
    """`write_tensors` of what can be done without: where it fails the log says so, no more."""
    try:
        write_tensors(path, tensors, facts)
    except OSError as error:
        logger.warning("%s is not kept: %s", path.name, error)
        return False
    return True


def read_facts(path: Path) -> FileFacts:
    """The facts of a file, from its header alone; {} where there is none, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def read_tensors(path: Path) -> tuple[Tensors, FileFacts] | None:
    """The tensors, on the CPU, and their facts; None where the file is absent or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            facts = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    expected = facts.pop(SHA256, None)
    if expected != _digest(tensors, facts):
        logger.warning("%s is damaged, and is made again", path)
        return None
    return tensors, facts


def _digest(tensors: Tensors, facts: FileFacts) -> str:
    import torch

    digest = hashlib.sha256(canonical_json(facts).encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
