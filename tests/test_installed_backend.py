"""A backend that another package brings, from the command line, as if it were installed."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from installed import ROOT, install

from runner.disk.attempts import read_attempts
from runner.disk.manifest import read_manifest
from runner.disk.publish import read_sidecar

MINE = """
from typing import Any, Literal

from runner.backends.fake.planner import FakePlanner, FakeSettings
from runner.backends.section import Loss, Section, key
from runner.backends.settings import deciding_settings
from runner.backends.video_parameters import VideoGeneration


class MySettings(FakeSettings):
    rough: float | None = key(None, loss=Loss.APPROXIMATE, later=True, description="less work")
"""

LATER = """

class Guidance(Section):
    kind: Literal["none", "optical", "depth"] = key("none", description="what motion follows")
    strength: float = key(1.0, description="how closely")


class MyGeneration(VideoGeneration):
    motion_guidance: Guidance = key(default_factory=Guidance, later=True, description="a section")
"""

PLANNER = """

class MyPlanner(FakePlanner):
    settings_type = MySettings
    generation_type = {generation}

    def identity(self) -> dict[str, Any]:
        return {{"weights": "mine", **deciding_settings(self.settings)}}
"""


def write_planner(folder: Path, *, has_later_keys: bool) -> None:
    (folder / "my_package").mkdir(parents=True, exist_ok=True)
    (folder / "my_package" / "__init__.py").touch()
    generation = "MyGeneration" if has_later_keys else "VideoGeneration"
    text = MINE + (LATER if has_later_keys else "") + PLANNER.format(generation=generation)
    (folder / "my_package" / "planner.py").write_text(text)


@pytest.fixture
def site(project: Project, tmp_path: Path) -> Path:
    """A folder of installed packages that the project's commands see."""
    folder = tmp_path / "site"
    paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    project.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    install(folder, "my-package", "mine = my_package.planner:MyPlanner")
    write_planner(folder, has_later_keys=True)
    return folder


def write(project: Project, **changes: Any) -> None:
    data = {"videos": "videos", "prompts": "prompts.json", "categories": ["camera_motion"]}
    project.write(**{"backend": "mine", "model": {"seconds": 0.01}, "dataset": data, **changes})


def parameters(project: Project) -> dict[str, dict[str, Any]]:
    """Of each job of the manifest, by its video's path."""
    jobs = read_manifest(project.run_folder.manifest).jobs
    return {job.output: dict(job.parameters) for job in jobs}


def test_a_later_section_is_an_axis_and_makes_nothing_stale(project: Project, site: Path) -> None:
    """Videos that an older version of the package made stay, also where the axis has them in it."""
    write_planner(site, has_later_keys=False)
    write(project)
    launch = ("launch", "experiments/x.yaml", "--on", "local", "--wait")
    made = project.sweep(*launch)
    assert made.status == 0, made.err
    before = parameters(project)

    write_planner(site, has_later_keys=True)
    again = json.loads(project.sweep("plan", "experiments/x.yaml", "--json").out)
    assert again["changes"] == {"added": 0, "kept": len(before), "changed": 0, "retired": 0}

    write(
        project,
        axes={"motion_guidance.kind": ["none", "optical"]},
        exclude=[{"motion_guidance.kind": "optical", "video": "-dash"}],
    )
    words = ("axes.motion_guidance.kind=[none, depth]", "exclude=[]", "model.rough=0.5")
    planned = project.sweep("plan", "experiments/x.yaml", "--json")
    assert planned.status == 0, planned.err
    changes = json.loads(planned.out)["changes"]
    assert (changes["kept"], changes["changed"], changes["retired"]) == (len(before), 0, 0)
    after = parameters(project)
    assert {path: after[path] for path in before} == before
    added = {path: own for path, own in after.items() if path not in before}
    assert len(added) == changes["added"] > 0
    for path, own in added.items():
        assert path.endswith("_motion_guidance.kind=optical.mp4")
        assert "/-dash/" not in path
        base = {name: value for name, value in own.items() if name != "motion_guidance.kind"}
        assert base in before.values()
        assert own["motion_guidance.kind"] == "optical"

    made = project.sweep(*launch)
    assert made.status == 0, made.err
    run = project.run_folder
    for job in read_manifest(run.manifest).jobs:
        sidecar = read_sidecar(run.sidecar(job))
        assert sidecar is not None
        assert sidecar["parameters"] == job.parameters
        assert sidecar["settings"] == {"seconds": {"value": 0.01, "loss": "exact"}}
        assert sidecar["model_identity"] == {"weights": "mine"}

    rough = project.sweep("plan", "experiments/x.yaml", *words)
    assert rough.status == 0, rough.err
    assert "settings: rough=0.5 (approximate); seconds=0.01 (exact)" in rough.out
    assert "model.rough" in rough.out
    assert any(path.endswith("kind=depth.mp4") for path in parameters(project))


def test_the_schema_has_it(project: Project, site: Path) -> None:
    schema = json.loads(project.sweep("schema").out)
    assert "mine" in schema["properties"]["backend"]["enum"]
    (rule,) = [
        rule["then"]["properties"]
        for rule in schema["allOf"]
        if '"const": "mine"' in json.dumps(rule["if"]) and "axes" in rule["then"]["properties"]
    ]
    axes = rule["axes"]["properties"]
    assert axes["motion_guidance.kind"]["items"] == {"$ref": "#/$defs/Guidance/properties/kind"}


def test_doctor_names_the_backends_that_packages_bring(project: Project, site: Path) -> None:
    """One that cannot be imported is told in a line, without a traceback."""
    install(site, "torn", "torn = torn_package:Planner; none = json:dumps", "3")
    install(site, "shadow", "wan = my_package.planner:MyPlanner")
    (site / "torn_package.py").write_text("import nosuch_module\n")
    done = project.sweep("doctor", "experiments/x.yaml", "--json")
    found = [one for one in json.loads(done.out)["findings"] if one["name"] == "backend"]
    assert [(one["verdict"], one["what"]) for one in found] == [
        ("right", "mine, which my-package 1.2 brings"),
        ("warning", "backend none: json:dumps of torn 3 is no Planner"),
        (
            "warning",
            "backend torn: torn_package:Planner of torn 3 cannot be imported: "
            "ModuleNotFoundError: No module named 'nosuch_module'",
        ),
        (
            "warning",
            "wan, which shadow 1.2 brings, is never used: a backend of the sweep itself is "
            "called so",
        ),
    ]
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("nosuch", "no backend is called 'nosuch' (valid: fake, mine, script, torn, twice, wan)"),
        ("torn", "torn_package:Planner of torn 3 cannot be imported: SystemExit: 3"),
        ("twice", "'twice' is of other 1.2 and torn 3; uninstall all but one of them"),
    ],
)
def test_a_backend_that_cannot_be_had_is_said_in_a_line(
    project: Project, site: Path, backend: str, message: str
) -> None:
    install(site, "torn", "torn = torn_package:Planner; twice = my_package.planner:MyPlanner", "3")
    install(site, "other", "twice = my_package.planner:MyPlanner")
    (site / "torn_package.py").write_text("raise SystemExit(3)\n")
    write(project, backend=backend)
    done = project.sweep("plan", "experiments/x.yaml")
    assert done.status == 2
    assert message in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_our_own_are_had_without_asking_what_is_installed(project: Project, site: Path) -> None:
    """Looking through all packages takes time, and what is broken there is no matter."""
    (site / "broken-1.dist-info").mkdir()
    (site / "broken-1.dist-info" / "entry_points.txt").write_text("no ini file\n[[[\n")
    project.write()
    done = project.sweep("plan", "experiments/x.yaml")
    assert done.status == 0, done.err


def test_what_goes_without_saying_is_said_where_it_is_asked_for(
    project: Project, site: Path
) -> None:
    """A job whose later key is at its default has no value of it; who asks goes by the default."""
    write(project, axes={"motion_guidance.kind": ["none", "optical"]}, seeds=[1])
    assert project.sweep("plan", "experiments/x.yaml").status == 0
    outputs = [job.output for job in read_manifest(project.run_folder.manifest).jobs]
    plain = [output for output in outputs if "motion_guidance" not in output]
    assert 0 < len(plain) < len(outputs)

    part = ("launch", "experiments/x.yaml", "--only", "motion_guidance.kind=none", "--on", "local")
    started = project.sweep(*part, "--priority", "motion_guidance.kind", "--wait")
    assert started.status == 0, started.err
    run = project.run_folder
    assert {output for output in outputs if (run.path / output).exists()} == set(plain)

    rows = json.loads(project.sweep("export", "x", "--json").out)
    told = Counter((row["motion_guidance.kind"], row["state"]) for row in rows)
    assert told == {("none", "done"): len(plain), ("optical", "pending"): len(plain)}


@pytest.mark.parametrize("order", [["none", "optical"], ["optical", "none"]])
def test_priority_goes_by_what_goes_without_saying(
    project: Project, site: Path, order: list[str]
) -> None:
    write(project, axes={"motion_guidance.kind": order}, seeds=[1])
    launch = ("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert project.sweep(*launch, "--priority", "motion_guidance.kind").status == 0
    attempts = sorted(read_attempts(project.run_folder.attempts), key=lambda one: one["started_at"])
    of = {job.id: job for job in read_manifest(project.run_folder.manifest).jobs}
    made = [of[one["job"]].parameters.get("motion_guidance.kind", "none") for one in attempts]
    assert made == sorted(made, key=order.index)
