"""The live view: what is on a terminal while a sweep is made."""

from __future__ import annotations

import inspect
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from runner.disk.attempts import AttemptRecord, record_attempt
from runner.job import Outcome
from runner.watch.live_view import TAIL_BYTES, Failure, last_failures, live_view
from runner.watch.machine_use import GpuUse, MachineUse, gpu_use, machine_use
from runner.watch.progress import Counts, Snapshot, WorkerStatus

NOW = 1_800_000_000.0


def a_snapshot(category: str = "camera_motion", video: str = "a/b/seed_1.mp4") -> Snapshot:
    counts = Counts(total=680, done=412, running=2, pending=260, failed=4, stale=2)
    workers = [
        WorkerStatus(
            name=f"gpu{gpu}_process0",
            place="",
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
        awaiting=0,
        waiting=0,
        next_try_at=None,
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


def shown(
    snapshot: Snapshot,
    width: int,
    use: MachineUse,
    *failures: Failure,
    height: int | None = None,
) -> list[str]:
    """The lines on a terminal of that size."""
    console = Console(width=width, record=True, force_terminal=True, file=io.StringIO())
    console.print(live_view(snapshot, use, failures, now=NOW, height=height))
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
        "2 min ago  OutOfMemoryError: CUDA",
        "sweep explain motion_study 77c7ee3515762011  gpu1_process0",
    ):
        assert words in text, words


@pytest.mark.parametrize("height", [12, 24, 30, 50])
def test_a_large_sweep_fits_a_small_terminal(height: int) -> None:
    """Sixteen workers and twelve categories: the newest failure stays, and what is left out is
    counted."""
    small = a_snapshot()
    workers = [
        replace(small.workers[0], name=f"gpu{n // 2}_process{n % 2}", gpu=n // 2) for n in range(16)
    ]
    names = {f"category_{n}": small.counts for n in range(12)}
    snapshot = replace(small, workers=tuple(workers), categories=names)
    use = MachineUse({n: GpuUse(0.97, 88.2, 139.8) for n in range(8)}, 812.4)
    failures = [Failure(f"{n:016x}", "gpu1_process0", NOW - n, f"Error {n}") for n in range(3)]
    lines = shown(snapshot, 80, use, *failures, height=height)
    text = "\n".join(lines)
    assert len(lines) <= max(height, 15)
    assert "Error 0" in text
    assert ("more workers" in text) == (height < 40)
    there = sum(line.startswith("gpu") for line in lines)
    if height < 40:
        assert f"… {16 - there} more workers" in text
    else:
        assert (there, "Error 2" in text) == (16, True)


def test_jobs_that_wait_for_another_attempt_are_told_with_the_time() -> None:
    snapshot = replace(a_snapshot(), waiting=2, next_try_at=NOW + 75)
    text = "\n".join(shown(snapshot, 80, MachineUse()))
    assert "2 jobs wait for another attempt, the next in 75 s" in text


def test_a_worker_that_waits_says_for_what() -> None:
    snapshot = a_snapshot()
    waiting = replace(snapshot.workers[0], note="no room on the disk")
    text = "\n".join(shown(replace(snapshot, workers=(waiting,)), 80, MachineUse()))
    assert "no room on the disk" in text


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
        record_attempt(
            path, AttemptRecord(f"{number:016x}", "gpu0_process0", outcome, 1, 2, error=error)
        )
    assert path.stat().st_size > 2 * TAIL_BYTES
    assert [one.error for one in last_failures(path)] == ["OSError: 1999", "OSError: 1749"]
    with path.open("ab") as file:
        file.write(b'{"job": "cut sho')
    assert [one.error for one in last_failures(path, most=1)] == ["OSError: 1999"]
    assert last_failures(tmp_path / "nowhere") == []


def test_an_error_text_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "attempts.jsonl"
    error = "ValueError: \x1b[2J\x1b]0;pwned\x07 [red]x[/red] \u202egnp.exe"
    record_attempt(
        path, AttemptRecord("0" * 16, "gpu0_process0", Outcome.FAILED, 1, 2, error=error)
    )
    (failure,) = last_failures(path)
    text = "\n".join(shown(a_snapshot(), 160, MachineUse(), failure))
    assert "[red]x[/red]" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_a_name_cannot_steer_the_terminal() -> None:
    """Nor can a clip's name, a category's, or the reason for which a GPU is set aside."""
    evil = "\x1b[2J\n\x1b]0;pwned\x07"
    snapshot = replace(a_snapshot(f"cat{evil}", f"{evil}/seed_1.mp4"), set_aside={"gpu1": evil})
    text = "\n".join(shown(snapshot, 160, MachineUse()))
    assert r"cat\x1b[2J\n" in text
    assert not {"\x1b", "\x07"} & set(text)


class Nvml:
    """NVML as `pynvml` gives it: its own structures, its own errors, for each GPU memory and use
    or why it does not tell them."""

    NVMLError = pynvml.NVMLError

    def __init__(self, *gpus: tuple[int | tuple[int, int], int | tuple[int, int]] | int) -> None:
        self.gpus = gpus

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> Any:
        gpu = self.gpus[number]
        if isinstance(gpu, int):
            raise pynvml.NVMLError(gpu)
        return gpu

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        if isinstance(handle[0], int):
            raise pynvml.NVMLError(handle[0])
        used, total = handle[0]
        return pynvml.c_nvmlMemory_t(total=total, free=total - used, used=used)

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:
        if isinstance(handle[1], int):
            raise pynvml.NVMLError(handle[1])
        return pynvml.c_nvmlUtilization_t(gpu=handle[1][0], memory=handle[1][1])


def test_each_gpu_is_told_as_far_as_nvml_tells_it() -> None:
    """An H200 at work; one divided by MIG, which has no use of its own; one that shares the
    host's memory; one that may not be asked; one that is lost; and the rest goes on."""
    h200 = (94_710_530_048, 150_754_820_096)
    use = gpu_use(
        Nvml(
            (h200, (97, 41)),
            (h200, pynvml.NVML_ERROR_NOT_SUPPORTED),
            (pynvml.NVML_ERROR_NOT_SUPPORTED, (12, 0)),
            (pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_NO_PERMISSION),
            pynvml.NVML_ERROR_GPU_IS_LOST,
            ((0, h200[1]), (0, 0)),
        )
    )
    assert sorted(use) == [0, 1, 2, 5]
    small = a_snapshot()
    workers = [replace(small.workers[0], name=f"gpu{n}_process0", gpu=n) for n in range(6)]
    lines = shown(replace(small, workers=tuple(workers)), 80, MachineUse(use))
    rows = [re.sub(r"\s+", " ", line) for line in lines if line.startswith("gpu")]
    wanted = ["97 % 88/140 a/b", "? 88/140 a/b", "12 % ? a/b", "a/b", "a/b", "0 % 0/140 a/b"]
    for number, (row, words) in enumerate(zip(rows, wanted, strict=True)):
        assert row.startswith(f"gpu{number}_process0 {words}"), row


def test_a_driver_that_does_not_answer_is_as_none() -> None:
    class Gone(Nvml):
        def nvmlDeviceGetCount(self) -> int:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    assert gpu_use(Gone()) == {}


def test_what_is_asked_of_nvml_is_there_to_ask() -> None:
    """The functions that the stand-in above has, with the arguments that they are given."""
    for name in vars(Nvml):
        if name.startswith("nvml"):
            own = inspect.signature(getattr(Nvml, name)).parameters
            there = inspect.signature(getattr(pynvml, name)).parameters
            required = [p for p in there.values() if p.default is p.empty]
            assert len(required) == len(own) - 1, name


def test_the_machine_is_looked_at_without_a_driver(tmp_path: Path) -> None:
    use = machine_use(tmp_path)
    assert use.disk_free_gib is not None
    assert use.disk_free_gib > 0
    assert machine_use(tmp_path / "nowhere").disk_free_gib is None
