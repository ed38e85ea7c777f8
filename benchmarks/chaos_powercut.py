"""A power cut as well as it can be imitated: everything killed, files lost, cut and zeroed."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from chaos_sweep import Broken, ChaosSweep
from measuring import table

from runner.disk.manifest import read_manifest
from runner.disk.run_folder import RunFolder, sha256_file
from runner.job import Job, JobState

BLOCK = 4096
"""What disks write as a whole."""

Damage = Callable[[Path, random.Random], None]


def cut(path: Path, rng: random.Random) -> None:
    """Only the beginning reached the disk."""
    os.truncate(path, rng.randrange(path.stat().st_size))


def empty(path: Path, _rng: random.Random) -> None:
    """The name reached the disk, the content did not."""
    os.truncate(path, 0)


def zero(path: Path, rng: random.Random) -> None:
    """Some blocks did not reach the disk and read as zeros; the size did."""
    size = path.stat().st_size
    start = rng.randrange(size) // BLOCK * BLOCK
    end = min(start + rng.randint(1, 4) * BLOCK, size)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(end - start))


def lose(path: Path, _rng: random.Random) -> None:
    path.unlink()


DAMAGES: tuple[Damage, ...] = (cut, empty, zero, lose)


def attack(
    folder: Path,
    *,
    rounds: int,
    jobs: int,
    slots: int,
    lost_plans: int | None,
    seed: int,
    broken: Broken,
) -> str:
    """Cut the power so many times, then let the sweep finish; returns what happened.

    Args:
        lost_plans: so many ways of damaging the plan are tried, by default all.
    """
    rng = random.Random(seed)
    model = {"seconds": 0.1, "spread": 0.5}
    sweep = ChaosSweep(folder, backend="fake", model=model, jobs=jobs, slots=slots)
    start = time.monotonic()
    tally: Counter[str] = Counter()
    with sweep.cleaned_up():
        sweep.ask("plan", str(sweep.file))
        planned = sha256_file(sweep.run.manifest)
        for number in range(rounds):
            run_until_cut(sweep, rng)
            cut_power(sweep, rng, tally, broken)
            print(f"cut {number + 1} of {rounds}: {dict(tally)}", file=sys.stderr)
        sweep.finish(broken)
        good = sweep.check_whole(broken)
        sweep.check_manifest(broken, planned)
        lost = check_lost_plans(sweep, rng, lost_plans, broken)
        for text in sweep.tracebacks():
            broken.expect(False, f"a traceback: {text}")
    seconds = time.monotonic() - start
    rows = [[what, str(number)] for what, number in sorted(tally.items())]
    rows += [["damaged manifest.jsonl or experiment.yaml, restored by `sweep plan`", str(lost)]]
    rows += [["good videos at the end", f"{good} of {sweep.total}"]]
    rows += [["promises broken", str(len(broken.findings))], ["seconds", f"{seconds:.0f}"]]
    return table(["what", "how often"], rows)


def run_until_cut(sweep: ChaosSweep, rng: random.Random) -> None:
    """Let the sweep run for a random time, and kill all of it at once."""
    command = sweep.start("resume", str(sweep.run.path), "--on", rng.choice(sweep.launchers))
    command.wait()
    if command.returncode:
        raise RuntimeError("resume failed after a power cut: " + sweep.last_said())
    done = sweep.done_so_far()
    deadline = time.monotonic() + 30
    wanted = rng.randint(1, max(sweep.total // 4, 1))
    while sweep.done_so_far() < done + wanted and sweep.victims():
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    sweep.kill_all()


def cut_power(sweep: ChaosSweep, rng: random.Random, tally: Counter[str], broken: Broken) -> None:
    """Damage files; verify must name exactly the videos that were counted as done and are not
    whole."""
    run = sweep.run
    jobs = read_manifest(run.manifest).jobs
    rows = sweep.rows()
    counted = [job for job in jobs if rows[job.id] is JobState.DONE]
    damaged = {
        job.output: damage_video(run, job, rng, tally) for job in counted if rng.random() < 0.4
    }
    queue_is_whole = not damage_rest(run, rng, tally)
    evidence = {job.output for job in counted if run.sidecar(job).exists()}
    done = sweep.try_out("verify", str(run.path), "--json")
    if done.returncode == 2 and not queue_is_whole and "`sweep resume" in done.stderr:
        # It says what the round does next: the queue is made anew, and every video judged by it.
        tally["queues so damaged that verify names the remedy"] += 1
        return
    if done.returncode not in (0, 1):
        broken.expect(False, f"verify ended with {done.returncode}: {done.stderr[-2000:]}")
        return
    answer = json.loads(done.stdout)
    named = {entry["video"] for entry in answer["broken"]}
    # With queue and sidecar both lost, nothing may be left to tell that there was a video.
    wanted = damaged.keys() if queue_is_whole else damaged.keys() & evidence
    for output in wanted - named:
        broken.expect(False, f"verify did not name {output}: {damaged[output]}")
    broken.expect(named <= damaged.keys(), f"verify named whole files: {named - damaged.keys()}")
    whole = len(counted) - len(damaged)
    broken.expect(answer["good"] >= whole, f"verify counts {answer['good']} of {whole} as good")
    counts = answer["good"] + answer["unmade"] + len(named)
    broken.expect(counts == sweep.total, f"verify speaks of {counts} of {sweep.total} jobs")
    tally["broken videos named by verify"] += len(named & damaged.keys())
    tally["broken videos of which nothing was left to name"] += len(damaged.keys() - named)


def damage_video(run: RunFolder, job: Job, rng: random.Random, tally: Counter[str]) -> str:
    """Damage a committed video, its sidecar or both; half of the time file times tell nothing."""
    video = run.video(job)
    chosen = rng.choice([[video], [run.sidecar(job)], [video, run.sidecar(job)]])
    said = []
    for path in chosen:
        damage = rng.choice(DAMAGES)
        before, times = path.read_bytes(), path.stat()
        while path.exists() and path.read_bytes() == before:
            damage(path, rng)
        if path.exists() and rng.random() < 0.5:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        kind = "video" if path == video else "sidecar"
        tally[f"damaged: {kind}"] += 1
        said.append(f"{kind}: {damage.__name__}")
    return ", ".join(said)


def damage_rest(run: RunFolder, rng: random.Random, tally: Counter[str]) -> bool:
    """Damage the queue, the records, the logs and what was in the making; returns whether the
    queue may have forgotten what was done."""
    forgets = False
    if rng.random() < 0.5:
        for path in run.path.rglob(".*.tmp*"):
            path.unlink()
            tally["dropped: temporary files"] += 1
    for path in (*run.path.glob("work/*/**/*"), *run.locks.glob("*.lock")):
        if path.is_file() and path.stat().st_size and rng.random() < 0.3:
            rng.choice(DAMAGES)(path, rng)
            tally["damaged: files in work/"] += 1
    for path in (run.attempts, *run.logs.glob("*.log")):
        if path.exists() and path.stat().st_size and rng.random() < 0.4:
            rng.choice(DAMAGES)(path, rng)
            tally["damaged: attempts.jsonl and logs"] += 1
    for name in ("sweep.db", "sweep.db-wal", "sweep.db-shm"):
        path = run.path / name
        if path.exists() and path.stat().st_size and rng.random() < 0.4:
            rng.choice(DAMAGES)(path, rng)
            tally[f"damaged: {name}"] += 1
            forgets = True
    return forgets


def check_lost_plans(
    sweep: ChaosSweep, rng: random.Random, at_most: int | None, broken: Broken
) -> int:
    """Damage the manifest, or the run's experiment, in every way, with the queue and without it:
    `sweep plan FILE` restores it. Returns how many ways were tried, `at_most` so many."""
    files = (sweep.run.manifest, sweep.run.experiment)
    damages: tuple[Damage, ...] = (*DAMAGES, cut_at_line)
    ways = [(file, damage, lost) for file in files for damage in damages for lost in (False, True)]
    if at_most is not None:
        ways = rng.sample(ways, at_most)
    wholes = {file: file.read_bytes() for file in files}
    for file, damage, queue_is_lost in ways:
        for whole, content in wholes.items():
            whole.write_bytes(content)
        sweep.ask("progress", str(sweep.run.path))
        if queue_is_lost:
            for part in sweep.run.path.glob("sweep.db*"):
                part.unlink()
        what = f"{file.name}: {damage.__name__}{', and no queue' * queue_is_lost}"
        while file.exists() and file.read_bytes() == wholes[file]:
            damage(file, rng)
        check_lost_plan(sweep, file, what, broken)
    return len(ways)


def check_lost_plan(sweep: ChaosSweep, file: Path, what: str, broken: Broken) -> None:
    """It is said in a line or two; planned again, it has the same jobs, and none is made again."""
    run = sweep.run
    made = published(run)
    asked = [["resume", "--on", "local"], ["verify"], ["progress"]]
    if file == run.experiment and file.exists():
        # The others do not need it.
        asked = asked[:1]
    for verb, *options in asked:
        done = sweep.try_out(verb, str(run.path), *options)
        lines = done.stderr.strip().splitlines()
        told = done.returncode == 2 and len(lines) <= 2 and "sweep plan" in done.stderr
        broken.expect(told, f"{what}: {verb}: status {done.returncode}: {done.stderr[-900:]}")
    done = sweep.try_out("plan", str(sweep.file))
    broken.expect(done.returncode == 0, f"{what}: plan: {done.stderr[-900:]}")
    again = sweep.try_out("resume", str(run.path), "--on", "local", "--wait")
    broken.expect(again.returncode == 0, f"{what}: resume: {again.stderr[-900:]}")
    if run.manifest.exists():
        planned = len(read_manifest(run.manifest).jobs)
        broken.expect(planned == sweep.total, f"{what}: {planned} of {sweep.total} jobs planned")
    broken.expect(published(run) == made, f"{what}: videos were made again")


def cut_at_line(path: Path, rng: random.Random) -> None:
    """The cut happens to be where a line ends, so that each that is left reads well."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: rng.randrange(1, len(lines))]))


def published(run: RunFolder) -> dict[str, tuple[int, int]]:
    """Every video with its inode and time: making it again changes both."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in run.path.glob("*/*/*.mp4")
    }
