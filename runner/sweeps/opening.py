"""A run, found by a file, a folder or a name, and everything that can be asked of it or done with
it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..disk.run_folder import RunFolder
from .telling import Say, TrackNumber, silent, untracked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..explain import Story
    from ..report.sheet import Style
    from ..report.writing import Report
    from ..runs.adopt import AdoptedFile
    from ..watch.progress import Snapshot
    from .adopting import Adopted
    from .asking import Log
    from .checking import Verification
    from .launching import How, Launched
    from .showing import Sheets
    from .stopping import Stopped

# What a verb needs is imported where it is called: opening a run costs nothing, and asking where
# it stands loads no model of an experiment.


@dataclass(frozen=True)
class OpenRun:
    """A planned sweep: its run folder, and the verbs as methods, each as the function of its name.

    It keeps nothing open and nothing in memory, so that it is as current as the disk.
    """

    folder: RunFolder

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        """The name of the run folder."""
        return self.folder.path

    @property
    def is_running(self) -> bool:
        """Whether a worker of the run, or its supervisor, is alive on this host."""
        from ..runs.runs import live_slots

        return bool(live_slots(self.folder))

    def launch(
        self,
        *,
        only: Mapping[str, Any] | None = None,
        sample: int | None = None,
        how: How | None = None,
        say: Say = silent,
    ) -> Launched:
        from .launching import launch

        return launch(self, only=only, sample=sample, how=how, say=say)

    def resume(
        self,
        *,
        only: Mapping[str, Any] | None = None,
        stale: bool = False,
        how: How | None = None,
        say: Say = silent,
    ) -> Launched:
        from .launching import resume

        return resume(self, only=only, stale=stale, how=how, say=say)

    def wait(self, show: Callable[[Snapshot], object] = lambda _: None) -> Snapshot:
        from .launching import wait

        return wait(self, show)

    def stop(
        self, *, now: bool = False, gpus: Sequence[int] | None = None, wait: bool = False
    ) -> Stopped:
        from .stopping import stop

        return stop(self, now=now, gpus=gpus, wait=wait)

    def progress(self) -> Snapshot:
        from .asking import progress

        return progress(self)

    def jobs(self) -> list[dict[str, Any]]:
        from .asking import jobs

        return jobs(self)

    def logs(self, worker: str | None = None, *, lines: int = 20) -> list[Log]:
        from .asking import logs

        return logs(self, worker, lines=lines)

    def verify(self, *, track: TrackNumber = untracked) -> Verification:
        from .checking import verify

        return verify(self, track=track)

    def explain(self, *job: str) -> Story:
        """One job's story.

        Args:
            job: its id or the beginning of one, the path of its video or sidecar, or words of its
                point in the grid, such as `"camera_motion/ref_a", "prompt=0", "seed=42"`.

        Raises:
            UserError: these words name no job, or several.
        """
        from .checking import explain

        return explain([str(self.path), *job])

    def report(
        self,
        *others: Named,
        title: str | None = None,
        preview: int = 0,
        posters: bool = True,
        anonymous: bool = False,
        out: Path | str | None = None,
        as_zip: bool = False,
        track: TrackNumber = untracked,
    ) -> Report:
        from .showing import report, wish_of

        wish = wish_of(title, preview, posters=posters, anonymous=anonymous, out=out)
        return report([self, *others], wish, as_zip=as_zip, track=track)

    def sheets(
        self,
        *,
        only: Mapping[str, Any] | None = None,
        as_mp4: bool = False,
        style: Style | None = None,
        out: Path | str | None = None,
        track: TrackNumber = untracked,
    ) -> Sheets:
        from .showing import sheets

        return sheets(self, only=only, as_mp4=as_mp4, style=style, out=out, track=track)

    def adopt(
        self,
        folder: Path | str,
        pattern: str,
        *,
        dry_run: bool = False,
        on_finding: Callable[[AdoptedFile], object] = lambda _: None,
    ) -> Adopted:
        from .adopting import adopt

        return adopt(self, folder, pattern, dry_run=dry_run, on_finding=on_finding)


Named: TypeAlias = "str | Path | RunFolder | OpenRun"
"""A run: an experiment file, a run folder, a sweep's name, or one that is open."""


def open_run(run: Named) -> OpenRun:
    """A planned sweep by an experiment file, a run folder, or a name that is looked up in
    `results/` of this folder, of those above it, and where the machine file has results go.

    Raises:
        UserError: there is no such run, or it is not planned yet.
    """
    return OpenRun(folder_of(run))


def folder_of(run: Named) -> RunFolder:
    """The run folder of a run.

    Raises:
        UserError: as `open_run`.
    """
    if isinstance(run, OpenRun):
        return run.folder
    if isinstance(run, RunFolder):
        return run
    from ..runs.runs import find_run

    return find_run(str(run))


def experiment_file(run: Named) -> Path | None:
    """The experiment file by which a run is named; None where it is named by its folder or name."""
    from ..runs.runs import is_experiment_file

    is_file = isinstance(run, (str, Path)) and is_experiment_file(str(run))
    return Path(str(run)) if is_file else None


def keep_here(run: Named, words: Sequence[str]) -> Path:
    """Keep what differs on this machine, in the machine file of a run's or experiment's project.

    Args:
        words: `KEY=VALUE`; the keys are those of `machine.yaml`: checkpoints, data, results, gpus,
            processes_per_gpu.

    Returns:
        The machine file.

    Raises:
        UserError: a word that is no `KEY=VALUE`, or a value that its key does not take.
    """
    from ..experiment.loading import root_of
    from ..machine.machine_file import keep

    return keep(root_of(experiment_file(run) or folder_of(run).experiment), words)


def texts_by_axis(only: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """The values of each axis as texts; one value may be given without a sequence around it."""
    found = {}
    for axis, values in (only or {}).items():
        several = values if isinstance(values, (list, tuple, set, frozenset, range)) else [values]
        found[axis] = [str(value) for value in several]
    return found
