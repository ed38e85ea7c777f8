"""Write a checkpoint of random numbers in the layout of the published Wan2.1-T2V-14B folder.

Speed and memory do not depend on the weights' values, so measurements need no download:

    python benchmarks/random_checkpoint.py models/random-14b --device cuda

diffsynth recognises the files as it does the published ones. The 14B size takes 40 GB of
disk. What it generates is noise.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any

from runner.backends.wan.made_up import Numbers, write_checkpoint
from runner.backends.wan.offline import import_torch
from runner.backends.wan.sizes import FULL, TINY, spread

SIZES = {"14b": (FULL, 6), "tiny": (TINY, 2)}
"""Model sizes and the number of DiT files."""


def random_numbers(device: str, seed: int) -> Numbers:
    """Normal random weights, scaled so that forward passes stay finite, made on `device`."""
    torch = import_torch()
    generator = torch.Generator(device).manual_seed(seed)

    def numbers(name: str, shape: tuple[int, ...]) -> Any:
        mean, deviation = spread(name, shape)
        tensor = torch.empty(shape, dtype=torch.bfloat16, device=device)
        return tensor.normal_(mean, deviation, generator=generator).cpu()

    return numbers


def main() -> None:
    """Write the checkpoint; print each file's size and seconds, then the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="made if it is not there")
    parser.add_argument("--device", default="cuda", help="where the numbers are made")
    parser.add_argument("--size", choices=SIZES, default="14b")
    parser.add_argument("--format", choices=["safetensors", "pth"], default="safetensors")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start = time.perf_counter()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sizes, shards = SIZES[arguments.size]
    numbers = random_numbers(arguments.device, arguments.seed)
    suffix = f".{arguments.format}"
    write_checkpoint(arguments.folder, sizes, numbers, shards=shards, suffix=suffix)
    total = sum(path.stat().st_size for path in arguments.folder.rglob("*") if path.is_file())
    print(f"{arguments.folder}: {total / 1e9:.3f} GB in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
