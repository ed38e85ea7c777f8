"""Choices of kernels: made once for all workers, kept as data, and never code that is run."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from chosen_kernels import FACTS, KERNELS, NAME, chosen
from conftest import wait_for

from runner.backends.wan.kernel_choices import Choices, Config, KernelChoices


def compile_with(block: int) -> Callable[[Mapping[str, Config]], Choices]:
    """A compiler that takes the configurations it is handed, and else that block."""
    return lambda configs: Choices(KERNELS, configs) if configs else chosen(block)


MAKER = """
import sys, time
from pathlib import Path
from runner.backends.wan.kernel_choices import Choices, KernelChoices
from chosen_kernels import FACTS, KERNELS, chosen
block, folder, begun = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
def make(configs):
    begun.touch()
    time.sleep(float(sys.argv[4]))
    return Choices(KERNELS, configs) if configs else chosen(block)
print(KernelChoices(folder).settle(FACTS, make).hash)
"""


def maker(block: int, folder: Path, begun: Path, seconds: float) -> subprocess.Popen[str]:
    own = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    path = os.pathsep.join([*own, os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(block), str(folder), str(begun), str(seconds)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_workers_at_once_make_them_once(tmp_path: Path) -> None:
    """Each would choose another block; both compute with the same one, and one file is sealed."""
    both = [maker(block, tmp_path / "k", tmp_path / str(block), 0.3) for block in (64, 128)]
    hashes = {process.communicate()[0].strip() for process in both}
    assert len(hashes) == 1
    (sealed,) = (tmp_path / "k").glob("*.json")
    assert json.loads(sealed.read_text())["hash"] in hashes


def test_where_the_maker_is_killed_the_next_one_makes_them(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    process = maker(64, tmp_path / "k", begun, 60)
    wait_for(begun.exists)
    assert not list((tmp_path / "k").glob("*.json"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert KernelChoices(tmp_path / "k").settle(FACTS, compile_with(128)) == chosen(128)
    assert KernelChoices(tmp_path / "k").settle(FACTS, compile_with(64)) == chosen(128)


def test_a_frozen_maker_stops_nobody_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who has waited long enough goes on with its own, says so, and seals nothing."""
    choices = KernelChoices(tmp_path, most_seconds=0.3)
    with choices.path(FACTS).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert choices.settle(FACTS, compile_with(64)) == chosen(64)
    assert "other last bits" in caplog.text
    assert not list(tmp_path.glob("*.json"))


def test_sealed_choices_are_for_one_kind_of_machine_and_shape(tmp_path: Path) -> None:
    choices = KernelChoices(tmp_path)
    choices.settle(FACTS, compile_with(64))
    others: list[dict[str, Any]] = [
        {"device": "NVIDIA H200"},
        {"torch": "2.12.0"},
        {"shape": [1280, 720, 81]},
    ]
    for number, other in enumerate(others):
        made = choices.settle({**FACTS, **other}, compile_with(256 << number))
        assert made == chosen(256 << number)
    assert choices.settle(FACTS, compile_with(128)) == chosen(64)


def test_sealed_choices_that_cannot_be_followed_are_said_and_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process whose kernels come out otherwise has a hash of its own."""
    choices = KernelChoices(tmp_path)
    choices.settle(FACTS, compile_with(64))
    before = choices.path(FACTS).read_bytes()
    made = choices.settle(FACTS, lambda _: chosen(128))
    assert made.hash == chosen(128).hash != chosen(64).hash
    assert "cannot be followed here (0 kernels and 1 configurations differ)" in caplog.text
    assert choices.path(FACTS).read_bytes() == before


def altered(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda held: {**held, **changes}


def configured(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    """With another configuration, and the hash that belongs to it."""

    def change(held: dict[str, Any]) -> Any:
        configs = {NAME: {**held["configs"][NAME], **changes}}
        return {**held, "configs": configs, "hash": Choices(KERNELS, configs).hash}

    return change


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda _: [],
    "another schema": altered(schema=2),
    "another machine's": altered(facts={"device": "another"}),
    "no hash": altered(hash=None),
    "another hash": altered(hash="0" * 64),
    "kernels that are no list": altered(kernels={}),
    "a kernel elsewhere": altered(kernels=["../../evil.py"]),
    "a configuration elsewhere": altered(configs={"../../../x.best_config": {}}),
    "a configuration that is a path": altered(configs={"/tmp/x.best_config": {}}),
    "a configuration that is a list": altered(configs={NAME: []}),
    "too many": altered(kernels=list(KERNELS) * 20_000),
    "a block beyond the bounds that kernels check": configured(XBLOCK=1 << 20),
    "a block that is no power of two": configured(XBLOCK=96),
    "a block that is a switch": configured(XBLOCK=True),
    "a block that is a text": configured(XBLOCK="__import__('os').system('true')"),
    "an unknown key": configured(pre_hook=1),
    "tuned beyond what there is": configured(found_by_coordesc=True),
    "a thousand warps": configured(num_warps=1024),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_not_followed(
    change: Callable[[dict[str, Any]], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and new choices take its place."""
    choices = KernelChoices(tmp_path)
    choices.settle(FACTS, compile_with(64))
    path = choices.path(FACTS)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    handed: list[Mapping[str, Config]] = []

    def make(configs: Mapping[str, Config]) -> Choices:
        handed.append(configs)
        return chosen(128)

    assert choices.settle(FACTS, make) == chosen(128)
    assert handed == [{}]
    assert "is not followed, and made again" in caplog.text
    assert choices.settle(FACTS, compile_with(64)) == chosen(128)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("lay", [fifo, large, deep, link])
def test_what_is_no_file_of_choices_holds_nobody_up(
    lay: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    choices = KernelChoices(tmp_path)
    lay(choices.path(FACTS))
    assert choices.settle(FACTS, compile_with(64)) == chosen(64)
    assert "is not followed, and made again" in caplog.text
    assert choices.path(FACTS).is_file()
    assert not choices.path(FACTS).is_symlink()


def test_what_others_would_refuse_is_not_sealed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choices = KernelChoices(tmp_path)
    assert choices.settle(FACTS, lambda _: chosen(1 << 20)) == chosen(1 << 20)
    assert "not kept" in caplog.text
    assert not list(tmp_path.glob("*.json"))
