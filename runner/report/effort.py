"""What a sweep cost: the attempts of every worker, and how busy each GPU was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..job import Outcome
from .cells import Run

ON_DEVICE = ("claim", "prepare", "generate")
"""The stages of an attempt that come before its video is finished beside the next one."""

KEPT = frozenset(
    {
        *("busy", "makespan", "eta_seconds", "seconds_per_job", "categories", "set_aside"),
        *("stopped_because", "stop_at", "draining", "waiting", "next_try_at"),
    }
)
"""What of a snapshot the dashboard shows."""


def dashboard(run: Run, numbers: Mapping[str, int], *, by_error: bool = True) -> dict[str, Any]:
    """The numbers behind the page's second part, for one run.

    Args:
        numbers: for each job id, the number of its cell in the page.
        by_error: as of `kind_of`.

    Returns:
        `start` (Unix seconds of the first attempt), `workers`, `attempts` as
        [worker, start, seconds, seconds on the device, outcome, cell or None, kind], times
        relative to `start`; and what `KEPT` names, as `sweep progress --json` has it.
    """
    attempts = [one for one in run.attempts if _is_timed(one)]
    start = min((float(one["started_at"]) for one in attempts), default=0.0)
    workers = sorted({str(one["worker"]) for one in attempts}, key=_natural)
    row_of = {name: number for number, name in enumerate(workers)}
    bars = []
    for one in attempts:
        stages = one.get("seconds") or {}
        took = float(one["ended_at"]) - float(one["started_at"])
        device = sum(float(stages.get(stage, 0.0)) for stage in ON_DEVICE)
        outcome = str(one["outcome"])
        bars.append(
            [
                row_of[str(one["worker"])],
                round(float(one["started_at"]) - start, 3),
                round(max(took, 0.0), 3),
                round(device, 3) if stages else None,
                outcome,
                numbers.get(str(one["job"])),
                kind_of(one, by_error=by_error),
            ]
        )
    snapshot = run.snapshot.to_json()
    return {
        "name": run.name,
        "start": start,
        "workers": workers,
        "attempts": bars,
        **{key: value for key, value in snapshot.items() if key in KEPT},
        "counts": asdict(run.snapshot.counts),
        "alive": run.snapshot.alive,
    }


def kind_of(attempt: Mapping[str, Any], *, by_error: bool = True) -> str | None:
    """The kind of failure of an attempt: as recorded, else the class of its error; None where the
    attempt has not failed.

    Args:
        by_error: whether a word of the error's text may be told.
    """
    if attempt.get("outcome") not in (Outcome.FAILED.value, Outcome.DIED.value):
        return None
    if attempt.get("kind"):
        return str(attempt["kind"])
    if attempt.get("outcome") == Outcome.DIED.value:
        return "worker died"
    match = re.match(r"[A-Za-z_][\w.]*", str(attempt.get("error") or "")) if by_error else None
    return match[0] if match else "unknown"


def _is_timed(attempt: Mapping[str, Any]) -> bool:
    times: Sequence[object] = (attempt.get("started_at"), attempt.get("ended_at"))
    return all(isinstance(time, (int, float)) for time in times) and "worker" in attempt


def _natural(name: str) -> list[tuple[int, str]]:
    """gpu2 before gpu10."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", name)]
