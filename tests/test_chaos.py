"""The chaos command in short: the same attacks and checks, in seconds.

Whoever changes how jobs are claimed, published or given back runs the long form, too:
`python benchmarks/chaos.py kills`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def chaos(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    out = tmp_path / "measurements.md"
    command = [sys.executable, str(BENCHMARKS / "chaos.py"), *words, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if "skipped:" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr[-5000:]
    assert "promises broken" in out.read_text(encoding="utf-8")
    return done


def test_kills_break_nothing(tmp_path: Path) -> None:
    """No job is lost or made twice at once, and nothing broken counts as done."""
    words = ["--kills", "10", "--jobs", "40", "--slots", "2", "--seconds-between", "0.5"]
    chaos(tmp_path, "kills", *words)


def test_a_disk_that_fills_up_breaks_nothing(tmp_path: Path) -> None:
    """Workers wait for room, and the same launch ends with everything done."""
    chaos(tmp_path, "disk", "--size-mib", "3", "--jobs", "50", "--slots", "2", "--fills", "1")


def test_power_cuts_are_repaired(tmp_path: Path) -> None:
    """verify names each damaged video, resume makes it again, plan restores the plan."""
    words = ["--rounds", "2", "--jobs", "30", "--slots", "4", "--lost-plans", "2"]
    chaos(tmp_path, "powercut", *words)


HOLD = """
import os, sys, time
from pathlib import Path
from witness import Witness
witness = Witness(Path(sys.argv[1]))
witness.begin("job")
print("begun", flush=True)
time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_witness_sees_a_job_made_twice_at_once(tmp_path: Path) -> None:
    first = hold(tmp_path, 3600)
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    second = hold(tmp_path, 0)
    violations = tmp_path / "violations"
    ends = time.monotonic() + 60
    while not violations.exists() and time.monotonic() < ends:
        time.sleep(0.02)
    assert violations.read_text().startswith(f"job: by {second.pid} while by {first.pid}")
    first.kill()
    assert second.wait(timeout=60) == 0
    first.wait()


def test_the_witness_lets_a_job_be_made_after_its_maker_was_killed(tmp_path: Path) -> None:
    first = hold(tmp_path, 3600)
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    first.kill()
    first.wait()
    second = hold(tmp_path, 0)
    assert second.wait(timeout=60) == 0
    assert not (tmp_path / "violations").exists()
    assert (tmp_path / "begun").read_text() == "job\njob\n"
