"""Processes end with their parents, also with those that were faster, and share the cores."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.machine.processes import ProcessId, share_of_cores

WITHOUT_FIRST_THREAD = """
import ctypes, sys, threading
library = ctypes.CDLL(None)
threading.Thread(target=lambda: (library.getchar(), library._exit(0))).start()
print("begun", flush=True)
library.syscall(60, 0)  # exit(2), on x86-64: of this thread alone
"""

CHILD = """
import os, sys, time
from pathlib import Path
from runner.machine.processes import die_with_parent
parent = os.getpid()
if os.fork():
    if sys.argv[2] == "waits":
        os.wait()
    os._exit(0)
while sys.argv[2] == "gone" and os.getppid() == parent:
    time.sleep(0.01)
die_with_parent(parent)
Path(sys.argv[1]).touch()
"""


@pytest.mark.parametrize("the_parent", ["waits", "gone"])
def test_a_child_whose_parent_is_gone_already_dies_too(tmp_path: Path, the_parent: str) -> None:
    """No signal would come any more: the child would outlive its supervisor."""
    survived = tmp_path / "survived"
    # The child has our pipe too: its end is that of both.
    subprocess.run(
        [sys.executable, "-c", CHILD, str(survived), the_parent], stdout=subprocess.PIPE, check=True
    )
    assert survived.exists() == (the_parent == "waits")


def test_processes_share_the_cores_that_this_one_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cpuset counts, not the machine; and what the environment asks for goes before."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = os.sched_getaffinity(0)
    assert share_of_cores(1) == len(cores)
    assert share_of_cores(10 * len(cores)) == 1
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert share_of_cores(1) == 1
    finally:
        os.sched_setaffinity(0, cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert share_of_cores(1) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert share_of_cores(1) == len(cores)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of a system call")
def test_a_process_is_gone_once_its_last_thread_is() -> None:
    """Until then it has its files, and what it has locked is locked."""
    command = [sys.executable, "-c", WITHOUT_FIRST_THREAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        process = ProcessId.of(child.pid)
        child.stdout.readline()
        stat = Path(f"/proc/{child.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert not process.is_gone()
        child.stdin.close()
        while not process.is_gone():
            time.sleep(0.01)
        assert child.wait() == 0
