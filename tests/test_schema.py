"""The schema and the reference of the experiment file are those of the models, and say the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import make_reference
import pytest
import yaml
from conftest import Project

from runner.experiment.loading import load_experiment
from runner.experiment.schema import experiment_schema

ROOT = Path(__file__).resolve().parents[1]
REMEDY = "run python docs/make_reference.py"


def test_the_published_schema_and_reference_are_current() -> None:
    assert make_reference.SCHEMA.read_text(encoding="utf-8") == make_reference.schema_text(), REMEDY
    assert make_reference.REFERENCE.read_text(encoding="utf-8") == make_reference.reference(), (
        REMEDY
    )


def test_every_key_has_a_meaning() -> None:
    """No row of the reference is empty where a person looks for what a key does."""
    for line in make_reference.reference().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and cells[1] != "section":
            assert all(cells), line


def refusals(values: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(experiment_schema())
    return [error.json_path for error in validator.iter_errors(values)]


def test_it_is_a_schema_and_every_tracked_experiment_fits() -> None:
    jsonschema.Draft202012Validator.check_schema(experiment_schema())
    for path in sorted((ROOT / "experiments").glob("*.yaml")):
        assert refusals(yaml.safe_load(path.read_text(encoding="utf-8"))) == [], path


def test_the_file_that_plan_writes_names_its_schema_and_fits(project: Project) -> None:
    project.write(axes={"cfg_scale": [3, 5]}, retries=2)
    assert project.call("plan", "experiments/x.yaml", "seeds=[1, 2]").status == 0
    text = project.run_folder.experiment.read_text(encoding="utf-8")
    line, _, rest = text.partition("\n")
    name = line.removeprefix("# yaml-language-server: $schema=")
    assert (project.run_folder.path / name).samefile(make_reference.SCHEMA)
    assert refusals(yaml.safe_load(rest)) == []


CHANGES: list[tuple[str, Any, bool]] = [
    ("seeds", [1, 2], True),
    ("seeds", "many", False),
    ("axes", {"cfg_scale": [3, 5.5]}, True),
    ("axes", {"cfg_scale": []}, False),
    ("axes", {"cfg_scale": ["much"]}, False),
    ("axes", {"cfg_scal": [1]}, False),
    ("axes", {"sigma_shift": [1]}, False),
    ("exclude", [{"seed": 1, "video": ["-dash"]}], True),
    ("exclude", {"seed": 1}, False),
    ("retries", 2, True),
    ("retries", {"failures": 2}, True),
    ("model", {"seconds": -1}, False),
    ("model", {"checkpoint": "tiny"}, False),
    ("generation", {"widht": 1}, False),
    ("placement", {"gpus": "auto"}, True),
    ("placement", {"gpus": "all"}, False),
    ("limits", {"max_failures": "5%"}, True),
    ("sedes", [1], False),
    ("name", "a.b", False),
    ("backend", "wann", False),
    ("methods", {"ours": {"backend": "fake", "model": {"seconds": 1}}}, True),
    ("methods", {"ours": {"backend": "wan", "model": {"seconds": 1}}}, False),
    ("methods", {"ours": {"model": {"checkpoint": "tiny"}, "generation": {"fps": 9}}}, True),
    ("methods", {"ours": {"backend": "fake", "generation": {"widht": 9}}}, False),
    ("methods", {"ours": {"backend": "fake", "seeds": [1]}}, False),
    ("methods", ["ours"], False),
    ("jobs", "j.csv", True),
]


@pytest.mark.parametrize(("key", "value", "is_right"), CHANGES)
def test_schema_and_loader_agree(project: Project, key: str, value: Any, is_right: bool) -> None:
    """What an editor marks is what plan refuses."""
    values = yaml.safe_load(project.file.read_text(encoding="utf-8"))
    values = {**copy.deepcopy(values), key: value}
    if key == "jobs":
        del values["seeds"], values["dataset"]["prompts"]
    if key == "exclude" and is_right:
        values["seeds"] = [1, 2]
    assert (refusals(values) == []) is is_right
    project.file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    if is_right:
        load_experiment(project.file)
    else:
        assert project.call("plan", "experiments/x.yaml").status == 2


def test_wan_has_its_own_keys_also_where_no_backend_is_named(project: Project) -> None:
    values = yaml.safe_load(project.file.read_text(encoding="utf-8"))
    del values["backend"]
    values |= {"model": {"checkpoint": "tiny"}, "axes": {"sigma_shift": [3, 5]}}
    assert refusals(values) == []
    assert refusals({**values, "backend": "fake"}) != []


def test_a_script_has_parameters_of_its_own_and_axes_of_them(project: Project) -> None:
    """Which of them there are only the experiment says."""
    (project.root / "m.py").write_text("def load(s): pass\ndef generate(j, p): pass\n")
    values = yaml.safe_load(project.file.read_text(encoding="utf-8"))
    values |= {"backend": "script", "model": {"file": "m.py"}, "axes": {"guidance": [1, "强"]}}
    values["generation"]["guidance"] = 1
    assert refusals(values) == []
    assert refusals({**values, "axes": {"guidance": []}}) != []
    assert refusals({**values, "generation": {"guidance": [1]}}) != []
    project.file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    own = [
        setting.parameters["guidance"] for setting in load_experiment(project.file).parameter_sets
    ]
    assert own == [1, "强"]
    values["axes"] = {"guidence": [1]}
    project.file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    assert "did you mean guidance?" in project.call("plan", "experiments/x.yaml").err


def test_the_command_prints_it(project: Project) -> None:
    assert json.loads(project.call("schema").out) == experiment_schema()
