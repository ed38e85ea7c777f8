"""What the tests share: small projects with real clips, the `sweep` command, a private tmux."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

# Test processes share the cores, and threads of torch that wait for one another's core spin: with
# as many as there are cores in each process, tests of the model take ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from forked_command import CommandServers, run_forked
from forked_process import can_fork
from hypothesis import settings

from runner.cli import main
from runner.disk.run_folder import RunFolder
from runner.video import write_video

# A shell that runs the tests in the background has them ignore Ctrl-C and Ctrl-\, and so what they
# start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# How long an example takes says nothing where the machine is busy.
settings.register_profile("sweep", deadline=None)
settings.load_profile("sweep")

WIDTH, HEIGHT, FRAMES, FPS = 112, 64, 9, 15

TWO = {"gpus": [0], "processes_per_gpu": 2}
"""The placement of a sweep with two workers; a test that needs no second one has one."""


STARTS_WORKERS = ("launch", "resume", "calibrate")


def write_clip(path: Path, *, frames: int = FRAMES, seed: int = 0) -> None:
    """A real clip: a block that moves over a field of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    field_ = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    video = np.repeat(field_[None], frames, axis=0)
    for number in range(frames):
        left = 4 * number % (WIDTH - 20)
        video[number, 20:40, left : left + 20] = 255
    write_video(path, video, fps=FPS, quality=5)


def colour_chart(
    width: int, height: int
) -> tuple[npt.NDArray[np.uint8], dict[tuple[int, int], tuple[int, ...]]]:
    """A picture of 125 colours, and the colour at the middle of each, by its place (y, x)."""
    colours = list(product((0, 64, 128, 192, 255), repeat=3))
    columns, rows = 25, 5
    side = (height // rows, width // columns)
    chart = np.zeros((height, width, 3), np.uint8)
    spots = {}
    for number, colour in enumerate(colours):
        y, x = number // columns * side[0], number % columns * side[1]
        chart[y : y + side[0], x : x + side[1]] = colour
        spots[y + side[0] // 2, x + side[1] // 2] = colour
    return chart, spots


LONG = (
    "test_compiled_blocks_compute_as_well",
    "test_a_worker_goes_on_where_another",
    "test_what_a_prompt_names_is_there",
    "test_each_method_of_ones_own_is_measured",
    "test_every_command_does_what_it_says",
    "test_motion_is_the_references",
    "test_a_runs_videos_are_measured",
    "test_kills_break_nothing",
    "test_power_cuts_are_repaired",
    "test_the_tiny_wan_stands",
    "test_a_disk_that_fills_up",
    "test_a_process_makes_the_same_and_one",
    "test_other_axes_go_the_whole_way",
    "test_what_tea_cache_leaves_out_is_measured",
    "test_workers_are_reached_although",
)
"""How the longest tests' names begin."""


def pytest_configure(config: pytest.Config) -> None:
    """Have servers for commands; test processes share those of the one that started them."""
    if not hasattr(config, "workerinput"):
        config.add_cleanup(CommandServers().close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that none of them is all that runs at the end: as many for each
    test process, which begins with a part of its own of this list."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.name.startswith(LONG)]
    rest = [item for item in items if not item.name.startswith(LONG)]
    ends = [len(rest) * number // processes for number in range(processes + 1)]
    items[:] = [
        item
        for number in range(processes)
        for item in (*long[number::processes], *rest[ends[number] : ends[number + 1]])
    ]


def pytest_collection_finish() -> None:
    spare_imports()


def pytest_runtest_setup() -> None:
    # The first test of the Wan model has imported half a million more objects.
    if "diffsynth" in sys.modules:
        spare_imports_of_wan()


def spare_imports() -> None:
    """Have the garbage collector pass over all that there is by now: it is there for good, and an
    engine collects as often as it loads a model."""
    gc.collect()
    gc.freeze()


spare_imports_of_wan = cache(spare_imports)


@dataclass
class Project:
    """A person's folder: experiments/, clips, prompts; and the command line in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    after: Path | None = None
    """A folder like this one after its sweep."""
    has_wan: bool = False
    """Whether its workers load the Wan model: what they import is then at hand."""

    @property
    def file(self) -> Path:
        return self.root / "experiments" / "x.yaml"

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder(self.root / "results" / "x")

    def write(self, **changes: Any) -> Path:
        """Write the experiment: a small fake one, with these keys changed."""
        values: dict[str, Any] = {
            "name": "x",
            "backend": "fake",
            "model": {"seconds": 0.05},
            "dataset": {"videos": "videos", "prompts": "prompts.json"},
            "seeds": [1],
            "generation": {
                "width": WIDTH,
                "height": HEIGHT,
                "num_frames": FRAMES,
                "fps": FPS,
                "num_inference_steps": 5,
            },
            "placement": {"gpus": [0], "processes_per_gpu": 1},
            **changes,
        }
        self.has_wan |= values["backend"] == "wan"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
        return self.file

    def add_clips(self, clips: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Write clips and prompts: {category: {video: prompts}}."""
        for category, videos in clips.items():
            for number, video in enumerate(videos):
                write_clip(self.root / "videos" / category / f"{video}.mp4", seed=number)
        text = json.dumps(clips, ensure_ascii=False)
        (self.root / "prompts.json").write_text(text, encoding="utf-8")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "runner", *words]

    def sweep(self, *words: str, cwd: Path | None = None, timeout: float = 120) -> Finished:
        """Run `sweep` with these words in the project's folder, in a process of its own."""
        environment = {**os.environ, **self.environment}
        if can_fork(self.environment):
            given = run_forked(
                words,
                cwd=cwd or self.root,
                environment=environment,
                timeout=timeout,
                has_wan=self.has_wan and words[0] in STARTS_WORKERS,
            )
            return Finished(*given)
        result = subprocess.run(
            self.command(*words),
            cwd=cwd or self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Finished(result.returncode, result.stdout, result.stderr)

    def call(self, *words: str, cwd: Path | None = None) -> Finished:
        """As `sweep`, in this process: many times quicker, for a command that starts nothing."""
        with mock.patch.dict(os.environ, self.environment):
            return run_here(words, cwd or self.root)

    def finish(self) -> None:
        """Have the sweep's videos made: copied from one like it, since a launch takes seconds."""
        assert self.after is not None
        assert self.file.read_bytes() == (self.after / "experiments" / "x.yaml").read_bytes()
        shutil.copytree(self.after / "results", self.root / "results")

    def progress(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.call("progress", "x", "--json").out)
        return answer


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    status: int
    out: str
    err: str


def run_here(words: Sequence[str], cwd: Path) -> Finished:
    """Run `sweep` with these words in this process, standing in that folder."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    before = Path.cwd()
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(words)
            except SystemExit as ended:
                status = ended.code
    finally:
        os.chdir(before)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Finished(int(status or 0), *texts)


# What SQLite, tmux, rich and a shell would each read as something of their own.
FOLDER = "项目 'a?b' #{host}#(touch pwned) [b]$HOME"


needs_tmux = pytest.mark.skipif(
    shutil.which("tmux") is None, reason="there is no tmux (Debian: apt-get install tmux)"
)


@pytest.fixture
def private_tmux() -> Iterator[dict[str, str]]:
    """An environment in which tmux, where there is one, is a server of its own, which ends with
    the test."""
    socket = f"sweep-test-{uuid.uuid4().hex[:8]}"
    yield {"SWEEP_TMUX_SOCKET": socket}
    if shutil.which("tmux"):
        subprocess.run(["tmux", "-L", socket, "kill-server"], capture_output=True, check=False)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small project of two categories and six jobs on the fake backend."""
    made = Project(tmp_path_factory.mktemp("template") / FOLDER)
    made.root.mkdir()
    made.add_clips(
        {
            "camera_motion": {
                "ref_镜头仰角": ["a red ball", "一只红色的球"],
                "-dash": ["a 'quote\""],
            },
            "two words": {"ref 🎬 b": ["one", "two", "<script>three</script>"]},
        }
    )
    made.write()
    return made.root


@pytest.fixture(scope="session")
def finished_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder after its sweep."""
    made = Project(tmp_path_factory.mktemp("finished") / FOLDER)
    shutil.copytree(template, made.root)
    launched = made.sweep("launch", "experiments/x.yaml", "--on", "local", "--wait")
    assert launched.status == 0, launched.err
    return made.root


@pytest.fixture
def project(
    tmp_path: Path, private_tmux: dict[str, str], template: Path, finished_template: Path
) -> Iterator[Project]:
    """A copy of `template`, on a private tmux socket."""
    made = Project(tmp_path / FOLDER, private_tmux, finished_template)
    shutil.copytree(template, made.root)
    yield made
    if made.run_folder.path.exists():
        made.call("stop", "x", "--now")


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished sweep with a cell of every kind, and its report. Tests do not change it."""
    from shown_sweep import make_shown_sweep

    made = make_shown_sweep(tmp_path_factory.mktemp("报告 #1? 50%") / "a b")
    done = made.call("report", "x", "--json")
    assert done.status == 0, done.err
    return made


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so, and fail where it does not come to be."""
    import time

    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come to be in time"
        time.sleep(0.05)
