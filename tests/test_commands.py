"""Every command explains itself, the page about them is current, and shells complete them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project, run_here

from runner.cli import cli, examples_of

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(cli.commands)


def test_the_page_of_commands_is_current() -> None:
    """Where this fails, run python docs/make_commands.py."""
    code = "import make_commands, sys; sys.stdout.write(make_commands.page())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "docs"), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", code]
    made = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert made.stdout.decode() == (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name: str) -> None:
    """What they show are commands, arguments and options that there are."""
    command = cli.commands[name]
    examples = examples_of(command)
    assert examples
    for example in examples:
        words = shlex.split(example.partition(" >")[0])
        command.make_context(name, words[2:])


def test_help_shows_an_example_of_each(tmp_path: Path) -> None:
    said = run_here(["--help"], tmp_path).out
    for command in cli.commands.values():
        assert f"  {examples_of(command)[0]}\n" in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(tmp_path: Path, shell: str) -> None:
    done = run_here(["completion", shell], tmp_path)
    assert done.status == 0, done.err
    assert "_SWEEP_COMPLETE" in done.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.out, text=True, check=True)


def offered(project: Project, *words: str) -> list[str]:
    """What a shell offers for the last of these words."""
    environment = {
        **os.environ,
        "_SWEEP_COMPLETE": "bash_complete",
        "COMP_WORDS": shlex.join(["sweep", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        project.command(), cwd=project.root, env=environment, capture_output=True, check=False
    )
    assert done.stderr == b""
    return [line for line in done.stdout.decode().splitlines() if line]


def test_runs_workers_and_categories_are_completed(project: Project) -> None:
    """From what lies on the disk, in any script."""
    assert offered(project, "prog") == ["plain,progress"]
    project.finish()
    assert "plain,x" in offered(project, "progress", "x")
    assert offered(project, "logs", "x", "gpu0") == ["plain,gpu0_process0"]
    assert offered(project, "launch", "x", "--only", "ca") == ["plain,category="]
    assert offered(project, "resume", "x", "--only", "category=two") == ["plain,category=two words"]
    assert offered(project, "logs", "nowhere", "g") == []
