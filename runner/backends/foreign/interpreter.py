"""Another Python: where it is, and what it says of itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...text.errors import UserError
from .child import SERVER, environment_of

OLDEST_PYTHON = (3, 9)
ANSWER_SECONDS = 120.0
"""An environment on a slow disk takes long to answer."""

PACKAGES = (
    *("torch", "torchvision", "diffsynth", "diffusers", "transformers", "accelerate", "peft"),
    *("safetensors", "xformers", "flash-attn", "sageattention", "numpy", "Pillow", "av"),
    *("imageio", "imageio-ffmpeg", "opencv-python", "opencv-python-headless", "decord", "av"),
)
"""Packages whose versions are on record, where the interpreter has them."""

VERSION = "import sys; sys.stdout.write('version %d.%d.%d' % tuple(sys.version_info[:3]))"


@dataclass(frozen=True)
class InterpreterAnswer:
    """What an interpreter says: versions of `python` and of packages, and, in a line, why it
    cannot read the file that it was asked about."""

    versions: dict[str, str]
    problem: str | None


def find_interpreter(written: str | None, root: Path, key: str) -> Path:
    """The interpreter that an experiment names, by a path from `root` or as a command; the one
    that runs the sweep where it names none.

    Links are not followed: a virtual environment is known by the link's own place.

    Args:
        key: the experiment's, for an error.

    Raises:
        UserError: there is no such program.
    """
    if written is None:
        return Path(sys.executable)
    if os.sep in written:
        path = (root / Path(written).expanduser()).absolute()
        if not os.access(path, os.X_OK) or path.is_dir():
            raise UserError(f"{key}: {path} is no program that can be run")
        return path
    found = shutil.which(written)
    if found is None:
        raise UserError(
            f"{key}: no command is called {written!r}; give the path of a Python, "
            "such as /home/me/envs/mine/bin/python"
        )
    return Path(found).absolute()


def ask(interpreter: Path, file: Path, key: str) -> InterpreterAnswer:
    """Have an interpreter describe itself, and try to read a file of Python (not to run it).

    Raises:
        UserError: it is no Python, too old, or does not answer.
    """
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)$", _said_by(interpreter, ["-c", VERSION], key))
    if match is None:
        raise UserError(f"{key}: {interpreter} does not answer as a Python does")
    version = tuple(map(int, match.groups()))
    if version < OLDEST_PYTHON:
        raise UserError(
            f"{key}: {interpreter} is Python {'.'.join(match.groups())}; it must be "
            f"{OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer"
        )
    said = _said_by(interpreter, [str(SERVER), "--describe", str(file), *PACKAGES], key)
    try:
        # An environment may print something of its own when it starts.
        answer = json.loads(said.splitlines()[-1])
        return InterpreterAnswer(answer["versions"], answer["problem"])
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{key}: {interpreter} does not answer as a Python does") from None


def _said_by(interpreter: Path, arguments: Sequence[str], key: str) -> str:
    """What it prints on its standard output."""
    try:
        done = subprocess.run(
            [str(interpreter), *arguments],
            env=environment_of({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "" if isinstance(error, subprocess.TimeoutExpired) else f": {error.strerror}"
        raise UserError(f"{key}: {interpreter} does not answer{why}") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UserError(
            f"{key}: {interpreter} ended with status {done.returncode}"
            + (f": {lines[-1]}" if lines else "")
        )
    return done.stdout.decode("utf-8", "replace").strip()
