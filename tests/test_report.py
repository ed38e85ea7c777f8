"""The report's files: what is written, packed, exported and served, and what is not."""

from __future__ import annotations

import csv
import http.client
import io
import json
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shown_sweep import FRAMES, HOSTILE, Served, copy_of

from runner.disk.attempts import AttemptRecord, record_attempt
from runner.disk.run_folder import sha256_file
from runner.job import Outcome
from runner.job.shape import Shape
from runner.job.slot_names import Slot
from runner.report import fonts
from runner.report.anonymous import values_without_paths, without_paths
from runner.report.cells import read_run
from runner.report.effort import kind_of
from runner.report.fonts import font_files, fonts_with
from runner.report.lettering import Lettering
from runner.report.page import embedded_json
from runner.report.pictures import run_ffmpeg
from runner.report.server import byte_range
from runner.report.table import write_csv
from runner.runs.runs import open_queue
from runner.text.errors import UserError
from runner.video import check_video, probe

SMALL = Lettering(13)


def data_of(page: str) -> dict[str, object]:
    """The data in a page's text."""
    text = page.partition('id="data">')[2].partition("</script>")[0]
    value: dict[str, object] = json.loads(text)
    return value


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_the_data_holds_it_cannot_end_its_script_element(value: object) -> None:
    text = embedded_json(value)
    assert "<" not in text
    assert json.loads(text) == value


def test_a_second_report_makes_no_picture_again(shown: Project, tmp_path: Path) -> None:
    """Pictures are kept by the content they show."""
    project = copy_of(shown, tmp_path / "p")
    report = project.run_folder.path / "report"
    before = {path: path.stat().st_mtime_ns for path in report.rglob("*.jpg")}
    assert before
    (report / "index.html").unlink()
    assert project.call("report", "x").status == 0
    assert (report / "index.html").exists()
    assert {path: path.stat().st_mtime_ns for path in report.rglob("*.jpg")} == before


def test_references_have_the_frames_that_the_backend_saw(shown: Project) -> None:
    """Beside outputs of 17 frames at 15 fps a reference has as many, at that rate and size."""
    clips = list((shown.run_folder.path / "report" / "references").iterdir())
    assert len(clips) == 4
    for clip in clips:
        check_video(clip, Shape(width=112, height=64, num_frames=FRAMES, fps=15))


def test_a_reference_that_is_not_here_is_said_and_the_rest_is_shown(
    shown: Project, tmp_path: Path
) -> None:
    project = copy_of(shown, tmp_path / "p")
    (project.root / "videos" / "camera_motion" / "ref_镜头仰角.mp4").unlink()
    for clip in (project.run_folder.path / "report" / "references").iterdir():
        clip.unlink()
    made = project.call("report", "x", "--json")
    assert made.status == 0
    (problem,) = json.loads(made.out)["not_shown"]
    assert problem == "videos/camera_motion/ref_镜头仰角.mp4: is not on this machine"


def test_a_changed_reference_is_not_shown_as_the_one_that_was_used(
    shown: Project, tmp_path: Path
) -> None:
    project = copy_of(shown, tmp_path / "p")
    for clip in (project.run_folder.path / "report" / "references").iterdir():
        clip.unlink()
    with (project.root / "videos" / "camera_motion" / "ref_镜头仰角.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")
    made = project.call("report", "x")
    assert "has changed since the sweep was planned" in made.err


def test_an_anonymous_zip_names_no_host_path_user_or_commit(shown: Project, tmp_path: Path) -> None:
    """Neither in the page nor in what lies beside it, also where an error text has them."""
    project = copy_of(shown, tmp_path / "secret_place")
    run = read_run(project.run_folder)
    failed = next(cell.job.id for cell in run.cells if cell.state.value == "failed")
    error = f"OSError: {project.root}/videos on gpu-node-17 of user_jane"
    record_attempt(
        project.run_folder.attempts,
        AttemptRecord(failed, "gpu0_process0", Outcome.FAILED, 1, 2, error=error),
    )
    sidecars = list(project.run_folder.path.glob("*/*/seed_*.json"))
    for sidecar in sidecars:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        record |= {"git_commit": "c0ffee" * 6, "host": "gpu-node-17"}
        record["parameters"]["lora"] = {"files": ["/home/user_jane/fine.safetensors"]}
        video = sidecar.with_suffix(".mp4")
        sign(video, "made by user_jane")
        record["video"] |= {"size": video.stat().st_size, "sha256": sha256_file(video)}
        sidecar.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    queue = open_queue(project.run_folder)
    queue.set_aside(Slot.of(0, 1), error)
    queue.close()
    words = ("--anonymous", "--zip", "--json")
    plain = project.call("report", "x", "--zip", "--json")
    for there in (b"c0ffee", b"made by user_jane"):
        assert there in whole_zip(plain.out)
    made = project.call("report", "x", *words)
    assert made.status == 0, made.err
    content = whole_zip(made.out)
    secrets = ("gpu-node-17", "user_jane", "secret_place", str(tmp_path), "c0ffee", "videos/camera")
    for secret in secrets:
        assert secret.encode() not in content, secret
    with zipfile.ZipFile(json.loads(made.out)["report"]) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        page = archive.read("x/index.html").decode()
        name = next(name for name in archive.namelist() if name.startswith("x/videos/"))
        video = Path(archive.extract(name, tmp_path))
    check_video(video, Shape(width=112, height=64, num_frames=FRAMES, fps=15))
    assert "fine.safetensors" in page
    assert HOSTILE.replace("<", "\\u003c") in page
    data = data_of(page)
    assert data["made_at"] is None


def sign(video: Path, text: str) -> None:
    """Write a text into a video's file, as many programs do."""
    signed = video.with_suffix(".signed.mp4")
    words = ["-c", "copy", "-metadata", f"comment={text}", "-metadata:s:v", f"handler_name={text}"]
    run_ffmpeg([], video, words, signed)
    signed.replace(video)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("/home/jane/a b.safetensors", "a b.safetensors"),
        ("~jane/models/", "models"),
        (r"C:\Users\jane\x.pt", "x.pt"),
        ("C:/x.pt", "x.pt"),
        (r"\\nas\jane", "jane"),
        ("file:///data/x", "x"),
        ("loras/fine", "loras/fine"),
        ("light and/or shade, 4:3", "light and/or shade, 4:3"),
        ({"a": ["/x/y", 3, None]}, {"a": ["y", 3, None]}),
    ],
)
def test_of_a_path_only_its_last_name_is_left(value: object, left: object) -> None:
    assert without_paths(value) == left


def test_values_that_were_different_stay_so_without_their_paths() -> None:
    assert values_without_paths(["/a/x", "/b/x", "/b/y", "x", 3]) == ["x (1)", "x (2)", "y", "x", 3]


def whole_zip(answer: str) -> bytes:
    with zipfile.ZipFile(json.loads(answer)["report"]) as archive:
        names = [name.encode() for name in archive.namelist()]
        return b"\n".join([*names, *(archive.read(name) for name in archive.namelist())])


def test_an_anonymous_page_refuses_to_name_folders_between_runs(
    shown: Project, tmp_path: Path
) -> None:
    other = copy_of(shown, tmp_path / "other")
    runs = (str(shown.run_folder.path), str(other.run_folder.path))
    made = shown.call("report", *runs, "--anonymous")
    assert made.status == 2
    assert "--zip" in made.err
    assert "Traceback" not in made.err


def test_a_run_is_not_compared_with_itself(shown: Project) -> None:
    made = shown.call("report", "x", str(shown.run_folder.path))
    assert made.status == 2
    assert "named twice" in made.err


def test_the_export_has_a_row_for_every_job(shown: Project) -> None:
    made = shown.call("export", "x", "--csv")
    assert made.status == 0, made.err
    rows = list(csv.DictReader(io.StringIO(made.out)))
    assert len(rows) == 24
    states = [row["state"] for row in rows]
    assert {state: states.count(state) for state in states} == {
        "done": 15,
        "stale": 2,
        "failed": 6,
        "pending": 1,
    }
    assert HOSTILE in {row["prompt_text"] for row in rows}
    folder = shown.run_folder.path
    for row in rows:
        if row["video_file"]:
            assert sha256_file(folder / row["video_file"]) == row["sha256"]
            assert (row["width"], row["num_frames"]) == ("112", str(FRAMES))
            assert float(row["seconds_generate"]) >= 0
        assert (row["last_failure"] == "backend_bug") == (row["state"] == "failed")
    values = json.loads(shown.call("export", "x", "--json").out)
    assert [value["job"] for value in values] == [row["job"] for row in rows]


FORMULAS = [
    *("=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "=1", "  =1", "\u3000=1", "\n=1"),
    *("＝1", "＋1", "－1", "＠SUM(A1)", "-", "+", "-1.5x", "-1e", "-inf", "\u00a0-x", "--1"),
]
PLAIN = ["-1.5", "+2", "-1e-5", ".5", "-.5", "1", "a=b", "", "'=1", "<b>", "项目 -1", "—dash"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_that_a_spreadsheet_would_run_is_a_text(text: str) -> None:
    file = io.StringIO(newline="")
    write_csv([{text: text, "list": [text]}], file)
    names, (cell, listed) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert names == [f"'{text}", "list"]
    assert cell == f"'{text}"
    assert json.loads(listed) == [text]


@given(st.sampled_from(FORMULAS), st.text(alphabet="\t\r \x00\x0b\x1b\u2028\u200b\ufeff\u3000"))
def test_nothing_before_it_makes_it_a_formula_again(text: str, before: str) -> None:
    file = io.StringIO(newline="")
    write_csv([{"a": before + text}], file)
    [cell] = list(csv.reader(io.StringIO(file.getvalue(), newline="")))[1]
    assert cell.lstrip()[0] in "'\\"


def test_numbers_stay_numbers_and_texts_texts() -> None:
    file = io.StringIO(newline="")
    write_csv([{"a": value} for value in [*PLAIN, -1.5, -3]], file)
    cells = [row[0] if row else "" for row in csv.reader(io.StringIO(file.getvalue(), newline=""))]
    assert cells[1:] == [*PLAIN, "-1.5", "-3"]


def test_the_export_is_written_as_a_file(shown: Project, tmp_path: Path) -> None:
    out = tmp_path / "表.csv"
    made = shown.call("export", "x", "--csv", "--out", str(out))
    assert made.status == 0, made.err
    with out.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == 25


@pytest.mark.parametrize(
    ("attempt", "kind"),
    [
        ({"outcome": "done", "error": None}, None),
        ({"outcome": "failed", "error": "OutOfMemoryError: CUDA"}, "OutOfMemoryError"),
        ({"outcome": "failed", "error": "x", "kind": "out_of_gpu_memory"}, "out_of_gpu_memory"),
        ({"outcome": "died", "error": "the worker died"}, "worker died"),
        ({"outcome": "failed", "error": ""}, "unknown"),
    ],
)
def test_a_failure_has_the_kind_that_was_recorded_or_its_errors_class(
    attempt: dict[str, object], kind: str | None
) -> None:
    assert kind_of(attempt) == kind


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_lies_within_the_file(size: int, first: int, last: int) -> None:
    wanted = byte_range(f"bytes={first}-{last}", size)
    if last < first:
        assert wanted is None
    else:
        content = bytes(size)
        assert wanted is not None
        assert wanted[1] - wanted[0] == len(content[first : last + 1])


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-", (0, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=10-", (10, 10)),
        ("bytes=0-1,4-5", None),
        ("items=0-1", None),
        ("bytes=-", None),
        ("bytes=１-２", None),
    ],
)
def test_ranges_as_rfc_9110_writes_them(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == wanted


def ask(
    url: str, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, bytes, dict[str, str]]:
    """Ask for a path as it is spelled, with no client tidying it up."""
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=30)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    result = (answer.status, answer.read(), dict(answer.getheaders()))
    connection.close()
    return result


def test_the_server_serves_what_the_page_shows_and_nothing_else(
    shown: Project, tmp_path: Path
) -> None:
    project = copy_of(shown, tmp_path / "p")
    (project.root / "secret.txt").write_text("secret")
    (project.run_folder.path / "camera_motion" / "secret.txt").write_text("secret")
    with Served(project) as url:
        status, page, _ = ask(url, "/")
        assert (status, page[:15]) == (200, b"<!doctype html>")
        data = json.loads(ask(url, "/data.json")[1])
        cell = next(cell for cell in data["cells"] if "video" in cell)
        path = "/" + data["runs"][cell["run"]]["base"] + cell["video"]
        status, video, headers = ask(url, path)
        assert (status, headers["Content-Type"]) == (200, "video/mp4")
        status, part, headers = ask(url, path, {"Range": "bytes=100-199"})
        assert (status, part) == (206, video[100:200])
        assert headers["Content-Range"] == f"bytes 100-199/{len(video)}"
        assert ask(url, path, {"Range": f"bytes={len(video)}-"})[0] == 416
        status, body, headers = ask(url, path, method="HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(video)))
        assert ask(url, "/" + data["assets"] + cell["poster"])[0] == 200
        dots, run = quote("../", safe=""), "/runs/0/"
        for other in (
            f"{run}sweep.db",
            f"{run}manifest.jsonl",
            f"{run}logs/gpu0_process0.log",
            f"{run}camera_motion/secret.txt",
            f"{run}../../secret.txt",
            f"{run}{dots * 2}secret.txt",
            f"{run}camera_motion/../{cell['video']}",
            "/../../../../../../../../etc/passwd",
            f"/{dots * 9}etc/passwd",
            "//etc/passwd",
            "/report/../experiment.yaml",
            "/experiment.yaml",
            "/runs/1/x",
            "/%00",
        ):
            status, body, _ = ask(url, other)
            assert status == 404, other
            assert b"secret" not in body.replace(other.encode(), b"")
        assert ask(url, "/", method="POST")[0] == 501


def test_the_server_answers_on_loopback_to_its_own_name_only(
    shown: Project, tmp_path: Path
) -> None:
    """A page elsewhere whose name is made to lead here (DNS rebinding) gets nothing."""
    with Served(copy_of(shown, tmp_path / "p")) as url:
        assert url.startswith("http://127.0.0.1:")
        port = urlsplit(url).port
        assert ask(url, "/data.json", {"Host": f"evil.example:{port}"})[0] == 403
        assert ask(url, "/data.json", {"Host": f"localhost:{port}"})[0] == 200
        other = socket.socket()
        with other, pytest.raises(OSError, match="refused"):
            # Of this machine, but not 127.0.0.1.
            other.connect(("127.0.0.2", port))


def test_unchanged_data_is_not_sent_again(shown: Project, tmp_path: Path) -> None:
    with Served(copy_of(shown, tmp_path / "p")) as url:
        _, _, headers = ask(url, "/data.json")
        status, body, _ = ask(url, "/data.json", {"If-None-Match": headers["ETag"]})
        assert (status, body) == (304, b"")


def test_a_sheet_has_a_row_for_the_reference_and_one_for_each_prompt(
    shown: Project, tmp_path: Path
) -> None:
    """Frames across time from left to right, at the asked width, with labels beside them."""
    words = ("--only", "seed=1", "--frames", "3", "--width", "100", "--out", str(tmp_path))
    made = shown.call("sheet", "x", *words, "--json")
    assert made.status == 0, made.err
    paths = [Path(path) for path in json.loads(made.out)]
    # The fourth reference has no output at all.
    assert [path.name for path in paths] == [
        "ref_镜头仰角_seed_1.png",
        'z#b?c 100% "q" %41 &amp;_seed_1.png',
        "ref 🎬 b_seed_1.png",
    ]
    image = np.asarray(Image.open(paths[0]))
    # Reference and three prompts, 58 high each.
    assert image.shape[0] > 4 * 58
    columns = np.flatnonzero((image[-40] < 240).any(axis=1))
    starts = columns[np.flatnonzero(np.diff(columns, prepend=-10) > 4)]
    assert len(starts) >= 3
    labels = image[70:, 14:150]
    assert (labels < 128).any(axis=2).sum() > 100


def test_a_side_by_side_video_has_the_frames_of_its_outputs(shown: Project, tmp_path: Path) -> None:
    words = (
        "--mp4",
        "--only",
        "seed=1",
        "--only",
        "category=camera_motion",
        "--out",
        str(tmp_path),
    )
    made = shown.call("sheet", "x", *words, "--json")
    assert made.status == 0, made.err
    for path in json.loads(made.out):
        info = probe(Path(path))
        assert (info.num_frames, info.fps) == (FRAMES, 15)
        assert info.width > 2 * 208


def test_a_sheet_of_what_there_is_not_is_refused_with_what_there_is(shown: Project) -> None:
    made = shown.call("sheet", "x", "--only", "seed=7")
    assert (made.status, "Traceback" in made.err) == (2, False)
    assert "there are: 1, 2" in made.err
    assert "no such axis" in shown.call("sheet", "x", "--only", "sead=7").err


def test_an_emoji_is_drawn_or_left_out_and_named(shown: Project, tmp_path: Path) -> None:
    """Never as a box: nor its skin tone, nor what joins several."""
    lettering = Lettering(14)
    (line,) = lettering.wrap("a 🎈🏽\ufe0f\u200d b", 200, 3)
    has_font = bool(fonts_with("🎈"))
    assert line == ("a 🎈 b" if has_font else "a b")
    assert lettering.left_out == (set() if has_font else {"🎈"})
    (line,) = lettering.wrap("a \U000f1234 b", 200, 3)
    assert line == "a b"
    assert "\U000f1234" in lettering.left_out
    words = (
        "--only",
        "video=ref 🎬 b",
        "--only",
        "seed=1",
        "--frames",
        "1",
        "--out",
        str(tmp_path),
    )
    made = shown.call("sheet", "x", *words)
    assert made.status == 0
    assert ("fonts-noto-color-emoji" in made.err) != bool(fonts_with("🎬"))


def test_an_emoji_has_its_colours() -> None:
    """As the font has them, on the line of the letters beside it, and no larger."""
    if not any("color" in path.lower() for path in fonts_with("🎈")):
        pytest.skip("no font with coloured emoji (apt-get install fonts-noto-color-emoji)")
    lettering = Lettering(14)
    image = Image.new("RGB", (60, 40), "white")
    lettering.write(image, (4, 4), ["🎈"], "black")
    drawn = np.asarray(image).astype(int)
    inked = np.argwhere(drawn.min(axis=2) < 200)
    assert (drawn.max(axis=2) - drawn.min(axis=2)).max() > 80
    assert (np.ptp(inked, axis=0) < 24).all()
    assert (np.ptp(inked, axis=0) > 6).all()
    assert 6 < lettering.width("🎈") < 24


@pytest.fixture
def no_system_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without fontconfig, and without fonts where others have theirs."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(fonts, "FOLDERS", ())
    for remembered in (font_files, fonts_with):
        remembered.cache_clear()
    yield
    for remembered in (font_files, fonts_with):
        remembered.cache_clear()


def test_letters_that_no_font_has_are_an_error_that_names_a_package(no_system_fonts: None) -> None:
    with pytest.raises(UserError, match=r"no font .* has '한'.*fonts-noto-cjk"):
        Lettering(14).face("한")
    with pytest.raises(UserError, match="fonts-noto-core"):
        Lettering(14).face("ก")


def test_chinese_letters_are_drawn_on_a_machine_without_fonts(no_system_fonts: None) -> None:
    """Simplified, traditional and kana; never as boxes."""
    lettering = Lettering(14)
    image = Image.new("L", (200, 30), 255)
    assert all(lettering.face(character) for character in "鏡頭旋轉かな，。「」")
    lettering.write(image, (0, 0), ["镜头仰角"], "black")
    first, second = (np.asarray(image.crop((x, 0, x + 14, 30))) for x in (0, 14))
    assert (first < 128).any()
    # Two boxes would be the same.
    assert (first != second).any()


@given(st.text(alphabet=st.sampled_from("ab c，。-_/"), max_size=80), st.integers(40, 200))
def test_wrapped_labels_fit_their_column_and_keep_every_word(text: str, width: int) -> None:
    lettering = SMALL
    lines = lettering.wrap(text, width, 1000)
    assert all(lettering.width(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
