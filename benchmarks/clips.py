"""What the model is given of people's clips: every kind read at three rates beside ffmpeg, and the
whole way from a clip whose frames tell their number to a video that tells them back.

    python benchmarks/clips.py                    # all kinds
    python benchmarks/clips.py cut turned_90      # some, nothing written
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import yaml
from clip_kinds import KINDS, REFUSED, Compared, Kitchen, Shown, compare, make, number_of, shown
from measuring import table, write_section

from runner.job.shape import Shape
from runner.video import BrokenVideo, probe, read_video

ROOT = Path(__file__).resolve().parents[1]
TITLE = "What the model is given of people's clips"
RATES = (Fraction(15), Fraction(30), Fraction(24000, 1001))
WIDTH, HEIGHT, FRAMES, FPS = 320, 192, 9, 10


@dataclass(frozen=True)
class Row:
    """One kind: how its readings compare, and what its video tells of `frames` ones: how many of
    them are others than those that ffmpeg shows then."""

    kind: str
    shown: int
    compared: tuple[Compared, ...]
    frames: int
    wrong_in_video: int

    @property
    def wrong(self) -> int:
        lacking = sum(abs(own.frames - own.right) for own in self.compared)
        return sum(own.wrong for own in self.compared) + lacking

    @property
    def read(self) -> int:
        return sum(own.frames for own in self.compared)

    @property
    def pixels(self) -> str:
        alike = {own.same_pixels for own in self.compared}
        return "the same" if alike == {True} else "compared by number"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="only these")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    wanted = arguments.kinds or list(KINDS)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "项目"
        folder = root / "videos" / "kinds"
        folder.mkdir(parents=True)
        kitchen = Kitchen(Path(name) / "parts")
        clips = {kind: make(kind, kitchen, folder) for kind in wanted}
        seen = {kind: shown(clip) for kind, clip in clips.items()}
        compared = {
            kind: tuple(compare(clip, seen[kind], fps) for fps in RATES)
            for kind, clip in clips.items()
        }
        told = make_videos(root, list(clips))
        rows = [
            Row(
                kind,
                len(seen[kind].times),
                compared[kind],
                len(told[kind]),
                sum(a != b for a, b in zip(told[kind], right_numbers(seen[kind]), strict=False)),
            )
            for kind in clips
        ]
        refused = [refusal(kind, make(kind, kitchen, Path(name))) for kind in REFUSED]
    text = body(rows, refused)
    if arguments.kinds:
        print(text)
    else:
        write_section(arguments.out, TITLE, text)
    return 1 if any(row.wrong or row.wrong_in_video for row in rows) else 0


def right_numbers(what: Shown) -> list[int]:
    """The numbers that a video should tell."""
    return [number_of(what.frames[index]) for index in what.taken(Fraction(FPS))][:FRAMES]


def make_videos(root: Path, kinds: list[str]) -> dict[str, list[int]]:
    """Run a sweep of the clips through the tiny checkpoint, so weakly that it gives back what it
    was given, and read the numbers that its videos tell."""
    (root / "prompts.json").write_text(json.dumps({"kinds": {kind: ["a"] for kind in kinds}}))
    experiment = {
        "name": "kinds",
        "model": {"checkpoint": "tiny"},
        "dataset": {"videos": "videos", "prompts": "prompts.json"},
        "seeds": [1],
        "generation": {
            "width": WIDTH,
            "height": HEIGHT,
            "num_frames": FRAMES,
            "fps": FPS,
            "num_inference_steps": 1,
            "cfg_scale": 1.0,
            "denoising_strength": 0.005,
        },
        "output": {"quality": 9},
    }
    (root / "kinds.yaml").write_text(yaml.safe_dump(experiment))
    command = [sys.executable, "-m", "runner", "launch", "kinds.yaml", "--on", "local", "--wait"]
    # What is too short is left out, and would be missed below.
    subprocess.run([*command, "--skip-invalid"], cwd=root, check=True, capture_output=True)
    told = {}
    for kind in kinds:
        video = root / "results" / "kinds" / "kinds" / kind / "seed_1_prompt_0.mp4"
        frames = read_video(video, Shape(width=WIDTH, height=HEIGHT, num_frames=FRAMES, fps=FPS))
        told[kind] = [number_of(frame) for frame in frames]
    return told


def refusal(kind: str, clip: Path) -> tuple[str, str]:
    """A kind, and what is said of it."""
    try:
        probe(clip)
    except BrokenVideo as error:
        return kind, str(error).partition(";")[0]
    return kind, "READ"


def body(rows: list[Row], refused: list[tuple[str, str]]) -> str:
    head = ["clip", "frames shown", "read", "wrong", "pixels", "told back by the model", "wrong"]
    lines = [
        [
            row.kind,
            str(row.shown),
            str(row.read),
            str(row.wrong),
            row.pixels,
            str(row.frames),
            str(row.wrong_in_video),
        ]
        for row in rows
    ]
    total = [sum(row.read for row in rows), sum(row.wrong for row in rows)]
    made = [sum(row.frames for row in rows), sum(row.wrong_in_video for row in rows)]
    lines.append(["all", "", str(total[0]), str(total[1]), "", str(made[0]), str(made[1])])
    rates = ", ".join(f"{float(rate):.6g}" for rate in RATES)
    return (
        f"{len(rows)} kinds of clips, 120 frames at 30 a second before they were cut, turned or "
        f"joined, each read at {rates} frames a second and compared with the frames and times that "
        "ffmpeg shows (`showinfo`, `-fps_mode passthrough`); a frame too many or too few counts as "
        "wrong. Then the whole way: a sweep of them through the tiny checkpoint at "
        f"`denoising_strength: 0.005`, one step, {FRAMES} frames at {FPS} a second, whose videos "
        "must show the numbers that ffmpeg shows then. `benchmarks/clip_kinds.py` makes them.\n\n"
        f"{table(head, lines)}\n\nRefused, each with the ffmpeg line that mends it:\n\n"
        f"{table(['clip', 'what is said'], refused)}"
    )


if __name__ == "__main__":
    sys.exit(main())
