"""Asking git for the commit in a folder. A repository is input like any other: its configuration
and attributes may name commands, and none of them is run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

GIT_SECONDS = 10.0

SILENCED = (
    # git-config(1): what `status` would run, and what a fetch of a missing object would.
    *("core.fsmonitor=", "core.hooksPath=/dev/null", "core.pager=cat", "core.askPass="),
    *("core.sshCommand=", "core.gitProxy=", "diff.external=", "status.submoduleSummary=false"),
    # A bare repository that lies among the project's files is none of its own.
    "safe.bareRepository=explicit",
)

KEPT = ("GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM")
"""Variables of git's that only say where to look for a repository."""

DRIVERS = r"^filter\..*\.(clean|smudge|process|required)$"


def git_state(folder: Path, seconds: float = GIT_SECONDS) -> tuple[str | None, bool | None]:
    """The commit checked out in a folder, and whether tracked files there differ from it.

    A file that is kept through a filter (git-lfs) counts as changed where its size or time is not
    as git last saw it, since the filter is not run. Changes within submodules do not count; another
    commit of a submodule does.

    (None, None) outside git, and where git takes longer than the seconds or refuses the repository;
    (commit, None) where only the difference cannot be told.
    """
    commit = (_said_by_git(folder, seconds, "rev-parse", "--verify", "HEAD") or "").strip()
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
        return None, None
    filters = _filters(folder, seconds)
    if filters is None:
        return commit, None
    # A data set or results beside the code are no change of the code.
    status = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    changes = _said_by_git(folder, seconds, *status, "--no-renames", settings=filters)
    return commit, None if changes is None else bool(changes.strip())


def _filters(folder: Path, seconds: float) -> list[str] | None:
    """Git options that turn every filter's command off; None where a filter cannot be named in
    one."""
    words = ("config", "-z", "--name-only", "--get-regexp", DRIVERS)
    keys = _said_by_git(folder, seconds, *words, ends=(0, 1))
    if keys is None or "=" in keys:
        return None
    drivers = {key.rpartition(".")[0] for key in keys.split("\0") if key}
    return [
        f"{driver}.{setting}"
        for driver in sorted(drivers)
        for setting in ("clean=", "smudge=", "process=", "required=false")
    ]


def _said_by_git(
    folder: Path,
    seconds: float,
    *words: str,
    settings: Sequence[str] = (),
    ends: Sequence[int] = (0,),
) -> str | None:
    """Git's standard output; None where git failed or took longer than the seconds."""
    options = [word for setting in (*SILENCED, *settings) for word in ("-c", setting)]
    try:
        process = subprocess.Popen(
            ["git", "-C", str(folder), *options, *words],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
    with process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return None
    return said.decode("utf-8", "surrogateescape") if process.returncode in ends else None


def _environment() -> dict[str, str]:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in KEPT
    }
    return {
        **environment,
        # Asking about a repository must not take its lock from whoever works in it.
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        # A repository may leave objects elsewhere and say how to fetch them: by a command.
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }
