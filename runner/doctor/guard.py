"""What a launch says of the night ahead, before it leaves its workers alone."""

from __future__ import annotations

from collections.abc import Iterable

from ..experiment.experiment import Experiment
from ..job.shape import Shape
from ..plan.plan import largest_video
from .file_system import check_file_system
from .finding import Finding, Severity
from .machine import check_disk, check_limits


def guard(experiment: Experiment, left: int, shapes: Iterable[Shape]) -> list[Finding]:
    """What may cost the night that a launch is left alone for, as far as it is told at once:
    room on the disk for the jobs that are left, the file system, limits.

    Args:
        shapes: of the videos to be made.
    """
    run = experiment.run_folder
    findings = [
        *check_disk(run.path, left * largest_video(shapes, experiment.output.quality), left),
        *check_file_system(run.path),
        *check_limits(),
    ]
    return [finding for finding in findings if finding.verdict is not Severity.RIGHT]
