"""The shape of the code: imports go one way, and only backends know torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).resolve().parents[1] / "runner"

ROOMS = [
    "text",
    "job",
    "scenes",
    "video",
    "machine",
    "disk",
    "queue",
    "backends",
    "experiment",
    "dataset",
    "plan",
    "runs",
    "costs",
    "watch",
    "launchers",
    "proposal",
    "report",
    "doctor",
    "slots",
    "worker",
    "explain",
    "sweeps",
    "calibrate",
    "quality",
    "same_bits",
    "cli",
    "__main__",
]
"""The folders of `runner`, and the modules that lie in it beside them, from the bottom up: one
imports from those above it in this list."""

MODULES = sorted(RUNNER.rglob("*.py"))


def rooms_imported(path: Path) -> set[str]:
    """The rooms that a file imports from, its own among them."""
    package = ("runner", *path.relative_to(RUNNER).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else ()
        full = [*base, *(node.module or "").split(".")]
        if full[0] == "runner":
            names = [part for part in full[1:] if part] or [alias.name for alias in node.names]
            found |= {names[0]} if full[1:] and full[1] else set(names)
    return found & set(ROOMS)


def room_of(path: Path) -> str:
    return path.relative_to(RUNNER).parts[0].removesuffix(".py")


def test_every_room_has_a_place_in_the_list() -> None:
    folders = {path.parent.name for path in RUNNER.glob("*/__init__.py")}
    beside = {path.stem for path in RUNNER.glob("*.py")} - {"__init__"}
    assert folders | beside == set(ROOMS)
    assert len(beside) <= 8


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(RUNNER)))
def test_imports_go_one_way(path: Path) -> None:
    """Data knows nothing; launchers know neither worker nor backends; the CLI is on top."""
    own = room_of(path)
    if own == "__init__":
        return
    for room in rooms_imported(path) - {own}:
        assert ROOMS.index(room) < ROOMS.index(own), f"{own} must not import {room}"
        if own == "launchers":
            assert room not in ("worker", "backends")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(RUNNER)))
def test_only_backends_import_torch(path: Path) -> None:
    if "backends" in path.parts:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        assert not {name.split(".")[0] for name in names} & {"torch", "diffsynth", "transformers"}


PRINTERS = {"terminal.py", "console.py", "log_lines.py", "server.py"}
"""What prints for all others; a script's server stands alone."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(RUNNER)))
def test_whatever_is_printed_is_made_printable_in_one_place(path: Path) -> None:
    """No name reaches a terminal as it is: see `terminal`, `PlainConsole` and `LineFormatter`.

    A line of a UserError, or of what is said, is an argument of its own, so that none comes from
    a name.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if path.name not in PRINTERS:
            assert called not in ("print", "click.echo", "Console"), path
        if called in ("UserError", "say", "print_lines"):
            constants = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
            assert not [text for text in constants if isinstance(text, str) and "\n" in text], path


OF_RUNS = {
    *("locked", "is_locked", "open_lock", "open_own", "open_queue", "mending", "live_slots"),
    *("take_back", "take_snapshot", "plan_sweep"),
}
"""What verbs open, lock and bring in line."""


@pytest.mark.parametrize("path", sorted((RUNNER / "cli").glob("*.py")), ids=lambda path: path.name)
def test_the_command_line_parses_calls_and_prints(path: Path) -> None:
    """It knows neither the queue nor the locks of a run: what verbs do, others can call as well."""
    assert "queue" not in rooms_imported(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not {alias.name for alias in node.names} & OF_RUNS, path
        elif isinstance(node, ast.Attribute):
            assert node.attr not in OF_RUNS, path


@pytest.mark.parametrize("path", sorted((RUNNER / "sweeps").glob("*.py")), ids=lambda p: p.name)
def test_verbs_neither_print_nor_exit(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "click.echo", "sys.exit", "exit"), path
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
            words = {word for name in names for word in name.split(".")}
            assert not words & {"click", "sys", "console", "terminal", "rich"}, path


def test_no_module_grows_past_reading() -> None:
    """Past 500 lines there is a second thing in a module."""
    for path in MODULES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path


ANSWERS_TO_SCRIPTS = Path("backends/script/service.py")
"""Runs alone, in a script's own interpreter; `BadInput` is one contract there and here."""


def names_of_types(path: Path) -> set[str]:
    """The classes of a module, nested ones too, and its aliases of types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id.lstrip("_")
            if re.fullmatch(r"[A-Z]\w*[a-z]\w*", name) and "TypeVar(" not in ast.unparse(node):
                found.add(node.targets[0].id)
    return found


def test_no_type_has_a_name_twice() -> None:
    """A class, or an alias of a type, that stands in two modules would have two meanings."""
    homes: dict[str, list[Path]] = {}
    for path in MODULES:
        own = path.relative_to(RUNNER)
        for name in names_of_types(path) - ({"BadInput"} if own == ANSWERS_TO_SCRIPTS else set()):
            homes.setdefault(name, []).append(own)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_no_test_module_imports_another() -> None:
    """What several of them need is made in a module of its own beside them."""
    for path in Path(__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"^\s*(?:from|import) test_\w+", text, re.MULTILINE), path


def test_the_command_line_loads_neither_torch_nor_decord() -> None:
    """Asking where a sweep stands starts fast."""
    code = (
        "import sys, runner.cli, runner.slots.launch, runner.watch.progress_view\n"
        "import runner.sweeps.planning\n"
        "print([name for name in ('torch', 'diffsynth', 'av', 'decord', 'imageio', 'numpy')"
        " if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_asking_where_a_sweep_stands_makes_no_model_of_an_experiment() -> None:
    """It would take as long as the answer."""
    code = "import sys, runner.runs.runs, runner.watch.progress; print('pydantic' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
