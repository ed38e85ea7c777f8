"""A sweep under attack: made for the purpose, its processes found, its promises checked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from dataset import make_dataset

from runner.disk.attempts import read_attempts
from runner.disk.manifest import read_manifest
from runner.disk.run_folder import RunFolder, sha256_file
from runner.job import JobState
from runner.queue import Queue

ROOT = Path(__file__).resolve().parents[1]
CLIPS = {"camera_motion": 3, "两个 words": 3}
PROMPTS = 5
JOBS_PER_SEED = sum(CLIPS.values()) * PROMPTS


class Kind(str, Enum):
    WORKER = "workers"
    SUPERVISOR = "supervisors"
    COMMAND = "launch and resume commands"
    TMUX = "tmux servers"
    HELPER = "ffmpegs"


@dataclass(frozen=True)
class Victim:
    kind: Kind
    pid: int


@dataclass
class Broken:
    """What was found to be broken; every attack ends with none."""

    findings: list[str] = field(default_factory=list)

    def expect(self, holds: bool, finding: str) -> None:
        if not holds:
            self.findings.append(finding)
            print(f"BROKEN: {finding}", file=sys.stderr)


class ChaosSweep:
    """One sweep in a project of its own, on a private tmux socket, with a witness in its workers.

    Args:
        jobs: at least so many, rounded up to whole seeds.
        results: where its run folder goes, if not beside the clips.
    """

    def __init__(
        self,
        folder: Path,
        *,
        backend: str,
        model: Mapping[str, Any],
        jobs: int,
        slots: int,
        results: Path | None = None,
    ) -> None:
        self.folder = folder
        self.total = -(-jobs // JOBS_PER_SEED) * JOBS_PER_SEED
        self.slots = slots
        self.file = folder / "experiments" / "chaos.yaml"
        self.run = RunFolder((results or folder / "results") / "chaos")
        self.witness = folder / "witness"
        self.socket = f"sweep-chaos-{uuid.uuid4().hex[:8]}"
        self.launchers = ["tmux", "local"] if shutil.which("tmux") else ["local"]
        self._commands: list[tuple[subprocess.Popen[bytes], Path]] = []
        real = backend == "wan"
        experiment = {
            "name": "chaos",
            "backend": backend,
            "model": dict(model),
            "dataset": {"videos": "videos", "prompts": "prompts.json"},
            "seeds": list(range(self.total // JOBS_PER_SEED)),
            "generation": {
                "width": 112 if real else 64,
                "height": 64 if real else 32,
                "num_frames": 9 if real else 5,
                "fps": 15,
                "num_inference_steps": 4,
            },
            "placement": {"gpus": [0], "processes_per_gpu": slots},
            "results": str(results or "results"),
        }
        make_dataset(folder, CLIPS, PROMPTS)
        for place in (self.file.parent, self.witness, folder / "hook", folder / "said"):
            place.mkdir()
        self.file.write_text(yaml.safe_dump(experiment, allow_unicode=True), encoding="utf-8")
        shutil.copy(Path(__file__).with_name("witness.py"), folder / "hook" / "sitecustomize.py")

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "SWEEP_TMUX_SOCKET": self.socket,
            "SWEEP_WITNESS": str(self.witness),
            "PYTHONPATH": os.pathsep.join([str(self.folder / "hook"), str(ROOT)]),
        }

    # The command line.

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `sweep` with these words in the background; what it says is kept."""
        said = self.folder / "said" / f"{len(self._commands):05d}.txt"
        with said.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "runner", *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._commands.append((process, said))
        return process

    def ask(self, *words: str, statuses: tuple[int, ...] = (0,)) -> Any:
        """The JSON that a verb answers.

        Raises:
            RuntimeError: it ended with none of these statuses, or answered no JSON.
        """
        done = self.try_out(*words, "--json")
        if done.returncode not in statuses:
            raise RuntimeError(f"sweep {' '.join(words)}: status {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def try_out(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `sweep` with these words to its end, whatever it is."""
        return subprocess.run(
            [sys.executable, "-m", "runner", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    def last_said(self) -> str:
        """What the last command that was started in the background has said."""
        return self._commands[-1][1].read_text(encoding="utf-8", errors="replace")

    def tracebacks(self) -> list[str]:
        """What commands and logs show of Python tracebacks, which nobody should ever see."""
        found = []
        for path in [*(said for _, said in self._commands), *self.run.logs.glob("*.log")]:
            text = path.read_text(encoding="utf-8", errors="replace")
            head, mark, rest = text.partition("Traceback (most recent")
            if mark:
                before = head.splitlines()[-2:]
                found.append("\n".join([path.name, *before, mark, *rest.splitlines()[:60]]))
        return found

    # Its processes.

    def victims(self) -> list[Victim]:
        """Every process of the sweep that lives now, the tmux server left out."""
        found = {}
        run = str(self.run.path)
        for pid, words in _command_lines():
            if run not in words:
                continue
            if "runner.worker" in words:
                found[pid] = Kind.WORKER
            elif "runner.slots.slot" in words:
                found[pid] = Kind.SUPERVISOR
            elif "launch" in words or "resume" in words:
                found[pid] = Kind.COMMAND
        # A child that is about to become another program looks like its parent until then.
        return [
            Victim(kind, pid) for pid, kind in found.items() if found.get(_parent(pid)) is not kind
        ]

    def tmux_server(self) -> Victim | None:
        if "tmux" not in self.launchers:
            return None
        command = ["tmux", "-L", self.socket, "display-message", "-p", "#{pid}"]
        pid = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return Victim(Kind.TMUX, int(pid)) if pid.isdecimal() else None

    def helpers(self) -> list[Victim]:
        """The ffmpegs that workers have started."""
        workers = {victim.pid for victim in self.victims() if victim.kind is Kind.WORKER}
        return [
            Victim(Kind.HELPER, pid)
            for pid, words in _command_lines()
            if "ffmpeg" in Path(words[0]).name and _parent(pid) in workers
        ]

    def kill(self, victim: Victim, number: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal; False where the process had ended by itself."""
        try:
            os.kill(victim.pid, number)
        except ProcessLookupError:
            return False
        return True

    def kill_all(self) -> None:
        """As a power cut does: every process at once, supervisors first so that none restarts."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            server = self.tmux_server()
            alive = sorted(self.victims(), key=lambda victim: victim.kind is Kind.WORKER)
            for victim in [*alive, *([server] if server else [])]:
                self.kill(victim)
            if not alive and server is None:
                break
            time.sleep(0.05)
        for process, _ in self._commands:
            process.wait()

    @contextlib.contextmanager
    def cleaned_up(self) -> Iterator[ChaosSweep]:
        try:
            yield self
        finally:
            self.kill_all()

    # Its promises.

    def done_so_far(self) -> int:
        """Jobs recorded as done: cheap enough to be asked all the time."""
        try:
            return self.run.attempts.read_bytes().count(b'"outcome":"done"')
        except FileNotFoundError:
            return 0

    def has_ended(self) -> bool:
        return bool(self.ask("progress", str(self.run.path), statuses=(0, 1))["done"] == self.total)

    def rows(self) -> dict[str, JobState]:
        """Each job's state in the queue, which stays as it is to the last byte."""
        with tempfile.TemporaryDirectory() as name:
            for path in self.run.path.glob("sweep.db*"):
                shutil.copy(path, name)
            queue = Queue(Path(name) / "sweep.db")
            rows = {row.job.id: row.state for row in queue.rows()}
            queue.close()
        return rows

    def finish(self, broken: Broken, tries: int = 5) -> dict[str, Any]:
        """Resume until everything is done; returns the last progress."""
        for _ in range(tries):
            self.start("resume", str(self.run.path), "--on", "local", "--wait").wait()
            progress: dict[str, Any] = self.ask("progress", str(self.run.path), statuses=(0, 1))
            if progress["done"] == self.total:
                break
        broken.expect(
            progress["done"] == self.total == progress["total"],
            f"{progress['done']} of {self.total} jobs done after {tries} resumes: {progress}",
        )
        return progress

    def check_manifest(self, broken: Broken, planned_sha256: str) -> None:
        jobs = read_manifest(self.run.manifest).jobs
        broken.expect(len(jobs) == self.total, f"the manifest has {len(jobs)} of {self.total} jobs")
        unchanged = sha256_file(self.run.manifest) == planned_sha256
        broken.expect(unchanged, "the manifest is not the planned one")

    def check_whole(self, broken: Broken) -> int:
        """Every video counted as done is decoded; returns how many are good."""
        answer = self.ask("verify", str(self.run.path), statuses=(0, 1))
        for entry in answer["broken"]:
            broken.expect(False, f"counted as done but broken: {entry}")
        return int(answer["good"])

    def check_tidy(self, broken: Broken) -> None:
        """Nothing is left of what was in the making."""
        strays = [*self.run.path.rglob("*.tmp*"), *self.run.path.glob("work/*")]
        left = [str(path) for path in strays if path != self.run.locks]
        broken.expect(not left, f"files in the making are left: {left}")

    def check_never_twice(self, broken: Broken) -> Counter[str]:
        """No job was made twice at once, by the witness and by the attempts' times; no video
        that was committed was made again. Returns how the attempts ended."""
        violations = self.witness / "violations"
        for line in violations.read_text().splitlines() if violations.exists() else ():
            broken.expect(False, f"made twice at once: {line}")
        begun = Counter((self.witness / "begun").read_text().split())
        broken.expect(
            len(begun) == self.total, f"the witness saw {len(begun)} of {self.total} jobs begun"
        )
        attempts = read_attempts(self.run.attempts)
        by_job: dict[str, list[dict[str, Any]]] = {}
        for attempt in attempts:
            by_job.setdefault(attempt["job"], []).append(attempt)
        for job, own in by_job.items():
            own.sort(key=lambda attempt: attempt["started_at"])
            for former, later in pairwise(own):
                # Others give the job back first and note their end a moment later.
                if former["outcome"] in ("done", "died"):
                    apart = later["started_at"] >= former["ended_at"]
                    broken.expect(apart, f"{job}: attempts overlap: {former} {later}")
            done = sum(attempt["outcome"] == "done" for attempt in own)
            broken.expect(done <= 1, f"{job}: was published {done} times")
        replaced = [str(path) for path in self.run.path.glob("superseded/**/*.json")]
        broken.expect(not replaced, f"committed videos were made again: {replaced}")
        return Counter(attempt["outcome"] for attempt in attempts)


def _parent(pid: int) -> int:
    """Field 4 of proc_pid_stat(5); 0 for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                yield int(entry.name), words
