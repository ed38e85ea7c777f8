"""The sweep that the project grew from, job by job: ids, outputs and fingerprints for ever."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from conftest import Project

from runner.disk.manifest import read_manifest
from runner.disk.run_folder import RunFolder

DATA = Path(__file__).with_name("data") / "sweep_of_680"
EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "wan_experiment.yaml"
VIDEOS = {
    "camera_motion": 14,
    "single_object": 33,
    "multiple_objects": 13,
    "complex_human_motion": 8,
}
PROMPTS = 5
COLUMNS = ("id", "output", "fingerprint")


def put_clip(path: Path, number: int) -> None:
    """The one clip, of 81 frames, as a file of other content: nobody encodes, so that it is the
    same on every machine. Behind it stands a box that readers pass over (ISO/IEC 14496-12, 8.1.2).
    """
    words = b"clip %d" % number
    box = (8 + len(words)).to_bytes(4, "big") + b"free" + words
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((DATA / "clip.mp4").read_bytes() + box)


def planned(root: Path) -> list[dict[str, str]]:
    """The sweep's jobs in order, planned with its own experiment file as it is.

    The checkpoint is not there, and so is what the file says by name (`model.identity`): weights,
    a machine's own settings and its GPUs are kept out.
    """
    machine = root / "machine.yaml"
    machine.write_text("{}\n", encoding="utf-8")
    project = Project(root, {"SWEEP_MACHINE": str(machine), "CUDA_VISIBLE_DEVICES": ""})
    texts: dict[str, dict[str, list[str]]] = {}
    for category, videos in VIDEOS.items():
        for number in range(videos):
            name = f"ref_镜头_{number}"
            put_clip(root / "reference_videos" / category / f"{name}.mp4", number)
            lines = [f"提示 {number} {one}: “a red ball”" for one in range(PROMPTS)]
            texts.setdefault(category, {})[name] = lines
    prompts = root / "prompts" / "motion_transfer.json"
    prompts.parent.mkdir()
    prompts.write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    file = root / "experiments" / EXPERIMENT.name
    file.parent.mkdir()
    shutil.copy(EXPERIMENT, file)
    done = project.call("plan", str(file))
    assert done.status == 0, done.err
    jobs = read_manifest(RunFolder(root / "results" / "motion_transfer").manifest).jobs
    return [{name: str(getattr(job, name)) for name in COLUMNS} for job in jobs]


def listing(jobs: list[dict[str, str]]) -> dict[str, Any]:
    """The first and last of them, and a hash of each column of all."""

    def hashed(column: str) -> str:
        return hashlib.sha256("".join(f"{job[column]}\n" for job in jobs).encode()).hexdigest()

    return {
        "jobs": len(jobs),
        "sha256": {column: hashed(column) for column in COLUMNS},
        "first": jobs[:3],
        "last": jobs[-3:],
    }


def test_the_680_jobs_are_what_they_were(tmp_path: Path) -> None:
    """In their order, line by line; the columns tell which of the three is another.

    Where a recipe is raised, all fingerprints are others, meant so and said; ids and outputs never.
    """
    now = listing(planned(tmp_path))
    before = json.loads((DATA / "jobs.json").read_text(encoding="utf-8"))
    assert (now["first"], now["last"]) == (before["first"], before["last"])
    assert now == before
