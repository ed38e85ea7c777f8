"""Our own overhead a job: claim, publish, sidecar, flush and finish, with 16 workers at once.

The jobs do nothing: each publishes a ready file of a few kilobytes, so that encoding and
decoding are left out. The queue is a real one of the size named; a bounded number of jobs is
done at each, spread over the workers as they come.

    python benchmarks/overhead.py            # 680 and 100,000 jobs
    python benchmarks/overhead.py --full     # and 1,000,000
    python benchmarks/overhead.py --rivals ~/rivals    # keep the other tools' environments
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from measuring import table, write_section
from rivals import measure_rivals
from shapes import CATEGORIES, SHAPES, parser_of_sizes, sizes_of

from runner.disk.attempts import AttemptRecord, record_attempt
from runner.disk.publish import files_of, publish, state_on_disk
from runner.disk.run_folder import RunFolder
from runner.job import FileInput, Job, JobState, Outcome, Series, TextInput
from runner.job.naming import job_ids, path_around_seed
from runner.job.shape import Shape
from runner.job.slot_names import Slot
from runner.machine.processes import ProcessId
from runner.plan.fingerprint import MethodIdentity
from runner.queue import Queue
from runner.queue.claim_order import Taste

TITLE = "Overhead a job"
WORKERS = 16
FILE = b"no video" * 512


@dataclass(frozen=True)
class Share:
    """What one worker did: start and end in Unix seconds, processor seconds, each claim's."""

    start: float
    end: float
    processor: float
    claims: list[float]


def make_jobs(count: int) -> list[Job]:
    shape = SHAPES[count]
    parameters = {"width": 832, "height": 480, "num_frames": 81, "fps": 15.0}
    made = Shape(832, 480, 81, 15.0)
    identity, seeds = MethodIdentity("fake", 1, {}, 5.0), range(shape.seeds)
    jobs = []
    for category, video in shape.clips():
        reference = FileInput(f"videos/{category}/{video}.mp4", "0" * 64)
        for prompt, text in enumerate(shape.texts()):
            point: dict[str, str | int] = {"category": category, "video": video, "prompt": prompt}
            series = Series(
                point=point,
                group=f"{category}/{video}",
                inputs={"reference": reference, "prompt": TextInput(text)},
                parameters=parameters,
                shape=made,
            )
            ids = job_ids(point, seeds)
            prints = identity.fingerprints(series.inputs, seeds, parameters)
            start, end = path_around_seed(point, "video")
            jobs += [
                Job(job_id, series, seed, fingerprint, f"{start}{seed}{end}.mp4")
                for seed, job_id, fingerprint in zip(seeds, ids, prints, strict=True)
            ]
    return jobs


def work(
    folder: Path,
    number: int,
    share: int,
    begin: Barrier,
    out: multiprocessing.Queue[Share],
) -> None:
    """One worker: what `runner.worker` does around a generation, for `share` jobs at most."""
    run = RunFolder(folder)
    queue = Queue(run.queue)
    slot, process = Slot.of(number % 4, number // 4), ProcessId.own()
    queue.workers.register(slot, process)
    group: str | None = None
    home = (f"category_{slot.devices.gpu % CATEGORIES}",)
    claims = []
    begin.wait()
    start, processor = time.time(), time.process_time()
    for _ in range(share):
        before = time.perf_counter()
        queue.reclaim()
        claim = queue.claim(slot, process, Taste(group, home))
        claims.append(time.perf_counter() - before)
        if claim is None:
            break
        job, group = claim.job, claim.job.group
        assert state_on_disk(run, job) is JobState.PENDING
        run.video(job).parent.mkdir(parents=True, exist_ok=True)
        temporary = run.temporary(job)
        temporary.write_bytes(FILE)
        queue.renew(claim)
        record = {
            "seed": job.seed,
            "parameters": job.parameters,
            "prompt": job.series.text("prompt"),
        }
        publish(run, job, temporary, record)
        queue.finish(claim, files=files_of(str(run.video(job))))
        now = time.time()
        record_attempt(
            run.attempts, AttemptRecord(job.id, slot.name, Outcome.DONE, claim.claimed_at, now)
        )
    out.put(Share(start, time.time(), time.process_time() - processor, claims))


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
    results: list[Share] = [out.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    queue = Queue(run.queue)
    done = sum(states.get(JobState.DONE, 0) for states in queue.counts().values())
    queue.close()
    seconds = max(share.end for share in results) - min(share.start for share in results)
    processor = sum(share.processor for share in results)
    claims = 1000 * np.array([claim for share in results for claim in share.claims])
    shutil.rmtree(run.path)
    each = (1000 * seconds / done, 1000 * processor / done)
    numbers = (*each, *np.percentile(claims, [50, 99]), claims.max())
    return [f"{size:,}", f"{done:,}", *(f"{number:.2f}" for number in numbers)]


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


def main() -> None:
    parser = parser_of_sizes(__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=5000, help="done at each size, at most")
    parser.add_argument("--repeat", type=int, default=3, help="times that each size is measured")
    parser.add_argument("--rivals", type=Path, help="where the other tools are, or get, installed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flush = measure_flush(folder)
        rows = []
        for _ in range(arguments.repeat):
            for size in sizes_of(arguments):
                rows.append(measure(folder, size, arguments.jobs))
                print(rows[-1], file=sys.stderr)
        environments = (arguments.rivals or folder / "environments").absolute()
        rivals = measure_rivals(WORKERS, environments, folder / "rivals")
    rows.sort(key=lambda row: int(row[0].replace(",", "")))
    head = ["jobs in the queue", "jobs done", "ms a job", "of processors, ms a job"]
    head += ["claim, median ms", "claim, 99th percentile ms", "claim, longest ms"]
    body = (
        f"{WORKERS} worker processes at once; ms a job is wall time over jobs, from the first "
        "worker's first claim to the last one's end; of processors: what the workers had of all "
        "cores. A job is what a worker does around a "
        f"generation: look for lost workers, claim, write {len(FILE)} bytes, renew, publish with "
        "sidecar and flushes, finish, record the attempt. A claim's time includes the "
        f"look for lost workers and the wait for the lock. One flushed file takes {flush} ms "
        f"here. Times that each size was measured: {arguments.repeat}.\n\n{table(head, rows)}\n\n"
        f"Other tools in the same run, {WORKERS} jobs at once that do nothing at all (`true`, an "
        "empty function), which publish, flush and record nothing of their own:\n\n"
        f"{table(['tool', 'jobs', 'ms a job', 'kept on disk'], rivals)}"
    )
    write_section(arguments.out, TITLE, body)


if __name__ == "__main__":
    main()
