"""Whole sweeps of a person's own script: real slots, workers, another interpreter, real videos."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
import yaml
from conftest import Project, wait_for
from other_pythons import interpreters, is_running

from runner.disk.attempts import read_attempts
from runner.job import Outcome
from runner.job.shape import Shape
from runner.job.slot_names import Slot

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "mirror.py"
LAUNCH = ("launch", "experiments/x.yaml", "--on", "local", "--wait")

METHOD = """
import os, shutil, subprocess, time

faults = {}

def load(settings):
    faults.update(settings.get("faults", {}))
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")
    print("loaded 载入")

def strikes(job, kind):
    if faults.get(job.video) != kind or os.path.exists(f"struck-{job.id}"):
        return False
    open(f"struck-{job.id}", "w").close()
    return True

def generate(job, path):
    for step in range(4):
        time.sleep(job.parameters.get("pause", 0.01))
        job.step(step + 1, 4)
    if strikes(job, "kill"):
        os.kill(os.getpid(), 9)
    if strikes(job, "hang"):
        subprocess.run(["sleep", "600"])
    if strikes(job, "wait"):
        time.sleep(600)
    if strikes(job, "fail"):
        raise RuntimeError("CUDA error: an illegal memory access")
    if faults.get(job.video) == "bad_input":
        raise job.BadInput("no face in it")
    if strikes(job, "short"):
        return open(path, "wb").write(b"no video")
    # The clips of the test have the size, length and rate that are asked for.
    shutil.copyfile(job.reference, path)
"""


def write(project: Project, text: str = METHOD, **changes: Any) -> None:
    """A sweep of that method, in a bare environment of another Python where there is one."""
    environment = project.root / "env 环境"
    if not environment.exists():
        base = next(interpreters(), Path(sys.executable))
        subprocess.run([base, "-m", "venv", "--without-pip", environment], check=True)
    (project.root / "方法.py").write_text(text, encoding="utf-8")
    generation = {"width": 112, "height": 64, "num_frames": 9, "fps": 15}
    model = {"file": "方法.py", "interpreter": "env 环境/bin/python"}
    project.write(
        **{
            "backend": "script",
            "model": {**model, **changes.pop("model", {})},
            "generation": {**generation, **changes.pop("generation", {})},
            "retries": {"backoff_seconds": 0},
            **changes,
        }
    )


def test_the_clips_may_lie_elsewhere_on_this_machine(project: Project, tmp_path: Path) -> None:
    """`data:` of machine.yaml moves them; the script is told where they are."""
    elsewhere = tmp_path / "数据"
    elsewhere.mkdir()
    write(project)
    (project.root / "videos").rename(elsewhere / "videos")
    (project.root / "prompts.json").rename(elsewhere / "prompts.json")
    (project.root / "machine.yaml").write_text(f"data: {elsewhere}\n", encoding="utf-8")
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err
    assert project.call("verify", "x").status == 0


def pids(project: Project) -> list[int]:
    return [int(line) for line in (project.root / "pids").read_text().splitlines()]


def log(project: Project) -> str:
    return project.run_folder.log(Slot.of(0, 0)).read_text(encoding="utf-8")


def test_a_sweep_of_ones_own_method_is_a_sweep_as_any_other(project: Project) -> None:
    """Planned, made, checked, on record, skipped the second time; and stale, with the reason,
    once the script has changed."""
    write(project, generation={"guidance": 4.5})
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err
    assert project.call("verify", "x").status == 0
    assert "loaded 载入" in log(project)
    sidecar = json.loads(next(project.run_folder.path.glob("camera_motion/*/*.json")).read_text())
    assert sidecar["parameters"]["guidance"] == 4.5
    assert sidecar["model_files"][0]["file"] == "方法.py"
    assert sidecar["versions"]["script.python"].startswith("3.")
    assert sidecar["video"]["num_frames"] == 9
    assert "nothing to do" in project.sweep(*LAUNCH).err
    assert len(pids(project)) == 1
    wait_for(lambda: not is_running(pids(project)[0]))

    write(project, METHOD + "# a change\n", generation={"guidance": 4.5})
    planned = project.call("plan", "experiments/x.yaml", "--json")
    drift = json.loads(planned.out)["stale"]
    assert drift["videos"] == 6
    size = len(METHOD.encode())
    assert [change["line"] for change in drift["changes"]] == [
        f"model.file: 方法.py has other content ({size} -> {size + 11} bytes)"
    ]


@pytest.mark.parametrize(
    ("fault", "kind", "outcome"),
    [
        ("kill", "worker_died", Outcome.FAILED),
        ("hang", "stuck", Outcome.FAILED),
        ("fail", "gpu_error", Outcome.FAILED),
        ("short", "backend_bug", Outcome.FAILED),
    ],
)
def test_what_goes_wrong_once_in_a_script_is_made_good(
    project: Project, fault: str, kind: str, outcome: Outcome
) -> None:
    """One attempt is recorded with its kind, every video is there, no process is left."""
    write(project, model={"settings": {"faults": {"-dash": fault}}}, limits={"stuck_minutes": 0.05})
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err + log(project)
    records = read_attempts(project.run_folder.attempts)
    bad = [one for one in records if one["outcome"] != Outcome.DONE.value]
    assert [(one["kind"], one["outcome"]) for one in bad] == [(kind, outcome.value)]
    assert len(records) == 7
    for pid in pids(project):
        assert not is_running(pid)


def test_a_bad_input_fails_one_job_with_its_reason(project: Project) -> None:
    write(project, model={"settings": {"faults": {"-dash": "bad_input"}}})
    assert project.sweep(*LAUNCH).status == 1
    answer = project.progress()
    assert (answer["done"], answer["failed"]) == (5, 1)
    explained = project.call("explain", "x", "camera_motion/-dash")
    assert "BadInput: no face in it (at 方法.py:" in explained.out


def test_a_script_that_always_dies_uses_up_deaths_not_failures(project: Project) -> None:
    """As a worker would that always dies."""
    dying = METHOD + "\ndef prepare(group): os._exit(3)\n"
    write(project, dying, retries={"failures": 5, "deaths": 2, "backoff_seconds": 0})
    assert project.sweep(*LAUNCH, "--only", "video=-dash").status == 1
    records = read_attempts(project.run_folder.attempts)
    assert [one["kind"] for one in records] == ["worker_died"] * 2


def test_a_stop_in_the_middle_gives_the_job_back(project: Project) -> None:
    """At once, by the script's own next step, with nothing left running."""
    write(project, generation={"pause": 1.0})
    project.sweep("launch", "experiments/x.yaml", "--on", "local")
    wait_for(lambda: project.progress()["running"] == 1)
    wait_for((project.root / "pids").exists)
    wait_for(lambda: any(one["step"] for one in project.progress()["workers"]))
    assert project.call("stop", "x", "--now").status == 0
    assert not is_running(pids(project)[0])
    kept = read_attempts(project.run_folder.attempts)[-1]
    assert kept["outcome"] == Outcome.INTERRUPTED.value
    assert "this worker was asked to stop" in log(project)


def test_a_killed_worker_takes_its_script_with_it(project: Project) -> None:
    """And another makes the job again."""
    write(project, model={"settings": {"faults": {"-dash": "wait"}}})
    project.sweep("launch", "experiments/x.yaml", "--on", "local", "--only", "video=-dash")
    # It waits in the middle of the job, but only the first time.
    wait_for(lambda: any(project.root.glob("struck-*")))
    (worker,) = [one["pid"] for one in project.progress()["workers"]]
    (script,) = pids(project)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not is_running(script))
    wait_for(lambda: len(pids(project)) == 2)
    wait_for(lambda: project.progress()["done"] >= 1)
    died = [one["kind"] for one in read_attempts(project.run_folder.attempts) if one["kind"]]
    assert died == ["worker_died"]


def test_several_methods_share_a_grid(project: Project) -> None:
    """A worker loads each of them once, one after the other; and what changes in one makes
    nothing of the other stale."""
    write(project)
    model = {"interpreter": "env 环境/bin/python", "settings": {}}
    for name in ("ours", "baseline"):
        text = f"{METHOD}\nopen('{name}', 'a').write('loaded ')\n"
        (project.root / f"{name}.py").write_text(text, encoding="utf-8")
    methods = {name: {**model, "file": f"{name}.py"} for name in ("ours", "baseline")}
    values = yaml.safe_load(project.file.read_text(encoding="utf-8"))
    values |= {"model": {"methods": methods}, "axes": {"method": ["ours", "baseline"]}}
    project.file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err + log(project)
    assert project.progress()["done"] == 12
    for name in methods:
        assert (project.root / name).read_text() == "loaded "
        assert len(list(project.run_folder.path.glob(f"*/*/*_method={name}.mp4"))) == 6
    sidecar = json.loads(next(project.run_folder.path.glob("*/*/*=ours.json")).read_text())
    assert [one["file"] for one in sidecar["model_files"]] == ["ours.py"]

    with (project.root / "ours.py").open("a") as script:
        script.write("# more\n")
    stale = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)["stale"]
    (change,) = stale["changes"]
    assert (stale["videos"], change["input"]) == (6, "methods.ours.model.file")
    assert "ours.py has other content" in change["line"]


def test_the_example_runs_and_follows_its_reference(project: Project) -> None:
    """`examples/mirror.py` makes whole videos that are the reference's mirror image."""
    from runner.video import read_clip, read_video

    ffmpeg = {"ffmpeg": imageio_ffmpeg.get_ffmpeg_exe()}
    write(project, EXAMPLE.read_text(encoding="utf-8"), model={"settings": ffmpeg}, seeds=[0])
    # No turn of colours: what is left is the mirror.
    project.call("plan", "experiments/x.yaml", "generation.strength=0.0")
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err + log(project)
    output = project.run_folder.path / "camera_motion" / "-dash" / "seed_0_prompt_0.mp4"
    made = read_video(output, Shape(width=112, height=64, num_frames=9, fps=15)).astype(int)
    source = project.root / "videos" / "camera_motion" / "-dash.mp4"
    reference = read_clip(source, Shape(width=112, height=64, num_frames=9, fps=15))
    mirrored = reference[:, :, ::-1].astype(int)
    assert abs(made - mirrored).mean() < 0.5 * abs(made - reference).mean()


DIFFSYNTH = """
import json, shutil

def told(**values):
    with open("told.jsonl", "a") as file:
        file.write(json.dumps(values, default=str) + "\\n")

class ModelManager:
    def __init__(self, torch_dtype=None, device="cuda", model_id_list=[], downloading_priority=[],
                 file_path_list=[]): ...
    def load_models(self, file_path_list, model_names=None, device=None, torch_dtype=None):
        told(loads=file_path_list, dtype=torch_dtype)

class VideoData:
    def __init__(self, video_file=None, image_folder=None, height=None, width=None, **kwargs):
        self.video_file = video_file
        told(reads=video_file, size=[width, height])
    def __len__(self): return 9
    def __getitem__(self, item): return f"{self.video_file}#{item}"

class WanVideoPipeline:
    @staticmethod
    def from_model_manager(model_manager, torch_dtype=None, device=None, use_usp=False):
        return WanVideoPipeline()
    def enable_vram_management(self, num_persistent_param_in_dit=None): ...
    def __call__(self, prompt, negative_prompt="", input_image=None, end_image=None,
                 input_video=None, control_video=None, denoising_strength=1.0, seed=None,
                 rand_device="cpu", height=480, width=832, num_frames=81, cfg_scale=5.0,
                 num_inference_steps=50, sigma_shift=5.0, motion_bucket_id=None, tiled=True,
                 tile_size=(30, 52), tile_stride=(15, 26), tea_cache_l1_thresh=None,
                 tea_cache_model_id="", progress_bar_cmd=None, progress_bar_st=None):
        told(prompt=prompt, seed=seed, frames=len(input_video), strength=denoising_strength)
        for _ in enumerate(progress_bar_cmd(range(num_inference_steps))): ...
        return input_video

def save_video(frames, save_path, fps, quality=9, ffmpeg_params=None):
    shutil.copyfile(frames[0].rpartition("#")[0], save_path)
"""
"""What `examples/diffsynth_1x.py` calls, as diffsynth 1.1.7 declares it."""


def test_the_diffsynth_example_calls_what_there_is(project: Project) -> None:
    """With the real package's own signatures; the model behind them is left out."""
    (project.root / "lib").mkdir()
    (project.root / "lib" / "diffsynth.py").write_text(DIFFSYNTH, encoding="utf-8")
    (project.root / "lib" / "torch.py").write_text("bfloat16 = 'bfloat16'")
    weights = project.root / "weights"
    weights.mkdir()
    for name in ("diffusion_pytorch_model-1.safetensors", "models_t5_umt5-xxl-enc-bf16.pth"):
        (weights / name).write_bytes(b"x")
    (weights / "Wan2.1_VAE.pth").write_bytes(b"x")
    own = {"files": {"weights": "weights"}, "environment": {"PYTHONPATH": "lib"}}
    text = EXAMPLE.with_name("diffsynth_1x.py").read_text(encoding="utf-8")
    write(project, text, model=own, generation={"num_inference_steps": 3})
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err + log(project)
    told = [json.loads(line) for line in (project.root / "told.jsonl").read_text().splitlines()]
    (loaded,) = (one["loads"] for one in told if "loads" in one)
    assert [len(one) if isinstance(one, list) else Path(one).suffix for one in loaded] == [
        1,
        ".pth",
        ".pth",
    ]
    assert [one["size"] for one in told if "reads" in one] == [[112, 64]] * 3
    made = [one for one in told if "prompt" in one]
    assert len({one["prompt"] for one in made}) == 6
    assert {(one["seed"], one["frames"], one["strength"]) for one in made} == {(1, 9, 0.8)}
    sidecar = json.loads(next(project.run_folder.path.glob("camera_motion/*/*.json")).read_text())
    assert sidecar["seconds_per_step"] is not None, "its steps are the denoising's"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"file": "absent.py"}}, "model.file: no such script"),
        ({"model": {"interpreter": "absent/python"}}, "model.interpreter: "),
        ({"model": {"depth": 3}}, "model.depth: unknown key (valid: environment, file, files"),
        ({"generation": {"numFrames": 9}}, "did you mean num_frames?"),
        ({"generation": {"when": [1]}}, "generation.when: [1]: must be a number, a text"),
    ],
)
def test_mistakes_are_said_before_anything_starts(
    project: Project, change: dict[str, Any], message: str
) -> None:
    write(project, **change)
    finished = project.call("launch", "experiments/x.yaml", "--on", "local")
    assert finished.status == 2
    assert message in finished.err
    assert len(finished.err.splitlines()) <= 2
    assert not (project.root / "pids").exists()
