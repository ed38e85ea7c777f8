"""So many jobs of a queue claimed and finished, one after the other, by this one process.

`against.py` has each of two versions of the package do it: whichever stands first on PYTHONPATH.
So it names no module but the queue's, and takes slot, process and taste from what `Queue.claim`
says that it wants. A method is given the time where it takes one; a queue that is opened with a
clock is given that.

    PYTHONPATH=. python benchmarks/claim_cycles.py results/my/sweep.db 1000
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from runner.queue import Queue


def timed(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, given the time where it takes `now`. Looked at once, and not at every call."""
    if "now" not in inspect.signature(method).parameters:
        return method
    return lambda *arguments: method(*arguments, now=time.time())


def opened(path: Path) -> Any:
    """The queue of a file."""
    opening: Any = Queue
    if "clock" in inspect.signature(opening).parameters:
        return opening(path, clock=time.time)
    return opening(path)


def main() -> None:
    path, wanted = Path(sys.argv[1]), int(sys.argv[2])
    types = get_type_hints(Queue.claim)
    queue = opened(path)
    # Its name means the same slot in every version.
    slot, process = types["slot"].parse("gpu0_process0"), types["process"].own()
    claim, finish = timed(queue.claim), timed(queue.finish)
    timed(queue.workers.register)(slot, process)
    taste = types["taste"]()
    for number in range(wanted):
        claimed = claim(slot, process, taste)
        if claimed is None:
            raise SystemExit(f"{path}: only {number} jobs of {wanted} could be claimed")
        # As a worker does: it stays with its group.
        taste = types["taste"](group=claimed.job.group)
        finish(claimed)
    queue.close()


if __name__ == "__main__":
    main()
