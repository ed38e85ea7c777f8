"""The videos of other runs that jobs are made from: whether they are there, and as what files.

Such a run lies beside the one that needs it. What counts is what its files prove: a sidecar that
vouches for the video, made under the fingerprint for which the needing job was planned.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ..job import FileInput, Input, JobState, MadeInput, Series
from .publish import Disk, state_on_disk, vouching_sidecar
from .run_folder import RunFolder


class Unmade(Exception):
    """A video of another run that a job is made from is not there, or not yet there again."""


class Upstream:
    """What other runs have made, as the files are at each question.

    Args:
        results: the folder in which the run folders lie.
    """

    def __init__(self, results: Path) -> None:
        self._results = results

    @classmethod
    def of(cls, run: RunFolder) -> Upstream:
        """The runs beside this one."""
        return cls(run.path.parent)

    def run(self, name: str) -> RunFolder:
        return RunFolder(self._results / name)

    def is_made(self, one: MadeInput) -> bool:
        """Whether the video is there, and is the one that is wanted."""
        return state_on_disk(self.run(one.run), one) is JobState.DONE

    def made(self, wanted: Iterable[MadeInput]) -> set[MadeInput]:
        """Those of these that are there. Folders are listed once, for most may be absent."""
        found = set()
        disks: dict[str, Disk] = {}
        for one in sorted(set(wanted), key=lambda one: one.path):
            disk = disks.setdefault(one.run, Disk(self.run(one.run)))
            if disk.files(one.output) and self.is_made(one):
                found.add(one)
        return found

    def file(self, one: MadeInput, start: Path | None = None) -> FileInput | None:
        """The video as a file; None while it is not there.

        Args:
            start: the folder from which its path shall be; None for an absolute one.
        """
        run = self.run(one.run)
        sidecar = vouching_sidecar(run, one)
        if sidecar is None or sidecar.get("fingerprint") != one.fingerprint:
            return None
        path = str(run.video(one).absolute())
        if start is not None:
            path = Path(os.path.relpath(path, start)).as_posix()
        return FileInput(path, str(sidecar["video"].get("sha256")))

    def resolved(self, series: Series) -> Series:
        """The series with files in the place of the videos that other runs have made.

        Raises:
            Unmade: one of them is not there.
        """
        if not (made := series.made):
            return series
        inputs: dict[str, Input] = dict(series.inputs)
        for role, one in made.items():
            if (file := self.file(one)) is None:
                raise Unmade(f"{one.path} is not there")
            inputs[role] = file
        return replace(series, inputs=inputs)


def lineage(planned: Series, handed: Series) -> Mapping[str, str]:
    """Of each video of another run the sha256 of what a job was really made from, by its role.

    Args:
        planned: as in the manifest.
        handed: as the engine was given it.
    """
    return {role: handed.file(role).sha256 for role in planned.made}
