"""People's clips: what is read of them is what a player shows, and what is not is said."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from clip_kinds import FRAMES, KINDS, REFUSED, Kitchen, compare, make, number_of, shown
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st

from runner.disk.manifest import read_manifest
from runner.disk.publish import read_sidecar
from runner.job.record import job_record
from runner.job.shape import Shape
from runner.video import (
    BrokenVideo,
    Timing,
    UnfitVideo,
    decoded_timing,
    frames_available,
    probe,
    read_clip,
)
from runner.video.picture import view_of
from runner.video.timing import TimesDoNotRise, nearest

SAMPLES = Path(__file__).resolve().parents[1] / "reference_videos"
SAMPLE_BYTES = "f812f740744fd440c514c24500da77199587471fe55a79488ccb8f4a05c43c33"
"""Of the sample clips' frames at their own size, at 15, 8 and 23.976 a second."""

RATES = [Fraction(15), Fraction(30), Fraction(24000, 1001)]


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    return Kitchen(tmp_path_factory.mktemp("kitchen") / "parts")


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_the_one_that_ffmpeg_shows_then(
    name: str, kitchen: Kitchen, tmp_path: Path
) -> None:
    """Frames, times and pixels, at three rates, and not a frame more or less."""
    clip = make(name, kitchen, tmp_path)
    what = shown(clip)
    assert probe(clip).num_frames == len(what.times) == decoded_timing(clip).num_frames
    for fps in RATES:
        compared = compare(clip, what, fps)
        assert compared.frames == compared.right > 0
        assert compared.wrong == 0
        assert compared.same_pixels is not False or KINDS[name].by_number


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_read_wrongly_is_refused_with_the_line_that_mends_it(
    name: str, kitchen: Kitchen, tmp_path: Path
) -> None:
    clip = make(name, kitchen, tmp_path)
    with pytest.raises(UnfitVideo) as raised:
        probe(clip)
    command = (
        str(raised.value).partition("; ")[2].partition(": ")[2]
        or str(raised.value).partition("; ")[2]
    )
    words = shlex.split(command.removesuffix(" and have that in its place"))
    words[0] = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([*words, "-loglevel", "error", "-y"], check=True, stdin=subprocess.DEVNULL)
    mended = Path(words[-1])
    info = probe(mended)
    assert info.num_frames == FRAMES
    frames = read_clip(mended, Shape(width=320, height=192, num_frames=FRAMES, fps=30))
    if "hdr" not in name:
        assert [number_of(frame) for frame in frames] == list(range(FRAMES))


def test_the_sample_clips_give_the_same_bytes_as_ever() -> None:
    digest = hashlib.sha256()
    for clip in sorted(SAMPLES.rglob("*.mp4")):
        info = probe(clip)
        for fps in (15.0, 8.0, 23.976):
            count = frames_available(info, fps)
            frames = read_clip(
                clip, Shape(width=info.width, height=info.height, num_frames=count, fps=fps)
            )
            digest.update(frames.tobytes())
    assert digest.hexdigest() == SAMPLE_BYTES


# Which frame is nearest

SECONDS = st.fractions(0, 20, max_denominator=1000)


@given(
    st.lists(SECONDS, min_size=1, max_size=40, unique=True).map(sorted),
    st.lists(SECONDS, max_size=20).map(sorted),
)
def test_each_moment_takes_the_nearest_frame_and_of_two_the_earlier(
    times: list[Fraction], moments: list[Fraction]
) -> None:
    taken = dict(nearest(zip(times, range(len(times)), strict=True), moments))
    last = times[-1] + (times[-1] - times[-2]) / 2 if len(times) > 1 else times[0]
    assert list(taken) == [n for n, moment in enumerate(moments) if moment <= last]
    for number, index in taken.items():
        distances = [abs(time - moments[number]) for time in times]
        assert index == distances.index(min(distances))


@given(st.lists(SECONDS, min_size=2, max_size=10))
def test_times_that_do_not_rise_are_never_taken_for_an_order(times: list[Fraction]) -> None:
    rises = all(a < b for a, b in pairwise(times))
    tick = Fraction(1, 1000)
    if rises:
        assert Timing.of(times, tick=tick, duration=tick).num_frames == len(times)
        return
    with pytest.raises(TimesDoNotRise):
        Timing.of(times, tick=tick, duration=tick)
    with pytest.raises(TimesDoNotRise):
        list(nearest([(time, None) for time in times], [Fraction(100)]))


@given(
    num_frames=st.integers(1, 300),
    rate=st.sampled_from([10.0, 23.976, 24.0, 29.97, 30.0, 60.0]),
    fps=st.sampled_from([8.0, 15.0, 16.0, 24.0, 30.0]),
    data=st.data(),
)
def test_the_middle_leaves_as_much_before_as_behind_and_never_a_frame_too_few(
    num_frames: int, rate: float, fps: float, data: st.DataObject
) -> None:
    timing = Timing.steady(num_frames, rate)
    count = data.draw(st.integers(1, timing.available(fps)))
    moments = timing.moments(count, fps, "middle")
    assert moments[0] >= 0
    assert moments[-1] <= timing.span + timing.gap / 2
    if moments[0] > 0:
        assert moments[0] == timing.span - moments[-1]


@given(
    picture=st.tuples(st.integers(2, 4000), st.integers(2, 4000)),
    aspect=st.fractions(Fraction(1, 3), 3, max_denominator=50),
    wanted=st.tuples(st.integers(8, 800), st.integers(8, 800)),
)
def test_a_crop_fills_the_frame_and_a_pad_keeps_the_picture(
    picture: tuple[int, int], aspect: Fraction, wanted: tuple[int, int]
) -> None:
    crop, pad = (view_of(picture, aspect, wanted, fit) for fit in ("crop", "pad"))
    assert crop.size == wanted
    assert pad.kept == 1
    assert 0 < crop.kept <= 1 + 1e-9
    left, top, right, bottom = crop.box
    assert 0 <= left < right <= picture[0]
    assert 0 <= top < bottom <= picture[1]
    # Pixels stay square: what is seen has the frame's own proportions.
    seen = (right - left) * float(aspect) / (bottom - top)
    assert seen == pytest.approx(wanted[0] / wanted[1], rel=1e-6)
    assert all(1 <= side <= whole for side, whole in zip(pad.size, wanted, strict=True))


# From outside


def clips_of(project: Project, kitchen: Kitchen, *names: str, **values: Any) -> None:
    """Make the project's data set one category of clips of these kinds."""
    folder = project.root / "kinds" / "many"
    folder.mkdir(parents=True)
    for name in names:
        make(name, kitchen, folder)
    text = json.dumps({"many": {name: ["a"] for name in names}})
    (project.root / "kinds.json").write_text(text)
    dataset = {"videos": "kinds", "prompts": "kinds.json", **values.pop("dataset", {})}
    project.write(dataset=dataset, **values)


def test_the_whole_way_a_video_tells_the_numbers_of_the_frames_that_a_player_shows(
    project: Project, kitchen: Kitchen
) -> None:
    """Through the real pipeline, so weakly that it gives back what it is given."""
    names = ("variable_rate", "cut_open_gop_mkv", "turned_90", "wide_pixels")
    shape = {"width": 160, "height": 96, "num_frames": 9, "fps": 10.0}
    weak = {"num_inference_steps": 1, "cfg_scale": 1.0, "denoising_strength": 0.005}
    clips_of(
        project,
        kitchen,
        *names,
        backend="wan",
        model={"checkpoint": "tiny"},
        generation={**shape, **weak},
        output={"quality": 9},
    )
    made = project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait", timeout=400)
    assert made.status == 0, made.err
    for name in names:
        (clip,) = (project.root / "kinds" / "many").glob(f"{name}.*")
        what = shown(clip)
        right = [number_of(what.frames[index]) for index in what.taken(Fraction(10))][:9]
        video = project.run_folder.path / "many" / name / "seed_1_prompt_0.mp4"
        frames = read_clip(video, Shape(width=160, height=96, num_frames=9, fps=10))
        assert [number_of(frame) for frame in frames] == right


def test_start_and_fit_decide_what_is_read_and_are_in_the_fingerprint_only_where_given(
    project: Project, kitchen: Kitchen
) -> None:
    names = ("plain", "cut")
    generation = {"width": 96, "height": 96, "num_frames": 9, "fps": 15}
    clips_of(project, kitchen, *names, generation=generation)
    plain = planned(project)
    assert all("dataset.start" not in job["parameters"] for job in plain.values())
    own = {"many/plain.mp4": {"start": 1.5, "fit": "pad"}}
    clips = {"videos": "kinds", "prompts": "kinds.json", "clips": own}
    project.write(dataset=clips, generation=generation)
    some = planned(project)
    assert some["cut"] == plain["cut"]
    assert some["plain"]["id"] == plain["plain"]["id"]
    assert some["plain"]["output"] == plain["plain"]["output"]
    assert some["plain"]["fingerprint"] != plain["plain"]["fingerprint"]
    assert some["plain"]["parameters"]["dataset.start"] == 1.5
    assert some["plain"]["parameters"]["dataset.fit"] == "pad"
    # What is said as it is anyway says nothing.
    project.write(dataset={**clips, "clips": {}, "start": 0, "fit": "crop"}, generation=generation)
    assert planned(project) == plain


def planned(project: Project) -> dict[str, Any]:
    """Plan, and give the jobs by their video."""
    done = project.call("plan", "experiments/x.yaml")
    assert done.status == 0, done.err
    return {
        str(job.on("video")): job_record(job)
        for job in read_manifest(project.run_folder.manifest).jobs
    }


@pytest.mark.parametrize(
    ("start", "first"), [(0.0, 0), (1.5, 45), (1.51, 45), (1.52, 46), ("middle", 51)]
)
def test_a_clip_is_read_from_where_it_is_said(
    start: Any, first: int, kitchen: Kitchen, tmp_path: Path
) -> None:
    clip = make("plain", kitchen, tmp_path)
    frames = read_clip(clip, Shape(width=320, height=192, num_frames=9, fps=15), start=start)
    assert [number_of(frame) for frame in frames] == list(range(first, first + 18, 2))


def test_a_padded_clip_keeps_its_whole_picture_between_black_bars(
    kitchen: Kitchen, tmp_path: Path
) -> None:
    clip = make("plain", kitchen, tmp_path)
    (frame,) = read_clip(clip, Shape(width=160, height=160, num_frames=1, fps=15), fit="pad")
    assert not frame[:32].any()
    assert not frame[128:].any()
    assert frame[32:128].all(axis=2).all()
    assert number_of(frame[32:128]) == 0


def test_a_start_too_late_is_said_before_anything_starts(
    project: Project, kitchen: Kitchen
) -> None:
    clips_of(project, kitchen, "plain", dataset={"start": 3.9})
    refused = project.call("plan", "experiments/x.yaml")
    assert refused.status == 2
    assert "has 2 frames at 15 fps from 3.9 s on (120 at its own 30)" in refused.err


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ({"start": -1}, "dataset.start: -1: must be seconds from 0, or middle"),
        ({"start": "end"}, "dataset.start: 'end': must be seconds from 0, or middle"),
        ({"fit": "stretch"}, "dataset.fit"),
        ({"clips": {"many/plane": {"start": 1}}}, "did you mean many/plain?"),
        ({"clips": {"plain": {"start": 1}}}, "must be <category>/<video>"),
        ({"clips": {"many/plain": {"begin": 1}}}, "dataset.clips.many/plain"),
    ],
)
def test_what_cannot_be_read_so_is_refused_by_its_key(
    project: Project, kitchen: Kitchen, dataset: dict[str, Any], says: str
) -> None:
    clips_of(project, kitchen, "plain", dataset=dataset)
    refused = project.call("plan", "experiments/x.yaml")
    assert (refused.status, "Traceback" in refused.err) == (2, False)
    assert says in refused.err


def test_a_list_of_jobs_says_for_each_how_its_clip_is_read(
    project: Project, kitchen: Kitchen
) -> None:
    clips_of(project, kitchen, "plain")
    rows = ["video,prompt,seed,start,fit", "plain,a,1,,", "plain,a,1,1.5,", "plain,a,1,middle,pad"]
    (project.root / "jobs.csv").write_text("\n".join(rows))
    project.write(dataset={"videos": "kinds"}, jobs="jobs.csv", seeds=[])
    launched = project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert launched.status == 0, launched.err
    jobs = read_manifest(project.run_folder.manifest).jobs
    assert len({job.id for job in jobs}) == 3
    assert [job.output.rpartition("/")[2] for job in jobs] == [
        "seed_1_prompt_0.mp4",
        "seed_1_prompt_0_dataset.start=1.5.mp4",
        "seed_1_prompt_0_dataset.fit=pad_dataset.start=middle.mp4",
    ]
    sidecar = read_sidecar(project.run_folder.sidecar(jobs[2]))
    assert sidecar is not None
    assert sidecar["parameters"]["dataset.start"] == "middle"
    only = project.call("export", "x", "--csv")
    assert only.status == 0, only.err
    assert "dataset.start" in only.out
    (project.root / "jobs.csv").write_text(f"{rows[0]}\nplain,a,1,soon,\n")
    refused = project.call("plan", "experiments/x.yaml")
    assert refused.status == 2
    assert "jobs.csv:2: start: 'soon' must be seconds from 0, or middle" in refused.err


def test_plan_and_doctor_and_init_name_what_a_model_will_not_see_as_it_is(
    project: Project, kitchen: Kitchen
) -> None:
    names = ("sound_starts_first", "variable_rate", "interlaced", "turned_90")
    generation = {"width": 512, "height": 512, "num_frames": 9, "fps": 15}
    clips_of(project, kitchen, *names, generation=generation)
    told = project.call("plan", "experiments/x.yaml")
    assert told.status == 0, told.err
    examined = project.call("doctor", "experiments/x.yaml")
    for out in (told.out, examined.out):
        text = " ".join(out.split())
        assert "4 clips lose more than 30 % of the picture" in text
        assert "many/turned_90 (40 %)" in text
        assert "4 clips are enlarged more than 1.5 times" in text
        assert "many/turned_90 (2.7 times)" in text
        assert "1 clip is of variable rate" in text
        assert "1 clip is interlaced" in text
        assert "1 clip has sound, which is left out: many/sound_starts_first" in text
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert {"clip": "many/interlaced", "kind": "interlaced", "value": None} in answer["remarks"]
    project.write(
        dataset={"videos": "kinds", "prompts": "kinds.json", "fit": "pad"}, generation=generation
    )
    assert "of the picture" not in project.call("plan", "experiments/x.yaml").out
    begun = project.call("init", "new", "--videos", "kinds", "--prompts", "kinds.json")
    assert begun.status == 0, begun.err
    assert "has sound, which is left out" in begun.out + begun.err


def test_a_damaged_clip_is_said_to_be_by_doctor_and_fails_its_job(
    project: Project, kitchen: Kitchen
) -> None:
    """Its container is whole, so that planning takes it; no frame is left out in silence."""
    clips_of(project, kitchen, "plain")
    (clip,) = (project.root / "kinds" / "many").iterdir()
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    clip.write_bytes(content)
    assert project.call("plan", "experiments/x.yaml").status == 0
    examined = project.call("doctor", "experiments/x.yaml")
    assert examined.status == 1
    assert "cannot be decoded" in " ".join(examined.out.split())
    with pytest.raises(BrokenVideo, match=r"what is shown at 1\.\d+ s cannot be decoded"):
        read_clip(clip, Shape(width=320, height=192, num_frames=FRAMES, fps=30))


def test_doctor_says_where_decoding_shows_other_frames_than_the_container_tells_of(
    project: Project, kitchen: Kitchen
) -> None:
    """A packet that the decoder makes nothing of, without a complaint."""
    clips_of(project, kitchen, "av1_webm")
    (clip,) = (project.root / "kinds" / "many").iterdir()
    content = clip.read_bytes()
    for place in range(len(content) // 3, len(content), 97):
        clip.write_bytes(content[:place] + bytes(400) + content[place + 400 :])
        try:
            told, decoded = probe(clip).num_frames, decoded_timing(clip).num_frames
        except BrokenVideo:
            continue
        if 9 < decoded < told:
            break
    else:
        pytest.fail("no such damage was found")
    examined = " ".join(project.call("doctor", "experiments/x.yaml").out.split())
    assert f"{decoded} frames in" in examined
    assert f"its container tells of {told} in" in examined


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x1aE\xdf\xa3\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(100),
        b"RIFF\x10\0\0\0AVI " + bytes(10),
        b"GIF89a" + bytes(20) + b";",
        b"\0\0\0\x18ftypisom" + bytes(12) + b"\0\0\0\x08moov",
    ],
)
def test_a_file_is_only_ever_what_its_first_bytes_say(tmp_path: Path, content: bytes) -> None:
    """Lists of other files, which FFmpeg would open, among them."""
    for suffix in (".mp4", ".mkv", ".gif"):
        path = tmp_path / f"clip{suffix}"
        path.write_bytes(content)
        with pytest.raises(BrokenVideo):
            probe(path)


@pytest.mark.parametrize("name", ["mkv", "gif", "mjpeg_avi", "fragmented"])
def test_a_clip_of_any_kind_that_is_cut_short_is_refused(
    name: str, kitchen: Kitchen, tmp_path: Path
) -> None:
    clip = make(name, kitchen, tmp_path)
    content = clip.read_bytes()
    for share in (0.02, 0.5, 0.9):
        clip.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BrokenVideo, match="cut short"):
            probe(clip)


def test_two_clips_of_one_stem_are_an_error_whatever_their_kinds(
    project: Project, kitchen: Kitchen
) -> None:
    clips_of(project, kitchen, "mkv")
    folder = project.root / "kinds" / "many"
    (folder / "mkv.gif").write_bytes((folder / "mkv.mkv").read_bytes())
    refused = project.call("plan", "experiments/x.yaml")
    assert refused.status == 2
    assert "mkv.mkv: shares its name with mkv.gif" in refused.err


def test_no_library_speaks_for_itself(kitchen: Kitchen, tmp_path: Path) -> None:
    """What FFmpeg has to say of a clip is raised, and not written to a terminal."""
    clip = make("cut_open_gop_mkv", kitchen, tmp_path)
    code = "import sys, pathlib, runner.video as v; v.decoded_timing(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, clip], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_colours_of_clips_and_videos_are_those_of_a_player(tmp_path: Path) -> None:
    """See `test_video` for what is written; here a clip that says BT.601 or BT.709 is read so."""
    chart = np.zeros((64, 64, 3), np.uint8)
    chart[:] = (30, 180, 40)
    for matrix in ("bt709", "smpte170m"):
        path = tmp_path / f"{matrix}.mp4"
        filters = f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p,"
        filters += f"setparams=colorspace={matrix}:range=tv"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "rawvideo"]
        command += ["-pix_fmt", "rgb24", "-s", "64x64", "-i", "-", "-vf", filters]
        command += ["-c:v", "libx264", "-crf", "1", str(path)]
        subprocess.run(command, input=chart.tobytes() * 3, check=True)
        (frame,) = read_clip(path, Shape(width=64, height=64, num_frames=1, fps=25))
        assert np.abs(frame.astype(int) - chart).max() <= 3
