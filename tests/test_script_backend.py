"""A script of a person's own: served by another interpreter, in which nothing of ours is there."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import wait_for
from hand_made import a_job as made_job
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from other_pythons import interpreters, is_running
from pydantic import ValidationError

from runner.backends import Machine
from runner.backends.foreign.child import Child
from runner.backends.registry import planner_class
from runner.backends.script.engine import ScriptEngine
from runner.backends.script.planner import ScriptPlanner
from runner.backends.script.settings import ScriptGeneration, ScriptSettings
from runner.backends.script.source import SERVICE, ScriptSource
from runner.backends.video_parameters import VideoGeneration
from runner.job import FileInput, Job
from runner.job.failures import ChildDied, FailureKind, ForeignError, kind_of, told
from runner.machine.processes import ProcessId
from runner.text.errors import UserError
from runner.video import write_video

ECHO = """
import json, os, sys, time

def load(settings):
    global given
    given = settings

def prepare(group):
    global prepared
    prepared = vars(group)

def generate(job, path):
    seen = {key: value for key, value in vars(job).items() if not key.startswith("_")}
    seen |= {"settings": given, "group": prepared, "pid": os.getpid(), "argv": sys.argv}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(seen, file)
"""


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment without a package, of another Python where there is one."""
    folder = tmp_path_factory.mktemp("环境") / "bare env"
    base = next(interpreters(), Path(sys.executable))
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The project, in a folder with an awkward name."""
    root = tmp_path / "项目 'a b'"
    root.mkdir()
    return root


Plan = Callable[..., ScriptPlanner]
Make = Callable[..., ScriptEngine]


@pytest.fixture
def plan(root: Path, bare: Path) -> Plan:
    """Make the planner of a script's text."""

    def plan(text: str, **given: Any) -> ScriptPlanner:
        (root / "方法 x.py").write_text(textwrap.dedent(text), encoding="utf-8")
        given = {"file": "方法 x.py", "interpreter": str(bare), **given}
        return ScriptPlanner(ScriptSettings(**given), root)

    return plan


@pytest.fixture
def make(root: Path, plan: Plan) -> Iterator[Make]:
    """Make a loaded engine of a script's text, with a group prepared."""
    made: list[ScriptEngine] = []

    def make(text: str, **given: Any) -> ScriptEngine:
        engine = plan(text, **given).engine()
        made.append(engine)
        engine.load(Machine("cpu", root / "cache"))
        engine.prepare(
            made_job(
                "分类",
                "ref 🎬",
                reference=FileInput(str(root / "ref.mp4"), ""),
                parameters={"width": 112},
            ).series
        )
        return engine

    yield make
    for engine in made:
        engine.close()


def a_job(
    prompt: str = "一只猫 🙂", seed: int = 1, reference: Path = Path("ref.mp4"), **parameters: Any
) -> Job:
    return made_job(
        "分类",
        "ref 🎬",
        3,
        seed,
        prompt_text=prompt,
        reference=FileInput(str(reference), ""),
        parameters=parameters,
        id="0123456789abcdef",
    )


def silent(_step: int, _steps: int) -> None:
    return None


def made(engine: ScriptEngine, job: Job, scratch: Path) -> Any:
    """What the script has written as JSON."""
    return json.loads(engine.generate(job, scratch, silent).file.read_text(encoding="utf-8"))


WITH_LOAD = "def load(settings): pass\n"


@pytest.mark.parametrize("python", list(interpreters()), ids=lambda path: str(path.parts[-3]))
def test_every_python_from_3_9_serves_a_script(
    plan: Plan, make: Make, python: Path, tmp_path: Path
) -> None:
    planner = plan(ECHO, interpreter=str(python))
    planner.check_launch("cpu", explicit=False)
    assert made(make(ECHO, interpreter=str(python)), a_job(), tmp_path)["prompt"] == "一只猫 🙂"
    assert planner.versions()["script.python"].startswith("3.")


def test_nothing_of_ours_is_there(make: Make, root: Path, tmp_path: Path) -> None:
    """Neither this package, nor what it needs, nor what lies beside the file that serves."""
    engine = make(
        WITH_LOAD
        + """
import importlib.util, json, sys
names = ["runner", "pydantic", "numpy", "server", "child", "service", "source"]

def generate(job, path):
    found = [name for name in names if importlib.util.find_spec(name)]
    json.dump([found, sys.path[0], sys.prefix], open(path, "w"))
"""
    )
    found, first, prefix = made(engine, a_job(), tmp_path)
    assert found == []
    assert first == str(root)
    assert Path(prefix).name == "bare env"


def test_all_of_a_job_reaches_the_script(make: Make, root: Path, tmp_path: Path) -> None:
    (tmp_path / "weights 重").mkdir()
    engine = make(
        ECHO, settings={"depth": [1, {"a": None}]}, files={"weights": str(tmp_path / "weights 重")}
    )
    clip = root / "ref.mp4"
    seen = made(engine, a_job(reference=clip, width=112, mine="值"), tmp_path)
    assert seen["settings"] == {
        "depth": [1, {"a": None}],
        "weights": str(tmp_path / "weights 重"),
        "device": "cpu",
    }
    assert (seen["seed"], seen["prompt_number"]) == (1, 3)
    assert seen["parameters"] == {"width": 112, "mine": "值"}
    assert seen["reference"] == str(clip)
    assert (seen["group"]["category"], seen["group"]["video"]) == ("分类", "ref 🎬")


def test_a_script_is_told_where_in_its_reference_to_begin_and_how_to_fit_it(
    make: Make, root: Path, tmp_path: Path
) -> None:
    """In seconds, also where it is the middle; its parameters stay its own."""
    engine = make(ECHO)
    clip = root / "ref.mp4"
    write_video(clip, np.zeros((60, 16, 16, 3), np.uint8), fps=30, quality=5)
    shape: dict[str, Any] = {"num_frames": 9, "fps": 15.0}
    for said, start, fit in (
        ({}, 0.0, "crop"),
        ({"dataset.start": 1.5, "dataset.fit": "pad"}, 1.5, "pad"),
        ({"dataset.start": "middle"}, (59 / 30 - 8 / 15) / 2, "crop"),
    ):
        parameters = {**shape, **said}
        job = a_job(reference=clip, **parameters)
        engine.prepare(job.series)
        seen = made(engine, job, tmp_path)
        assert seen["parameters"] == seen["group"]["parameters"] == shape
        for told_it in (seen, seen["group"]):
            assert told_it["reference_start"] == pytest.approx(start)
            assert told_it["reference_fit"] == fit


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompts=st.lists(st.text(), min_size=1, max_size=3), value=JSON, seed=st.integers(0, 2**63))
def test_any_text_and_number_crosses_the_pipe_unchanged(
    echo: ScriptEngine, prompts: list[str], value: Any, seed: int, tmp_path: Path
) -> None:
    for prompt in prompts:
        seen = made(echo, a_job(prompt, seed, value=value), tmp_path)
        assert (seen["prompt"], seen["seed"]) == (prompt, seed)
        assert json.dumps(seen["parameters"]) == json.dumps({"value": value})


@pytest.fixture
def echo(make: Make) -> ScriptEngine:
    return make(ECHO)


def test_what_a_script_prints_goes_to_the_log(
    make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By print, by raw writes, by what it starts: none of it disturbs the worker."""
    engine = make(
        WITH_LOAD
        + """
import os, subprocess, sys
print("at import", "导入")

def generate(job, path):
    print('{"done": {}, "number": 3}')
    os.write(1, b"raw\\xff\\n")
    os.write(2, b"raw error\\n")
    subprocess.run(["echo", "by a child"])
    print("half a line", end="")
    open(path, "w").write("{}")
"""
    )
    engine.generate(a_job(), tmp_path, silent)
    said = capfd.readouterr()
    assert said.out.splitlines()[0] == "at import 导入"
    assert "by a child\nhalf a line" in said.out
    assert said.err == "raw error\n"


@pytest.mark.parametrize(
    ("statement", "kind", "message"),
    [
        ("raise ValueError('shape 形')", FailureKind.BACKEND_BUG, "ValueError: shape 形 (at "),
        ("raise job.BadInput('no face')", FailureKind.BAD_INPUT, "BadInput: no face"),
        ("class BadInput(ValueError): pass\n    raise BadInput('x')", FailureKind.BAD_INPUT, ""),
        (
            "class OutOfMemoryError(RuntimeError): pass\n    raise OutOfMemoryError('CUDA')",
            FailureKind.OUT_OF_GPU_MEMORY,
            "OutOfMemoryError: CUDA",
        ),
        ("raise RuntimeError('CUDA out of memory. Tried')", FailureKind.OUT_OF_GPU_MEMORY, ""),
        ("raise RuntimeError('CUDA error: illegal access')", FailureKind.GPU_ERROR, ""),
        (
            "class AcceleratorError(RuntimeError): pass\n    raise AcceleratorError",
            FailureKind.GPU_ERROR,
            "AcceleratorError: at ",
        ),
        ("raise OSError(28, 'No space left')", FailureKind.DISK_FULL, "OSError: "),
        (
            "try: raise OSError(122, 'Quota')\n    except OSError: raise RuntimeError('ffmpeg')",
            FailureKind.DISK_FULL,
            "RuntimeError: ffmpeg",
        ),
        ("raise MemoryError", FailureKind.OUT_OF_HOST_MEMORY, "MemoryError: at "),
        ("sys.exit(3)", FailureKind.BACKEND_BUG, "SystemExit: 3"),
        ("raise KeyboardInterrupt", FailureKind.BACKEND_BUG, "KeyboardInterrupt"),
        ("pass", FailureKind.BACKEND_BUG, "written nothing to path"),
    ],
)  # fmt: skip
def test_each_error_of_a_script_has_its_kind(
    make: Make,
    tmp_path: Path,
    statement: str,
    kind: FailureKind,
    message: str,
) -> None:
    """Known by the names of its classes and by its text, with the place where it was raised; and
    the process serves the next job, unless its GPU memory may be the cause."""
    engine = make(
        WITH_LOAD
        + f"import sys\ndef generate(job, path):\n  if job.seed:\n    {statement}\n"
        + "  else:\n    open(path, 'w').write('[]')\n"
    )
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its kind is what is asked about
        engine.generate(a_job(), tmp_path, silent)
    assert kind_of(caught.value) is kind
    assert message in told(caught.value)
    if isinstance(caught.value, ForeignError):
        assert "方法 x.py:" in told(caught.value)
        assert " in generate: " in told(caught.value)
    if kind is FailureKind.OUT_OF_GPU_MEMORY:
        assert engine.is_broken()
    else:
        assert made(engine, a_job(seed=0), tmp_path) == []


def test_a_whole_traceback_is_in_the_log(
    make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = make(WITH_LOAD + "def generate(job, path):\n    deeper()\ndef deeper(): 1 / 0\n")
    with pytest.raises(ForeignError, match=r"x\.py:3 in generate: deeper\(\) > .*:4 in deeper"):
        engine.generate(a_job(), tmp_path, silent)
    said = capfd.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert "server.py" not in said


STEPS = (
    WITH_LOAD
    + """
import os

def generate(job, path):
    if job.seed == 0:
        for _ in job.steps(range(3)):
            pass
    while job.seed:
        try:
            job.step(1, 2)
        except Exception:
            pass
    open(path, "w").write(str(os.getpid()))
"""
)


def test_steps_are_told_and_a_step_can_end_a_job(make: Make, tmp_path: Path) -> None:
    """What `on_step` raises passes through, also where the script catches its own errors; the
    same process makes the next job."""
    engine = make(STEPS)
    steps: list[tuple[int, int]] = []
    engine.generate(a_job(seed=0), tmp_path, lambda *step: steps.append(step))
    assert [step for step in steps if step[1]] == [(1, 3), (2, 3), (3, 3)]
    before = made(engine, a_job(seed=0), tmp_path)

    def stop(_step: int, steps: int) -> None:
        if steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(a_job(seed=1), tmp_path, stop)
    assert engine.is_broken() is None
    assert made(engine, a_job(seed=0), tmp_path) == before


def child_of(plan: Plan, text: str, **given: Any) -> Child:
    planner = plan(text)
    source = ScriptSource.read(planner.root / planner.settings.file)
    interpreter, arguments = Path(str(planner.settings.interpreter)), [str(source.path)]
    given = {"sha256": source.sha256, **given}
    arguments.append(given.pop("sha256"))
    return Child(interpreter, SERVICE, arguments, planner.root, {}, name="script", **given)


def test_a_job_without_steps_is_ended_with_its_process_and_what_that_started(
    plan: Plan, tmp_path: Path
) -> None:
    """Whoever asks it to end waits for a step, and not for ever."""
    child = child_of(
        plan,
        WITH_LOAD
        + """
import subprocess, time

def generate(job, path):
    started = subprocess.Popen(["sleep", "600"])
    open(path, "w").write(str(started.pid))
    while True:
        time.sleep(600)
""",
        stop_seconds=0.3,
    )
    child.call("load", settings={})
    file = tmp_path / "pid"

    def stop(_step: int, _steps: int) -> None:
        if file.exists() and file.read_text():
            raise KeyboardInterrupt

    job = dict.fromkeys(("id", "category", "video", "reference", "prompt", "seed"))
    job |= dict.fromkeys(("reference_start", "reference_fit", "prompt_number", "parameters"))
    with pytest.raises(KeyboardInterrupt):
        child.call("generate", stop, job=job, path=str(file))
    assert child.is_gone
    grandchild = int(file.read_text())
    wait_for(lambda: not is_running(grandchild))


@pytest.mark.parametrize("forks", [False, True])
def test_a_process_that_dies_is_a_death_not_a_failure(
    make: Make, tmp_path: Path, forks: bool
) -> None:
    """Also where a process that it forked holds its pipes open; and no further job is tried."""
    fork = "if not os.fork(): time.sleep(600)" if forks else "pass"
    engine = make(
        WITH_LOAD
        + f"import os, time\ndef generate(job, path):\n    {fork}\n    os.kill(os.getpid(), 9)\n"
    )
    with pytest.raises(ChildDied, match="killed by SIGKILL") as caught:
        engine.generate(a_job(), tmp_path, silent)
    assert kind_of(caught.value) is FailureKind.WORKER_DIED
    assert engine.is_broken() is not None


def test_a_process_that_exits_is_a_death(make: Make, tmp_path: Path) -> None:
    engine = make(WITH_LOAD + "import os\ndef generate(job, path): os._exit(7)\n")
    with pytest.raises(ChildDied, match="ended with status 7"):
        engine.generate(a_job(), tmp_path, silent)


def test_a_script_dies_with_its_worker(plan: Plan, bare: Path) -> None:
    """Whatever the worker dies of, the kernel sees to it."""
    planner = plan(ECHO)
    code = """
import sys, time
from pathlib import Path
from runner.backends import Machine
from runner.backends.script.planner import ScriptPlanner
from runner.backends.script.settings import ScriptSettings
file, interpreter, root = sys.argv[1:]
settings = ScriptSettings(file=file, interpreter=interpreter)
engine = ScriptPlanner(settings, Path(root)).engine()
engine.load(Machine("cpu", Path()))
print(engine._child.pid, flush=True)
time.sleep(600)
"""
    command = [sys.executable, "-c", code, planner.settings.file, str(bare), str(planner.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        child = ProcessId.of(int(worker.stdout.readline()))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    wait_for(child.is_gone)


def test_close_is_called_and_need_not_be_there(make: Make, tmp_path: Path) -> None:
    engine = make(ECHO + f"\ndef close(): open({str(tmp_path / 'closed')!r}, 'w')\n")
    engine.close()
    assert (tmp_path / "closed").exists()
    make(ECHO).close()


def test_a_script_that_changed_under_its_worker_is_not_run(
    plan: Plan,
) -> None:
    """What makes a video is what its fingerprint says."""
    child = child_of(plan, ECHO, sha256="0" * 64)
    with pytest.raises(ForeignError, match="has changed since this worker started"):
        child.call("load", settings={})
    child.close()


def test_an_error_while_loading_ends_the_process(plan: Plan) -> None:
    engine = plan("def load(settings): 1 / 0\ndef generate(job, path): pass\n").engine()
    with pytest.raises(ForeignError, match="division by zero"):
        engine.load(Machine("cpu", Path()))
    assert engine.is_broken()
    engine = plan("import nosuch\ndef load(s): pass\ndef generate(job, path): pass\n").engine()
    with pytest.raises(ForeignError, match="No module named 'nosuch'"):
        engine.load(Machine("cpu", Path()))


# Before anything runs.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def generate(job, path):\n  x = = 1\n", r"is not Python: invalid syntax \(line 2\)"),
        ("def load(settings): pass\n", r"defines no function generate\(job, path\); add it"),
        ("def generate(job, path): pass\n", r"defines no function load\(settings\); add it"),
        (WITH_LOAD + "def generate(job): pass\n", r":2: generate is called as generate\(job, path"),
        (WITH_LOAD + "def generate(job, path, size): pass\n", "which it does not take"),
        (WITH_LOAD + "async def generate(job, path): pass\n", "must be a plain def, not async"),
        (WITH_LOAD + "class A:\n  def generate(job, path): pass\n", "defines no function generate"),
        (WITH_LOAD + "def generate(a, b): pass\ndef prepare(): pass\n", r"prepare\(group\)"),
        ("\0", "is not Python"),
    ],
)
def test_a_script_is_checked_without_being_run(plan: Plan, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan(text).identity()
    assert str(caught.value).startswith("model.file: ")


@pytest.mark.parametrize(
    "text",
    [
        WITH_LOAD + "def generate(job, path, *, steps=3): pass\n",
        "from elsewhere import load, generate\n",
        "from elsewhere import *\n",
        "try:\n  from a import load\nexcept ImportError:\n  def load(s): pass\ngenerate = load\n",
        "load, generate = print, print\n",
    ],
)
def test_a_script_may_get_its_functions_from_anywhere(plan: Plan, text: str) -> None:
    plan(text).identity()


@given(
    positional=st.integers(0, 4),
    defaults=st.integers(0, 4),
    star=st.booleans(),
    keyword=st.sampled_from(["", "k", "k=1"]),
    number=st.integers(0, 3),
)
def test_takes_is_what_python_says(
    positional: int, defaults: int, star: bool, keyword: str, number: int
) -> None:
    """Whether a function can be called as it will be is Python's own answer."""
    import ast
    import inspect

    from runner.backends.script.source import takes

    names = [f"a{i}" + ("=1" if i >= positional - defaults else "") for i in range(positional)]
    names += ["*rest"] if star else ["*"] if keyword else []
    names += [keyword] if keyword else []
    text = f"def f({', '.join(names)}): pass"
    scope: dict[str, Any] = {}
    exec(text, scope)
    try:
        inspect.signature(scope["f"]).bind(*range(number))
        expected = True
    except TypeError:
        expected = False
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert takes(function.args, number) is expected


def test_the_fingerprint_covers_content_and_settings_not_places(
    plan: Plan, tmp_path: Path, bare: Path
) -> None:
    folder = tmp_path / "weights"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.bin").write_bytes(b"a" * 100)
    base: dict[str, Any] = {"settings": {"a": 1}, "files": {"weights": str(folder)}}
    identity = plan(ECHO, **base).identity()
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / ".cache").mkdir()
    (moved / ".cache" / "x").touch()
    other = {"environment": {"A": "b"}, "interpreter": None, "files": {"weights": str(moved)}}
    assert plan(ECHO, **{**base, **other}).identity() == identity
    assert plan(ECHO + "# more\n", **base).identity() != identity
    assert plan(ECHO, **{**base, "settings": {"a": 2}}).identity() != identity
    assert plan(ECHO, **{**base, "files": {"others": str(folder)}}).identity() != identity
    (folder / "sub" / "a.bin").write_bytes(b"b" * 100)
    assert plan(ECHO, **base).identity() != identity


def test_model_files_name_the_script_and_every_file(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.bin").write_bytes(b"a")
    (tmp_path / "b.py").write_bytes(b"b")
    files = {"weights": str(tmp_path / "w"), "blocks": str(tmp_path / "b.py")}
    found = plan(ECHO, files=files).model_files()
    assert [(one["key"], one["file"], one["size"]) for one in found] == [
        ("file", "方法 x.py", len(textwrap.dedent(ECHO).encode())),
        ("files.weights", "weights/a.bin", 1),
        ("files.blocks", "blocks", 1),
    ]


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_cannot_serve_is_refused_at_launch(plan: Plan, tmp_path: Path) -> None:
    for interpreter, message in (
        (str(tmp_path / "absent"), "is no program that can be run"),
        ("no-such-python", "no command is called 'no-such-python'"),
        (program(tmp_path / "a", "printf 'version 3.8.18'"), "is Python 3.8.18; it must be 3.9 or"),
        (program(tmp_path / "b", "echo hello"), "does not answer as a Python does"),
        (program(tmp_path / "c", "echo broken >&2; exit 3"), "ended with status 3: broken"),
    ):
        planner = plan(ECHO, interpreter=interpreter)
        planner.identity()
        with pytest.raises(UserError, match=message) as caught:
            planner.check_launch("cpu", explicit=False)
        assert str(caught.value).startswith("model.interpreter: ")


def test_files_that_are_absent_are_refused_when_planning(
    plan: Plan,
) -> None:
    with pytest.raises(UserError, match=r"model\.file: no such script"):
        plan(ECHO, file="absent.py").identity()
    with pytest.raises(UserError, match=r"model\.files\.w: no such file or folder"):
        plan(ECHO, files={"w": "absent"}).identity()


def test_ones_own_parameters_are_any_scalars_but_no_slips() -> None:
    wanted = ScriptGeneration.model_validate({"width": 64, "guidance": 1, "模式": "快", "x": None})
    dumped = wanted.model_dump(mode="json")
    assert (dumped["guidance"], dumped["模式"], dumped["x"]) == (1, "快", None)
    assert type(dumped["guidance"]) is int
    assert set(dumped) == {*VideoGeneration.model_fields, "method", "guidance", "模式", "x"}
    import datetime

    bad: list[tuple[dict[str, Any], str]] = [
        ({"day": datetime.date(2026, 1, 1)}, "quote a date"),
        ({"x": [1]}, "must be a number, a text"),
        ({"x": float("nan")}, "must be a finite number"),
        ({"numFrame": 9}, "did you mean num_frames"),
        ({"widht": 9}, "did you mean width"),
    ]
    for values, message in bad:
        with pytest.raises(ValidationError, match=message):
            ScriptGeneration.model_validate(values)


def test_settings_that_mean_two_things_are_refused() -> None:
    for values, message in (
        ({"settings": {"a": 1}, "files": {"a": "x"}}, "in both settings and files"),
        ({"settings": {"device": "cuda"}}, "device is what"),
        ({"environment": {"A=B": "c"}}, "cannot be the name of a variable"),
    ):
        with pytest.raises(ValidationError, match=message):
            ScriptSettings.model_validate({"file": "x.py", **values})


def test_its_process_is_known_while_it_lives(make: Make) -> None:
    """What it holds in memory is the worker's."""
    engine = make("import os\ndef load(settings): print(os.getpid())\ndef generate(job, path): 0")
    (pid,) = engine.processes()
    assert is_running(pid)
    engine.close()
    assert engine.processes() == ()


def test_every_setting_is_described() -> None:
    fields = ScriptSettings.model_fields
    assert [name for name, field in fields.items() if not field.description] == []


def test_the_backend_is_found_by_name() -> None:
    assert planner_class("script") is ScriptPlanner


def test_a_script_that_does_not_end_is_ended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it holds of the GPU is free before another model is loaded."""
    monkeypatch.setattr("runner.backends.foreign.child.CLOSE_SECONDS", 0.3)
    text = (
        "import atexit, time\natexit.register(time.sleep, 600)\n"
        "def load(settings): pass\ndef generate(job, path): pass\n"
    )
    engine = make(text)
    (pid,) = engine.processes()
    engine.close()
    assert not is_running(pid)
