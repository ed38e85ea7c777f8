"""Our own overhead a job: claim, publish, sidecar, flush and finish, with 16 workers at once.

The jobs do nothing: each publishes a ready file of a few kilobytes, so that encoding and
decoding are left out. The queue is a real one of the size named; a bounded number of jobs is
done at each, spread over the workers as they come.

    python benchmarks/overhead.py            # 680 and 100,000 jobs
    python benchmarks/overhead.py --full     # and 1,000,000
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from measuring import table, write_section

from runner.attempts import Attempt, record_attempt
from runner.claim_order import Taste
from runner.fingerprint import Recipe
from runner.job import Job, JobState, Outcome, Reference, job_ids
from runner.placement import Slot
from runner.processes import ProcessId
from runner.publish import files_of, publish, state_on_disk
from runner.queue import Queue
from runner.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Overhead a job"
SHAPES = {680: (68, 5, 2), 100_000: (100, 100, 10), 1_000_000: (100, 100, 100)}
CATEGORIES = 4
WORKERS = 16
FILE = b"no video" * 512


def make_jobs(count: int) -> list[Job]:
    videos, prompts, seeds = SHAPES[count]
    parameters = {"width": 832, "height": 480, "num_frames": 81, "fps": 15.0}
    recipe = Recipe("fake", 1, {}, parameters, 5.0)
    jobs = []
    for number in sorted(range(videos), key=lambda n: n % CATEGORIES):
        category, video = f"category_{number % CATEGORIES}", f"ref_{number:03d}"
        reference = Reference(f"videos/{category}/{video}.mp4", "0" * 64)
        for prompt in range(prompts):
            text = f"{prompt}: a slow pan across a harbour at dusk, gulls over the water"
            ids = job_ids(category, video, prompt, range(seeds))
            prints = recipe.fingerprints(text, reference.sha256, range(seeds))
            for seed, job_id, fingerprint in zip(range(seeds), ids, prints, strict=True):
                output = f"{category}/{video}/seed_{seed}_prompt_{prompt}.mp4"
                shared = (text, reference, parameters)
                point = (job_id, category, video, prompt, seed)
                jobs.append(Job(*point, *shared, fingerprint, output))
    return jobs


def work(
    folder: Path,
    number: int,
    share: int,
    begin: Barrier,
    out: multiprocessing.Queue[tuple[float, float, list[float]]],
) -> None:
    """One worker: what `runner.worker` does around a generation, for `share` jobs at most."""
    run = RunFolder(folder)
    queue = Queue(run.queue)
    slot, process = Slot(number % 4, number // 4), ProcessId.own()
    queue.workers.register(slot, process, time.time())
    group: str | None = None
    home = (f"category_{slot.gpu % CATEGORIES}",)
    claims = []
    begin.wait()
    start = time.time()
    for _ in range(share):
        before = time.perf_counter()
        queue.reclaim(time.time())
        claim = queue.claim(slot, process, Taste(group, home), time.time())
        claims.append(time.perf_counter() - before)
        if claim is None:
            break
        job, group = claim.job, claim.job.group
        assert state_on_disk(run, job) is JobState.PENDING
        run.video(job).parent.mkdir(parents=True, exist_ok=True)
        temporary = run.temporary(job)
        temporary.write_bytes(FILE)
        queue.renew(claim, time.time())
        record = {"seed": job.seed, "parameters": job.parameters, "prompt": job.prompt_text}
        publish(run, job, temporary, record)
        queue.finish(claim, time.time(), files=files_of(str(run.video(job))))
        now = time.time()
        record_attempt(
            run.attempts, Attempt(job.id, slot.name, Outcome.DONE, claim.claimed_at, now)
        )
    out.put((start, time.time(), claims))


def measure(folder: Path, size: int, jobs: int) -> list[str]:
    """Do `jobs` jobs of a queue of `size`; returns the table's row."""
    run = RunFolder(folder / f"run_{size}")
    queue = Queue(run.queue, create=True)
    queue.sync(make_jobs(size), [], "m", lambda _: JobState.PENDING)
    queue.close()
    count = min(size, jobs)
    context = multiprocessing.get_context("spawn")
    begin, out = context.Barrier(WORKERS), context.Queue()
    # Each an even share, but where the queue is emptied, as many as it gets.
    share = count // WORKERS if count < size else size
    processes = [
        context.Process(target=work, args=(run.path, number, share, begin, out))
        for number in range(WORKERS)
    ]
    for process in processes:
        process.start()
    results = [out.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    queue = Queue(run.queue)
    done = sum(states.get(JobState.DONE, 0) for states in queue.counts().values())
    queue.close()
    seconds = max(end for _, end, _ in results) - min(start for start, _, _ in results)
    claims = 1000 * np.array([one for _, _, own in results for one in own])
    shutil.rmtree(run.path)
    numbers = (1000 * seconds / done, *np.percentile(claims, [50, 99]), claims.max())
    return ["sweep", f"{size:,}", f"{done:,}", *(f"{number:.2f}" for number in numbers)]


def measure_flush(folder: Path) -> str:
    """Milliseconds of writing and flushing one small file, which bounds everybody here."""
    times = []
    for _ in range(200):
        start = time.perf_counter()
        with (folder / "flush").open("wb") as file:
            file.write(FILE)
            file.flush()
            os.fsync(file.fileno())
        times.append(time.perf_counter() - start)
    return f"{1000 * float(np.median(times)):.2f}"


def measure_parallel(folder: Path, count: int) -> list[str] | None:
    """GNU parallel with its job log, on the same number of no-op jobs."""
    if shutil.which("parallel") is None:
        return None
    command = ["parallel", "--will-cite", "-j", str(WORKERS), "--joblog", str(folder / "joblog")]
    start = time.monotonic()
    text = "\n".join(map(str, range(count)))
    subprocess.run([*command, "--resume", "true"], input=text, text=True, check=True)
    each = 1000 * (time.monotonic() - start) / count
    return ["GNU parallel", f"{count:,}", f"{count:,}", f"{each:.2f}", "", "", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also 1,000,000 jobs")
    parser.add_argument("--size", type=int, choices=SHAPES, action="append")
    parser.add_argument("--jobs", type=int, default=5000, help="done at each size, at most")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    sizes = arguments.size or [n for n in SHAPES if arguments.full or n <= 100_000]
    with tempfile.TemporaryDirectory() as name:
        flush = measure_flush(Path(name))
        rows = []
        for size in sizes:
            rows.append(measure(Path(name), size, arguments.jobs))
            print(rows[-1], file=sys.stderr)
        others = [measure_parallel(Path(name), min(arguments.jobs, 2000))]
    head = ["tool", "jobs in the queue", "jobs done", "ms a job"]
    head += ["claim, median ms", "claim, 99th percentile ms", "claim, longest ms"]
    body = (
        f"{WORKERS} worker processes at once; ms a job is wall time over jobs, from the first "
        "worker's first claim to the last one's end. A job is what a worker does around a "
        f"generation: look for lost workers, claim, write {len(FILE)} bytes, renew, publish with "
        "sidecar and flushes, finish (which counts the worker's job), record the attempt. "
        "A claim's time includes the "
        f"look for lost workers and the wait for the lock. One flushed file takes {flush} ms "
        f"here.\n\n{table(head, [*rows, *(row for row in others if row)])}"
    )
    write_section(arguments.out, TITLE, body)


if __name__ == "__main__":
    main()
