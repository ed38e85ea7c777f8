"""Prompt files of every form say the same, and are matched with clips by name."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest
import yaml
from conftest import Project, write_clip
from hypothesis import given
from hypothesis import strategies as st

from runner.dataset.matching import match
from runner.dataset.prompts import Prompts, read_prompts
from runner.disk.manifest import read_manifest
from runner.text.errors import UserError
from runner.text.text_file import nfc

CONTENT = {
    "镜头 运动": {"ref_镜头仰角": ["a red ball, rolling", '一只"红色"的球']},
    "b": {"- dash": ["# no comment", "x: y"], "v.2": ["one"]},
}
BARE = {video: texts for videos in CONTENT.values() for video, texts in videos.items()}


def table(content: dict[str, dict[str, list[str]]], delimiter: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(["Prompt", "note", " category", "video"])
    for category, videos in content.items():
        for video, texts in videos.items():
            writer.writerows([text, "", category, video] for text in texts)
    return out.getvalue()


def write_form(folder: Path, form: str) -> Path:
    """Write CONTENT in one of the forms; returns what `dataset.prompts` would name."""
    path = folder / f"prompts.{form}"
    if form == "json":
        path.write_text("\ufeff" + json.dumps(CONTENT, ensure_ascii=False), encoding="utf-8")
    elif form == "yaml":
        path.write_text(yaml.safe_dump(CONTENT, allow_unicode=True), encoding="utf-8")
    elif form == "csv":
        path.write_text("\ufeff" + table(CONTENT, ","), encoding="utf-8")
    elif form == "semicolons.csv":
        path.write_text(table(CONTENT, ";"), encoding="utf-8")
    elif form == "tsv":
        path.write_text(table(CONTENT, "\t"), encoding="utf-8")
    else:
        path = folder / "texts"
        for category, videos in CONTENT.items():
            for video, texts in videos.items():
                file = path / category / f"{video}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("\r\n\r\n".join(texts) + "\r\n", encoding="utf-8")
    return path


FORMS = ("json", "yaml", "csv", "semicolons.csv", "tsv", "folder")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(tmp_path: Path, form: str) -> None:
    """Nothing of a text is lost: quotes, commas, hashes, Chinese, a byte order mark."""
    read = read_prompts([write_form(tmp_path, form)])
    assert {
        c: {v: list(t) for v, t in videos.items()} for c, videos in read.by_category.items()
    } == (CONTENT)
    assert read.by_video == {}


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_videos_without_a_category(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    path.write_text(json.dumps(BARE), encoding="utf-8")
    read = read_prompts([path])
    assert {video: list(texts) for video, texts in read.by_video.items()} == BARE
    assert read.by_category == {}


def test_one_text_file_is_for_every_clip(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("one\n\n 二 \n", encoding="utf-8")
    assert read_prompts([path]).of("any", ["x"]) == ("one", "二")


def test_several_files_add_up_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"c": {"v": ["one"]}}')
    (tmp_path / "b.csv").write_text("category,video,prompt\nc,v,two\n,v,three\n")
    (tmp_path / "c.txt").write_text("four")
    paths = [tmp_path / name for name in ("a.json", "b.csv", "c.txt")]
    assert read_prompts(paths).of("c", ["v"]) == ("one", "two", "three", "four")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.csv", "video,text\nv,one\n", ["p.csv:1", "'prompt'"]),
        ("p.csv", "video,prompt,prompt\nv,one,two\n", ["p.csv:1", "2 columns"]),
        ("p.csv", "video,prompt\nv,one,two\n", ["p.csv:2", "3 cells", "quote"]),
        ("p.csv", "video,prompt\nv\n", ["p.csv:2", "1 cells"]),
        ("p.csv", "video,prompt\nv,\n", ["p.csv:2", "prompt", "empty"]),
        ("p.csv", 'video,prompt\nv,"one\n', ["p.csv:2", "CSV"]),
        ("p.csv", "", ["p.csv:1", "'video'"]),
        ("p.csv", "video,prompt\nv,one\nv,one\n", ["v", "'one'", "twice"]),
        ("p.json", "[]", ["p.json", "category"]),
        ("p.json", '{"a": "one"}', ["p.json", "a"]),
        ("p.json", '{"a": {"v": "one"}}', ["a/v", "list"]),
        ("p.json", '{"a": {"v": [" "]}}', ["a/v", "no prompt"]),
        ("p.json", '{"v": [1]}', ["v", "list"]),
        ("p.json", '{"v": ["\\ud800"]}', ["v", "no prompt"]),
        ("p.yaml", "v: [a\nb: 1", ["p.yaml:2"]),
        ("p.yaml", "1: [a]", ["1", "quote"]),
        ("p.yaml", "v: [a]\nv: [b]", ["p.yaml:2", "twice"]),
        ("p.txt", "one\none\n", ["every clip", "twice"]),
    ],
)
def test_what_is_wrong_is_placed(tmp_path: Path, name: str, text: str, says: list[str]) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        read_prompts([path])
    for words in says:
        assert words in str(raised.value)


def test_a_folder_without_texts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"<video>\.txt"):
        read_prompts([tmp_path])


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=3)


@given(clips=st.dictionaries(NAMES, st.booleans(), max_size=5), others=st.sets(NAMES, max_size=4))
def test_each_clip_is_matched_or_left_over(clips: dict[str, bool], others: set[str]) -> None:
    """Every clip has its prompts or is named, and so is every name that no clip has."""
    clips = {nfc(name): has for name, has in clips.items() if not name.startswith(".")}
    others = {nfc(name) for name in others} - {f"{n}{s}" for n in clips for s in ("", ".mp4")}
    prompts = Prompts({"c": {name: ("a",) for name, has in clips.items() if has}})
    prompts = Prompts({"c": {**prompts.by_category["c"], **dict.fromkeys(others, ("b",))}})
    files = {name: Path(f"{unicodedata.normalize('NFD', name)}.mp4") for name in clips}
    found = match({"c": list(files.values())}, prompts, folder="f", source="s")
    assert {files[name] for name, has in clips.items() if has} == set(found.prompts)
    bare = {one.clip for one in found.leftovers if one.clip is not None}
    assert bare == {files[name] for name, has in clips.items() if not has}
    assert {one.name for one in found.leftovers if one.clip is None} == others


def test_leftovers_name_the_nearest() -> None:
    """A slip of the pen is seen at once, in both directions."""
    prompts = Prompts({"c": {"ref_镜头仰角_1": ("a",)}})
    found = match({"c": [Path("ref_镜头仰角.mp4")]}, prompts, folder="f", source="p.json")
    clip, text = map(str, found.leftovers)
    assert (
        clip == "c/ref_镜头仰角.mp4: has no prompts in p.json; the nearest name is 'ref_镜头仰角_1'"
    )
    assert text == (
        "c/ref_镜头仰角_1: has prompts but no video in f/c; the nearest name is 'ref_镜头仰角'"
    )


def test_a_name_in_two_categories_needs_its_category() -> None:
    clips = {"a": [Path("a/v.mp4")], "b": [Path("b/v.mp4")]}
    found = match(clips, Prompts(by_video={"v": ("one",)}), folder="f", source="s")
    assert [str(one) for one in found.leftovers] == [
        "v: has prompts for no category in particular, and clips in a and b"
    ]


def test_prompts_for_clips_of_categories_left_out_are_no_mistake() -> None:
    found = match(
        {"a": [Path("a/v.mp4")]},
        Prompts({"b": {"w": ("one",)}}, {"v": ("two",), "w": ("three",), "gone": ("four",)}),
        folder="f",
        source="s",
        is_subset=True,
        elsewhere=frozenset({"w"}),
    )
    assert [one.name for one in found.leftovers] == ["gone"]


@pytest.mark.parametrize("form", FORMS)
def test_an_experiment_takes_every_form_as_it_is(project: Project, form: str) -> None:
    """The jobs are the same, ids and all, whatever the prompts are written in."""
    for category, videos in CONTENT.items():
        for video in videos:
            write_clip(project.root / "clips" / category / f"{video}.mp4")
    path = write_form(project.root, form)
    project.write(dataset={"videos": "clips", "prompts": path.name})
    finished = project.call("plan", "experiments/x.yaml")
    assert finished.status == 0, finished.err
    jobs = read_manifest(project.run_folder.manifest).jobs
    assert sorted(
        (job.category, job.on("video"), job.series.text("prompt")) for job in jobs
    ) == sorted(
        (category, video, text)
        for category, videos in CONTENT.items()
        for video, texts in videos.items()
        for text in texts
    )


def test_clips_without_folders_are_one_category(project: Project) -> None:
    """It is called as their folder, or as `dataset.categories` says."""
    for video in BARE:
        write_clip(project.root / "我的 clips" / f"{video}.mp4")
    (project.root / "我的 clips" / "notes").mkdir()
    (project.root / "bare.json").write_text(json.dumps(BARE))
    project.write(dataset={"videos": "我的 clips/", "prompts": "bare.json"})
    assert project.call("plan", "experiments/x.yaml").status == 0
    jobs = read_manifest(project.run_folder.manifest).jobs
    assert {(job.category, job.on("video")) for job in jobs} == {("我的 clips", v) for v in BARE}
    assert all((project.root / job.series.file("reference").path).is_file() for job in jobs)
    named = {"videos": "我的 clips", "prompts": "bare.json", "categories": ["运镜"]}
    project.write(name="y", dataset=named)
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert answer["jobs_per_category"] == {"运镜": 5}
    project.write(name="y", dataset={**named, "categories": ["a", "b"]})
    finished = project.call("plan", "experiments/x.yaml")
    assert finished.status == 2
    assert "one category" in finished.err


def test_a_sweep_of_clips_without_folders_runs_to_its_end(project: Project) -> None:
    """Workers find the clips, and every video is good."""
    write_clip(project.root / "flat" / "镜头.mp4")
    (project.root / "p.txt").write_text("one\n二\n", encoding="utf-8")
    project.write(dataset={"videos": "flat", "prompts": "p.txt"})
    ran = project.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert ran.status == 0, ran.err
    verified = project.call("verify", "x")
    assert verified.status == 0
    assert "2 good" in verified.out
