"""Write an experiment file for a folder of clips."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk.run_folder import write_atomically
from ..experiment.loading import load_experiment
from ..job import RUN_NAME
from ..machine.machine_file import read_machine
from ..proposal import InitWish, Proposal, propose
from ..proposal.former_config import read_config
from ..proposal.text import experiment_text
from ..text.errors import UserError


@dataclass(frozen=True)
class Proposed:
    """The experiment file that was written, and what it proposes."""

    file: Path
    proposal: Proposal

    def to_json(self) -> dict[str, Any]:
        proposal = self.proposal
        return {
            "experiment": str(self.file),
            "clips": proposal.clips,
            "categories": dict(proposal.categories),
            "prompts": proposal.prompts,
            "videos": proposal.videos,
            "values": dict(proposal.values),
            "problems": list(proposal.problems),
            "remarks": list(proposal.remarks),
        }


def init(
    name: str,
    *,
    videos: Path | str | None = None,
    prompts: Path | str | None = None,
    config: Path | str | None = None,
    checkpoint: str | None = None,
    force: bool = False,
) -> Proposed:
    """Write `experiments/NAME.yaml` for a folder of clips and their prompts, in the project in
    which this process stands.

    Args:
        videos: the folder of clips.
        prompts: their file or folder; by default what lies beside the clips.
        config: another script's settings.
        checkpoint: the model's folder, or `tiny`.
        force: replace a file of that name.

    Raises:
        UserError: the name or what is given cannot be used, or there is such a file already.
    """
    if not re.fullmatch(RUN_NAME, name):
        raise UserError(f"{name!r}: a name has letters, digits, _ and - (1 to 100, no - first)")
    root = project_here(Path.cwd())
    file = root / "experiments" / f"{name}.yaml"
    if file.exists() and not force:
        raise UserError(f"{file}: is there already; choose another name, or --force replaces it")
    former = None if config is None else read_config(Path(config))
    clips, texts = (None if path is None else Path(path) for path in (videos, prompts))
    proposal = propose(InitWish(root, read_machine(root), clips, texts, checkpoint, former))
    write_atomically(file, experiment_text(name, proposal, file).encode())
    load_experiment(file)
    return Proposed(file, proposal)


def project_here(folder: Path) -> Path:
    """The project root for who stands in a folder: the nearest that holds `experiments/`, else
    that folder."""
    for place in (folder, *folder.parents):
        if (place / "experiments").is_dir():
            return place
    return folder
