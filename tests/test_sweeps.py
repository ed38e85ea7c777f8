"""The Python API: what the command line does, as functions that a notebook calls."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Project

import runner
from runner.calibrate.calibration_sweep import only_its_machine_file
from runner.machine.machine_file import VARIABLE

ROOT = Path(__file__).resolve().parents[1]
LOCAL = runner.How(on="local")


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which this process stands, as a notebook does."""
    monkeypatch.chdir(project.root)
    return project


def python(code: str, *, cwd: Path = ROOT) -> str:
    """What a program says in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_loads_nothing_before_it_is_asked() -> None:
    """Each worker imports it."""
    heavy = ("pydantic", "sqlalchemy", "numpy", "click", "yaml")
    told = python(f"import sys, runner; print([n for n in {heavy} if n in sys.modules])")
    assert told.strip() == "[]"


def test_a_verb_stays_a_verb_whatever_is_loaded() -> None:
    """Some modules are called as one, and the import system would put them in its place."""
    modules = [one.name for one in pkgutil.iter_modules(runner.__path__)]
    shared = sorted(set(modules) & set(runner.__all__))
    code = (
        f"import importlib, runner\nfor name in {shared}:\n"
        "    importlib.import_module(f'runner.{name}')\n"
        f"    print(type(getattr(runner, name)).__name__)\n"
        "from runner.text.errors import UserError\n"
    )
    assert set(python(code).split()) == ({"function"} if shared else set())
    for name in runner.__all__:
        assert not isinstance(getattr(runner, name), ModuleType), name
    with pytest.raises(AttributeError, match="has no attribute 'plam'"):
        _ = runner.plam


def test_checkers_and_the_interpreter_find_the_same_names() -> None:
    """Those imported for type checkers are those that are loaded when asked for."""
    tree = ast.parse((ROOT / "runner" / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert imported == runner._HOME_OF
    assert sorted(imported) == runner.__all__
    assert set(runner.__all__) <= set(dir(runner))


def test_a_sweep_from_plan_to_page(here: Project, capfd: pytest.CaptureFixture[str]) -> None:
    """By functions alone, and nothing is printed that was not asked for."""
    here.write(seeds=[1, 2], axes={"num_inference_steps": [2, 3]}, model={"seconds": 0.01})
    plan = runner.plan("experiments/x.yaml")
    assert len(plan.jobs) == plan.estimate.jobs == plan.to_json()["total"] == 24
    run, said = plan.run, list[str]()
    assert run == runner.open_run("x") == runner.open_run(run) == runner.open_run(run.path)
    assert run.progress().counts.pending == 24

    would = run.launch(how=runner.How(on="local", dry_run=True))
    assert (len(would.commands), would.started, would.has_workers) == (1, [], False)
    assert not run.is_running

    launched = runner.launch("x", only={"seed": 2, "category": "camera_motion"}, how=LOCAL)
    assert launched.started == ["x_gpu0_proc0"]
    assert launched.claimable == 6
    part = launched.run.wait()
    assert (part.counts.done, part.counts.pending, part.held) == (6, 18, 18)
    assert part.has_ended

    assert run.resume(how=LOCAL, say=said.append).claimable == 18
    seen: list[int] = []
    assert run.wait(lambda snapshot: seen.append(snapshot.counts.done)).counts.done == 24
    assert seen[-1] == 24
    again = run.launch(how=LOCAL)
    assert (again.started, again.claimable, again.missing) == ([], 0, ())

    tracked: list[int] = []

    def track(number: int) -> Callable[[], None]:
        return lambda: tracked.append(number)

    checked = run.verify(track=track)
    assert (checked.good, checked.broken, checked.unmade) == (24, (), 0)
    assert tracked == 24 * [24]
    story = run.explain("camera_motion/-dash", "seed=2", "num_inference_steps=3")
    assert story.row.state.value == "done"
    assert run.explain(story.row.job.id[:8]).row.job == story.row.job
    (log,) = run.logs(lines=1)
    assert "supervisor ended with status 0" in log.lines[0]
    page = run.report(posters=False)
    assert (page.videos, page.path.parent.parent) == (24, run.path)
    assert runner.export([run]) == runner.export(["x"])
    assert run.stop().slots == ()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert all(line.startswith("warning: ") for line in said)


def test_jobs_are_records_for_a_table(here: Project) -> None:
    """The columns of the CSV, with the same values, and the parameters and the output's place."""
    here.write()
    here.finish()
    run = runner.open_run("x")
    jobs = run.jobs()
    assert len(jobs) == 6
    assert {tuple(job) for job in jobs} == {tuple(jobs[0])}
    table = list(csv.DictReader(io.StringIO(here.call("export", "x", "--csv").out)))
    own = [*table[0], "output", *(name for name in jobs[0] if name not in table[0])]
    assert list(jobs[0]) == list(dict.fromkeys(own))
    for job, row in zip(jobs, table, strict=True):
        assert (job["job"], job["state"]) == (row["job"], "done")
        assert (run.path / job["output"]).is_file()
        assert job["num_inference_steps"] == 5
        assert job["seconds_generate"] == float(row["seconds_generate"])
    assert not any(isinstance(value, (dict, list)) for job in jobs for value in job.values())
    frame = pytest.importorskip("pandas").DataFrame(jobs)
    assert frame.shape == (6, len(jobs[0]))


def test_jobs_that_are_not_made_have_the_same_keys(here: Project) -> None:
    here.write()
    jobs = runner.plan("experiments/x.yaml").run.jobs()
    assert [job["state"] for job in jobs] == ["pending"] * 6
    assert {tuple(job) for job in jobs} == {tuple(jobs[0])}
    assert all(job["output"] and job["video_file"] is None for job in jobs)


def test_workers_are_stopped(here: Project) -> None:
    """At once, with their jobs given back; they outlive neither that nor the wait for it."""
    here.write(model={"seconds": 600})
    run = runner.launch("experiments/x.yaml", how=LOCAL).run
    stopped = run.stop(now=True)
    assert [slot.name for slot in stopped.slots] == ["gpu0_process0"]
    assert stopped.ended
    assert not run.is_running
    counts = run.progress().counts
    assert (counts.running, counts.pending) == (0, 6)


def test_mistakes_are_raised(here: Project) -> None:
    """As values of one type, whose lines say what to do; no function ends the process."""
    here.write()
    with pytest.raises(runner.UserError, match="not planned yet; run `sweep plan"):
        runner.open_run("experiments/x.yaml")
    with pytest.raises(runner.UserError, match="y: no such run"):
        runner.progress("y")
    with pytest.raises(runner.UserError, match="unknown key; did you mean seeds"):
        runner.plan("experiments/x.yaml", ["seed=[1]"])
    run = runner.plan("experiments/x.yaml").run
    with pytest.raises(runner.UserError, match="overrides go with an experiment file"):
        runner.launch(run, ["seeds=[1]"])
    with pytest.raises(runner.UserError, match="no launcher is called 'ssh'"):
        run.launch(how=runner.How(on="ssh"))
    with pytest.raises(runner.UserError, match="no job matches seed=9"):
        run.launch(only={"seed": [9]}, how=LOCAL)
    with pytest.raises(runner.UserError, match="a share such as 5%"):
        runner.How(max_failures="5 %%")
    with pytest.raises(runner.UserError, match="named twice"):
        run.report("x")
    assert not run.is_running


def test_the_command_line_says_what_the_functions_return(here: Project) -> None:
    here.write()
    answers = {
        word: json.loads(here.call(word, name, "--json").out)
        for word, name in (("plan", "experiments/x.yaml"), ("progress", "x"), ("verify", "x"))
    }
    run = runner.open_run("x")
    plan = runner.plan("experiments/x.yaml").to_json()
    assert list(answers["plan"]) == list(json.loads(json.dumps(plan)))
    assert answers["progress"] == json.loads(json.dumps(run.progress().to_json()))
    assert answers["verify"] == json.loads(json.dumps(run.verify().to_json()))


def test_what_differs_here_is_kept(here: Project) -> None:
    here.write()
    file = runner.keep_here("experiments/x.yaml", ["processes_per_gpu=2"])
    assert file == here.root / "machine.yaml"
    assert runner.plan("experiments/x.yaml").estimate.processes_per_gpu == 2


def test_a_calibration_leaves_the_environment_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it ends with."""
    for before in (None, "/of/this/machine.yaml"):
        monkeypatch.delenv(VARIABLE, raising=False)
        if before is not None:
            monkeypatch.setenv(VARIABLE, before)
        with pytest.raises(KeyboardInterrupt):
            _interrupted_calibration(tmp_path)
        assert os.environ.get(VARIABLE) == before


def _interrupted_calibration(folder: Path) -> None:
    with only_its_machine_file(folder):
        assert os.environ[VARIABLE] == str(folder / "machine.yaml")
        raise KeyboardInterrupt


def test_the_notebook_runs(tmp_path: Path) -> None:
    """Its cells, one after the other in one process, from the folder in which it lies."""
    for name in ("experiments", "prompts", "reference_videos"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "docs").mkdir()
    text = (ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    program = "\n".join("".join(cell["source"]) for cell in cells)
    told = python(program + "\nprint(run.progress().counts)", cwd=tmp_path / "docs")
    assert "72 jobs" in told
    assert "did you mean seeds?" in told
    assert "4 of 72\n" in told
    assert "72 good, 0 broken" in told
    assert "Counts(total=72, done=72" in told
    assert (tmp_path / "results" / "notebook" / "report" / "index.html").is_file()
