"""One worker is frozen (SIGSTOP) in the middle of a transaction: how long do the others wait?

    python benchmarks/frozen.py                 # 60-second jobs, 8 workers, 3 freezes
    python benchmarks/frozen.py --seconds 5

What is measured, from the moment of the freeze: when another worker's write to the queue
succeeds again, and when the next job is claimed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from chaos_sweep import ROOT, ChaosSweep, Kind
from measuring import table, write_section

from runner.machine.lock_holders import writers


def asked(sweep: ChaosSweep, query: str) -> Any:
    """One value of the queue, read beside whoever holds it."""
    uri = f"{sweep.run.queue.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute(query).fetchone()[0]


def freeze(sweep: ChaosSweep, rng: random.Random) -> int:
    """Stop a worker at a moment at which it holds the queue's line; returns its pid."""
    line = sweep.run.queue.with_name(f"{sweep.run.queue.name}-line")
    workers = {victim.pid for victim in sweep.victims() if victim.kind is Kind.WORKER}
    while True:
        held = [pid for pid in writers([line]) if pid in workers]
        if not held:
            time.sleep(rng.uniform(0, 0.0005))
            continue
        os.kill(held[0], signal.SIGSTOP)
        time.sleep(0.01)
        if held[0] in writers([line]):
            return held[0]
        os.kill(held[0], signal.SIGCONT)


def wait_for_more(sweep: ChaosSweep, query: str, than: float) -> float:
    """Seconds until a value of the queue is greater."""
    begun = time.monotonic()
    while (asked(sweep, query) or 0) <= than:
        time.sleep(0.02)
    return time.monotonic() - begun


def attack(folder: Path, arguments: argparse.Namespace) -> list[list[str]]:
    rng = random.Random(arguments.seed)
    model = {"seconds": arguments.seconds, "spread": 0.8}
    sweep = ChaosSweep(folder, backend="fake", model=model, jobs=600, slots=arguments.workers)
    rows = []
    with sweep.cleaned_up():
        sweep.ask("plan", str(sweep.file))
        sweep.start("launch", str(sweep.run.path), "--on", "local").wait()
        # Until the workers' jobs no longer end together.
        time.sleep(min(90.0, 2 * arguments.seconds))
        for number in range(arguments.freezes):
            # Freezing each one's heartbeat or claim, whichever comes first.
            frozen = freeze(sweep, rng)
            begun, at = time.monotonic(), time.time()
            wait_for_more(sweep, "select max(beat_at) from workers", at)
            write = time.monotonic() - begun
            wait_for_more(sweep, "select max(claimed_at) from jobs", at)
            claim = time.monotonic() - begun
            print(f"freeze {number + 1}: {write:.1f} s, {claim:.1f} s", file=sys.stderr)
            rows.append([str(number + 1), f"{write:.1f}", f"{claim:.1f}"])
            time.sleep(5)
            os.kill(frozen, signal.SIGCONT)
        failed = sweep.ask("progress", str(sweep.run.path), statuses=(0, 1))["failed"]
        rows.append(["jobs failed", str(failed), ""])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="a job takes")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--freezes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sweep-frozen-", ignore_cleanup_errors=True) as name:
        rows = attack(Path(name), arguments)
    head = ["freeze", "seconds to another's next write", "seconds to the next claim"]
    body = (
        f"{arguments.workers} workers, jobs of {arguments.seconds:g} s (spread by 80 %); a worker "
        "is stopped while it holds the queue's line, and continued by its supervisor after 10 s. "
        "The next claim comes when a worker has ended its job: with jobs of a minute that may be "
        f"after the freeze is over.\n\n{table(head, rows)}"
    )
    write_section(arguments.out, "One frozen worker", body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
