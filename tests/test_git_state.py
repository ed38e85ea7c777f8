"""What a sidecar says of git, in repositories that would run something when they are asked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.machine.git_state import git_state


class Repository:
    """A repository of two committed files, and a command that leaves a trace when it is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "项目 repository"
        self.trace = folder / "run"
        self.folder.mkdir()
        self.command = folder / "command"
        self.command.write_text(
            f'#!/bin/sh\necho "$0 $*" >>"{self.trace}"\n[ "$1" = git-upload-pack ] || cat\n'
        )
        self.command.chmod(0o755)
        self.git("init", "-q")
        for name in ("code.py", "clip.bin"):
            (self.folder / name).write_text("one\n")
        self.commit()

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "protocol.file.allow=always")
        command = ["git", "-C", str(self.folder), *who, *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "c")

    def config(self, *pairs: str) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.git("config", key, value)

    def touch(self, name: str = "clip.bin") -> None:
        """Have git look into a file again, since its time is another; its content is not."""
        os.utime(self.folder / name, ns=(1, 1))


def fsmonitor(made: Repository) -> None:
    made.config("core.fsmonitor", str(made.command), "core.fsmonitorHookVersion", "1")


def hooks(made: Repository) -> None:
    hooks = made.folder / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "reference-transaction"):
        (hooks / name).symlink_to(made.command)
    made.config("core.hooksPath", str(hooks))
    made.touch()


def clean_filter(made: Repository) -> None:
    made.config("filter.evil.clean", str(made.command), "filter.evil.required", "true")
    (made.folder / ".git/info/attributes").write_text("*.bin filter=evil\n")
    made.touch()


def process_filter(made: Repository) -> None:
    made.config("filter.Evil Ü.v1.process", str(made.command))
    made.config("filter.Evil Ü.v1.required", "true")
    (made.folder / ".git/info/attributes").write_text('*.bin "filter=Evil Ü.v1"\n')
    (made.folder / ".gitattributes").write_text("*.bin filter=Evil\n")
    made.config("filter.Evil.process", str(made.command))
    made.touch()


def included(made: Repository) -> None:
    """The same from another file, for this folder only."""
    other = made.folder / "other.config"
    other.write_text(
        f'[filter "far"]\n\tclean = {made.command}\n[core]\n\tfsmonitor = {made.command}\n'
    )
    made.config(f"includeIf.gitdir:{made.folder.as_posix()}/.path", str(other))
    (made.folder / ".git/info/attributes").write_text("*.bin filter=far\n")
    made.touch()


def external_diff(made: Repository) -> None:
    command = str(made.command)
    made.config("diff.external", command, "diff.x.command", command, "diff.x.textconv", command)
    made.config("core.pager", command, "pager.status", "true", "core.gitProxy", command)
    made.config("status.submoduleSummary", "true", "core.sshCommand", command)
    (made.folder / ".git/info/attributes").write_text("* diff=x\n")
    made.touch()


def missing_object(made: Repository) -> None:
    """An object that would be fetched, by a command, from where the repository says."""
    made.config("core.repositoryFormatVersion", "1", "extensions.partialClone", "far")
    made.config("remote.far.promisor", "true", "remote.far.url", f"ext::{made.command} %S")
    made.config("protocol.ext.allow", "always", "remote.far.uploadpack", str(made.command))
    blob = made.git("rev-parse", "HEAD^{tree}")
    (made.folder / ".git/objects" / blob[:2] / blob[2:]).unlink()


def submodule(made: Repository) -> None:
    """One whose own configuration runs something."""
    other = Repository(made.folder.parent / "inner")
    made.git("submodule", "add", "-q", str(other.folder), "inner")
    made.commit()
    inner = made.folder / "inner"
    for key, value in (("core.fsmonitor", made.command), ("filter.evil.clean", made.command)):
        subprocess.run(["git", "-C", str(inner), "config", key, str(value)], check=True)
    (made.folder / ".git/modules/inner/info").mkdir(exist_ok=True)
    (made.folder / ".git/modules/inner/info/attributes").write_text("* filter=evil\n")
    os.utime(inner / "code.py", ns=(1, 1))


VECTORS: dict[Callable[[Repository], None], bool | None] = {
    fsmonitor: False,
    hooks: False,
    clean_filter: False,
    process_filter: False,
    included: False,
    external_diff: False,
    missing_object: None,
    submodule: False,
}
"""Whether tracked files differ from the commit; None where git cannot tell."""


@pytest.fixture
def made(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.__name__)
def test_asking_git_runs_nothing_of_the_repository(
    made: Repository, vector: Callable[[Repository], None]
) -> None:
    """And the state of its files is told all the same."""
    if vector is submodule:
        (made.folder.parent / "inner").mkdir()
    vector(made)
    made.trace.unlink(missing_ok=True)
    subprocess.run(["git", "-C", str(made.folder), "status"], capture_output=True, check=False)
    if vector is not external_diff:
        # It is the danger that it is taken for.
        assert made.trace.exists()
    made.trace.unlink(missing_ok=True)

    head = made.git("rev-parse", "HEAD")
    made.trace.unlink(missing_ok=True)
    assert git_state(made.folder) == (head, VECTORS[vector])
    if VECTORS[vector] is False:
        (made.folder / "code.py").write_text("two\n")
        assert git_state(made.folder) == (head, True)
    assert not made.trace.exists(), made.trace.read_text()


def test_variables_of_git_run_nothing_and_lead_nowhere_else(
    made: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = made.git("rev-parse", "HEAD")
    for name in ("GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_PAGER", "GIT_ASKPASS", "GIT_EDITOR"):
        monkeypatch.setenv(name, str(made.command))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(made.command))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    assert git_state(made.folder) == (head, False)
    assert not made.trace.exists()
    assert not (tmp_path / "trace").exists()


def test_a_filter_that_cannot_be_named_is_not_run(made: Repository) -> None:
    """A setting's name with `=` in it cannot be taken away on every version of git."""
    with (made.folder / ".git/config").open("a") as file:
        file.write(f'[filter "a=b"]\n\tclean = {made.command}\n')
    (made.folder / ".git/info/attributes").write_text("*.bin filter=a=b\n")
    made.touch()
    assert git_state(made.folder) == (made.git("rev-parse", "HEAD"), None)
    assert not made.trace.exists()


def test_git_that_does_not_come_to_an_end_is_not_waited_for(made: Repository) -> None:
    (made.folder / ".git/index").unlink()
    os.mkfifo(made.folder / ".git/index")
    assert git_state(made.folder, seconds=0.5) == (made.git("rev-parse", "HEAD"), None)
