"""`sweep doctor` finds what is wrong before a night is spent on it, and says how to mend it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zipfile
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project, write_clip
from rich.cells import cell_len
from rich.console import Console

from runner.backends import PeakMemory
from runner.backends.wan.checkpoint import Checkpoint
from runner.backends.wan.judgement import judge
from runner.backends.wan.tiny import tiny_checkpoint
from runner.doctor import software
from runner.doctor.file_system import judge_mount, mount_of, try_locking
from runner.doctor.finding import Finding, Severity, right, wrong
from runner.doctor.graphics import Need, check_gpu, check_gpus
from runner.doctor.inputs import estimated_tokens, token_counter
from runner.doctor.machine import check_disk, check_memory, judge_limit
from runner.doctor.software import Torch, ask_torch, judge_torch
from runner.doctor.view import print_findings
from runner.machine.gpus import Gpu, Health
from runner.video import write_video

H100 = Gpu(0, "GPU-1", "H100", 80.0, 79.5)


def asked(project: Project, *words: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit status, and the findings by name."""
    done = project.call("doctor", *words, "--json")
    answer = json.loads(done.out)
    assert answer["ok"] == (done.status == 0)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for finding in answer["findings"]:
        by_name.setdefault(finding["name"], []).append(finding)
    return done.status, by_name


def wrongs(findings: dict[str, list[dict[str, Any]]]) -> list[str]:
    return [
        f"{one['name']}: {one['what']}: {one['remedy']}"
        for own in findings.values()
        for one in own
        if one["verdict"] == "wrong"
    ]


def test_a_good_experiment_has_nothing_wrong(project: Project) -> None:
    status, found = asked(project, "experiments/x.yaml")
    assert status == 0, wrongs(found)
    assert {"Python", "packages", "ffmpeg", "GPU", "clips", "prompts", "disk"} <= set(found)
    assert {"host memory", "file system", "locking", "limits", "clock"} <= set(found)
    assert "3 decode" in found["clips"][-1]["what"]
    assert "6 videos to make" in found["disk"][0]["what"]
    assert not project.run_folder.path.exists()


def test_every_wrong_input_is_named_at_once(project: Project) -> None:
    """A short clip, one that breaks off in the middle, prompts that match nothing."""
    write_clip(project.root / "videos" / "camera_motion" / "-dash.mp4", frames=5)
    whole = (project.root / "videos" / "two words" / "ref 🎬 b.mp4").read_bytes()
    (project.root / "videos" / "two words" / "ref 🎬 b.mp4").write_bytes(whole[:-100])
    write_clip(project.root / "videos" / "camera_motion" / "新.mp4")
    status, found = asked(project, "experiments/x.yaml")
    assert status == 1
    said = "\n".join(wrongs(found))
    assert "-dash.mp4: has 5 frames" in said
    assert "ref 🎬 b.mp4: cannot be decoded" in said
    assert "新.mp4: has no prompts" in said
    assert "--skip-invalid" in said


def test_a_clip_that_breaks_later_is_found(project: Project) -> None:
    """Its first frame decodes, so planning takes it; a job would fail on it."""
    path = project.root / "videos" / "camera_motion" / "-dash.mp4"
    noise = np.random.default_rng(1).integers(0, 255, (64, 112, 3), dtype=np.uint8)
    moving = np.stack([np.roll(noise, 2 * number, axis=1) for number in range(81)])
    write_video(path, moving, fps=15, quality=5)
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, len(data) // 10
    data[middle : middle + length] = bytes(length)
    path.write_bytes(data)
    project.write(generation={"width": 112, "height": 64, "num_frames": 81, "fps": 15})
    for clip in (project.root / "videos").rglob("*.mp4"):
        if clip != path:
            write_clip(clip, frames=81)
    assert project.call("plan", "experiments/x.yaml").status == 0
    status, found = asked(project, "experiments/x.yaml")
    assert status == 1
    assert any("-dash.mp4" in line and "decoded" in line for line in wrongs(found))


def test_clips_of_less_than_is_asked_for_are_warned_of(project: Project) -> None:
    size = {"width": 224, "height": 128, "num_frames": 9}
    project.write(generation={**size, "fps": 15}, axes={"fps": [15, 30]})
    status, found = asked(project, "experiments/x.yaml")
    said = [one["what"] + one["remedy"] for one in found["clips"] if one["verdict"] == "warning"]
    assert status == 0
    assert any("frames are repeated" in line for line in said)
    assert any("3 clips are enlarged more than 1.5 times" in line for line in said)


def test_axes_and_rules_are_counted_and_looked_at(project: Project) -> None:
    """Every axis multiplies what is to be made; of what rules leave out nothing need be fit."""
    (project.root / "videos" / "camera_motion" / "-dash.mp4").write_bytes(b"no video" * 99)
    project.write(
        axes={"cfg_scale": [3, 5, 7], "num_frames": [5, 9]},
        exclude=[{"category": "camera_motion", "video": "-dash"}],
    )
    status, found = asked(project, "experiments/x.yaml")
    assert status == 0, wrongs(found)
    assert "30 videos to make" in found["disk"][0]["what"]
    assert "2 decode" in found["clips"][-1]["what"]


def test_a_script_its_python_and_its_files_are_looked_at(project: Project) -> None:
    """All of it at once, each with its key."""
    (project.root / "方法.py").write_text("def load(settings): 0\ndef generate(job, path): 0\n")
    (project.root / "weights").mkdir()
    (project.root / "weights" / "a.pt").write_bytes(bytes(2048))
    model = {"file": "方法.py", "files": {"net": "weights"}}
    project.write(backend="script", model=model)
    status, found = asked(project, "experiments/x.yaml")
    assert status == 0, wrongs(found)
    script, weights = (one["what"] for one in found["model"])
    assert "方法.py: 49 B, read by Python 3." in script
    assert "weights: 2.0 KiB" in weights
    methods = {
        "ours": {**model, "interpreter": "nowhere/python"},
        "other": {"file": "gone.py", "files": {"net": "gone.pt"}},
    }
    project.write(backend="script", model={"methods": methods}, axes={"method": [*methods]})
    status, found = asked(project, "experiments/x.yaml")
    assert status == 1
    said = "\n".join(wrongs(found))
    assert "methods.ours.model.interpreter: " in said
    assert "methods.other.model.file: no such script" in said
    assert "methods.other.model.files.net: no such file or folder" in said


def test_an_experiment_that_is_wrong_is_one_finding(project: Project) -> None:
    """The machine is looked at all the same."""
    status, found = asked(project, "experiments/x.yaml", "sedes=[1]")
    assert status == 1
    assert "sedes" in found["experiment"][0]["what"]
    assert "ffmpeg" in found


def test_a_tree_that_is_not_installed_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs `python -m runner` from a copied folder has no package data to look into."""
    monkeypatch.setattr(software, "DISTRIBUTION", "sweep-runner-of-nowhere")
    (finding,) = software.check_python()
    assert finding.verdict is Severity.WRONG
    assert "not installed" in finding.what
    assert finding.remedy
    assert not list(software.check_packages(["wan"]))


def test_the_process_that_answers_loads_no_torch(project: Project) -> None:
    code = (
        "import sys\n"
        "from runner.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print('torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, "doctor"]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert "torch" in done.stdout


def test_a_planned_run_is_asked_for_what_is_left(project: Project) -> None:
    project.finish()
    _, found = asked(project, "x")
    assert "0 videos to make" in found["disk"][0]["what"]


def test_a_damaged_run_folder_is_a_finding(project: Project) -> None:
    """The rest is looked at all the same."""
    assert project.call("plan", "experiments/x.yaml").status == 0
    project.run_folder.manifest.write_text("{")
    project.run_folder.queue.unlink()
    status, found = asked(project, "experiments/x.yaml")
    assert status == 1
    assert "manifest" in found["run folder"][0]["what"]
    assert "clock" in found


@pytest.mark.parametrize("damage", ["missing", "cut", "junk"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_each_model_file_is_looked_at(tmp_path: Path, damage: str, suffix: str) -> None:
    """By its header alone: whether it is there, and whole."""
    import shutil

    import torch

    folder = tmp_path / "Wan 模型"
    shutil.copytree(tiny_checkpoint().folder, folder)
    victim = folder / f"Wan2.1_VAE{suffix}"
    if suffix == ".pth":
        (folder / "Wan2.1_VAE.safetensors").unlink()
        torch.save({"a": torch.zeros(1000)}, victim)
    assert all(state.problem is None for state in judge(Checkpoint(folder)).states)
    content = victim.read_bytes()
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(content[: len(content) // 2] if damage == "cut" else b"x" * 99)
    (bad,) = [state for state in judge(Checkpoint(folder)).states if state.problem is not None]
    assert bad.file.startswith("Wan2.1_VAE")
    assert bad.remedy


def test_missing_weights_are_listed(project: Project) -> None:
    project.write(
        backend="wan",
        model={"checkpoint": "absent", "identity": "Wan2.1-T2V-14B"},
        generation={"width": 112, "height": 64, "num_frames": 9, "fps": 15},
    )
    status, found = asked(project, "experiments/x.yaml")
    assert status == 1
    said = "\n".join(one["what"] for one in found["model"])
    assert "models_t5_umt5-xxl-enc-bf16" in said
    assert "google/umt5-xxl/tokenizer_config.json" in said
    assert "an estimate" in found["prompts"][-1]["what"]


def test_what_a_launch_would_refuse_is_a_finding(project: Project) -> None:
    project.write(
        backend="wan",
        model={"attention": "flash"},
        generation={"width": 112, "height": 64, "num_frames": 9, "fps": 15},
        placement={"gpus": [0], "device": "cpu"},
    )
    status, found = asked(project, "experiments/x.yaml")
    assert status == 1
    assert "model.attention: flash needs a GPU" in found["launch"][0]["what"]


@pytest.mark.parametrize(("repeats", "verdict"), [(10, "right"), (600, "warning")])
def test_prompts_that_are_cut_are_named(project: Project, repeats: int, verdict: str) -> None:
    """Counted by the model's own tokenizer, which is loaded without torch."""
    path = project.root / "videos" / "camera_motion" / "-dash.mp4"
    write_clip(path)
    text = "一只红色的球 " * repeats
    prompts = json.loads((project.root / "prompts.json").read_text())
    prompts["camera_motion"]["-dash"] = [text]
    (project.root / "prompts.json").write_text(json.dumps(prompts))
    project.write(
        backend="wan",
        model={"checkpoint": "tiny"},
        generation={"width": 112, "height": 64, "num_frames": 9, "fps": 15},
    )
    _, found = asked(project, "experiments/x.yaml")
    assert found["prompts"][0]["verdict"] == verdict
    assert "the model's own tokenizer" in found["prompts"][-1]["what"]
    if verdict == "warning":
        assert "camera_motion/-dash" in found["prompts"][0]["what"]


def test_without_a_tokenizer_it_is_an_estimate(tmp_path: Path) -> None:
    count, source = token_counter(None)
    assert count("one two three") == estimated_tokens("one two three")
    assert "estimate" in source
    assert estimated_tokens("镜头" * 600) > 512
    (tmp_path / "tokenizer.json").write_text("{}")
    assert "cannot be loaded" in token_counter(tmp_path / "tokenizer.json")[1]


@pytest.mark.parametrize(
    ("need", "health", "verdict", "says"),
    [
        (None, Health(), Severity.RIGHT, "79.5 of 80.0"),
        (None, Health("NVML: GPU is lost"), Severity.WRONG, "is lost"),
        (None, Health(memory_errors=2), Severity.WARNING, "since the driver was loaded: 2"),
        (Need("auto", 2, PeakMemory(44, "x"), False), Health(), Severity.WRONG, "2 x 44.0"),
        (Need("auto", 1, PeakMemory(44, "x"), False), Health(), Severity.RIGHT, "H100"),
    ],
)
def test_one_gpu(need: Need | None, health: Health, verdict: Severity, says: str) -> None:
    finding = check_gpu(H100, need, health, ())
    assert finding.verdict is verdict
    assert says in finding.what


def test_a_gpu_that_someone_uses() -> None:
    busy = Gpu(3, "GPU-3", "H100", 80.0, 40.0)
    assert "process 77" in check_gpu(busy, None, Health(), (77,)).what
    assert check_gpu(busy, None, Health(), ()).verdict is Severity.WARNING


def test_gpus_that_are_asked_for_and_not_there() -> None:
    """The wrong count of GPUs is found before the launch."""
    need = Need([0, 1, 2, 3], 2, None, runs_without=False)
    found = list(check_gpus([H100], need))
    missing = [one.name for one in found if one.verdict is Severity.WRONG]
    assert missing == ["GPU 1", "GPU 2", "GPU 3"]
    assert next(iter(check_gpus([], need))).verdict is Severity.WRONG


@pytest.mark.parametrize(
    ("torch", "serves", "says"),
    [
        (Torch("2.9", "12.8", True, 1, ("sm_90",), ((9, 0),)), "12.4", ""),
        (Torch("2.9", "12.8", True, 1, ("sm_80",), ((8, 6),)), "13.0", ""),
        (Torch("2.13", "13.0", False, 0), "12.4", "built for CUDA 13.0, the driver serves 12.4"),
        (Torch("2.13+cpu", None, False, 0), "12.4", "without CUDA"),
        (Torch("2.9", "12.8", True, 0), "12.8", "sees 0 of 1"),
        (Torch("2.4", "12.4", True, 1, ("sm_90",), ((12, 0),)), "12.8", "sm_120"),
        (Torch("2.9", "12.8", True, 1, ("sm_100", "sm_120"), ((12, 0),)), "12.8", ""),
    ],
)
def test_torch_against_the_driver(torch: Torch, serves: str, says: str) -> None:
    finding = judge_torch(torch, serves, 1)
    assert (finding.verdict is Severity.RIGHT) == (says == "")
    assert says in finding.what


def test_torch_is_asked_in_a_process_of_its_own() -> None:
    answer = ask_torch()
    assert isinstance(answer, Torch)
    assert answer.version


MOUNTINFO = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /data rw - nfs4 server:/export rw
41 40 8:2 / /data/local\040disk rw shared:3 master:2 - xfs /dev/sdb rw
42 22 0:42 / /fast rw - ext4 /dev/sdc rw
43 22 0:43 / /fast rw - fuse.sshfs me@host: rw
44 22 0:44 / /database rw - tmpfs tmpfs rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind", "verdict"),
    [
        ("/home/me/results", "ext4", Severity.RIGHT),
        ("/data/results", "nfs4", Severity.WRONG),
        ("/data/local disk/results", "xfs", Severity.RIGHT),
        ("/fast/results", "fuse.sshfs", Severity.WRONG),
        ("/database/x", "tmpfs", Severity.WARNING),
    ],
)
def test_the_kind_of_file_system_under_a_path(path: str, kind: str, verdict: Severity) -> None:
    """The deepest mount counts, of two at one place the later; a space is written as an octal."""
    mount = mount_of(Path(path), MOUNTINFO)
    assert mount is not None
    assert mount.kind == kind
    finding = judge_mount(Path(path), mount)
    assert finding.verdict is verdict
    assert (finding.remedy == "") is (verdict is Severity.RIGHT)


def test_locks_are_tried_where_the_results_will_lie(tmp_path: Path) -> None:
    """Nothing of the trial stays."""
    (finding,) = try_locking(tmp_path)
    assert finding.verdict is Severity.RIGHT
    assert list(tmp_path.iterdir()) == []
    (refused,) = try_locking(Path("/proc"))
    assert refused.verdict is Severity.WRONG


def test_disk_memory_and_limits_against_what_is_needed(tmp_path: Path) -> None:
    huge = 1 << 60
    assert next(check_disk(tmp_path / "not" / "yet", huge, 680)).verdict is Severity.WRONG
    assert next(check_disk(tmp_path, 1, 1)).verdict is Severity.RIGHT
    assert next(check_memory(huge, "8 workers")).verdict is Severity.WRONG
    assert next(check_memory(1, "8 workers")).verdict is Severity.RIGHT
    assert judge_limit("open files", 256, 1024, "ulimit").verdict is Severity.WARNING
    infinite = judge_limit("open files", resource.RLIM_INFINITY, 1024, "ulimit")
    assert infinite.verdict is Severity.RIGHT


def test_launch_warns_of_what_may_cost_the_night(project: Project) -> None:
    """It is said before the workers start, and only where there is something to say."""
    words = ("launch", "experiments/x.yaml", "--dry-run", "--on", "local")
    assert "warning" not in project.call(*words).err
    # In a process of its own: this one may have more files open than that.
    limited = ["sh", "-c", 'ulimit -Sn 500; exec "$@"', "sh", *project.command(*words)]
    environment = {**os.environ, **project.environment}
    warned = subprocess.run(
        limited, cwd=project.root, env=environment, capture_output=True, text=True, check=False
    )
    assert warned.returncode == 0
    assert "warning: limits: only 500 open files are allowed; ulimit -n" in warned.stderr


def test_columns_line_up_with_wide_characters() -> None:
    out = StringIO()
    console = Console(file=out, width=60)
    names = ["镜头 运动", "GPU 0", "é"]
    print_findings([wrong(name, "很长的一句话" * 9, "修好它 🎬") for name in names], console)
    lines = [line for line in out.getvalue().splitlines() if "wrong" in line]
    assert len({cell_len(line.partition("wrong")[0]) for line in lines}) == 1
    assert all(cell_len(line) <= 60 for line in out.getvalue().splitlines())


def test_a_bundle_has_what_a_report_needs_and_no_secrets(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SETTING", "not-for-others-1234567890")
    project.finish()
    log = next(project.run_folder.logs.glob("*.log"))
    with log.open("a", encoding="utf-8") as file:
        file.write("cloned https://me:geheim12@host/x with hf_abcdefghijklmnop1234\n")
        file.write("Authorization: Token tok3n; https://hooks.slack.com/services/T0/B0/slackkey\n")
        file.write("cannot open /data/home/evelyn/x and C:\\Users\\Evelyn Doe\\y\n")
    done = project.call("doctor", "x", "--bundle", "--json")
    packed = Path(json.loads(done.out)["bundle"])
    assert packed.parent == project.root
    with zipfile.ZipFile(packed) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert {"doctor.json", "versions.json", "experiment.yaml", "run/queue.json"} <= set(texts)
    assert {"run/manifest_head.jsonl", "run/attempts_tail.jsonl"} <= set(texts)
    assert f"run/logs/{log.name}" in texts
    assert json.loads(texts["run/queue.json"])["done"] == 6
    everything = "".join(texts.values())
    assert "一只红色的球" in everything
    for secret in (
        "geheim12",
        *("tok3n", "slackkey", "evelyn", "Evelyn", "Doe"),
        "hf_abcdefghijklmnop1234",
        "not-for-others",
        os.environ["HOME"] + "/",
    ):
        assert secret not in everything


def test_findings_are_plain_data() -> None:
    finding = right("a", "b")
    assert finding == Finding("a", Severity.RIGHT, "b", "")
    assert finding.to_json() == {"name": "a", "verdict": "right", "what": "b", "remedy": ""}
