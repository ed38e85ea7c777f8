"""What workers that load one checkpoint read from a disk whose files are not in memory yet.

    python benchmarks/cold_load.py --gb 3 --workers 2 4

Every worker is a process that reads the same weights through diffsynth's own loader, as
`from_pretrained` does, and copies them. Before each cold row the file is dropped from the page
cache; what a process reads from the disk is the kernel's count (`read_bytes` of proc(5)). Needs
memory for one more copy of the file than there are workers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Barrier

from measuring import table, write_section

from runner.backends.wan.offline import import_torch

SHAPE = (5120, 13824)
"""Of the largest weights in a block of the 14B model: 142 MB in bfloat16."""


def write_weights(path: Path, gigabytes: float) -> int:
    """Write random weights of about that size; returns the file's bytes."""
    torch = import_torch()
    from safetensors.torch import save_file

    one = SHAPE[0] * SHAPE[1] * 2
    number = max(1, round(gigabytes * 1e9 / one))
    weights = {f"blocks.{i}": torch.randn(SHAPE).to(torch.bfloat16) for i in range(number)}
    save_file(weights, path)
    return path.stat().st_size


def forget(path: Path) -> None:
    """Drop a file from the page cache."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def bytes_read() -> int:
    """What this process has had read from disks."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def load(path: str, together: Barrier, wait: float) -> tuple[float, int]:
    """Seconds and bytes from the disk of one worker's loading, begun `wait` seconds late."""
    import_torch()
    from diffsynth.core.loader.file import load_state_dict

    # Only the reading is measured, and no imports.
    together.wait()
    time.sleep(wait)
    before, start = bytes_read(), time.monotonic()
    weights = load_state_dict(path, device="cpu")
    # Until they are copied, to a GPU or as here, they are a mapped file of which little was read.
    held = [weight.clone() for weight in weights.values()]
    took = time.monotonic() - start
    del held
    return took, bytes_read() - before


def measured(path: Path, workers: int, apart: float) -> list[tuple[float, int]]:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, context) as pool:
        together = manager.Barrier(workers)
        loads = [pool.submit(load, str(path), together, i * apart) for i in range(workers)]
        return [one.result() for one in loads]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=3.0, help="of weights")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4], help="beside one")
    parser.add_argument("--folder", type=Path, help="on the disk to read from")
    parser.add_argument("--out", type=Path, default=Path("docs/measurements.md"))
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "weights.safetensors"
        size = write_weights(path, arguments.gb)

        def row(workers: int, cache: str, apart: float = 0.0) -> float:
            """Measure it and note it; seconds until all workers have the weights."""
            if cache == "cold":
                forget(path)
            loads = measured(path, workers, apart)
            start = f"{apart:.1f} s apart" if apart else "together"
            each = ", ".join(f"{seconds:.1f}" for seconds, _ in loads)
            disk = sum(read for _, read in loads) / size
            ended = max(i * apart + seconds for i, (seconds, _) in enumerate(loads))
            rows.append([str(workers), cache, start, each, f"{ended:.1f}", f"{disk:.2f}"])
            return ended

        alone = row(1, "cold")
        row(1, "warm")
        for workers in arguments.workers:
            row(workers, "cold")
            row(workers, "cold", alone / 2)
            row(workers, "warm")
    head = ["workers", "page cache", "start", "seconds of each", "until all have it",
            "read from the disk, times the file"]  # fmt: skip
    body = f"One file of {size / 1e9:.1f} GB, read to host memory.\n\n{table(head, rows)}"
    write_section(arguments.out, "Loading weights that are not in memory", body)


if __name__ == "__main__":
    main()
