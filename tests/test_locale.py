"""Names are UTF-8 whatever the locale is: none, which is C, and GBK as on Chinese workstations."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project, needs_tmux

ALL = 6
NO_LOCALE = {"LC_ALL": "", "LANG": "", "LC_CTYPE": ""}


@pytest.fixture(scope="session")
def gbk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the locale's encoding is GBK, made for this test."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/charmaps/GBK.gz").exists():
        pytest.skip("there are no sources of locales (Debian: apt-get install locales)")
    # It warns of characters that the encoding lacks.
    command = ["localedef", "-c", "-f", "GBK", "-i", "zh_CN", str(folder / "zh_CN.GBK")]
    subprocess.run(command, capture_output=True, check=False)
    environment = {"LOCPATH": str(folder), "LC_ALL": "zh_CN.GBK"}
    code = "import locale; print(locale.nl_langinfo(locale.CODESET))"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "GBK"
    return environment


@pytest.fixture(params=["none", "GBK"])
def elsewhere(request: pytest.FixtureRequest, project: Project) -> Project:
    """The project, with its commands in another locale."""
    if request.param == "GBK":
        project.environment.update(request.getfixturevalue("gbk"))
    else:
        # Python's own remedies for this locale, which is C by another name, are taken away.
        project.environment.update(NO_LOCALE, PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    return project


def test_chinese_names_are_read_and_told_in_any_locale(elsewhere: Project) -> None:
    """From plan to verify, workers included; what is written to a pipe is UTF-8."""
    launched = elsewhere.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert launched.status == 0, launched.err
    answer = elsewhere.sweep("export", "x", "--json")
    rows = json.loads(answer.out)
    assert {row["state"] for row in rows} == {"done"}
    assert {"ref_镜头仰角", "ref 🎬 b"} <= {row["video"] for row in rows}
    assert "一只红色的球" in answer.out
    verified = elsewhere.sweep("verify", "x")
    assert f"{ALL} good, 0 broken" in verified.out
    assert (elsewhere.run_folder.path / "camera_motion" / "ref_镜头仰角").is_dir()
    assert "locale" not in launched.err + verified.err


@needs_tmux
def test_workers_of_tmux_in_a_gbk_locale(project: Project, gbk: dict[str, str]) -> None:
    project.environment.update(gbk)
    launched = project.sweep("launch", "experiments/x.yaml", "--wait")
    assert launched.status == 0, launched.err
    assert project.progress()["done"] == ALL


def test_a_supervisor_started_by_hand_in_a_gbk_locale(
    project: Project, gbk: dict[str, str]
) -> None:
    assert project.call("plan", "experiments/x.yaml").status == 0
    words = ["-m", "runner.slots.slot", str(project.run_folder.path), "gpu0_process0"]
    slot = subprocess.run(
        [sys.executable, *words, "--device=cpu", "--quiet"],
        env={**os.environ, **gbk},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert slot.returncode == 0, slot.stderr
    assert project.progress()["done"] == ALL


def on_terminal(project: Project, *words: str, **environment: str) -> bytes:
    """What `sweep` with these words writes to a terminal."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        project.command(*words),
        cwd=project.root,
        env={**os.environ, **project.environment, **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:
        # The other end is closed.
        pass
    finally:
        os.close(ours)
    assert command.wait(60) == 0, written
    return written


def test_a_gbk_terminal_is_written_to_in_gbk(project: Project, gbk: dict[str, str]) -> None:
    """What it cannot show is escaped; a pane of tmux shows UTF-8."""
    project.finish()
    project.environment.update(gbk)
    os.environ.pop("TMUX", None)
    written = on_terminal(project, "explain", "x", "video=ref_镜头仰角", "prompt=1", "--json")
    assert "一只红色的球".encode("gbk") in written
    assert b"\\U0001f3ac" in on_terminal(project, "export", "x")
    words = ("explain", "x", "video=ref_镜头仰角", "prompt=1", "--json")
    assert "一只红色的球".encode() in on_terminal(project, *words, TMUX="/tmp/tmux,1,0")


def test_words_typed_in_gbk_are_understood(project: Project, gbk: dict[str, str]) -> None:
    project.finish()
    words: list[bytes] = [word.encode() for word in project.command("explain", "x", "prompt=1")]
    told = subprocess.run(
        [*words, "video=ref_镜头仰角".encode("gbk")],
        cwd=project.root,
        env={**os.environ, **gbk},
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "一只红色的球" in told.stdout.decode()


def test_where_utf8_cannot_be_had_one_line_says_what_helps(
    project: Project, gbk: dict[str, str]
) -> None:
    """An interpreter that was told to heed no variable does not begin anew for ever."""
    path = os.environ.get("PYTHONPATH", "")
    code = f"import sys; sys.path[:0] = {path.split(':')!r}; from runner.cli import main; main()"
    told = subprocess.run(
        [sys.executable, "-E", "-c", code, "--version"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **gbk},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0
    assert told.stderr.splitlines() == [
        "sweep: names and files are UTF-8, this locale is GBK; set LC_ALL=C.UTF-8"
    ]
