"""Planning: what a grid expands to, and what stays the same when it grows."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TWO, Project, needs_tmux, write_clip
from hand_made import a_job
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from runner.disk.manifest import DamagedManifest, Manifest, read_manifest, write_manifest
from runner.job import FileInput, TextInput
from runner.job.naming import job_ids
from runner.job.record import job_record
from runner.plan.expansion import number_prompts
from runner.plan.fingerprint import MethodIdentity
from runner.plan.placement import home_categories
from runner.plan.plan import select
from runner.text.canonical import sha256_of

TEXTS = st.lists(st.text(min_size=1, max_size=3), unique=True, max_size=8)


def id_of(category: str, video: str, prompt: int, seed: int) -> str:
    point: dict[str, str | int] = {"category": category, "video": video, "prompt": prompt}
    return next(job_ids(point, [seed]))


def test_ids_are_a_contract() -> None:
    """An id is 16 hex digits of the sha256 of canonical JSON, the same for ever."""
    assert id_of("camera_motion", "ref_镜头", 0, 42) == "d47bc4e7d089109d"


@given(st.text(), st.text(), st.integers(0, 9), st.integers(0, 2**63 - 1))
def test_hashing_by_parts_gives_the_documented_hash(
    category: str, text: str, prompt: int, seed: int
) -> None:
    """Ids and fingerprints are those of the whole canonical JSON."""
    point = {"category": category, "video": text, "prompt": prompt, "seed": seed}
    assert id_of(category, text, prompt, seed) == sha256_of(point)[:16]
    identity = MethodIdentity("fake", 1, {"a": text}, 5.0)
    whole = {"backend": "fake", "recipe": 1, "model": {"a": text}, "quality": 5.0, "seed": seed}
    parameters = {"width": 1, "z": [text]}
    whole |= {"parameters": parameters, "prompt": text, "reference": category}
    assert next(
        identity.fingerprints(
            {"prompt": TextInput(text), "reference": FileInput("", category)}, [seed], parameters
        )
    ) == sha256_of(whole)


def test_the_original_sweep_is_680_jobs(tmp_path: Path) -> None:
    """14, 33, 13 and 8 videos, 5 prompts, 2 seeds: 140 + 330 + 130 + 80, on four GPUs."""
    project = Project(tmp_path)
    shape = {
        "camera_motion": 14,
        "single_object": 33,
        "multiple_objects": 13,
        "complex_human_motion": 8,
    }
    project.add_clips(
        {
            category: {f"ref_镜头_{n}": [f"提示 {n} {k}" for k in range(5)] for n in range(videos)}
            for category, videos in shape.items()
        }
    )
    seed_experiment = Path(__file__).resolve().parents[1] / "experiments" / "wan_experiment.yaml"
    overrides = [f"project={tmp_path}", "dataset.videos=videos", "dataset.prompts=prompts.json"]
    overrides += ["generation.num_frames=9", f"results={tmp_path / 'results'}"]
    finished = project.call("plan", str(seed_experiment), *overrides, "--json")
    assert finished.status == 0, finished.err
    answer = json.loads(finished.out)
    assert answer["total"] == 680
    assert answer["jobs_per_category"] == {
        "camera_motion": 140,
        "single_object": 330,
        "multiple_objects": 130,
        "complex_human_motion": 80,
    }
    assert answer["jobs_per_gpu"] == {"0": 140, "1": 330, "2": 130, "3": 80}
    assert answer["sessions"] == 8


@pytest.mark.parametrize(("dtype", "fits"), [("float32", False), ("bfloat16", True)])
def test_plan_says_whether_the_processes_fit_the_gpu(
    project: Project, dtype: str, fits: bool
) -> None:
    """Two copies in float32 do not fit 80 GB, two in bfloat16 do."""
    for clip in (project.root / "videos").rglob("*.mp4"):
        write_clip(clip, frames=81)
    project.write(
        backend="wan",
        model={"checkpoint": "absent", "identity": "Wan2.1-T2V-14B", "dtype": dtype},
        generation={},
        placement=TWO,
    )
    finished = project.call("plan", "experiments/x.yaml", "--json")
    assert finished.status == 0, finished.err
    problems = json.loads(finished.out)["problems"]
    assert any("do not fit a GPU" in line for line in problems) is not fits


@given(former=st.dictionaries(st.integers(0, 9), st.text(min_size=1, max_size=3)), texts=TEXTS)
def test_prompt_numbers(former: dict[int, str], texts: list[str]) -> None:
    """Numbers are unique; a known text keeps one of its own; a new text takes a known number
    only in the place of a text that is gone."""
    numbers = number_prompts(former, texts)
    assert len(set(numbers)) == len(texts)
    for place, (text, number) in enumerate(zip(texts, numbers, strict=True)):
        if text in former.values():
            assert former[number] == text
        elif number in former:
            assert number == place
            assert former[number] not in texts


@given(texts=TEXTS, data=st.data())
def test_prompts_added_or_moved_change_no_number(texts: list[str], data: st.DataObject) -> None:
    """Adding prompts and changing their order renames nothing."""
    former = dict(enumerate(texts))
    added = [text for text in data.draw(TEXTS) if text not in texts]
    now = data.draw(st.permutations(texts + added))
    numbers = dict(zip(now, number_prompts(former, now), strict=True))
    assert {text: numbers[text] for text in texts} == {text: n for n, text in former.items()}


def test_plan_again_reports_what_grew_and_keeps_ids(project: Project) -> None:
    """More seeds and prompts add jobs; every former job keeps its id and path."""
    assert project.call("plan", "experiments/x.yaml").status == 0
    before = {job.id: job.output for job in read_manifest(project.run_folder.manifest).jobs}
    project.write(seeds=[1, 2])
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert answer["changes"] == {"added": 6, "kept": 6, "changed": 0, "retired": 0}
    after = {job.id: job.output for job in read_manifest(project.run_folder.manifest).jobs}
    assert before.items() <= after.items()
    project.write(seeds=[2])
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert answer["changes"] == {"added": 0, "kept": 6, "changed": 0, "retired": 6}
    assert project.progress()["total"] == 6


def test_planning_twice_changes_nothing(project: Project) -> None:
    assert project.call("plan", "experiments/x.yaml").status == 0
    paths = (project.run_folder.manifest, project.run_folder.experiment)
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]
    finished = project.call("plan", "experiments/x.yaml")
    assert "+0 new, 6 kept" in finished.out
    assert before == [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]


def test_launch_shows_how_a_file_differs_from_its_run_and_stops(project: Project) -> None:
    """The run's own experiment rules until `plan` takes the change in."""
    assert project.call("plan", "experiments/x.yaml", "output.quality=7").status == 0
    same = project.call("launch", "experiments/x.yaml", "--dry-run", "--on", "local")
    assert same.status == 0, same.err
    project.write(seeds=[1, 2])
    finished = project.sweep("launch", "experiments/x.yaml", "--on", "local")
    assert finished.status == 2
    assert "seeds: [1] -> [1, 2]" in finished.err
    assert "quality" not in finished.err
    assert project.progress()["total"] == 6


@needs_tmux
def test_dry_run_prints_sessions_and_arguments(project: Project) -> None:
    project.write(placement=TWO)
    finished = project.call("launch", "experiments/x.yaml", "--dry-run", "--json")
    assert finished.status == 0, finished.err
    commands = json.loads(finished.out)["would_start"]
    assert [command["session"] for command in commands] == ["x_gpu0_proc0", "x_gpu0_proc1"]
    assert commands[0]["argv"][1:3] == ["-m", "runner.slots.slot"]
    assert os.environ["PATH"] not in finished.out
    assert project.progress()["workers"] == []


def test_tables_line_up_with_wide_characters(project: Project) -> None:
    """A Chinese character takes two columns of a terminal."""
    shutil.rmtree(project.root / "videos")
    project.add_clips({"镜头运动（上仰）": {"甲": ["一"]}, "b": {"c": ["one", "two"]}})
    planned = project.call("plan", "experiments/x.yaml").out.splitlines()
    asked = project.call("progress", "x").out.splitlines()
    for lines, mark in ((planned, "│"), (asked, "░")):
        rows = [
            line for line in lines if "镜头运动（上仰）" in line or line.strip("│ ")[:2] == "b "
        ]
        assert len(rows) == 2, lines
        # From the start of a line to each border, or to the bar.
        places = {
            tuple(cell_len(row[:at]) for at, character in enumerate(row) if character == mark)[:3]
            for row in rows
        }
        assert len(places) == 1, rows


def test_plan_is_quick_and_needs_no_torch(project: Project) -> None:
    """`sweep plan` works on a laptop without torch: no module of it is ever looked for."""
    import subprocess
    import sys

    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if re.fullmatch('torch|diffsynth|transformers', name): raise ImportError(name)\n"
        "import re; sys.meta_path.insert(0, Refuse())\n"
        "from runner.cli import main; main(sys.argv[1:])\n"
    )
    project.write(backend="wan", model={"checkpoint": "tiny"})
    for words in (["plan", "experiments/x.yaml"], ["progress", "x"]):
        command = [sys.executable, "-c", code, *words]
        start = time.monotonic()
        result = subprocess.run(command, cwd=project.root, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr
        assert time.monotonic() - start < 10


def test_a_sample_takes_different_videos_first() -> None:
    jobs = [a_job("c", f"v{v}", p, s) for v in range(3) for p in range(2) for s in (1, 2)]
    chosen = select(jobs, {}, 2)
    assert chosen == {a_job("c", "v0", 0, 1).id, a_job("c", "v1", 0, 1).id}
    chosen = select(jobs, {"video": ["v2"], "seed": ["2"], "prompt": ["0"]}, None)
    assert chosen == {a_job("c", "v2", 0, 2).id}
    assert select(jobs, {}, None) is None


@given(
    counts=st.lists(st.integers(1, 400), min_size=1, max_size=6),
    gpus=st.lists(st.integers(0, 9), min_size=1, max_size=8, unique=True),
)
def test_every_category_has_a_home_and_no_gpu_is_left_out(
    counts: list[int], gpus: list[int]
) -> None:
    jobs = {f"c{n}": count for n, count in enumerate(counts)}
    home = home_categories(jobs, gpus, {})
    assert sorted(home) == sorted(gpus)
    assert {category for own in home.values() for category in own} == set(jobs)
    assert all(home.values())


def test_an_assigned_category_starts_where_it_is_told() -> None:
    home = home_categories({"a": 10, "b": 90}, [0, 1, 2], {"a": [2]})
    assert home == {0: ["b"], 1: ["b"], 2: ["a"]}


@given(seeds=st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=5), name=st.text(max_size=9))
def test_a_manifest_reads_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int], name: str
) -> None:
    name = "v" + re.sub(r"[\ud800-\udfff/\0]", "", name)
    series = [a_job("c", name, prompt).series for prompt in range(2)]
    # A job whose series stood before another one's also says no more than its number.
    jobs = [replace(a_job("c", name, 0, seed), series=series[seed % 2]) for seed in seeds]
    manifest = Manifest(tuple(jobs), (a_job("r"),))
    path = tmp_path_factory.mktemp("m") / "manifest.jsonl"
    write_manifest(path, manifest)
    assert read_manifest(path) == manifest
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    # The first line also says how many there are.
    assert records[0].pop("lines") == len(records)
    told: list[dict[str, Any]] = []
    for record, job in zip(records, (*manifest.jobs, *manifest.retired), strict=True):
        number = record.pop("series")
        assert (record.pop("schema"), record.pop("retired")) == (3, job.category == "r")
        whole = job_record(job)
        own = {key: whole.pop(key) for key in ("id", "seed", "fingerprint", "output")}
        if number == len(told):
            told.append(whole)
            own |= whole
        assert record == own
        assert told[number] == whole


def test_a_manifest_of_whole_lines_is_read(project: Project) -> None:
    """In schema 2 every line told of its series."""
    project.call("plan", "experiments/x.yaml")
    manifest = read_manifest(project.run_folder.manifest)
    lines = [{"schema": 2, "retired": False, **job_record(job)} for job in manifest.jobs]
    lines[0]["lines"] = len(lines)
    former = "".join(json.dumps(line) + "\n" for line in lines)
    project.run_folder.manifest.write_text(former, encoding="utf-8")
    assert read_manifest(project.run_folder.manifest) == manifest
    assert "0 new" in project.call("plan", "experiments/x.yaml").out


@pytest.mark.parametrize("number", [-1, 2, True, None, "0"])
def test_a_line_of_no_known_series_is_damaged(tmp_path: Path, number: object) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, Manifest((a_job("c"), a_job("d"))))
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    records[1]["series"] = number
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    with pytest.raises(DamagedManifest, match=":2: "):
        read_manifest(path)


@given(end=st.integers(0), without_lines=st.booleans())
def test_a_manifest_cut_short_is_damaged_wherever_the_cut_is(
    tmp_path_factory: pytest.TempPathFactory, end: int, without_lines: bool
) -> None:
    """Also where a line ends, so that each one left reads well."""
    path = tmp_path_factory.mktemp("m") / "manifest.jsonl"
    write_manifest(path, Manifest(tuple(a_job("c", "v", n) for n in range(4))))
    lines = path.read_bytes().splitlines(keepends=True)
    content = b"".join(lines[: end % 4]) if without_lines else b"".join(lines)[: end % 900]
    assert len(content) < path.stat().st_size - 1
    path.write_bytes(content)
    with pytest.raises(DamagedManifest, match="sweep plan"):
        read_manifest(path)


def test_prompts_may_be_several_files(project: Project) -> None:
    """The prompts of a video in two files come one after the other."""
    more = {"two words": {"ref 🎬 b": ["四"]}}
    (project.root / "more.json").write_text(json.dumps(more), encoding="utf-8")
    project.write(dataset={"videos": "videos", "prompts": ["prompts.json", "more.json"]})
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert answer["total"] == 7
    texts = [job.series.text("prompt") for job in read_manifest(project.run_folder.manifest).jobs]
    assert texts[-4:] == ["one", "two", "<script>three</script>", "四"]


def test_categories_are_a_subset_in_their_own_order(project: Project) -> None:
    names = ["two words", "camera_motion"]
    project.write(dataset={"videos": "videos", "prompts": "prompts.json", "categories": names})
    answer = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert list(answer["jobs_per_category"]) == names
