"""What is right and wrong on this machine, and with an experiment on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..doctor.bundle import write_bundle
from ..doctor.examination import examine_file, examine_machine
from ..doctor.finding import Finding, Severity
from ..experiment.loading import load_experiment
from ..text.errors import UserError
from .opening import Named, experiment_file, folder_of


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` has found; `file` is the experiment that was examined, None without one."""

    file: Path | None
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> int:
        """How many findings a sweep would fail with."""
        return self._count(Severity.WRONG)

    @property
    def warnings(self) -> int:
        return self._count(Severity.WARNING)

    def _count(self, verdict: Severity) -> int:
        return sum(finding.verdict is verdict for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": not self.wrong,
            "findings": [finding.to_json() for finding in self.findings],
        }


def doctor(experiment: Named | None = None, overrides: Sequence[str] = ()) -> Diagnosis:
    """Examine this machine, and an experiment or a run on it.

    Raises:
        UserError: there is no such run. A wrong experiment is a finding.
    """
    if experiment is None:
        return Diagnosis(None, tuple(examine_machine(Path.cwd())))
    file = experiment_file(experiment) or folder_of(experiment).experiment
    return Diagnosis(file, tuple(examine_file(file, tuple(overrides))))


@dataclass(frozen=True)
class Bundle:
    """A zip for a bug report, and the names of the files in it."""

    path: Path
    inside: tuple[str, ...]


def pack(diagnosis: Diagnosis, into: Path | str = ".") -> Bundle:
    """Pack what a bug report needs into a new zip in a folder, without secrets: passwords, keys
    and home folders are masked; prompts, file names and log lines are in it."""
    run = None
    if diagnosis.file is not None:
        # A file that is wrong has no run folder, and is in the bundle all the same.
        with contextlib.suppress(UserError):
            run = load_experiment(diagnosis.file).run_folder
    name = run.name if run is not None else "machine"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = Path(into).absolute() / f"sweep-doctor-{name}-{stamp}.zip"
    inside = write_bundle(target, diagnosis.file, run, list(diagnosis.findings))
    return Bundle(target, tuple(inside))
