"""Several methods in one grid: what each makes, what they share, and what leaves the others be."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import FPS, FRAMES, HEIGHT, WIDTH, Project, wait_for

from runner.dataset.dataset import Item, Lead
from runner.disk.manifest import Manifest, read_manifest
from runner.experiment.experiment import Experiment
from runner.experiment.loading import load_experiment
from runner.job import FileInput, Job
from runner.plan.expansion import expand
from runner.plan.fingerprint import identities_of
from runner.report.axes import AxisKind, lay_out
from runner.report.cells import read_run
from runner.text.errors import UserError
from runner.video import VideoInfo

DATA = Path(__file__).resolve().parent / "data" / "former_methods"
LAUNCH = ("launch", "experiments/x.yaml", "--on", "local", "--wait")

SCRIPT = """
import shutil, time

def load(settings):
    open("loaded", "a").write("script\\n")

def generate(job, path):
    for step in range(4):
        time.sleep(0.02)
        job.step(step + 1, 4)
    # The clips of the test have the size, length and rate that are asked for.
    shutil.copyfile(job.reference, path)
"""


def jobs_of(experiment: Experiment) -> tuple[Job, ...]:
    """The jobs of two clips, without a disk to look at."""
    info = VideoInfo.steady(832, 480, num_frames=99, fps=15.0)
    leads = [
        Lead("c", Item(v, FileInput(f"v/c/{v}.mp4", v * 64), info), ("red", "blue")) for v in "ab"
    ]
    return expand(experiment, leads, identities_of(experiment), Manifest(())).jobs


@pytest.mark.parametrize("name", ["grid", "usual", "chosen", "single"])
def test_a_sweep_of_former_methods_is_what_it_was(name: str) -> None:
    """Its jobs come in the same order, each by id, path and fingerprint; as they were written when
    scripts had `model.methods`."""
    lines = map(json.loads, (DATA / "jobs.jsonl").read_text(encoding="utf-8").splitlines())
    former = [tuple(line[1:]) for line in lines if line[0] == name]
    now = jobs_of(load_experiment(DATA / f"{name}.yaml"))
    assert [(job.id, job.output, job.fingerprint) for job in now] == former


def read(folder: Path, **values: Any) -> Experiment:
    file = folder / "x.yaml"
    common = {"name": "x", "dataset": {"videos": "v", "prompts": "p"}, "seeds": [1]}
    text = yaml.safe_dump({**common, **values}, allow_unicode=True, sort_keys=False)
    file.write_text(text, encoding="utf-8")
    return load_experiment(file)


def test_the_overrides_of_former_methods_still_hold(tmp_path: Path) -> None:
    """As plan has written them, and by today's keys."""
    former = {"backend": "script", "model": {"methods": {"ours": {"file": "a.py"}}}}
    overrides = ["model.methods.ours.settings.depth=4", "methods.ours.model.settings.width=5"]
    (method,) = read(tmp_path, **former, overrides=overrides).every_method
    assert method.model.model_dump()["settings"] == {"depth": 4, "width": 5}


def test_the_one_beside_the_methods_keeps_its_jobs(tmp_path: Path) -> None:
    """Methods that are added to a sweep rename and remake nothing of it."""
    plain = {"backend": "fake", "model": {"seconds": 0.1}, "generation": {"num_frames": 9}}
    before = jobs_of(read(tmp_path, **plain))
    methods = {"other": {"backend": "fake", "generation": {"num_frames": 17}}}
    after = jobs_of(read(tmp_path, **plain, methods=methods))
    own = [job for job in after if job.method is None]
    assert [(j.id, j.output, j.fingerprint) for j in own] == [
        (j.id, j.output, j.fingerprint) for j in before
    ]
    others = [job for job in after if job.method == "other"]
    assert len(others) == len(own)
    assert {job.shape.num_frames for job in others} == {17}
    assert all(job.output.endswith("_method=other.mp4") for job in others)
    assert len({job.id for job in after}) == len(after)
    assert "method" not in others[0].point


def test_what_plan_writes_means_the_same(tmp_path: Path) -> None:
    methods = {"a": {"backend": "fake"}, "b": {"backend": "wan", "generation": {"width": 832}}}
    experiment = read(
        tmp_path, methods=methods, generation={"num_frames": 9}, axes={"cfg_scale": [3, 5]}
    )
    (tmp_path / "out").mkdir()
    again = tmp_path / "out" / "again.yaml"
    again.write_text(experiment.to_yaml(tmp_path / "out"), encoding="utf-8")
    assert load_experiment(again).differences(experiment) == []
    assert jobs_of(load_experiment(again)) == jobs_of(experiment)
    # What methods have in common is theirs still when a key of it is overridden.
    other = load_experiment(again, ["generation.num_frames=17"])
    assert {job.shape.num_frames for job in jobs_of(other)} == {17}


def test_a_parameter_is_for_the_methods_that_have_it(tmp_path: Path) -> None:
    """In `generation` and as an axis: it multiplies no other method's videos."""
    methods = {
        "small": {"backend": "fake", "generation": {"width": 112}},
        "sdedit": {"backend": "wan"},
    }
    experiment = read(
        tmp_path,
        methods=methods,
        generation={"num_frames": 9, "sigma_shift": 4},
        axes={"sigma_shift": [4, 3], "cfg_scale": [5, 2]},
        exclude=[{"sigma_shift": 3, "cfg_scale": 2}],
    )
    found = [
        (one.complete["method"], one.complete["sigma_shift"], one.complete["cfg_scale"])
        for one in experiment.parameter_sets
    ]
    assert found == [
        ("small", None, 5.0),
        ("small", None, 2.0),
        ("sdedit", 4.0, 5.0),
        ("sdedit", 4.0, 2.0),
        ("sdedit", 3.0, 5.0),
        ("sdedit", 3.0, 2.0),
    ]
    jobs = jobs_of(experiment)
    assert "sigma_shift" not in jobs[0].parameters
    assert {job.shape.width for job in jobs if job.method == "small"} == {112}
    # Two clips, two prompts; a rule for one method's parameter fits none of the others' videos.
    assert len([job for job in jobs if job.method == "sdedit"]) == 3 * 4
    assert len([job for job in jobs if job.method == "small"]) == 2 * 4


def test_an_axis_says_which_methods_and_in_which_order(tmp_path: Path) -> None:
    own = {"methods": {"a": {"backend": "fake"}, "b": {"backend": "fake"}}}
    assert read(tmp_path, **own).axes == {"method": ["a", "b"]}
    assert read(tmp_path, **own, axes={"method": ["b"]}).axes == {"method": ["b"]}
    # The one that `generation` names is the only one, or adds nothing to paths beside others.
    named = {**own, "generation": {"method": "a"}}
    assert read(tmp_path, **named).axes == {"method": ["a"]}
    both = read(tmp_path, **named, axes={"method": ["b", "a"]})
    assert [setting.suffix for setting in both.parameter_sets] == ["_method=b", ""]
    plain = read(tmp_path, backend="fake", model={}, **own)
    assert plain.axes == {"method": [None, "a", "b"]}


TWO = {"a": {"backend": "fake"}, "b": {"backend": "wan"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ["a"]}, "methods: ['a']: must have methods by their names"),
        ({"methods": {"a": 1}}, "methods.a: 1: must have backend and model"),
        ({"methods": {1: {}}}, "methods: 1: a method's name must be text (quote it)"),
        ({"methods": {"a": {"backend": "fak"}}}, "methods.a.backend: no backend is called 'fak'"),
        ({"methods": {"a": {"backend": 1}}}, "methods.a.backend: 1: must be text"),
        ({"methods": {"a": {"modle": {}}}}, "methods.a.modle: unknown key; did you mean model?"),
        (
            {"methods": {"a": {"backend": "fake", "model": {"second": 1}}}},
            "methods.a.model.second: unknown key; did you mean seconds?",
        ),
        (
            {"methods": {"a": {"backend": "fake", "generation": {"widht": 2}}}},
            "methods.a.generation.widht: unknown key; did you mean width?",
        ),
        ({"methods": TWO, "generation": {"widht": 2}}, "generation.widht: unknown key; did you"),
        ({"methods": TWO, "generation": {"width": 3}}, "generation.width: 3: input should be"),
        ({"methods": TWO, "generation": {"method": "c"}}, "generation.method: no method is called"),
        (
            {"methods": {"a": {"backend": "fake", "generation": {"method": "a"}}}},
            "methods.a.generation: method is none of its parameters",
        ),
        (
            {"methods": TWO, "backend": "fake", "generation": {"method": "a"}},
            "generation.method: a: take it out",
        ),
        ({"methods": TWO, "axes": {"method": ["c"]}}, "axes.method.0: no method is called 'c' (va"),
        ({"methods": TWO, "axes": {"method": ["a", "a"]}}, "axes.method.1: 'a' is there twice"),
        ({"methods": TWO, "axes": {"sigma_shif": [1]}}, "axes.sigma_shif: no parameter is called"),
        (
            {"backend": "fake", "axes": {"method": ["a"]}},
            "axes.method.0: 'a': there are no methods; name them in `methods`",
        ),
        (
            {"backend": "fake", "generation": {"method": "a"}},
            "generation.method: 'a': there are no methods; name them in `methods`",
        ),
    ],
)
def test_mistakes_are_told_by_their_key(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, **values)
    assert str(caught.value).startswith(f"{tmp_path / 'x.yaml'}: {message}"), caught.value


# On real workers.


def three(project: Project, **changes: Any) -> None:
    """A sweep of three methods, each with its own size: one without a name, and a script, and a
    fake one."""
    (project.root / "ours.py").write_text(SCRIPT, encoding="utf-8")
    values = {
        "model": {"seconds": 0.05},
        "methods": {
            "ours": {"backend": "script", "model": {"file": "ours.py"}},
            "small": {
                "backend": "fake",
                "model": {"seconds": 0.1},
                "generation": {"width": WIDTH // 2, "height": HEIGHT // 2},
            },
        },
        "retries": {"backoff_seconds": 0},
        "generation": {
            **{"width": WIDTH, "height": HEIGHT, "num_frames": FRAMES, "fps": FPS},
            "num_inference_steps": 4,
        },
    }
    project.write(**{**values, **changes})


def loads(project: Project) -> list[str]:
    """The methods whose models were loaded, in their order, by the workers' logs."""
    text = "".join(path.read_text("utf-8") for path in sorted(project.run_folder.logs.glob("*")))
    lines = [line for line in text.splitlines() if " loaded in " in line]
    return [line.split("model of ")[1].split()[0] if "model of" in line else "" for line in lines]


def sidecars(project: Project) -> dict[str | None, list[dict[str, Any]]]:
    found: dict[str | None, list[dict[str, Any]]] = {}
    for path in project.run_folder.path.glob("*/*/seed*.json"):
        record = json.loads(path.read_text("utf-8"))
        found.setdefault(record["parameters"].get("method"), []).append(record)
    return found


def test_three_methods_of_three_shapes_share_a_grid(project: Project) -> None:
    """A worker loads each of them once; each video is on record as its own method's, and has its
    own size."""
    three(project)
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err
    assert sorted(loads(project)) == ["", "ours", "small"]
    assert project.call("verify", "x").status == 0
    found = sidecars(project)
    assert {name: len(own) for name, own in found.items()} == {None: 6, "ours": 6, "small": 6}
    for name, backend, width in ((None, "fake", WIDTH), ("ours", "script", WIDTH)):
        assert {one["backend"] for one in found[name]} == {backend}
        assert {one["video"]["width"] for one in found[name]} == {width}
    assert {one["video"]["width"] for one in found["small"]} == {WIDTH // 2}
    assert found["ours"][0]["model_files"][0]["file"] == "ours.py"
    assert found["small"][0]["model"]["seconds"] == 0.1
    assert list(found["small"][0]["settings"]) == ["seconds"]
    assert "nothing to do" in project.sweep(*LAUNCH).err

    # On the page they stand side by side, as values of an axis.
    assert project.call("report", "x").status == 0
    rows = json.loads(project.call("report", "x", "--json").out)
    assert rows
    page = "".join(p.read_text("utf-8") for p in project.run_folder.path.glob("report/*.html"))
    assert '"method"' in page

    # A change in one makes nothing of another stale.
    with (project.root / "ours.py").open("a", encoding="utf-8") as script:
        script.write("# more\n")
    stale = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)["stale"]
    assert stale["videos"] == 6
    assert [change["input"] for change in stale["changes"]] == ["methods.ours.model.file"]
    three(project, generation={"width": WIDTH, "height": HEIGHT, "num_frames": FRAMES, "fps": FPS})
    planned = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert planned["stale"]["videos"] == 18, "steps are a parameter of all"


def test_a_sweep_of_several_methods_is_killed_and_resumed(project: Project) -> None:
    three(project, model={"seconds": 0.4})
    project.sweep("launch", "experiments/x.yaml", "--on", "local")
    wait_for(lambda: project.progress()["done"] >= 3)
    (worker,) = [one["pid"] for one in project.progress()["workers"]]
    os.kill(worker, signal.SIGKILL)
    assert project.call("stop", "x", "--now").status == 0
    left = project.progress()
    assert 0 < left["done"] < 18
    finished = project.sweep("resume", "x", "--on", "local", "--wait")
    assert finished.status == 0, finished.err
    assert project.progress()["done"] == 18
    assert project.call("verify", "x").status == 0
    # The second worker comes back to no model that it has closed.
    assert len(loads(project)) <= 2 * 3


def test_two_workers_begin_with_different_methods(project: Project) -> None:
    methods = {name: {"backend": "fake", "model": {"seconds": 0.2}} for name in ("a", "b")}
    three(
        project,
        backend=None,
        model=None,
        methods=methods,
        placement={"gpus": [0], "processes_per_gpu": 2},
    )
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err
    first = [
        next(line for line in path.read_text("utf-8").splitlines() if " loaded in " in line)
        for path in sorted(project.run_folder.logs.glob("*.log"))
    ]
    assert len(first) == 2
    assert {line.split("model of ")[1].split()[0] for line in first} == {"a", "b"}


@pytest.mark.parametrize("error", ["ValueError('no weights')", "job"])
def test_what_cannot_be_loaded_keeps_no_other_method_from_being_made(
    project: Project, error: str
) -> None:
    """It is said, and what is left is that method's alone, pending."""
    three(project)
    (project.root / "ours.py").write_text(
        f"def load(settings): raise {error}\ndef generate(job, path): pass\n", encoding="utf-8"
    )
    finished = project.sweep(*LAUNCH, timeout=240)
    assert finished.status != 0
    progress = project.progress()
    assert (progress["done"], progress["pending"], progress["failed"]) == (12, 6, 0)
    text = "".join(path.read_text("utf-8") for path in project.run_folder.logs.glob("*.log"))
    assert "model of ours: cannot be loaded; the others come first" in text


def test_priorities_come_before_what_is_loaded(project: Project) -> None:
    three(project)
    finished = project.sweep(*LAUNCH, "--priority", "method")
    assert finished.status == 0, finished.err
    assert loads(project) == ["", "ours", "small"]


def test_the_tiny_wan_stands_beside_a_script(project: Project) -> None:
    size = {"width": 112, "height": 64, "num_frames": 9, "fps": 15}
    three(
        project,
        backend="wan",
        model={"checkpoint": "tiny"},
        generation={**size, "num_inference_steps": 2, "sigma_shift": 4.0},
        methods={
            "ours": {"backend": "script", "model": {"file": "ours.py"}},
            "drawn": {"backend": "fake", "generation": {"width": 64}},
        },
        placement={"gpus": [0], "processes_per_gpu": 1, "device": "cpu"},
    )
    finished = project.sweep(*LAUNCH, timeout=240)
    assert finished.status == 0, finished.err
    assert project.call("verify", "x").status == 0
    found = sidecars(project)
    assert {one["backend"] for one in found[None]} == {"wan"}
    assert found[None][0]["parameters"]["sigma_shift"] == 4.0
    assert "sigma_shift" not in found["ours"][0]["parameters"]
    assert {one["video"]["width"] for one in found["drawn"]} == {64}
    # What is said of methods is said of each.
    planned = json.loads(project.call("plan", "experiments/x.yaml", "--json").out)
    assert planned["settings"] == {}
    assert planned["methods"]["ours"]["settings"]["file"]["value"] == "ours.py"
    said = project.call("doctor", "experiments/x.yaml").out
    assert "model of ours" in said


def test_a_list_of_jobs_names_its_methods(project: Project) -> None:
    three(project, jobs="jobs.csv", seeds=[], dataset={"videos": "videos"})
    (project.root / "jobs.csv").write_text(
        "category,video,prompt,seed,method\n"
        "two words,ref 🎬 b,red,1,ours\n"
        "two words,ref 🎬 b,red,1,\n"
        "two words,ref 🎬 b,red,1,small\n",
        encoding="utf-8",
    )
    planned = project.call("plan", "experiments/x.yaml")
    assert planned.status == 0, planned.err
    jobs = read_manifest(project.run_folder.manifest).jobs
    assert [job.method for job in jobs] == ["ours", None, "small"]
    (project.root / "jobs.csv").write_text(
        "category,video,prompt,seed,method\ntwo words,ref 🎬 b,red,1,our\n", encoding="utf-8"
    )
    refused = project.call("plan", "experiments/x.yaml")
    assert refused.status == 2
    assert "jobs.csv:2: method: no method is called 'our'" in refused.err


def test_methods_stand_side_by_side_whatever_their_shapes(project: Project) -> None:
    """What a method says of all its videos is no axis to choose a value of; beside the values of a
    parameter stand those that have no such parameter."""
    methods = {
        "ours": {
            "backend": "script",
            "model": {"file": "ours.py"},
            "generation": {"strength": 1},
        },
        "small": {"backend": "fake", "generation": {"width": WIDTH // 2, "height": HEIGHT // 2}},
    }
    three(project, axes={"strength": [1, 2]}, methods=methods)
    assert project.call("plan", "experiments/x.yaml").status == 0
    grid = lay_out([read_run(project.run_folder)])
    parameters = {axis.name: axis for axis in grid.axes if axis.kind is AxisKind.PARAMETER}
    assert sorted(parameters) == ["method", "strength"]
    strength = parameters["strength"]
    assert strength.absent is not None
    assert [strength.values[n] for n in range(3) if n != strength.absent] == [1, 2]
    assert parameters["method"].absent is None
    assert None in parameters["method"].values
