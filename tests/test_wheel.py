"""What is installed is all that is needed: the wheel, in an environment and a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import write_clip

ROOT = Path(__file__).resolve().parents[1]

VERSION = "0.0.1+wheel"
"""Of the wheel that is tried: no other installation of the package is of this version."""

NOT_PACKAGED = shutil.ignore_patterns("__pycache__")


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that knows nothing of the checkout, and must succeed."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment.update(PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves files beside its sources, and takes up the last one's."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "runner", source / "runner", ignore=NOT_PACKAGED)
    own = source / "runner" / "__init__.py"
    text, changed = re.subn(
        r'^__version__ = ".*"$', f'__version__ = "{VERSION}"', own.read_text(), flags=re.MULTILINE
    )
    assert changed == 1
    own.write_text(text)
    pip = (sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", source / "dist", source, cwd=source)
    (made,) = (source / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new virtual environment's commands, with the wheel installed into it.

    It sees the packages that these tests have, behind its own. A line of a .pth file leads to their
    folders, in which no further .pth is read: the one of an editable installation, which leads to
    the checkout, does nothing.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", python)
    run(*pip, "install", "--no-deps", "--no-compile", wheel, cwd=folder)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run(python, "-c", where, cwd=folder).strip())
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in packages))
    return folder / "bin"


def test_an_installed_wheel_has_every_file_and_makes_a_video(
    wheel: Path, environment: Path, tmp_path: Path
) -> None:
    """Fonts, the page's scripts, the tiny checkpoint, py.typed, and nothing beside the package.
    From clips to a report, where there is no checkout; its worker is the wheel's, too."""
    files = [path for path in (ROOT / "runner").rglob("*") if path.is_file()]
    ours = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    assert {name for name in names if ".dist-info/" not in name} == ours

    where = "import runner; print(runner.__file__)"
    found = Path(run(environment / "python", "-c", where, cwd=tmp_path).strip())
    assert found.is_relative_to(environment.parent)

    sweep = environment / "sweep"
    assert run(sweep, "--version", cwd=tmp_path) == f"sweep {VERSION}\n"
    write_clip(tmp_path / "clips" / "camera_motion" / "ref_a.mp4")
    prompts = {"camera_motion": {"ref_a": ["a red ball"]}}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    init = ("init", "my", "--videos", "clips", "--prompts", "prompts.json")
    run(sweep, *init, "--checkpoint", "tiny", cwd=tmp_path)

    file = "experiments/my.yaml"
    # The tiny checkpoint is read where the wheel put it.
    planned = json.loads(run(sweep, "plan", file, "--json", cwd=tmp_path))
    assert planned["total"] == 1
    assert planned["model_is"].startswith("sweep's tiny model")

    other = ("name=other", "backend=fake", "model={seconds: 0.01}", "placement.gpus=[0]")
    try:
        run(sweep, "launch", file, *other, "--on", "local", "--wait", cwd=tmp_path)
    finally:
        run(sweep, "stop", "other", "--now", cwd=tmp_path)
    progress = json.loads(run(sweep, "progress", "other", "--json", cwd=tmp_path))
    assert (progress["total"], progress["done"]) == (1, 1)
    run(sweep, "verify", "other", cwd=tmp_path)
    results = tmp_path / "results" / "other"
    sidecar = json.loads((results / "camera_motion/ref_a/seed_42_prompt_0.json").read_text())
    assert sidecar["versions"]["sweep-runner"] == VERSION
    run(sweep, "report", "other", cwd=tmp_path)
    assert (results / "report" / "index.html").is_file()
