"""A small file system that fills up in the middle, by the sweep itself and by somebody else."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from chaos_sweep import Broken, ChaosSweep
from measuring import table

from runner.disk.run_folder import sha256_file

MIB = 1024**2
FULL_SECONDS = 3.0
INSIDE = "SWEEP_CHAOS_NAMESPACE"


class NoMount(Exception):
    """This machine lets nobody like us mount a file system."""


def may_mount(folder: Path) -> bool:
    """Whether a tmpfs can be mounted here and now."""
    try:
        with small_disk(folder, 1):
            return True
    except NoMount:
        return False


def enter_namespace() -> None:
    """Start this command again in a user and mount namespace of its own, where mounting is
    allowed to anybody, as far as this machine has them; returns where it cannot."""
    if INSIDE not in os.environ and shutil.which("unshare"):
        trial = ["unshare", "--user", "--map-root-user", "--mount"]
        if subprocess.run([*trial, "true"], capture_output=True, check=False).returncode == 0:
            os.environ[INSIDE] = "1"
            os.execvp("unshare", [*trial, sys.executable, *sys.argv])


@contextlib.contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Callable[[int], None]]:
    """A tmpfs of so many MiB at `folder`; yields what gives it another size.

    Raises:
        NoMount: this is not allowed here.
    """

    def mount(*words: str) -> None:
        if shutil.which("mount") is None:
            raise NoMount("there is no mount command")
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoMount(done.stderr.strip())

    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder))

    def resize(mib: int) -> None:
        mount("-o", f"remount,size={mib}m", str(folder))

    try:
        # Some kernels let a namespace's own root mount, and nothing more.
        resize(size_mib)
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def attack(
    folder: Path, *, size_mib: int, jobs: int, slots: int, fills: int, seed: int, broken: Broken
) -> str:
    """Let a sweep fill its disk, give it room, then fill it for it; returns what happened.

    Raises:
        NoMount: no file system can be mounted here.
    """
    rng = random.Random(seed)
    disk = folder / "disk"
    with small_disk(disk, size_mib) as resize:
        model = {"seconds": 0.15, "spread": 0.5}
        sweep = ChaosSweep(
            folder, backend="fake", model=model, jobs=jobs, slots=slots, results=disk / "results"
        )
        with sweep.cleaned_up():
            return _attack(sweep, disk, resize, size_mib, fills, rng, broken)


def _attack(
    sweep: ChaosSweep,
    disk: Path,
    resize: Callable[[int], None],
    size_mib: int,
    fills: int,
    rng: random.Random,
    broken: Broken,
) -> str:
    start = time.monotonic()
    sweep.ask("plan", str(sweep.file))
    planned = sha256_file(sweep.run.manifest)
    command = sweep.start("launch", str(sweep.run.path), "--on", "local", "--wait")
    wait_for(partial(all_wait, sweep), 300)
    full = sweep.ask("progress", str(sweep.run.path), statuses=(0, 1))
    notes = check_paused(sweep, full, broken)
    broken.expect(command.poll() is None, "launch --wait ended while the disk was full")
    good_when_full = sweep.check_whole(broken)
    free = shutil.disk_usage(disk).free
    print(f"full with {full['done']} jobs done, {free // 1024} KiB free: {notes}", file=sys.stderr)

    resize(16 * size_mib)
    for number in range(fills):
        before = sweep.done_so_far()
        # Between two fillings some work is done, so that the sweep is caught at any write of it.
        wait_for(partial(goes_on, sweep, command, before), 120)
        time.sleep(rng.uniform(0, 0.5))
        ballast = fill(disk)
        time.sleep(rng.uniform(0.5, FULL_SECONDS))
        ballast.unlink()
        print(f"filled {number + 1} of {fills}: {before} jobs done before", file=sys.stderr)
    wait_for(lambda: command.poll() is not None, 300)
    status = command.poll()
    broken.expect(status == 0, f"launch --wait ended with {status}: {sweep.last_said()[-500:]}")
    last = sweep.ask("progress", str(sweep.run.path), statuses=(0, 1))
    by_itself = last["done"]
    broken.expect(by_itself == sweep.total, f"only {by_itself} jobs done without a resume")
    sweep.finish(broken)
    good = sweep.check_whole(broken)
    sweep.check_manifest(broken, planned)
    outcomes = sweep.check_never_twice(broken)
    sweep.check_tidy(broken)
    rows = [
        ["jobs done when the disk was full", f"{full['done']} of {sweep.total}"],
        ["of these good", str(good_when_full)],
        ["what workers say then", "; ".join(notes) or "nothing"],
        ["times filled by somebody else afterwards", str(fills)],
        ["jobs done by the same launch in the end", f"{by_itself} of {sweep.total}"],
        ["attempts", ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))],
        ["good videos", f"{good} of {sweep.total}"],
        ["promises broken", str(len(broken.findings))],
        ["seconds", f"{time.monotonic() - start:.0f}"],
    ]
    return table(["what", "result"], rows)


def check_paused(sweep: ChaosSweep, progress: dict[str, Any], broken: Broken) -> list[str]:
    """Workers are there, wait, and say for what; returns what they say."""
    notes = {worker["note"] for worker in progress["workers"] if worker.get("note")}
    logs = b"".join(path.read_bytes() for path in sweep.run.logs.glob("*.log"))
    broken.expect(
        any("disk" in note for note in notes) or b"disk" in logs.lower(),
        f"nobody says that the disk is full: {progress['workers']}",
    )
    broken.expect(progress["failed"] == 0, f"{progress['failed']} jobs failed of a full disk")
    return sorted(note.replace(str(sweep.folder), "") for note in notes)


def all_wait(sweep: ChaosSweep) -> bool:
    """Whether every worker says that it waits for something."""
    progress = sweep.ask("progress", str(sweep.run.path), statuses=(0, 1))
    return bool(progress["workers"]) and all(w.get("note") for w in progress["workers"])


def goes_on(sweep: ChaosSweep, command: subprocess.Popen[bytes], before: int) -> bool:
    """Whether more is done than before, or no more will be."""
    return sweep.done_so_far() > before or command.poll() is not None


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.05)


def fill(folder: Path) -> Path:
    """Take all the room that is left, to the last block; returns the file to be deleted."""
    ballast = folder / f"ballast-{uuid.uuid4().hex[:8]}"
    block = bytes(MIB)
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, block)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)
    return ballast
