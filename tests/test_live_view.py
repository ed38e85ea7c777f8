"""The live view: what is on a terminal while a sweep is made."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from runner.attempts import Attempt, record_attempt
from runner.job import Outcome
from runner.live_view import TAIL_BYTES, Failure, last_failures, live_view
from runner.machine_use import GpuUse, MachineUse, machine_use
from runner.progress import Counts, Snapshot, Worker

NOW = 1_800_000_000.0


def a_snapshot(category: str = "camera_motion", video: str = "a/b/seed_1.mp4") -> Snapshot:
    counts = Counts(total=680, done=412, running=2, pending=260, failed=4, stale=2)
    workers = [
        Worker(
            name=f"gpu{gpu}_process0",
            gpu=gpu,
            process=0,
            pid=1,
            state="working",
            note=None,
            job="1fc7ee3515762011",
            video=video,
            step=31,
            steps=50,
            jobs_done=52,
            seconds_per_job=330.1,
        )
        for gpu in range(2)
    ]
    return Snapshot(
        sweep="motion_study",
        counts=counts,
        held=0,
        eta_seconds=11400.0,
        seconds_per_job=331.2,
        categories={category: counts},
        workers=tuple(workers),
        busy={0: 0.98, 1: 0.97},
        makespan=None,
        draining=False,
        set_aside={},
        stopped_because=None,
        stop_at=None,
    )


def shown(snapshot: Snapshot, width: int, use: MachineUse, *failures: Failure) -> list[str]:
    """The lines on a terminal of that width."""
    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    console.print(live_view(snapshot, use, failures, now=NOW))
    return console.export_text().splitlines()


def test_at_80_columns_all_that_matters_is_on_it() -> None:
    use = MachineUse({0: GpuUse(0.97, 88.2, 139.8), 1: GpuUse(0.5, 20.0, 139.8)}, 812.4)
    failure = Failure("77c7ee3515762011", "gpu1_process0", NOW - 140, "OutOfMemoryError: CUDA")
    text = "\n".join(shown(a_snapshot(), 80, use, failure))
    for words in (
        "412/680 done",
        "3 h 10 min left, ends",
        "22/h",
        "812 GiB free",
        "97 %  88/140",
        "a/b/seed_1",
        "31/50",
        "2 min ago  gpu1_process0  OutOfMemoryError: CUDA",
        "sweep explain motion_study 77c7ee3515762011",
    ):
        assert words in text, words


def test_a_worker_that_waits_says_for_what() -> None:
    snapshot = a_snapshot()
    waiting = replace(snapshot.workers[0], note="no room on the disk")
    text = "\n".join(shown(replace(snapshot, workers=(waiting,)), 80, MachineUse()))
    assert "no room on the disk" in text


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=60), st.text(max_size=200), st.integers(80, 200), st.booleans())
def test_no_line_is_wider_than_the_terminal(
    category: str, error: str, width: int, has_gpu: bool
) -> None:
    use = MachineUse({0: GpuUse(1.0, 139.8, 139.8)} if has_gpu else {}, 10_000.0)
    failure = Failure("77c7ee3515762011", "gpu1_process0", NOW, " ".join(error.split()))
    snapshot = a_snapshot(category, f"{category}/ref_镜头/seed_1_prompt_0.mp4")
    for line in shown(snapshot, width, use, failure):
        assert cell_len(line) <= width


def test_the_last_failures_are_found_at_the_end_of_a_long_file(tmp_path: Path) -> None:
    """Newest first, however long the file and whatever its last lines are cut from."""
    path = tmp_path / "attempts.jsonl"
    for number in range(2000):
        outcome = Outcome.FAILED if number % 250 == 249 else Outcome.DONE
        error = f"OSError: {number}" if outcome is Outcome.FAILED else None
        record_attempt(path, Attempt(f"{number:016x}", "gpu0_process0", outcome, 1, 2, error=error))
    assert path.stat().st_size > 2 * TAIL_BYTES
    assert [one.error for one in last_failures(path)] == ["OSError: 1999", "OSError: 1749"]
    with path.open("ab") as file:
        file.write(b'{"job": "cut sho')
    assert [one.error for one in last_failures(path, most=1)] == ["OSError: 1999"]
    assert last_failures(tmp_path / "nowhere") == []


def test_an_error_text_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    error = "ValueError: \x1b[2J\x1b]0;pwned\x07 [red]x[/red] \u202egnp.exe"
    record_attempt(path, Attempt("0" * 16, "gpu0_process0", Outcome.FAILED, 1, 2, error=error))
    (failure,) = last_failures(path)
    text = "\n".join(shown(a_snapshot(), 160, MachineUse(), failure))
    assert "[red]x[/red]" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_the_machine_is_looked_at_without_a_driver(tmp_path: Path) -> None:
    use = machine_use(tmp_path)
    assert use.disk_free_gib is not None
    assert use.disk_free_gib > 0
    assert machine_use(tmp_path / "nowhere").disk_free_gib is None
