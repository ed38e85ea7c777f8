"""Small pictures and clips that a page needs beside the videos, kept by content in `report/`.

A poster is one frame of a video; a reference clip lies outside the run folder, so the page gets
a copy that has exactly the frames the backend saw; a preview is a small version of a video.
What is there already is not made again, since names say what the content was.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk.run_folder import sha256_file
from ..job import FileInput
from ..job.shape import Shape
from ..text.canonical import sha256_of
from ..video import BrokenVideo, read_clip, write_video
from ..video.program import ffmpeg
from ..video.reading import Reading

POSTER_WIDTH_PIXELS = 320
CLIP_QUALITY = 6.0
COPY_SECONDS = 120
CLIP_COPY_VERSION = 3
"""Raised when the copy of a reference clip changes."""

Seen = tuple[str, Reading, Shape]
"""What is seen of a reference clip: its sha256, how it is read, and in which shape."""


def seen_of(clip: FileInput, parameters: Mapping[str, Any], shape: Shape) -> Seen:
    """What a job of these parameters sees of its clip."""
    return clip.sha256, Reading.of(parameters), shape


@dataclass(frozen=True)
class WantedMedium:
    """One picture or clip to make: its place, how, and what it is of, for a message."""

    path: Path
    make: Callable[[Path], None]
    what: str


class Pictures:
    """The pictures of one report folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def poster(self, video: Path, sha256: str, shape: Shape) -> WantedMedium:
        """The frame in the middle of a video, 320 pixels wide."""
        seconds = shape.most_frames / shape.fps / 2
        path = self.folder / "posters" / f"{_short(sha256)}.jpg"
        return WantedMedium(path, lambda target: extract_frame(video, target, seconds), video.name)

    def preview(self, video: Path, sha256: str, width: int) -> WantedMedium:
        """A small version of a video, at most `width` pixels wide."""
        path = self.folder / "previews" / f"{_short(sha256)}_{width}.mp4"
        return WantedMedium(path, lambda target: shrink(video, target, width), video.name)

    def reference(self, source: Path, name: str, seen: Seen, width: int = 0) -> WantedMedium:
        """The frames of a clip that a job was made from.

        Args:
            name: of the clip, for a message.
            width: the most pixels across; 0 keeps the job's size.
        """
        sha256, reading, shape = seen
        if 0 < width < shape.width:
            shape = shape.sized(_even(width), _even(shape.height * width / shape.width))
        key = [CLIP_COPY_VERSION, sha256, reading.start, reading.fit, shape.to_json()]
        path = self.folder / "references" / f"{sha256_of(key)[:32]}.mp4"
        small = (sha256, reading, shape)
        return WantedMedium(path, lambda target: copy_clip(source, small, target), name)


def make_all(
    wanted: Iterable[WantedMedium], on_made: Callable[[], object] = lambda: None
) -> dict[Path, str]:
    """Make what is missing, several at once.

    Args:
        on_made: called after each, from this thread.

    Returns:
        For each that could not be made why, in one line.
    """
    missing = {one.path: one for one in wanted if not is_made(one.path)}
    problems: dict[Path, str] = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for one, problem in zip(missing.values(), pool.map(make, missing.values()), strict=True):
            if problem is not None:
                problems[one.path] = problem
            on_made()
    return problems


def is_made(path: Path) -> bool:
    """Whether a picture is there: a file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def make(one: WantedMedium) -> str | None:
    """Make one picture as a whole or not at all; returns why it could not be made, or None."""
    one.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = one.path.with_name(f".{one.path.stem}.{uuid.uuid4().hex[:8]}{one.path.suffix}")
    try:
        one.make(temporary)
        temporary.replace(one.path)
    except FileNotFoundError:
        return f"{one.what}: is not on this machine"
    except (BrokenVideo, ValueError, OSError) as error:
        return f"{one.what}: {error}"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"{one.what}: {said[-1] if said else error}"
    except subprocess.TimeoutExpired:
        return f"{one.what}: ffmpeg did not end within {COPY_SECONDS} s"
    finally:
        temporary.unlink(missing_ok=True)
    return None


def extract_frame(video: Path, target: Path, seconds: float) -> None:
    """Write the frame at that time as a JPEG."""
    # A JPEG is BT.601 in full range, whatever the video is.
    scale = f"scale='min({POSTER_WIDTH_PIXELS},iw)':-2:out_color_matrix=bt601:out_range=pc"
    options = ["-frames:v", "1", "-vf", f"{scale},format=yuvj420p", "-q:v", "4"]
    run_ffmpeg(["-ss", f"{seconds:.3f}"], video, options, target)


def shrink(video: Path, target: Path, width: int) -> None:
    """Write a video at most `width` pixels wide, its index first so that it starts at once."""
    options = [
        "-an",
        "-map_metadata",
        "-1",
        "-vf",
        f"scale='min({_even(width)},iw)':-2",
        "-c:v",
        "libx264",
    ]
    options += ["-crf", "27", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-threads", "1"]
    run_ffmpeg([], video, [*options, "-movflags", "+faststart"], target)


def copy_clip(source: Path, seen: Seen, target: Path) -> None:
    """Write the frames of a reference clip that a backend reads, as an H.264 MP4.

    Raises:
        ValueError: the clip is another than the one that the jobs were planned with.
        BrokenVideo, OSError: it cannot be read.
    """
    sha256, reading, shape = seen
    if sha256_file(source) != sha256:
        raise ValueError("the clip has changed since the sweep was planned")
    frames = read_clip(source, shape, start=reading.start, fit=reading.fit)
    write_video(target, frames, fps=shape.fps, quality=CLIP_QUALITY)


def run_ffmpeg(before: list[str], source: Path, after: list[str], target: Path) -> None:
    """Run the ffmpeg that imageio brings from one file to another."""
    if not source.exists():
        raise FileNotFoundError(source)
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-v", "error", "-y"]
    # As URLs of absolute paths, so that no name is taken for an option or a protocol.
    command += [*before, "-threads", "1", "-i", f"file:{source.absolute()}", "-map", "0:v:0"]
    command += [*after, f"file:{target.absolute()}"]
    subprocess.run(command, capture_output=True, timeout=COPY_SECONDS, check=True)
    if not target.exists():
        raise OSError("ffmpeg wrote nothing")


def _short(sha256: str) -> str:
    # From a sidecar: whatever stands there must stay a file name.
    return sha256[:32] if sha256[:32].isalnum() else sha256_of(sha256)[:32]


def _even(size: float) -> int:
    return max(2, round(size / 2) * 2)
