"""`python -m runner.backends.wan.trial`: one process makes one job's latents, and tells their hash.

What to make comes as JSON on standard input, what came of it goes as JSON to standard output.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from ...job import Job
from ...job.record import job_of
from ...text.errors import UserError
from ...text.plain_text import printable
from .. import Interrupted, Machine
from .engine import WanEngine
from .planner import WanPlanner
from .settings import WanSettings


def run(wanted: dict[str, Any]) -> dict[str, Any]:
    """Make a job, and part of it again.

    Args:
        wanted: `settings` (a `model` section), `root`, `device`, `cache`, `job` (with absolute
            paths), `scratch` (a folder to work in), `leave` (a folder for latents after half of
            the steps, or null) and `go_on` (such a folder to go on from, or null).

    Returns:
        `latents` and `frames`, hashes; `kernels`; `from_step` and `resumed`, the hash of the
        latents that were gone on with, where there was something to go on from; `seconds` a step.
    """
    job = job_of(wanted["job"])
    settings = WanSettings.model_validate(wanted["settings"])
    engine = WanPlanner(settings, Path(wanted["root"])).engine()
    device, scratch = wanted["device"], Path(wanted["scratch"])
    engine.load(Machine(device, Path(wanted["cache"]), jobs=lambda: [job]))
    engine.prepare(job.series)
    at: list[float] = []
    latents = engine.latents(job, scratch, lambda *_: at.append(time.perf_counter()))
    frames = engine.decoded(latents)
    found: dict[str, Any] = {
        "latents": digest(latents),
        "frames": hashlib.sha256(frames.tobytes()).hexdigest(),
        "kernels": engine.kernels(job),
        "seconds": (at[-1] - at[0]) / (len(at) - 1) if len(at) > 1 else None,
    }
    if wanted["leave"] is not None:
        _leave_half(engine, job, Path(wanted["leave"]))
    if wanted["go_on"] is not None:
        left = Path(wanted["go_on"])
        found["from_step"] = engine.steps_kept(job, left)
        found["resumed"] = digest(engine.latents(job, left, lambda *_: None))
    engine.close()
    return found


def _leave_half(engine: WanEngine, job: Job, scratch: Path) -> None:
    def end(done: int, total: int) -> None:
        if done == max(1, total // 2):
            raise Interrupted

    try:
        engine.latents(job, scratch, end)
    except Interrupted:
        return


def digest(tensor: Any) -> str:
    """Hex sha256 of a tensor's numbers."""
    import torch

    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy().data).hexdigest()


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    try:
        sys.stdout.write(f"{json.dumps(run(json.load(sys.stdin)))}\n")
    except UserError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
