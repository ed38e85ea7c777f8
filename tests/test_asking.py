"""Asking needs no right to write: another user's run folder, a read-only mount, a copy.

Where the tests run as root, they ask without root's right to write everywhere.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished, Project, wait_for

from runner.disk.attempts import read_attempts
from runner.runs.runs import live_slots

ALL = 6
PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER = 1, 2, 3
NOBODY = 65534

ASKING = """
import json, sys
from pathlib import Path
from conftest import run_here
answers = [vars(run_here(words, Path(sys.argv[1]))) for words in json.loads(sys.argv[2])]
json.dump(answers, sys.stdout)
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


def without_rights() -> None:
    """Have what is executed next go by owner and mode alone, also where it is root's."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def ask(
    project: Project,
    *questions: Sequence[str],
    before: Sequence[str] = (),
    become: Callable[[], None] | None = without_rights,
) -> list[Finished]:
    """The answers to some commands, one after the other in one process."""
    command = [*before, sys.executable, "-c", ASKING, str(project.root), json.dumps(questions)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    temporary = project.root.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    own = {"PYTHONPATH": path, "TMPDIR": str(temporary)}
    environment = {**os.environ, **project.environment, **own}
    asked = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=become,
    )
    assert asked.returncode == 0, asked.stderr
    assert not list(temporary.glob("sweep-*"))
    return [Finished(**answer) for answer in json.loads(asked.stdout)]


def content(folder: Path) -> dict[str, Any]:
    """Everything in a folder: name, mode, time and content."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.stat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (oct(status.st_mode), status.st_mtime_ns, digest)
    return found


def give_away(folder: Path) -> None:
    """Make a folder one that is not ours to write."""
    for path in (folder, *folder.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        else:
            path.chmod(path.stat().st_mode & ~0o222)


def take_back(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 0, 0)
        else:
            path.chmod(path.stat().st_mode | 0o200)


def is_closed(run: Path) -> None:
    """As the last command left it."""


def was_killed(run: Path) -> None:
    """What was written last is in the log alone, and nobody has the database open."""
    aside = run.with_name("aside")
    aside.mkdir()
    with sqlite3.connect(run / "sweep.db") as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("UPDATE jobs SET error = 'last written'")
        connection.commit()
        for part in ("", "-wal"):
            shutil.copy2(run / f"sweep.db{part}", aside)
    connection.close()
    for path in aside.iterdir():
        shutil.move(path, run / path.name)
    aside.rmdir()


def is_gone(run: Path) -> None:
    for path in run.glob("sweep.db*"):
        path.unlink()


def is_damaged(run: Path) -> None:
    path = run / "sweep.db"
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(20_000))


QUESTIONS: list[list[str]] = [
    ["progress", "x", "--json"],
    ["verify", "x", "--json"],
    ["export", "x", "--json"],
    ["explain", "x", "camera_motion/-dash", "--json"],
    ["logs", "x", "--json"],
    ["doctor", "x", "--json"],
]


def assert_answered(answers: Sequence[Finished], project: Project) -> None:
    """Every question of `QUESTIONS`, by a run of which all is done."""
    for words, answer in zip(QUESTIONS, answers, strict=True):
        assert "Traceback" not in answer.err, answer.err
        assert answer.status in ((0, 1) if words[0] == "doctor" else (0,)), (words, answer)
    progress, verified, rows, story, logs, doctor = (json.loads(answer.out) for answer in answers)
    assert (progress["total"], progress["done"], progress["running"]) == (ALL, ALL, 0)
    assert (verified["good"], verified["broken"]) == (ALL, [])
    assert [row["state"] for row in rows] == ["done"] * ALL
    assert story["state"] == "done"
    assert logs[0]["lines"]
    assert doctor["findings"]


@pytest.mark.parametrize("queue", [is_closed, was_killed, is_gone, is_damaged])
def test_another_users_run_answers_and_stays_as_it_is(
    project: Project, queue: Callable[[Path], None]
) -> None:
    """From its queue where that can be read, and else from manifest and files, which is said."""
    project.finish()
    run = project.run_folder.path
    queue(run)
    give_away(run)
    before = content(run)
    try:
        answers = ask(project, *QUESTIONS)
        assert content(run) == before
        assert_answered(answers, project)
        told = "asked of its manifest and files" in answers[0].err
        assert told == (queue in (is_gone, is_damaged))
        if queue is was_killed:
            assert json.loads(answers[3].out)["queue"]["error"] == "last written"
    finally:
        take_back(run)


def test_pictures_of_another_users_run_go_where_one_says(project: Project, tmp_path: Path) -> None:
    """`--out`; without it the command says so. What verify finds broken stays."""
    project.finish()
    run = project.run_folder.path
    broken = next(run.glob("*/*/*.mp4"))
    broken.write_bytes(broken.read_bytes()[:-9])
    give_away(run)
    before = content(run)
    page, sheets = tmp_path / "页 #1", tmp_path / "sheets"
    try:
        refused, made, none, some, verified = ask(
            project,
            ["report", "x"],
            ["report", "x", "--out", str(page), "--json"],
            ["sheet", "x"],
            ["sheet", "x", "--out", str(sheets)],
            ["verify", "x"],
        )
        assert content(run) == before
    finally:
        take_back(run)
    for answer in (refused, none):
        assert answer.status == 2
        assert "--out" in answer.err
    assert json.loads(made.out)["videos"] == ALL - 1
    assert (page / "index.html").stat().st_size > 1000
    assert list(page.rglob("*.jpg"))
    assert some.status == 0
    assert len(list(sheets.rglob("*.png"))) == 3
    assert verified.status == 1
    assert "nothing was moved" in verified.err


@pytest.mark.parametrize("queue", [was_killed])
def test_a_read_only_mount_answers(project: Project, queue: Callable[[Path], None]) -> None:
    """Also to root."""
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    project.finish()
    run = project.run_folder.path
    queue(run)
    before = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "sh", "-c", mount, str(run)]
    tried = [*before, "sh", "-c", '! touch "$0/x" 2>/dev/null', str(run)]
    if not shutil.which("unshare") or subprocess.run(tried, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    was = content(run)
    answers = ask(project, *QUESTIONS, before=before, become=None)
    assert content(run) == was
    assert_answered(answers, project)


def test_a_copy_answers(project: Project, tmp_path: Path) -> None:
    """`cp -r`, with other times of its files, as an archive that nobody may write."""
    project.finish()
    run = project.run_folder.path
    copy = tmp_path / "archive" / "x"
    copy.parent.mkdir()
    subprocess.run(["cp", "-r", run, copy], check=True)
    give_away(copy)
    before = content(copy)
    questions = [[str(copy) if word == "x" else word for word in words] for words in QUESTIONS]
    try:
        answers = ask(project, *questions)
        assert content(copy) == before
        assert "manifest" not in answers[0].err
        assert_answered(answers, project)
    finally:
        take_back(copy)


@as_root
def test_asking_another_users_live_run_disturbs_no_worker(project: Project) -> None:
    """It is told what is so now, again and again until the end, and no file of the asker's is
    left."""
    project.write(model={"seconds": 1})
    assert project.call("plan", "experiments/x.yaml").status == 0
    give_away(project.run_folder.path)
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    give_away(project.run_folder.path)
    wait_for(lambda: project.progress()["running"] == 1)
    questions = [["progress", "x", "--json"], ["export", "x", "--json"], ["verify", "x", "--json"]]
    first, rows, verified, watched = ask(project, *questions, ["progress", "x", "--watch"])
    assert json.loads(first.out)["workers"][0]["state"] == "working"
    assert len(json.loads(rows.out)) == ALL
    assert json.loads(verified.out)["broken"] == []
    assert f"{ALL}/{ALL} done" in watched.err
    wait_for(lambda: not live_slots(project.run_folder))
    outcomes = [attempt["outcome"] for attempt in read_attempts(project.run_folder.attempts)]
    assert outcomes == ["done"] * ALL
