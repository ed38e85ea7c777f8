"""Take in videos that another script made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..experiment.loading import load_experiment
from ..job.pattern import Pattern
from ..runs.adopt import AdoptedFile, Adoption, Fate
from ..runs.adopt import adopt as take_in
from ..runs.runs import open_queue, take_back
from .opening import Named, OpenRun, folder_of


@dataclass(frozen=True)
class Adopted:
    """What became of each job's file, or in a dry run would."""

    run: OpenRun
    is_dry_run: bool
    adoption: Adoption

    def count(self, fate: Fate) -> int:
        return self.adoption.count(fate)

    def to_json(self) -> dict[str, Any]:
        counts = {fate.value: self.count(fate) for fate in Fate}
        files = [finding.to_json() for finding in self.adoption.findings]
        answer = {"sweep": self.run.name, "dry_run": self.is_dry_run, **counts}
        return {**answer, "files": files, "unmatched": list(self.adoption.unmatched)}


def adopt(
    run: Named,
    folder: Path | str,
    pattern: str,
    *,
    dry_run: bool = False,
    on_finding: Callable[[AdoptedFile], object] = lambda _: None,
) -> Adopted:
    """Take in videos that another script made, each decoded, copied and marked as adopted.

    A done job keeps its own video. The files in the folder stay as they are.

    Args:
        pattern: where a job's video lies below the folder, with {category}, {video}, {prompt},
            {prompt+1}, {seed} and parameters.
        dry_run: check every file, and take none in.

    Raises:
        UserError: there is no such run or folder, or the pattern does not tell jobs apart, or fits
            no file.
    """
    run_folder = folder_of(run)
    experiment = load_experiment(run_folder.experiment)
    with closing(open_queue(run_folder, look_at_disk=True, is_mending=True)) as queue:
        parsed = Pattern.parse(pattern, queue.points()[0])
        take_back(run_folder, queue)
        found = take_in(
            run_folder,
            queue,
            experiment,
            Path(folder),
            parsed,
            dry_run=dry_run,
            on_finding=on_finding,
        )
    return Adopted(OpenRun(run_folder), dry_run, found)
