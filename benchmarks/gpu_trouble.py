"""What can go wrong on a real GPU, made to happen: memory of somebody else's, kills, CUDA errors.

    python benchmarks/gpu_trouble.py

It needs a GPU to itself (0, or `--gpu`), and takes about three minutes. With `--screen FILE` the
live view of the last sweep, on a terminal of 80 columns, is kept as it was written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from measuring import table, write_section

from runner.disk.attempts import read_attempts
from runner.disk.run_folder import RunFolder
from runner.machine.gpus import find_gpus

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Trouble on a real GPU"
PATIENCE = 120.0

ERRORS = {
    "more memory asked for than there is": "torch.empty(1 << 45, dtype=torch.uint8, device='cuda')",
    "a device-side assertion": (
        "torch.zeros(2, device='cuda')[torch.tensor([7], device='cuda')]; torch.cuda.synchronize()"
    ),
}
HOG = (
    "import sys, torch\n"
    "torch.cuda.set_device(int(sys.argv[1]))\n"
    "free, _ = torch.cuda.mem_get_info()\n"
    "held = torch.empty(int(free - float(sys.argv[2]) * 2**30), dtype=torch.uint8, device='cuda')\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


def kind_of_real(code: str) -> str:
    """The kind that an error raised by torch itself is found to be of, in another process."""
    program = (
        "import torch\nfrom runner.job.failures import kind_of\n"
        f"try:\n    {code}\nexcept Exception as error:\n"
        "    print(type(error).__name__, kind_of(error).value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = done.stdout.split()
    return f"`{lines[0]}`: {lines[1]}" if len(lines) == 2 else f"nothing: {done.stderr[-300:]}"


class Sweep:
    """A sweep of the tiny checkpoint on one GPU, in a folder of its own."""

    def __init__(self, folder: Path, name: str, gpu: int, *, steps: int, seeds: int) -> None:
        values: dict[str, Any] = yaml.safe_load(
            (ROOT / "experiments" / "quickstart.yaml").read_text(encoding="utf-8")
        )
        values |= {"name": name, "project": str(ROOT), "results": str(folder / "results")}
        values["seeds"] = list(range(seeds))
        values["generation"]["num_inference_steps"] = steps
        values["placement"] = {"gpus": [gpu], "processes_per_gpu": 2, "device": "cuda"}
        self.file = folder / f"{name}.yaml"
        self.file.write_text(yaml.safe_dump(values), encoding="utf-8")
        self.run = RunFolder(folder / "results" / name)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runner", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    def launch(self) -> None:
        done = self.call("launch", str(self.file), "--on", "local")
        if done.returncode != 0:
            raise SystemExit(done.stderr)

    def progress(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            self.call("progress", str(self.run.path), "--json").stdout
        )
        return answer

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        ends = time.monotonic() + PATIENCE
        while not condition(now := self.progress()):
            if time.monotonic() > ends:
                logs = "".join(path.read_text() for path in self.run.logs.glob("*.log"))
                raise SystemExit(f"{self.run.name}: not in time: {now}\n{logs[-3000:]}")
            time.sleep(0.5)
        return now


def used_gib(gpu: int) -> float:
    return find_gpus()[gpu].used_gib


@contextlib.contextmanager
def somebody_else(gpu: int, leaving_gib: float) -> Iterator[None]:
    """Another program that holds all of the GPU's memory but so much."""
    hog = subprocess.Popen(
        [sys.executable, "-c", HOG, str(gpu), str(leaving_gib)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert hog.stdout is not None
    hog.stdout.readline()
    try:
        yield
    finally:
        hog.kill()
        hog.wait()


def foreign_memory(folder: Path, gpu: int) -> list[list[str]]:
    sweep = Sweep(folder, "crowded", gpu, steps=4, seeds=1)
    with somebody_else(gpu, 0.3):
        sweep.launch()
        waiting = sweep.wait(lambda now: any(worker["note"] for worker in now["workers"]))
        note = next(worker["note"] for worker in waiting["workers"] if worker["note"])
        time.sleep(5)
        before = sweep.progress()
    after = sweep.wait(lambda now: now["done"] == now["total"])
    failed = sum(one["outcome"] == "failed" for one in read_attempts(sweep.run.attempts))
    return [
        ["while another program holds all but 0.3 GiB, a worker says", note],
        ["done meanwhile", str(before["done"])],
        ["done by the same launch once it is gone", f"{after['done']} of {after['total']}"],
        ["attempts that counted as failed", str(failed)],
    ]


def kills(folder: Path, gpu: int, times: int, screen: Path | None) -> list[list[str]]:
    idle = used_gib(gpu)
    sweep = Sweep(folder, "killed", gpu, steps=60, seeds=3)
    sweep.launch()
    freed = []
    for _ in range(times):
        now = sweep.wait(lambda now: any(w["state"] == "working" for w in now["workers"]))
        time.sleep(1.0)
        pid = next(worker["pid"] for worker in now["workers"] if worker["state"] == "working")
        before = used_gib(gpu)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(1.0)
        freed.append(before - used_gib(gpu))
    if screen is not None:
        sweep.wait(lambda now: sum(w["state"] == "working" for w in now["workers"]) == 2)
        keep_screen(sweep, screen)
    after = sweep.wait(lambda now: now["done"] == now["total"])
    verified = sweep.call("verify", str(sweep.run.path))
    outcomes = [one["outcome"] for one in read_attempts(sweep.run.attempts)]
    time.sleep(3.0)
    return [
        ["workers killed (SIGKILL) in the middle of a video", str(times)],
        ["GPU memory that came free within a second, GiB", ", ".join(f"{v:.1f}" for v in freed)],
        ["done in the end", f"{after['done']} of {after['total']}"],
        ["attempts", ", ".join(f"{outcomes.count(o)} {o}" for o in sorted(set(outcomes)))],
        ["verify", "all good" if verified.returncode == 0 else verified.stdout[-200:]],
        ["GPU memory in use before and after, GiB", f"{idle:.1f}, {used_gib(gpu):.1f}"],
    ]


def keep_screen(sweep: Sweep, path: Path) -> None:
    """What `sweep progress --watch` writes to a terminal of 80 x 40 within some seconds."""
    command = [sys.executable, "-m", "runner", "progress", str(sweep.run.path), "--watch"]
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
        os.chdir(ROOT)
        os.execv(sys.executable, command)
    threading.Timer(6.0, os.kill, (child, signal.SIGINT)).start()
    written = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65536):
            written += chunk
    os.waitpid(child, 0)
    path.write_bytes(written)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--screen", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    rows = [[f"torch raises, for {what}", kind_of_real(code)] for what, code in ERRORS.items()]
    with tempfile.TemporaryDirectory() as name:
        rows += foreign_memory(Path(name), arguments.gpu)
        rows += kills(Path(name), arguments.gpu, arguments.kills, arguments.screen)
    body = (
        "The tiny checkpoint on one GPU, two processes. Errors are raised by torch itself in a "
        f"process of its own.\n\n{table(['what', 'result'], rows)}"
    )
    write_section(arguments.out, TITLE, body)


if __name__ == "__main__":
    main()
