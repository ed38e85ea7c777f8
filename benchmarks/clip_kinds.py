"""Clips of every kind that people have, whose frames tell their number, and what ffmpeg shows.

A red disc stands `20 + 2.3 n` pixels from the left and `70 + 0.4 n` from the top in frame n of 120.
`KINDS` are read, `REFUSED` are not.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from runner.job.shape import Shape
from runner.video import frames_available, probe, read_clip

Frames = npt.NDArray[np.uint8]

WIDTH, HEIGHT, FRAMES, FPS = 320, 192, 120, 30
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", "-threads", "1")
HEVC = ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-crf", "20", "-preset", "ultrafast")
HEVC_QUIET = "log-level=error:pools=none:frame-threads=1"
OPEN_GOP = "open-gop=1:keyint=24:min-keyint=24:bframes=5:b-pyramid=normal:scenecut=0"
TURNS = {
    "turned_90": ("transpose=clock", ("-display_rotation", "90")),
    "turned_180": ("hflip,vflip", ("-display_rotation", "180")),
    "turned_270": ("transpose=cclock", ("-display_rotation", "270")),
    "mirrored": ("hflip", ("-display_hflip",)),
    "upside_down": ("vflip", ("-display_vflip",)),
    "turned_mirrored": ("transpose=clock_flip", ("-display_rotation", "90", "-display_hflip")),
    "turned_upside_down": ("transpose=cclock_flip", ("-display_rotation", "90", "-display_vflip")),
}


class Kitchen:
    """A folder in which clips are made, with what they are made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.base = folder / "base.nut"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo"]
        command += ["-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-"]
        pixels = b"".join(numbered_frame(n).tobytes() for n in range(FRAMES))
        subprocess.run([*command, "-c:v", "ffv1", str(self.base)], input=pixels, check=True)

    def ffmpeg(self, *words: object) -> None:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y"]
        subprocess.run([*command, *map(str, words)], check=True, capture_output=True)

    def part(self, name: str, *words: object) -> Path:
        """A file that others are made of."""
        path = self.folder / f"part_{name}"
        if not path.exists():
            self.ffmpeg("-i", self.base, *words, path)
        return path

    def encoded(self, path: Path, *words: object) -> None:
        """The numbered frames, encoded with these options."""
        self.ffmpeg("-i", self.base, *words, path)

    def copied(
        self, path: Path, source: Path, *before: object, after: Sequence[object] = ()
    ) -> None:
        """A file's packets in another container, cut or marked by these options."""
        self.ffmpeg(*before, "-i", source, "-c", "copy", *after, path)


@dataclass(frozen=True)
class Kind:
    """One kind of clip: how its file ends, and what makes it.

    Args:
        by_number: pixels rightly differ from ffmpeg's a little, so numbers are compared.
    """

    suffix: str
    make: Callable[[Kitchen, Path], None]
    by_number: bool = False


def x264(*words: object) -> Callable[[Kitchen, Path], None]:
    return lambda kitchen, path: kitchen.encoded(path, *X264, *words)


def plain(*words: object) -> Callable[[Kitchen, Path], None]:
    return lambda kitchen, path: kitchen.encoded(path, *words)


def copied(
    name: str, encoding: Sequence[object], *before: object, after: Sequence[object] = ()
) -> Callable[[Kitchen, Path], None]:
    """Packets of a file that is encoded so."""
    return lambda kitchen, path: kitchen.copied(
        path, kitchen.part(name, *encoding), *before, after=after
    )


def turned(name: str) -> Callable[[Kitchen, Path], None]:
    filters, matrix = TURNS[name]
    return copied(f"{name}.mp4", ("-vf", filters, *X264), *matrix)


def joined(second: Sequence[object]) -> Callable[[Kitchen, Path], None]:
    """Two clips, one behind the other, without encoding them again."""

    def make(kitchen: Kitchen, path: Path) -> None:
        halves = (
            kitchen.part("first_half.mp4", "-frames:v", 60, *X264),
            kitchen.part(f"second_{path.stem}.mp4", *second, *X264),
        )
        listing = path.with_suffix(".txt")
        listing.write_text("".join(f"file '{half.name}'\n" for half in halves))
        kitchen.ffmpeg("-f", "concat", "-safe", 0, "-i", listing, "-c", "copy", path)
        listing.unlink()

    return make


VFR = ("-fps_mode", "vfr", "-enc_time_base", "1/600")
SECOND_HALF = "select='gte(n,60)',setpts=(N/{rate})/TB"
LONG_GOP = (*X264, "-g", 1000)
OPEN = (*X264, "-x264-params", OPEN_GOP)
HEVC_OPEN = (*HEVC, "-x265-params", f"{HEVC_QUIET}:open-gop=1:keyint=24:bframes=4")
REFRESH = (*X264, "-x264-params", "intra-refresh=1:keyint=30:bframes=0")
SOUND = ("-f", "lavfi", "-i", "sine=duration=4", "-c:a", "aac", "-shortest")

KINDS: dict[str, Kind] = {
    "plain": Kind("mp4", x264()),
    "index_first": Kind("mp4", x264("-movflags", "+faststart")),
    "fragmented": Kind("mp4", x264("-movflags", "frag_keyframe+empty_moov", "-g", 30)),
    "no_b_frames": Kind("mp4", x264("-bf", 0)),
    "many_b_frames": Kind("mp4", x264("-x264-params", "bframes=8:b-pyramid=strict:b-adapt=0")),
    "open_gop": Kind("mp4", copied("open.mp4", OPEN)),
    "cut": Kind("mp4", copied("one_gop.nut", LONG_GOP, "-ss", 0.7)),
    "cut_mkv": Kind("mkv", copied("one_gop.nut", LONG_GOP, "-ss", 0.7)),
    "cut_open_gop": Kind("mp4", copied("open.mp4", OPEN, "-ss", 1.3)),
    "cut_open_gop_mkv": Kind("mkv", copied("open.mp4", OPEN, "-ss", 1.3)),
    "cut_open_gop_mov": Kind(
        "mov", copied("open.mp4", OPEN, "-ss", 1.3, after=("-use_editlist", 0))
    ),
    "cut_open_gop_fragmented": Kind(
        "mp4", copied("open.mp4", OPEN, "-ss", 1.3, after=("-movflags", "frag_keyframe+empty_moov"))
    ),
    "cut_at_both_ends": Kind("mp4", copied("one_gop.nut", LONG_GOP, "-ss", 0.7, after=("-t", 2))),
    "end_trimmed": Kind("mp4", copied("open.mp4", OPEN, after=("-t", 2.45))),
    "intra_refresh": Kind("mp4", copied("refresh.mp4", REFRESH)),
    "intra_refresh_cut": Kind("mp4", copied("refresh.mp4", REFRESH, "-ss", 1.4)),
    "hevc": Kind("mp4", plain(*HEVC, "-x265-params", HEVC_QUIET, "-tag:v", "hvc1")),
    "hevc_cut": Kind("mp4", copied("hevc_open.mp4", HEVC_OPEN, "-ss", 1.3)),
    "hevc_cut_mkv": Kind("mkv", copied("hevc_open.mp4", HEVC_OPEN, "-ss", 1.3)),
    "mpeg4": Kind("mp4", plain("-c:v", "mpeg4", "-bf", 2, "-q:v", 3)),
    "mpeg4_avi": Kind("avi", plain("-c:v", "mpeg4", "-q:v", 3)),
    "h264_avi_without_b_frames": Kind("avi", x264("-bf", 0)),
    "mjpeg_avi": Kind("avi", plain("-c:v", "mjpeg", "-q:v", 2, "-pix_fmt", "yuvj420p")),
    "av1": Kind("mp4", plain("-c:v", "libsvtav1", "-preset", 12, "-pix_fmt", "yuv420p")),
    "av1_webm": Kind("webm", plain("-c:v", "libsvtav1", "-preset", 12, "-pix_fmt", "yuv420p")),
    "vp9_webm": Kind("webm", plain("-c:v", "libvpx-vp9", "-b:v", "1M", "-cpu-used", 8)),
    "vp9_hidden_frames": Kind(
        "webm",
        plain("-c:v", "libvpx-vp9", "-b:v", "1M", "-auto-alt-ref", 1, "-lag-in-frames", 25),
    ),
    "vp8_webm": Kind("webm", plain("-c:v", "libvpx", "-b:v", "1M", "-cpu-used", 8)),
    "mkv": Kind("mkv", x264()),
    "gif": Kind("gif", plain("-vf", "fps=20")),
    "prores": Kind("mov", plain("-c:v", "prores_ks", "-profile:v", 0), by_number=True),
    "variable_rate": Kind("mp4", x264("-vf", "setpts='if(lt(N,60),N/30,2+(N-60)/10)/TB'", *VFR)),
    "variable_rate_mkv": Kind("mkv", x264("-vf", "setpts='(N/30+0.012*mod(N*7\\,3))/TB'", *VFR)),
    "still_part_left_out": Kind("mp4", x264("-vf", "select='not(between(n,40,88))'", *VFR)),
    "two_rates_joined": Kind("mp4", joined(("-vf", SECOND_HALF.format(rate=60), "-r", 60))),
    "joined": Kind("mp4", joined(("-vf", SECOND_HALF.format(rate=30), "-r", 30))),
    "rate_of_film": Kind("mp4", x264("-vf", "setpts=N/(24000/1001)/TB", "-r", "24000/1001")),
    "rate_of_tv": Kind("mkv", x264("-vf", "setpts=N/(30000/1001)/TB", "-r", "30000/1001")),
    "starts_late": Kind("mp4", copied("open.mp4", OPEN, "-itsoffset", 1.5)),
    "times_from_far": Kind(
        "mkv", copied("open.mp4", OPEN, after=("-output_ts_offset", 3600, "-copyts"))
    ),
    "sound_starts_first": Kind(
        "mp4",
        lambda kitchen, path: kitchen.ffmpeg(
            *("-itsoffset", 0.4, "-i", kitchen.part("plain.mp4", *X264)),
            *SOUND[:4],
            *("-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", path),
        ),
    ),
    **{name: Kind("mp4", turned(name)) for name in TURNS},
    "wide_pixels": Kind("mp4", x264("-vf", "scale=240:192,setsar=4/3")),
    "narrow_pixels": Kind("mp4", x264("-vf", "scale=360:192,setsar=8/9")),
    "wide_pixels_turned": Kind(
        "mp4",
        copied(
            "wide_turned.mp4",
            ("-vf", "scale=240:192,setsar=4/3,transpose=clock", *X264),
            *("-display_rotation", "90"),
        ),
    ),
    "cropped_by_the_codec": Kind(
        "mp4",
        copied(
            "bordered.mp4",
            ("-vf", f"pad={WIDTH + 32}:{HEIGHT + 16}:18:6", *X264),
            after=(
                "-bsf:v",
                "h264_metadata=crop_left=18:crop_right=14:crop_top=6:crop_bottom=10",
            ),
        ),
    ),
    "full_range": Kind(
        "mp4",
        x264("-vf", "scale=out_range=pc,format=yuvj420p", "-color_range", "pc"),
    ),
    "hd_colours": Kind(
        "mp4",
        x264("-vf", "scale=out_color_matrix=bt709,setparams=colorspace=bt709:color_trc=bt709"),
    ),
    "full_colour": Kind("mp4", plain(*X264[:2], "-pix_fmt", "yuv444p", *X264[4:])),
    "ten_bits": Kind("mp4", plain(*X264[:2], "-pix_fmt", "yuv420p10le", *X264[4:]), by_number=True),
    "interlaced": Kind(
        "mp4", x264("-flags", "+ildct+ilme", "-x264-params", "tff=1"), by_number=True
    ),
    "with_cover_picture": Kind(
        "mp4",
        lambda kitchen, path: kitchen.ffmpeg(
            *("-i", kitchen.part("plain.mp4", *X264)),
            *("-i", kitchen.part("cover.png", "-frames:v", 1)),
            *("-map", "1", "-map", "0", "-c", "copy", "-disposition:v:0", "attached_pic", path),
        ),
    ),
}

PQ = "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"
HLG = "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc"


def without_times(kitchen: Kitchen, path: Path) -> None:
    """An MP4 made of a bare H.264 stream, which has no times of presentation."""
    raw = kitchen.part("raw.h264", *X264)
    kitchen.ffmpeg("-r", FPS, "-i", raw, "-c", "copy", path)


REFUSED: dict[str, Kind] = {
    "hdr_pq": Kind("mp4", plain("-vf", PQ, *HEVC, "-x265-params", HEVC_QUIET)),
    "hdr_hlg": Kind("mp4", plain("-vf", HLG, *HEVC, "-x265-params", HEVC_QUIET)),
    "made_of_bare_h264": Kind("mp4", without_times),
    "h264_avi": Kind("avi", x264()),
}
"""Kinds that are refused, with the ffmpeg line that mends them."""


def make(name: str, kitchen: Kitchen, folder: Path) -> Path:
    """A clip of that kind, in a folder on the kitchen's file system."""
    kind = KINDS.get(name) or REFUSED[name]
    # Beside the parts while it is made: a list of clips to join names them there.
    path = kitchen.folder / f"{name}.{kind.suffix}"
    kind.make(kitchen, path)
    return path.rename(folder / path.name)


def numbered_frame(number: int) -> Frames:
    """A red disc on a plain ground, whose place tells the frame's number."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    frame[:] = (120, 150, 120)
    frame[: HEIGHT // 3] = (150, 170, 190)
    frame[np.hypot(x - (20 + 2.3 * number), y - (70 + 0.4 * number)) < 17] = (215, 40, 40)
    return frame


def number_of(frame: Frames) -> int:
    """The number that a frame tells, whatever its size; -1 where its disc is not where it should
    be."""
    height, width = frame.shape[:2]
    values = frame.astype(int)
    red = np.clip(values[..., 0] - np.maximum(values[..., 1], values[..., 2]) - 40, 0, None)
    if red.sum() < 500:
        return -1
    x = (red.sum(0) @ np.arange(width)) / red.sum() * WIDTH / width
    y = (red.sum(1) @ np.arange(height)) / red.sum() * HEIGHT / height
    number = round((x - 20) / 2.3)
    return number if abs(y - (70 + 0.4 * number)) < 14 else -1


@dataclass(frozen=True)
class Shown:
    """What ffmpeg shows of a clip: frames upright, in the clip's own pixels, and when, in seconds
    from the first one on."""

    frames: Frames
    times: tuple[Fraction, ...]

    def taken(self, fps: Fraction) -> list[int]:
        """The indices of the frames nearest to j / fps, as long as there are such; of two equally
        near the earlier."""
        last = self.times[-1] + (self.times[-1] - self.times[-2]) / 2
        count = int(last * fps) + 1
        return [
            min(range(len(self.times)), key=lambda n: abs(self.times[n] - j / fps))
            for j in range(count)
        ]


def shown(clip: Path) -> Shown:
    """Decode a clip with ffmpeg, each frame with its time."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "info", "-i", str(clip)]
    command += ["-map", "0:V:0", "-vf", "showinfo", "-fps_mode", "passthrough"]
    done = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True
    )
    said = done.stderr.decode(errors="replace")
    (numerator, denominator), *_ = re.findall(r"config in time_base:\s*(\d+)/(\d+)", said)
    tick = Fraction(int(numerator), int(denominator))
    times = [int(pts) * tick for pts in re.findall(r" pts:\s*(-?\d+) ", said)]
    width, height = map(int, re.findall(r" s:(\d+)x(\d+)", said)[0])
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    return Shown(frames, tuple(time - times[0] for time in times))


@dataclass(frozen=True)
class Compared:
    """How the frames that a job reads of a clip compare with what ffmpeg shows.

    Args:
        frames: how many a job can read.
        right: how many it should be able to.
        wrong: how many of them are other frames.
        same_pixels: none differs in a pixel; None where pixels are scaled.
    """

    frames: int
    right: int
    wrong: int
    same_pixels: bool | None


def compare(clip: Path, what: Shown, fps: Fraction) -> Compared:
    """Read a clip at a rate, and compare it with what ffmpeg shows of it."""
    info = probe(clip)
    count, taken = frames_available(info, float(fps)), what.taken(fps)
    shared = min(count, len(taken))
    right = what.frames[taken[:shared]]
    is_square = info.aspect == 1
    width, height = info.picture if is_square else (WIDTH, HEIGHT)
    read = read_clip(clip, Shape(width=width, height=height, num_frames=shared, fps=float(fps)))
    if is_square and np.array_equal(read, right):
        return Compared(count, len(taken), 0, True)
    numbers = ([number_of(frame) for frame in frames] for frames in (read, right))
    wrong = sum(one != other or one < 0 for one, other in zip(*numbers, strict=True))
    return Compared(count, len(taken), wrong, False if is_square else None)
