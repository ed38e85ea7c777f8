"""A `sweep.db` that is damaged in any way: asking says so in a line, going on makes it anew."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import Project, wait_for

from runner.job import JobState
from runner.machine.processes import ProcessId
from runner.queue import Queue
from runner.queue.claim_order import Taste
from runner.queue.damaged import damage_behind
from runner.queue.soundness import find_damage
from runner.runs.runs import live_slots

RESUME = ("resume", "x", "--on", "local")


@contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA writable_schema=ON")
        yield connection


def sql(*statements: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with changing(path) as connection:
            for statement in statements:
                connection.execute(statement)

    return damage


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def garbage(path: Path) -> None:
    """All pages but the first."""
    noise = random.Random(1).randbytes(path.stat().st_size - 4096)
    overwrite(path, 4096, noise)


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def beside(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        make(path.with_name(f"{path.name}{name}"))

    return damage


def broken_tree(path: Path) -> None:
    """The header is whole, the root of the jobs' table is none."""
    with changing(path) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'jobs'"
        (root,) = connection.execute(query).fetchone()
    overwrite(path, 4096 * (root - 1), b"\x05" + bytes(99))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut in the header": lambda path: os.truncate(path, 50),
    "zeroed": lambda path: overwrite(path, 0, bytes(path.stat().st_size)),
    "emptied": lambda path: os.truncate(path, 0),
    "garbage in the middle": garbage,
    "no database": instead(lambda path: path.write_text("hello")),
    "a broken tree": broken_tree,
    "to be written in an unknown way": lambda path: overwrite(path, 18, b"\x09\x09"),
    "a folder": instead(Path.mkdir),
    "a pipe": instead(os.mkfifo),
    "a link to nothing": instead(lambda path: path.symlink_to("../../../gone.db")),
    "a folder for the log": beside("-wal", Path.mkdir),
    "a pipe for the memory": beside("-shm", os.mkfifo),
    "another schema": sql("UPDATE meta SET value = '2' WHERE key = 'schema'"),
    "no schema": sql("DELETE FROM meta"),
    "no table": sql("DROP TABLE workers"),
    "no column": sql("ALTER TABLE jobs DROP COLUMN error"),
    "a view": sql("DROP TABLE workers", "CREATE VIEW workers AS SELECT 1 AS name"),
    "a trigger": sql("CREATE TRIGGER t AFTER UPDATE ON jobs BEGIN DELETE FROM jobs; END"),
    "a bad id": sql("UPDATE jobs SET id = '../../../precious' WHERE position = 1"),
    "a bad output": sql("UPDATE jobs SET output = '../../precious/x.mp4' WHERE position = 1"),
    "a bad state": sql("UPDATE jobs SET state = 'lost' WHERE position = 1"),
    "a worker in no slot": sql("UPDATE workers SET name = name || '?'"),
    "a worker of another place": sql("UPDATE workers SET place = 'n12'"),
    "a text for a number": sql("UPDATE jobs SET finished_at = 'soon' WHERE position = 1"),
    "a number without end": sql("UPDATE jobs SET seconds = 9e999 WHERE position = 1"),
    "bytes that are no text": sql(
        "UPDATE jobs SET error = CAST(x'ff00ff' AS TEXT) WHERE position = 1"
    ),
    "no inputs": sql("DELETE FROM shared"),
    "inputs that are none": sql("UPDATE shared SET value = '[[['"),
    "a gate that is none": sql("REPLACE INTO meta VALUES ('gate', '{\"stop_at\": \"x\"}')"),
    "wrong counts": sql("UPDATE jobs SET state = 'pending' WHERE position = 1"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_whatever_has_become_of_a_queue(
    project: Project, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No command ends in a traceback; resume keeps the damaged one and makes it anew; no video
    is made again, and nothing outside is written."""
    project.finish()
    run, before = project.run_folder, sorted(project.root.parent.iterdir())
    made = {path: path.stat().st_mtime_ns for path in run.path.glob("*/*/*.mp4")}
    DAMAGES[name](run.queue)
    for words in (
        ("progress", "x"),
        ("verify", "x"),
        ("export", "x"),
        ("explain", "x", "camera_motion/-dash", "prompt=0", "seed=1"),
        ("stop", "x", "--now"),
    ):
        asked = project.call(*words)
        assert asked.status in (0, 2), words
        if asked.status == 2:
            assert len(asked.err.splitlines()) == 1
            assert "`sweep resume x` keeps it under another name" in asked.err
    resumed = project.call(*RESUME)
    assert resumed.status == 0, resumed.err
    assert caplog.text.count("and made anew") == 1
    assert list(run.path.glob("sweep.db*.damaged-*"))
    assert project.progress()["done"] == 6
    assert made == {path: path.stat().st_mtime_ns for path in run.path.glob("*/*/*.mp4")}
    assert sorted(project.root.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["cut", "another schema", "a bad id", "a pipe"])
def test_plan_makes_a_damaged_queue_anew_too(
    project: Project, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    project.finish()
    DAMAGES[name](project.run_folder.queue)
    planned = project.call("plan", "experiments/x.yaml")
    assert planned.status == 0, planned.err
    assert "kept as sweep.db.damaged-" in caplog.text
    assert project.progress()["done"] == 6


@pytest.mark.parametrize("part", ["-wal", "-shm"])
def test_noise_beside_a_queue_is_no_damage(project: Project, part: str) -> None:
    """SQLite tells by checksums what it wrote there itself."""
    project.finish()
    noise = random.Random(2).randbytes(50_000)
    Path(f"{project.run_folder.queue}{part}").write_bytes(noise)
    assert project.call(*RESUME).status == 0
    assert project.progress()["done"] == 6


def test_what_befalls_a_whole_queue_is_no_damage(tmp_path: Path) -> None:
    """A full disk, a lock, a missing right: nobody's queue is made anew for that."""
    path = tmp_path / "sweep.db"
    Queue(path, create=True).close()
    for text, code in (
        ("database or disk is full", 13),
        ("database is locked", 5),
        ("attempt to write a readonly database", 8),
        ("unable to open database file", 14),
        ("disk I/O error", 10),
    ):
        error = sqlite3.OperationalError(text)
        error.sqlite_errorcode = code
        assert damage_behind(path, error) is None
    assert damage_behind(path, OSError(28, "No space left on device")) is None
    assert damage_behind(path, TypeError("a mistake of ours")) is None


def test_a_queue_at_work_is_sound(tmp_path: Path) -> None:
    """Whatever workers and commands write into it."""
    from queue_jobs import JOBS, POLICY, SLOT, pending

    queue = Queue(path := tmp_path / "sweep.db", create=True)
    queue.set_policy(POLICY)
    queue.sync(JOBS, [], "m", pending)
    queue.workers.register(SLOT, ProcessId.own())
    queue.prioritise("prompt", [1, 0])
    queue.stop_at(time.time() + 9)
    ends = (
        lambda claim: queue.finish(claim, seconds=1.0),
        lambda claim: queue.fail(claim, "broken"),
        queue.give_back,
    )
    for end in ends:
        claim = queue.claim(SLOT, ProcessId.own(), Taste())
        assert claim is not None
        assert find_damage(path, is_thorough=True) is None
        end(claim)
        assert find_damage(path, is_thorough=True) is None
    queue.hold_all_but({JOBS[0].id})
    queue.retry([JobState.FAILED])
    queue.set_aside(SLOT.devices, "hot")
    queue.drain(True, [SLOT.devices])
    assert find_damage(path, is_thorough=True) is None


def test_workers_whose_queue_is_damaged_end_and_it_is_theirs_until_then(project: Project) -> None:
    """They say so in a line, and no other is started in their place."""
    project.write(model={"seconds": 0.5}, seeds=list(range(1, 20)))
    assert project.sweep("launch", "experiments/x.yaml", "--on", "local").status == 0
    run = project.run_folder
    wait_for(lambda: project.progress()["running"] > 0)
    (slot,) = live_slots(run)
    # It is the queue that it has open, though its name is gone for a moment.
    supervisor = json.loads(run.lock(slot).read_text("utf-8"))["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        with closing(sqlite3.connect(run.queue, isolation_level=None, timeout=30)) as connection:
            connection.execute("UPDATE jobs SET fingerprint = x'00', category = x'ff'")
            connection.execute("DROP TABLE shared")
        refused = project.call(*RESUME)
        assert refused.status == 2
        assert "it is not set aside while workers run: `sweep stop --now x`" in refused.err
    finally:
        os.kill(supervisor, signal.SIGCONT)
    wait_for(lambda: not live_slots(run), 40)
    text = run.log(slot).read_text("utf-8")
    assert "sweep.db is damaged" in text
    assert text.count("supervisor ended with status 2") == 1
    assert project.call("plan", "experiments/x.yaml").status == 0
    assert project.progress()["failed"] == 0


@pytest.mark.parametrize("content", [b"", b"\xd8", b"SQLite"])
def test_what_is_no_database_is_left_as_it_is_where_it_is_only_asked(
    project: Project, content: bytes
) -> None:
    """SQLite would make a database of a file that is empty or nearly so; of a run beside, too."""
    project.finish()
    queue = project.run_folder.queue
    queue.write_bytes(content)
    assert project.call("plan", "experiments/x.yaml", "name=other").status == 0
    assert queue.read_bytes() == content
    refused = project.call("progress", "x")
    assert (refused.status, "is damaged" in refused.err) == (2, True)
    assert queue.read_bytes() == content
