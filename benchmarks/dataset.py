"""Small real clips and prompts in the numbers of the original sweep, or any others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from runner.video import write_video

ORIGINAL = {
    "camera_motion": 14,
    "single_object": 33,
    "multiple_objects": 13,
    "complex_human_motion": 8,
}
"""Reference videos per category of the original sweep."""


def make_dataset(folder: Path, videos: Mapping[str, int], prompts: int) -> None:
    """Write `videos/` and `prompts.json`: clips of noise with a moving block, 112x64, 9 frames."""
    texts: dict[str, dict[str, list[str]]] = {}
    for category, count in videos.items():
        for number in range(count):
            name = f"ref_镜头_{number:02d}"
            texts.setdefault(category, {})[name] = [f"提示 {n} {name}" for n in range(prompts)]
            still = np.random.default_rng(number).integers(0, 255, (64, 112, 3), dtype=np.uint8)
            frames = np.repeat(still[None], 9, axis=0)
            for moment in range(9):
                frames[moment, 20:40, 8 * moment : 8 * moment + 20] = 255
            path = folder / "videos" / category / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, frames, fps=15, quality=5)
    text = json.dumps(texts, ensure_ascii=False)
    (folder / "prompts.json").write_text(text, encoding="utf-8")
