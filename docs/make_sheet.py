"""Make `docs/pictures/quickstart.png` from the demo's own videos: `python docs/make_sheet.py`.

Each row is one reference, four of its frames, and beside it the video of one of its prompts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from runner.job import JobState
from runner.runs.runs import find_run, open_queue
from runner.video import read_video
from runner.video.reading import read_reference

ROOT = Path(__file__).resolve().parents[1]
MOMENTS = (0, 5, 10, 16)
GAP, TEXT = 8, 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default=str(ROOT / "results" / "quickstart"))
    parser.add_argument("--prompt", type=int, default=0, help="number of the prompt shown")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "quickstart.png")
    arguments = parser.parse_args()
    run = find_run(arguments.run)
    queue = open_queue(run)
    jobs = [
        row.job
        for row in queue.rows()
        if row.state is JobState.DONE and row.job.on("prompt") == arguments.prompt
    ]
    queue.close()
    rows = []
    for job in jobs:
        strips = [
            np.concatenate([frames[moment] for moment in MOMENTS], axis=1)
            for frames in (
                read_reference(job.series.resolved(ROOT)),
                read_video(run.video(job), job.shape),
            )
        ]
        gap = np.full((strips[0].shape[0], GAP, 3), 255, np.uint8)
        picture = Image.fromarray(np.concatenate([strips[0], gap, strips[1]], axis=1))
        row = Image.new("RGB", (picture.width, picture.height + TEXT), "white")
        row.paste(picture, (0, TEXT))
        pen = ImageDraw.Draw(row)
        pen.text((2, 1), "reference", "black")
        pen.text((strips[0].shape[1] + GAP + 2, 1), job.series.text("prompt"), "black")
        rows.append(np.asarray(row))
    arguments.out.parent.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
