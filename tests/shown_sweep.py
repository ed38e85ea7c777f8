"""A sweep to look at, with a cell of every kind and names that are hard on a page."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

from conftest import TWO, Project, write_clip

HOSTILE = "<script>document.title = 'pwned'</script>"
CLOSING = "</script><img src=x onerror=\"document.title='pwned'\"> & 'quotes'"
FAILING = "ref_fails <b>"
CLIPS = {
    "camera_motion": {
        "ref_镜头仰角": [HOSTILE, "一只红色的球 🎈", CLOSING],
        'z#b?c 100% "q" %41 &amp;': ["a red ball", "a blue ball", "a green ball"],
    },
    "two words & <i>": {FAILING: ["one", "two", "three"], "ref 🎬 b": ["eins", "zwei", "drei"]},
}
FRAMES, FPS = 17, 15


def make_shown_sweep(root: Path) -> Project:
    """A project whose sweep `x` has 24 jobs: 15 done, 2 stale, 6 failed, 1 missing."""
    project = Project(root)
    project.root.mkdir()
    project.add_clips(CLIPS)
    for number, clip in enumerate(sorted((root / "videos").rglob("*.mp4"))):
        write_clip(clip, frames=FRAMES, seed=number)
    generation = {"width": 112, "height": 64, "num_frames": FRAMES, "fps": FPS}
    project.write(
        model={"seconds": 0.02, "faults": [{"kind": "fail", "video": FAILING}]},
        placement=TWO,
        seeds=[1, 2],
        generation={**generation, "num_inference_steps": 2},
    )
    project.sweep("launch", str(project.file), "--on", "local", "--wait")
    changed = json.loads(json.dumps(CLIPS))
    changed["camera_motion"]['z#b?c 100% "q" %41 &amp;'][0] = "a red ball at night"
    (root / "prompts.json").write_text(json.dumps(changed, ensure_ascii=False), encoding="utf-8")
    project.call("plan", str(project.file))
    folder = project.run_folder.path / "two words & <i>" / "ref 🎬 b"
    for file in folder.glob("seed_2_prompt_2.*"):
        file.unlink()
    return project


def copy_of(project: Project, root: Path) -> Project:
    """The same project elsewhere, to change."""
    shutil.copytree(project.root, root)
    return Project(root)


class Served:
    """`sweep report --watch` of a project's run, while the block lasts; gives its URL."""

    def __init__(self, project: Project, *words: str) -> None:
        self.project = project
        self.words = words

    def __enter__(self) -> str:
        self.process = subprocess.Popen(
            self.project.command("report", "x", "--watch", "--port", "0", *self.words),
            cwd=self.project.root,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        match = re.search(r"http://\S+/", line)
        assert match, line
        return match[0]

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 130
        assert self.process.stderr is not None
        self.process.stderr.close()
