"""Reading, writing and checking of real video files."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pytest
from conftest import colour_chart
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from runner.job.shape import Shape
from runner.video import (
    BrokenVideo,
    VideoInfo,
    check_video,
    frames_available,
    probe,
    read_clip,
    read_video,
    write_video,
)
from runner.video.program import ffmpeg

Frames = npt.NDArray[np.uint8]

WIDTH, HEIGHT, NUM_FRAMES, FPS = 112, 64, 9, 15.0

RATES = st.sampled_from([8.0, 10.0, 12.0, 15.0, 16.0, 23.976, 24000 / 1001, 24.0, 25.0])
RATES |= st.sampled_from([29.97, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0])

NAMES = [
    "-y.mp4",
    "two words 'and' \"quotes\".mp4",
    "ref_镜头仰角旋转_832x480.mp4",
    "🎬.mp4",
    "%d %03d.mp4",
    "http:clip.mp4",
    "pipe:1.mp4",
    "[a]{b}|c&$HOME;*?.mp4",
    "~.mp4",
    "two\nlines.mp4",
]


def moving(num_frames: int = NUM_FRAMES, width: int = WIDTH, height: int = HEIGHT) -> Frames:
    """A drifting pattern with noise, in which no two frames are alike."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 40, (height, width))
    planes = [
        [x * 2 + 9 * i, y * 3 + 5 * i, np.roll(noise, 3 * i, 1) * 4] for i in range(num_frames)
    ]
    return np.moveaxis(np.array(planes) % 256, 1, -1).astype(np.uint8)


def numbered(num_frames: int, width: int = 32, height: int = 32) -> Frames:
    """Plain grey frames whose brightness is their number times three."""
    grey = np.arange(num_frames, dtype=np.uint8) * 3
    return np.broadcast_to(grey[:, None, None, None], (num_frames, height, width, 3)).copy()


def check(path: Path) -> None:
    check_video(path, Shape(width=WIDTH, height=HEIGHT, num_frames=NUM_FRAMES, fps=FPS))


def index_first(source: Path, path: Path) -> Path:
    """The same video with its index before its frames, as cameras and websites write it."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    options = ["-v", "error", "-i", f"file:{source}", "-c", "copy", "-movflags", "+faststart"]
    subprocess.run([ffmpeg, *options, f"file:{path}"], check=True)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_video(path, moving(), fps=FPS, quality=5)
    return path


@pytest.fixture(scope="module", params=["index last", "index first"])
def whole(request: pytest.FixtureRequest, clip: Path) -> bytes:
    if request.param == "index last":
        return clip.read_bytes()
    return index_first(clip, clip.with_name("index_first.mp4")).read_bytes()


# Writing


def test_a_written_video_has_the_size_count_and_rate_asked_for(clip: Path) -> None:
    check(clip)
    assert probe(clip) == VideoInfo.steady(WIDTH, HEIGHT, NUM_FRAMES, FPS)


@pytest.mark.parametrize(("width", "height"), [(832, 480), (208, 120), (34, 18), (16, 16)])
def test_an_even_size_is_never_changed(tmp_path: Path, width: int, height: int) -> None:
    write_video(tmp_path / "v.mp4", moving(2, width, height), fps=FPS, quality=5)
    check_video(tmp_path / "v.mp4", Shape(width=width, height=height, num_frames=2, fps=FPS))


@pytest.mark.parametrize(("width", "height"), [(33, 32), (32, 33)])
def test_an_odd_size_is_refused(tmp_path: Path, width: int, height: int) -> None:
    with pytest.raises(ValueError, match=f"must be even, not {width}x{height}"):
        write_video(tmp_path / "v.mp4", moving(2, width, height), fps=FPS, quality=5)


@pytest.mark.parametrize("fps", [1.0, 15.0, 23.976, 24000 / 1001, 29.97, 60.0, 12.5])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_any_rate_is_kept(tmp_path: Path, fps: float, num_frames: int) -> None:
    write_video(tmp_path / "v.mp4", moving(num_frames, 32, 32), fps=fps, quality=5)
    check_video(tmp_path / "v.mp4", Shape(width=32, height=32, num_frames=num_frames, fps=fps))
    assert probe(tmp_path / "v.mp4").fps == pytest.approx(fps, rel=5e-4)


def test_the_same_frames_give_the_same_bytes_as_images_or_array_and_under_any_name(
    tmp_path: Path, clip: Path
) -> None:
    images = [Image.fromarray(frame) for frame in moving()]
    write_video(tmp_path / "another name.mp4", images, fps=FPS, quality=5)
    assert (tmp_path / "another name.mp4").read_bytes() == clip.read_bytes()


def test_a_written_video_does_not_tell_its_path(clip: Path) -> None:
    assert str(clip.parent).encode() not in clip.read_bytes()
    assert clip.stem.encode() not in clip.read_bytes()


@pytest.mark.parametrize(("width", "height", "off"), [(1280, 720, 3), (256, 160, 4)])
def test_colours_come_back_as_they_were_written_and_the_file_says_which_they_are(
    tmp_path: Path, width: int, height: int, off: int
) -> None:
    """By decord, PyAV and ffmpeg; as a browser shows them, `test_report_page` looks."""
    chart, spots = colour_chart(width, height)
    path = tmp_path / "chart.mp4"
    write_video(path, [*np.repeat(chart[None], 3, 0)], fps=15, quality=10)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo"]
    done = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    assert re.search(rb"yuv420p\(tv, bt709[,)]", done.stderr)
    by_ffmpeg = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    for frames in (
        by_ffmpeg,
        read_clip(path, Shape(width=width, height=height, num_frames=3, fps=15)),
        read_video(path, Shape(width=width, height=height, num_frames=3, fps=15)),
    ):
        for (y, x), colour in spots.items():
            assert np.abs(frames[1, y, x].astype(int) - colour).max() <= off


@pytest.mark.parametrize("has_decord", [True, False])
def test_a_video_is_read_alike_with_decord_and_without(
    tmp_path: Path, has_decord: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """decord has wheels for x86-64 only."""
    write_video(tmp_path / "v.mp4", numbered(20), fps=15, quality=10)
    if not has_decord:
        monkeypatch.setitem(sys.modules, "decord", None)
    frames = read_video(tmp_path / "v.mp4", Shape(width=32, height=32, num_frames=20, fps=15))
    assert np.array_equal(np.rint(frames.mean(axis=(1, 2, 3)) / 3), np.arange(20))
    with pytest.raises(BrokenVideo, match="20 frames at 15 fps, 21 are needed"):
        read_video(tmp_path / "v.mp4", Shape(width=32, height=32, num_frames=21, fps=15))
    (tmp_path / "v.mp4").write_bytes(b"\0\0\0\x08ftyp\0\0\0\x08moov")
    with pytest.raises(BrokenVideo, match="no video stream"):
        read_video(tmp_path / "v.mp4", Shape(width=32, height=32, num_frames=20, fps=15))


def test_a_longer_file_of_that_name_is_overwritten(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"x" * 100_000)
    write_video(tmp_path / "v.mp4", moving(), fps=FPS, quality=5)
    assert (tmp_path / "v.mp4").read_bytes() == clip.read_bytes()


def test_every_quality_from_0_to_10_works_and_a_higher_one_takes_more_bytes(
    tmp_path: Path,
) -> None:
    sizes = []
    for quality in (0, 2.5, 5, 7.5, 10):
        write_video(tmp_path / "v.mp4", moving(), fps=FPS, quality=quality)
        check(tmp_path / "v.mp4")
        sizes.append((tmp_path / "v.mp4").stat().st_size)
    assert sizes == sorted(set(sizes))
    for quality in (-1, 10.5):
        with pytest.raises(ValueError, match="quality must be from 0 to 10"):
            write_video(tmp_path / "v.mp4", moving(), fps=FPS, quality=quality)


def test_no_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "v.mp4", [], fps=FPS, quality=5)


def test_a_video_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such folder"):
        write_video(tmp_path / "no such folder" / "v.mp4", moving(), fps=FPS, quality=5)


# Names


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_ever_a_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, Path(name)):
        write_video(path, moving(), fps=FPS, quality=5)
        assert [file.name for file in tmp_path.iterdir()] == [name]
        check(path)
        assert probe(path).num_frames == NUM_FRAMES
        assert read_clip(path, Shape(width=WIDTH, height=HEIGHT, num_frames=1, fps=FPS)).any()


# Resampling


@given(num_frames=st.integers(1, 5000), source=RATES, target=RATES)
def test_the_last_frame_counted_is_the_last_one_whose_nearest_source_frame_exists(
    num_frames: int, source: float, target: float
) -> None:
    count = frames_available(VideoInfo.steady(32, 32, num_frames, source), target)
    assert count >= 1
    # In units of source frames; a tie goes to the earlier frame, hence the half is included.
    assert (count - 1) * source / target <= num_frames - 0.5 + 1e-6
    assert count * source / target > num_frames - 0.5 - 1e-6


@given(num_frames=st.integers(1, 5000), rate=RATES, noise=st.floats(-1e-7, 1e-7))
def test_a_clips_own_rate_yields_all_its_frames_despite_float_noise(
    num_frames: int, rate: float, noise: float
) -> None:
    info = VideoInfo.steady(32, 32, num_frames, rate * (1 + noise))
    assert frames_available(info, rate) == num_frames


@given(num_frames=st.integers(1, 2000), times=st.integers(1, 8))
def test_a_multiple_of_the_rate_yields_that_multiple_of_frames(num_frames: int, times: int) -> None:
    info = VideoInfo.steady(32, 32, num_frames, 15.0)
    assert abs(frames_available(info, 15.0 * times) - num_frames * times) <= times / 2


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(source=RATES, target=RATES, num_frames=st.integers(1, 40))
@example(source=8.0, target=16.0, num_frames=1)
def test_reading_takes_the_nearest_frames_and_exactly_as_many_as_are_available(
    tmp_path: Path, source: float, target: float, num_frames: int
) -> None:
    path = tmp_path / "numbered.mp4"
    write_video(path, numbered(num_frames), fps=source, quality=9)
    count = frames_available(probe(path), target)
    clip = read_clip(path, Shape(width=32, height=32, num_frames=count, fps=target))
    taken = np.rint(clip.mean(axis=(1, 2, 3)) / 3)
    assert np.all(np.abs(taken - np.arange(count) * source / target) <= 0.5 + 1e-3)
    with pytest.raises(BrokenVideo, match=f"{count} frames at .* {count + 1} are needed"):
        read_clip(path, Shape(width=32, height=32, num_frames=count + 1, fps=target))


def test_a_shorter_reading_is_the_beginning_of_a_longer_one(clip: Path) -> None:
    long, short = (
        read_clip(clip, Shape(width=WIDTH, height=HEIGHT, num_frames=n, fps=FPS)) for n in (9, 5)
    )
    assert np.array_equal(long[:5], short)


# Scaling


def test_a_clip_of_the_right_size_is_untouched(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", numbered(20), fps=FPS, quality=10)
    clip = read_clip(tmp_path / "v.mp4", Shape(width=32, height=32, num_frames=20, fps=FPS))
    assert clip.dtype == np.uint8
    assert np.max(np.abs(clip.astype(int) - numbered(20))) <= 2


@pytest.mark.parametrize(("width", "height"), [(64, 64), (32, 64), (96, 32), (20, 38)])
def test_another_shape_is_covered_from_the_centre(tmp_path: Path, width: int, height: int) -> None:
    """The source is red left of its middle, blue right of it, with green outer rims."""
    source = np.zeros((1, 64, 128, 3), np.uint8)
    source[:, :, :64, 0] = source[:, :, 64:, 2] = 200
    source[:, :, :8] = source[:, :, -8:] = (0, 200, 0)
    write_video(tmp_path / "v.mp4", source, fps=FPS, quality=10)
    (frame,) = read_clip(
        tmp_path / "v.mp4", Shape(width=width, height=height, num_frames=1, fps=FPS)
    )
    assert frame.shape == (height, width, 3)
    left, right = frame[:, : width // 2 - 2], frame[:, width // 2 + 2 :]
    assert np.all(left[..., 2] < 60)
    assert np.all(right[..., 0] < 60)
    rims_are_seen = bool(np.any(frame[..., 1] > 150))
    assert rims_are_seen == (width / height > 112 / 64)


# Broken files


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_video_cut_anywhere_is_broken_for_every_reader(
    tmp_path: Path, whole: bytes, data: st.DataObject
) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    readers: list[Callable[[Path], object]] = [
        probe,
        check,
        lambda path: read_clip(path, Shape(width=32, height=32, num_frames=NUM_FRAMES, fps=FPS)),
    ]
    for read in readers:
        with pytest.raises(BrokenVideo) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        assert str(path) not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"this is a text file and not a video\n" * 50, "not a video of a kind that is read"),
        (b"\0" * 5000, "not a video of a kind that is read"),
        (b"\0\0\0\x08ftyp\0\0\0\x08moov", "no video stream"),
    ],
)
def test_a_file_that_is_no_video_is_broken(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(BrokenVideo, match=message):
        probe(tmp_path / "v.mp4")
    with pytest.raises(BrokenVideo):
        check(tmp_path / "v.mp4")


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    for read in (probe, check):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "v.mp4")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_frames": 13}, "9 frames, not 13"),
        ({"width": 832, "height": 480}, "size is 112x64, not 832x480"),
        ({"fps": 16.0}, "frame rate is 15, not 16"),
    ],
)
def test_a_whole_video_that_is_not_what_was_asked_for_is_named(
    clip: Path, wrong: dict[str, float], message: str
) -> None:
    asked = {"width": WIDTH, "height": HEIGHT, "num_frames": NUM_FRAMES, "fps": FPS} | wrong
    with pytest.raises(BrokenVideo, match=message):
        check_video(clip, Shape(**asked))  # type: ignore[arg-type]


def test_a_film_rate_is_told_from_its_whole_number(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", moving(), fps=30000 / 1001, quality=5)
    with pytest.raises(BrokenVideo, match=r"frame rate is 29\.97, not 30"):
        check_video(tmp_path / "v.mp4", Shape(width=WIDTH, height=HEIGHT, num_frames=9, fps=30))


def test_a_damaged_stream_is_often_caught_and_never_breaks_the_check(tmp_path: Path) -> None:
    """H.264 has no checksum, so many a flipped bit passes: a video's sha256 is what tells."""
    path = tmp_path / "v.mp4"
    write_video(path, moving(), fps=FPS, quality=5)
    whole, content = pixels(path), path.read_bytes()
    start, end = content.index(b"mdat") + 4, content.rindex(b"moov") - 4
    choose = random.Random(0)
    caught = missed = 0
    for _ in range(100):
        flipped = bytearray(content)
        flipped[choose.randrange(start, end)] ^= 1 << choose.randrange(8)
        path.write_bytes(flipped)
        try:
            check(path)
        except BrokenVideo:
            caught += 1
        else:
            missed += pixels(path) != whole
    assert caught + missed > 50
    assert caught > missed / 2


def pixels(path: Path) -> bytes | None:
    """A whole clip's decoded bytes, None where decord refuses it."""
    try:
        clip = read_clip(path, Shape(width=WIDTH, height=HEIGHT, num_frames=NUM_FRAMES, fps=FPS))
    except BrokenVideo:
        return None
    return clip.tobytes()


# Speed


def test_a_clip_is_probed_by_its_first_frame_alone(clip: Path, tmp_path: Path) -> None:
    """Hundreds of clips are probed for a plan, and decoding each would take minutes: whatever
    the later frames hold, the answer is the same."""
    import av

    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        later = [(packet.pos, packet.size) for packet in packets[1:]]
    assert len(later) == NUM_FRAMES - 1
    content = bytearray(clip.read_bytes())
    for start, size in later:
        assert start is not None
        content[start : start + size] = b"\xff" * size
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with pytest.raises(BrokenVideo):
        check(damaged)
    assert probe(damaged) == probe(clip)


def test_importing_the_module_loads_no_video_library() -> None:
    heavy = "{'av', 'decord', 'imageio', 'imageio_ffmpeg', 'numpy', 'PIL', 'torch'}"
    program = f"import sys, runner.video; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_ffmpeg_is_the_one_that_imageio_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other one of the machine, whose bytes would be others; a person may name one."""
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    assert ffmpeg() == imageio_ffmpeg.get_ffmpeg_exe()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/opt/ffmpeg")
    assert ffmpeg() == "/opt/ffmpeg"
