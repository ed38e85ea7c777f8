"""A sweep that is left alone ends by itself, whatever goes wrong, and says what it could not do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from chaos_disk import NoMount, fill, small_disk
from conftest import Project, wait_for

from runner.cli.options import moment
from runner.disk.attempts import read_attempts
from runner.disk.run_folder import RunFolder, sha256_file
from runner.job import JobState, Outcome
from runner.job.slot_names import Devices, Slot
from runner.machine.processes import ProcessId
from runner.queue import Queue
from runner.runs.runs import live_slots
from runner.slots.at_end import EndCommands, run_end_commands

LAUNCH = ("launch", "experiments/x.yaml", "--on", "local", "--wait")


def write(project: Project, *faults: dict[str, Any], **changes: Any) -> None:
    model = {"seconds": 0.1, "faults": list(faults)}
    project.write(**{"model": model, "retries": {"backoff_seconds": 0}, **changes})


def attempts(run: RunFolder, outcome: Outcome) -> list[dict[str, Any]]:
    return [one for one in read_attempts(run.attempts) if one["outcome"] == outcome.value]


def log(project: Project, slot: Slot = Slot.of(0, 0)) -> str:  # noqa: B008
    return project.run_folder.log(slot).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "recorded", "outcome"),
    [
        ("fail", "backend_bug", Outcome.FAILED),
        ("truncate", "backend_bug", Outcome.FAILED),
        ("out_of_gpu_memory", "out_of_gpu_memory", Outcome.FAILED),
        ("out_of_host_memory", "out_of_host_memory", Outcome.FAILED),
        ("gpu_error", "gpu_error", Outcome.FAILED),
        ("exit", "worker_died", Outcome.DIED),
        ("kill", "worker_died", Outcome.DIED),
        ("hang", "stuck", Outcome.FAILED),
    ],
)
def test_what_goes_wrong_once_is_made_good(
    project: Project, kind: str, recorded: str, outcome: Outcome
) -> None:
    """One attempt is recorded with its kind, and every video is there at the end."""
    fault = {"kind": kind, "video": "-dash", "times": 1}
    write(project, fault, limits={"stuck_minutes": 0.05})
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err
    bad = attempts(project.run_folder, outcome)
    assert [(one["kind"], one["attempt"]) for one in bad] == [(recorded, 1)]
    assert len(attempts(project.run_folder, Outcome.DONE)) == 6
    assert project.call("verify", "x").status == 0


def test_bad_input_fails_at_once_and_the_sweep_goes_on(project: Project) -> None:
    write(project, {"kind": "bad_input", "video": "-dash"})
    assert project.sweep(*LAUNCH).status == 1
    answer = project.progress()
    assert (answer["done"], answer["failed"]) == (5, 1)
    assert len(attempts(project.run_folder, Outcome.FAILED)) == 1


def test_a_job_that_takes_too_long_is_ended(project: Project) -> None:
    """`limits.job_minutes` ends even one whose steps go on."""
    slow = {"kind": "slow", "video": "-dash"}
    write(project, slow, limits={"job_minutes": 0.02}, retries=0)
    project.call("plan", "experiments/x.yaml", "model.slow_factor=1000")
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 1
    assert [one["kind"] for one in attempts(project.run_folder, Outcome.FAILED)] == ["timeout"]
    assert project.progress()["done"] == 5


def test_a_sick_gpu_is_set_aside_and_the_others_do_its_jobs(project: Project) -> None:
    placement = {"gpus": [0, 1], "processes_per_gpu": 1}
    write(project, {"kind": "gpu_error", "gpu": 1}, placement=placement)
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err
    answer = project.progress()
    assert answer["done"] == 6
    kinds = {one["worker"] for one in attempts(project.run_folder, Outcome.FAILED)}
    assert kinds <= {"gpu1_process0"}


def test_a_gpu_short_of_memory_goes_on_with_fewer_processes(project: Project) -> None:
    """Nothing of the videos is changed to make them fit, and no job is lost for it."""
    placement = {"gpus": [0], "processes_per_gpu": 2}
    write(project, {"kind": "out_of_gpu_memory", "times": 1}, placement=placement, seeds=[1, 2])
    finished = project.sweep(*LAUNCH)
    assert finished.status == 0, finished.err
    answer = project.progress()
    assert answer["done"] == 12
    assert list(answer["set_aside"].values()) == [
        "GPU 0 ran out of memory twice; it goes on with 1 process"
    ]


def test_where_everything_fails_few_attempts_are_made(project: Project) -> None:
    """The command says why, with status 1; resume goes on once that is mended."""
    write(project, {"kind": "fail"}, seeds=[1, 2, 3, 4])
    finished = project.sweep(*LAUNCH)
    assert finished.status == 1
    assert "10 attempts failed and none succeeded" in finished.err
    assert len(attempts(project.run_folder, Outcome.FAILED)) == 10
    assert project.call("plan", "experiments/x.yaml", "model.faults=[]").status == 0
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0
    assert project.progress()["done"] == 24


def test_so_many_failed_jobs_stop_a_launch(project: Project) -> None:
    write(project, {"kind": "fail", "category": "two words"}, seeds=[1, 2, 3], retries=0)
    finished = project.sweep(*LAUNCH, "--max-failures", "2")
    assert finished.status == 1
    assert "2 jobs have failed (--max-failures)" in finished.err
    assert project.progress()["failed"] == 2


def test_workers_make_room_for_new_ones(project: Project) -> None:
    """After `limits.recycle_after_jobs`, between jobs, at no attempt's cost."""
    write(project, limits={"recycle_after_jobs": 2})
    assert project.sweep(*LAUNCH).status == 0
    assert log(project).count("model loaded in") >= 2
    assert log(project).count("(limits.recycle_after_jobs)") >= 2
    assert len(read_attempts(project.run_folder.attempts)) == 6


def test_a_model_that_cannot_be_loaded_is_not_loaded_for_ever(project: Project) -> None:
    write(project)
    project.call("plan", "experiments/x.yaml")
    fake = "import runner.backends.fake.engine as f\nf.FakeEngine.load = lambda *_: 1 / 0\n"
    (project.root / "sitecustomize.py").write_text(fake)
    paths = f"{project.root}:{Path(__file__).resolve().parents[1]}"
    project.environment["PYTHONPATH"] = paths
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 1
    assert "could not be loaded 3 times in a row; giving up" in log(project)


def test_the_experiments_own_disk_limit_pauses_workers(project: Project) -> None:
    """They say so, claim nothing meanwhile, and go on when there is room."""
    write(project, limits={"max_disk_gb": 0.0001}, seeds=[1, 2, 3])
    words = [word for word in LAUNCH if word != "--wait"]
    assert project.sweep(*words).status == 0
    ends = time.monotonic() + 60
    while not any(worker["note"] for worker in project.progress()["workers"]):
        assert time.monotonic() < ends
    answer = project.progress()
    assert "limits.max_disk_gb is 0.0001" in answer["workers"][0]["note"]
    assert answer["running"] == 0
    assert "waiting: waits for room" in project.sweep("progress", "x").out.replace("\n", " ")
    assert project.call("stop", "x", "--wait").status == 0
    assert project.call("plan", "experiments/x.yaml", "limits.max_disk_gb=1").status == 0
    assert project.sweep("resume", "x", "--on", "local", "--wait").status == 0
    assert project.progress()["done"] == 18
    assert project.call("verify", "x").status == 0


def test_a_job_that_fills_the_disk_goes_back_and_is_made(project: Project) -> None:
    """What was begun is taken away, the attempt is on record, and none is counted."""
    write(project, {"kind": "fill_disk", "video": "-dash", "times": 1})
    (project.root / "results").mkdir()
    try:
        with small_disk(project.root / "results", 16):
            finished = project.sweep(*LAUNCH)
            assert finished.status == 0, finished.err
            assert project.progress()["done"] == 6
            given_back = attempts(project.run_folder, Outcome.INTERRUPTED)
            assert [one["kind"] for one in given_back] == ["disk_full"]
            assert not attempts(project.run_folder, Outcome.FAILED)
            assert project.call("verify", "x").status == 0
    except NoMount as error:
        pytest.skip(str(error))


def test_a_full_disk_ends_no_slot_and_stops_no_command(project: Project) -> None:
    """A worker that dies then is replaced as soon as there is room, its death is on record, and
    one can still look and stop."""
    write(project, model={"seconds": 0.5}, seeds=list(range(5)))
    (project.root / "results").mkdir()
    words = [word for word in LAUNCH if word != "--wait"]
    try:
        with small_disk(project.root / "results", 16):
            assert project.sweep(*words).status == 0
            wait_for(lambda: project.progress()["done"] >= 1)
            ballast = fill(project.root / "results")
            os.kill(project.progress()["workers"][0]["pid"], signal.SIGKILL)
            ends = time.monotonic() + 6
            while time.monotonic() < ends:
                looked = project.call("progress", "x", "--json")
                assert looked.status == 0, looked.err
                assert live_slots(project.run_folder) == [Slot.of(0, 0)]
                time.sleep(0.5)
            ballast.unlink()
            before = project.progress()["done"]
            wait_for(lambda: project.progress()["done"] > before, 60)
            assert len(attempts(project.run_folder, Outcome.DIED)) >= 1
            fill(project.root / "results")
            stopped = project.call("stop", "x", "--now")
            assert stopped.status == 0, stopped.err
            assert live_slots(project.run_folder) == []
    except NoMount as error:
        pytest.skip(str(error))


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_quota_pauses_workers_as_a_full_disk_does(project: Project) -> None:
    """Every write of theirs is refused with EDQUOT for a while: into the queue, of videos and
    sidecars and of records. No job fails, and no slot ends."""
    # The loader takes a space in LD_PRELOAD for the end of a path.
    source, library = Path(__file__).with_name("quota.c"), project.root.parent / "quota.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    flag = project.root / "full"
    write(project, model={"seconds": 0.2}, seeds=list(range(5)))
    project.call("plan", "experiments/x.yaml")
    quota = {"LD_PRELOAD": str(library), "QUOTA_FLAG": str(flag)}
    theirs = Project(project.root, {**project.environment, **quota})
    assert theirs.sweep("resume", "x", "--on", "local").status == 0
    wait_for(lambda: project.progress()["done"] >= 1)
    flag.touch()
    time.sleep(1.5)
    done = project.progress()["done"]
    time.sleep(3)
    assert project.progress()["done"] == done
    assert live_slots(project.run_folder) == [Slot.of(0, 0)]
    flag.unlink()
    wait_for(lambda: project.progress()["done"] == 30, 90)
    assert not attempts(project.run_folder, Outcome.FAILED)
    assert project.call("verify", "x").status == 0


# The end of the night.


def command(project: Project, name: str) -> tuple[str, Path]:
    """An end command that writes its standard input to a file, and that file."""
    script, out = project.root / f"{name} script.py", project.root / f"{name}.json"
    text = "import sys\nopen(sys.argv[1], 'w').write(sys.stdin.read())\nprint('told')\n"
    script.write_text(text)
    return f'\'{sys.executable}\' "{script}" "{out}"', out


def wait_for_file(path: Path) -> dict[str, Any]:
    ends = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < ends, f"{path} did not come"
        time.sleep(0.05)
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_end_is_told_once_with_the_summary(project: Project) -> None:
    """An argument list that no shell has seen, and the summary as JSON on standard input."""
    write(project, placement={"gpus": [0, 1], "processes_per_gpu": 2})
    finish, finished = command(project, "done $(touch pwned)")
    failure, failed = command(project, "bad")
    words = ("--on-finish", finish, "--on-failure", failure)
    assert project.sweep(*LAUNCH, *words).status == 0
    summary = wait_for_file(finished)
    assert (summary["ended"], summary["sweep"], summary["done"]) == ("done", "x", 6)
    assert not failed.exists()
    assert not (project.root / "pwned").exists()

    def logs() -> str:
        return "".join(path.read_text() for path in project.run_folder.logs.glob("*.log"))

    # The command is told of once it has ended, which is after it has written.
    wait_for(lambda: "ended with status 0: told" in logs())
    assert logs().count("--on-finish") == 1


def test_a_bad_end_is_told_as_such(project: Project) -> None:
    write(project, {"kind": "bad_input", "video": "-dash"})
    failure, failed = command(project, "bad")
    assert project.sweep(*LAUNCH, "--on-failure", failure).status == 1
    assert wait_for_file(failed)["ended"] == "failed"


def test_a_stop_by_hand_is_no_end(project: Project) -> None:
    """Nobody wants the machine shut down then; a resume without the option forgets it."""
    write(project, model={"seconds": 2})
    finish, finished = command(project, "done")
    words = [word for word in LAUNCH if word != "--wait"]
    assert project.sweep(*words, "--on-finish", finish).status == 0
    assert project.call("stop", "x", "--now").status == 0
    assert not finished.exists()


def test_gpus_given_back_are_no_end_unless_others_went_on(tmp_path: Path) -> None:
    """`stop --gpus 1 --now` may take longer than the others take for the rest: whichever slot is
    the last tells. A sweep of which every GPU was given back was stopped by hand."""
    run = RunFolder(tmp_path / "x")
    queue = Queue(run.queue, create=True)
    run.manifest.touch()
    queue.sync([], [], sha256_file(run.manifest), lambda _: JobState.PENDING)
    for slot in (Slot.of(0, 0), Slot.of(1, 0)):
        queue.workers.register(slot, ProcessId.own())
    told: list[str] = []
    commands = EndCommands((sys.executable, "-c", "print('told')"))
    commands.keep(run)
    run_end_commands(run, told.append, stopped=Slot.of(1, 0))
    assert told == [], "its session was killed"
    queue.drain(True, [Devices.of(1)])
    run_end_commands(run, told.append, stopped=Slot.of(1, 0))
    run_end_commands(run, told.append)
    assert len(told) == 1
    assert told[0].endswith("status 0: told")
    commands.keep(run)
    queue.drain(True, [Devices.of(0)])
    run_end_commands(run, told.append)
    assert len(told) == 1, "every GPU was given back"


def test_where_nothing_is_left_to_do_the_end_is_told_at_once(project: Project) -> None:
    """Also after a stop by hand that came when all was done."""
    write(project)
    assert project.sweep(*LAUNCH).status == 0
    assert project.call("stop", "x").status == 0
    finish, finished = command(project, "done")
    assert project.sweep("resume", "x", "--on", "local", "--on-finish", finish).status == 0
    assert json.loads(finished.read_text())["ended"] == "done"


NOON = 1_800_014_400.0
"""2027-01-15, 12:00 in UTC."""

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.mark.parametrize(
    ("zone", "now", "text", "hours"),
    [
        ("UTC0", NOON, "13:30", 1.5),
        ("UTC0", NOON, "08:00", 20),
        ("UTC0", NOON, "12:00", 24),
        ("CST-8", NOON, "08:00", 12),
        # At 22:00 before the nights in which clocks go from 02:00 to 03:00, and back.
        (BERLIN, 1_806_181_200.0, "08:00", 9),
        (BERLIN, 1_824_926_400.0, "08:00", 11),
        (BERLIN, 1_824_926_400.0, "23:00", 1),
    ],
)
def test_a_deadline_is_the_next_time_that_the_clock_shows_it(
    monkeypatch: pytest.MonkeyPatch, zone: str, now: float, text: str, hours: float
) -> None:
    """Past times are tomorrow's, also over the night in which clocks change."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert moment(text, now) == now + hours * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_last_job_ends_before_the_deadline(project: Project) -> None:
    """`--stop-at`: what is not begun by then is left for a resume."""
    write(project, seeds=list(range(20)), model={"seconds": 0.5})
    words = [word for word in LAUNCH if word != "--wait"]
    later = time.localtime(time.time() + 7200)
    launched = project.sweep(*words, "--stop-at", time.strftime("%H:%M", later))
    assert launched.status == 0
    assert time.strftime("would not end before %Y-%m-%d %H:%M", later) in launched.err
    assert 7100 < project.progress()["stop_at"] - time.time() <= 7200
    # A time of day has whole minutes; here it comes sooner.
    stop_at = time.time() + 6
    queue = Queue(project.run_folder.queue)
    queue.stop_at(stop_at)
    queue.close()
    wait_for(lambda: [one["state"] for one in project.progress()["workers"]] == ["stopped"], 20)
    done = attempts(project.run_folder, Outcome.DONE)
    assert done
    assert max(one["ended_at"] for one in done) <= stop_at + 0.5
    assert project.progress()["pending"] > 0
    assert "(--stop-at)" in log(project)


@pytest.mark.parametrize(
    "words",
    [
        ("--stop-at", "late"),
        ("--stop-at", "25:00"),
        ("--max-failures", "all"),
        ("--on-finish", "no-such-program --x"),
        ("--on-failure", "'unclosed"),
    ],
)
def test_options_that_make_no_sense_are_refused(project: Project, words: tuple[str, str]) -> None:
    finished = project.sweep(*LAUNCH, *words)
    assert finished.status == 2
    assert words[0] in finished.err
    assert len(finished.err.splitlines()) <= 2
    assert not project.run_folder.path.exists()
