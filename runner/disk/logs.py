"""Workers' logs: choosing, the last lines, following."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ..job.slot_names import Slot
from ..text.errors import UserError
from ..text.input_file import MOST_LOG_BYTES, lines_in, open_input
from ..text.log_lines import STAMP
from .run_folder import RunFolder

POLL_SECONDS = 0.3
TAIL_BYTES = 1 << 18

_LEVEL = re.compile(rf"{STAMP.pattern}(\w+) +(.*)")
_STARTED, _ENDED_WELL = "supervisor started", "supervisor ended with status 0"
_TELLS_NOTHING = re.compile(
    rf"{_STARTED}|supervisor ended|the worker ended with status|starting another worker"
)
_CLAIMED = re.compile(r"\S+ \S+ INFO +([0-9a-f]{16}): claimed ")


def choose_logs(run: RunFolder, worker: str | None) -> list[Path]:
    """The log of one worker, or of all.

    Raises:
        UserError: there is no such log.
    """
    paths = sorted(run.logs.glob("*.log"))
    if worker is None:
        if not paths:
            raise UserError(
                f"{run.logs}: no worker has written a log yet; `sweep launch` starts some"
            )
        return paths
    chosen = [path for path in paths if worker in _names(path)]
    if not chosen:
        names = ", ".join(path.stem for path in paths) or "none"
        raise UserError(f"{run.name}: no worker is called {worker!r} (there are: {names})")
    return chosen


def _names(log: Path) -> tuple[str, ...]:
    """What a log may be asked for by: its own name, and what its slot's session is called."""
    slot = Slot.of_log(log.name)
    return (log.stem,) if slot is None else (log.stem, slot.session)


def last_lines(path: Path, number: int) -> list[str]:
    """The last lines of a log."""
    lines = _end_of(path)
    return lines[len(lines) - min(number, len(lines)) :]


def _end_of(path: Path, begins_at: int = 0) -> list[str]:
    """The lines of a log's end; only what it has from this byte on."""
    with open_input(path) as file:
        file.seek(max(begins_at, file.seek(0, 2) - TAIL_BYTES))
        return file.read().decode("utf-8", "replace").splitlines()


def why_ended(path: Path, begins_at: int = 0) -> str | None:
    """What made a slot end, by its log: the last error of its worker, else the last of its
    supervisor, else the last line. None where the slot ended well or the log says nothing.

    Args:
        begins_at: the byte of the log to begin at; lines of former supervisors of the slot are left
            out anyway.
    """
    error = supervisor = other = None
    in_traceback = False
    try:
        lines = _end_of(path, begins_at)
    except OSError:
        return None
    for line in lines:
        if (stamped := _LEVEL.match(line)) is not None:
            _, level, text = stamped.groups()
            in_traceback = False
            if level == "SLOT" and text.startswith((_STARTED, _ENDED_WELL)):
                error = supervisor = other = None
            elif level == "SLOT" and not _TELLS_NOTHING.match(text):
                supervisor = text
            elif level in ("ERROR", "CRITICAL"):
                error = text
        elif line.startswith("Traceback "):
            in_traceback = True
        elif in_traceback and line[:1].strip():
            error, in_traceback = line, False
        elif line.strip():
            other = line
    return error or supervisor or other


def attempt_lines(path: Path, job_id: str, started_at: float, number: int) -> list[str]:
    """The last lines of a worker's log about one attempt of a job; [] where it has none.

    An attempt begins where the job was claimed, at the time nearest to `started_at` (Unix seconds).
    Its lines are those that name the job, with the tracebacks below them, and, until another job is
    claimed, lines that name no job: they tell how the worker died.
    """
    attempts: list[tuple[float, deque[str]]] = []
    is_alone = belongs = False
    try:
        file = open_input(path)
    except OSError:
        return []
    with file:
        file.seek(max(0, file.seek(0, 2) - MOST_LOG_BYTES))
        for raw in lines_in(file, TAIL_BYTES):
            line = raw.decode("utf-8", "replace").rstrip("\n").rpartition("\r")[2]
            stamp = STAMP.match(line)
            claimed = _CLAIMED.match(line)
            if stamp and claimed and claimed[1] == job_id:
                claimed_at = time.mktime(time.strptime(stamp[1], "%Y-%m-%d %H:%M:%S"))
                attempts.append((claimed_at, deque(maxlen=number)))
                is_alone = True
            elif claimed:
                is_alone = False
            if stamp:
                belongs = job_id in line or is_alone
            if attempts and belongs:
                attempts[-1][1].append(line)
    if not attempts:
        return []
    return list(min(attempts, key=lambda attempt: abs(attempt[0] - started_at))[1])


def follow_logs(paths: Sequence[Path], show: Callable[[str], None]) -> None:
    """Show lines as they are written, until interrupted."""
    files = {path: open_input(path) for path in paths}
    rests = dict.fromkeys(paths, b"")
    for file in files.values():
        file.seek(0, 2)
    while True:
        for path, file in files.items():
            *lines, rests[path] = (rests[path] + file.read()).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace")
                show(f"{path.stem}: {text}" if len(paths) > 1 else text)
        time.sleep(POLL_SECONDS)
