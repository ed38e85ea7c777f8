"""The other Pythons of this machine, and whether a process of one runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from runner.machine.processes import ProcessId


def interpreters() -> Iterator[Path]:
    """The Pythons of this machine that a script may have, each version once."""
    seen = set()
    names = [f"python3.{minor}" for minor in range(9, 15)]
    found = [Path(command) for name in names if (command := shutil.which(name))]
    versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    with contextlib.suppress(PermissionError):
        found += sorted(versions.glob("*/bin/python3"))
    code = "import sys; print(sys.version_info[:2] >= (3, 9), sys.version_info[:2])"
    for path in found:
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.startswith("True") and done.stdout not in seen:
            seen.add(done.stdout)
            yield path


def is_running(pid: int) -> bool:
    try:
        ProcessId.of(pid)
    except ProcessLookupError:
        return False
    return True
