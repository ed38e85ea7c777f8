"""Offline batch runner for video-generation sweeps on many GPUs: `docs/python.md`.

    run = runner.launch("experiments/x.yaml").run
    run.wait()
    pandas.DataFrame(run.jobs())

Every worker imports this package, so that it loads what a name needs when that is first asked for.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibrate import Calibrated, calibrate
    from .explain import Story
    from .report.writing import Report, ReportWish
    from .sweeps.adopting import Adopted, adopt
    from .sweeps.asking import Log, export, jobs, logs, progress
    from .sweeps.checking import Verification, explain, verify
    from .sweeps.examining import Bundle, Diagnosis, doctor, pack
    from .sweeps.launching import How, Launched, launch, resume, wait
    from .sweeps.opening import OpenRun, keep_here, open_run
    from .sweeps.planning import Plan, plan
    from .sweeps.showing import Sheets, report, serving, sheets
    from .sweeps.starting import Proposed, init
    from .sweeps.stopping import Stopped, stop
    from .text.errors import UserError
    from .watch.progress import Snapshot

__version__ = "0.1.0"

__all__ = [
    "Adopted",
    "Bundle",
    "Calibrated",
    "Diagnosis",
    "How",
    "Launched",
    "Log",
    "OpenRun",
    "Plan",
    "Proposed",
    "Report",
    "ReportWish",
    "Sheets",
    "Snapshot",
    "Stopped",
    "Story",
    "UserError",
    "Verification",
    "adopt",
    "calibrate",
    "doctor",
    "explain",
    "export",
    "init",
    "jobs",
    "keep_here",
    "launch",
    "logs",
    "open_run",
    "pack",
    "plan",
    "progress",
    "report",
    "resume",
    "serving",
    "sheets",
    "stop",
    "verify",
    "wait",
]

_HOMES = {
    "calibrate": ("Calibrated", "calibrate"),
    "text.errors": ("UserError",),
    "explain": ("Story",),
    "watch.progress": ("Snapshot",),
    "report.writing": ("Report", "ReportWish"),
    "sweeps.adopting": ("Adopted", "adopt"),
    "sweeps.asking": ("Log", "export", "jobs", "logs", "progress"),
    "sweeps.checking": ("Verification", "explain", "verify"),
    "sweeps.examining": ("Bundle", "Diagnosis", "doctor", "pack"),
    "sweeps.launching": ("How", "Launched", "launch", "resume", "wait"),
    "sweeps.opening": ("OpenRun", "keep_here", "open_run"),
    "sweeps.planning": ("Plan", "plan"),
    "sweeps.showing": ("Sheets", "report", "serving", "sheets"),
    "sweeps.starting": ("Proposed", "init"),
    "sweeps.stopping": ("Stopped", "stop"),
}
"""The module of each name, relative to this package."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """PEP 562: a name of the API, from the module that has it."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package: where a verb is called as a module in it, its name is the verb.

    The import system would put the module in the verb's place once it is loaded. Imports of what
    is in the module find it in `sys.modules` all the same.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME_OF):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
