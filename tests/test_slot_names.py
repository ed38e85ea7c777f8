"""Slots: one name for each, which says all of it, and what this version refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project
from hypothesis import given
from hypothesis import strategies as st

from runner.disk.run_folder import RunFolder, locked
from runner.job.slot_names import HOME, LARGEST_NUMBER_IN_NAME, Devices, Slot, slots
from runner.queue.gate import Gate
from runner.runs.runs import live_slots
from runner.text.errors import UserError

NUMBERS = st.integers(0, 20) | st.integers(0, LARGEST_NUMBER_IN_NAME)
PLACES = st.just(HOME) | st.sampled_from(["gpu0", "gpu0_process0", "a_", "n-1"])
PLACES |= st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True)
SLOTS = st.builds(
    Slot,
    st.builds(Devices, PLACES, st.sets(NUMBERS, min_size=1, max_size=9).map(sorted).map(tuple)),
    NUMBERS,
)


@given(SLOTS)
def test_a_name_says_the_whole_slot(slot: Slot) -> None:
    """Of every slot, its devices and its files: back from the name, and none other's name."""
    assert Slot.parse(slot.name) == slot
    assert Devices.parse(slot.devices.name) == slot.devices
    assert (Slot.of_lock(slot.lock), Slot.of_log(slot.log)) == (slot, slot)
    assert (Slot.parse(slot.devices.name), Devices.parse(slot.name)) == (None, None)
    assert (Slot.of_lock(slot.log), Slot.of_log(slot.lock)) == (None, None)
    assert Devices.parse(slot.host) is None
    assert slot.session == slot.name.rpartition("process")[0] + f"proc{slot.process}"


@given(SLOTS, SLOTS)
def test_two_slots_share_no_name(one: Slot, two: Slot) -> None:
    assert (one.name == two.name) == (one.session == two.session) == (one == two)
    assert (one.devices.name == two.devices.name) == (one.devices == two.devices)
    assert (one.host == two.host) == (one.place == two.place)


@given(st.text(max_size=20) | st.from_regex(r"(\w_)?gpu[0-9+-]{1,8}_process\d{1,3}"))
def test_what_is_no_slots_name_is_none(text: str) -> None:
    """There is one name for each slot, and no other text is it."""
    slot = Slot.parse(text)
    assert slot is None or slot.name == text


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("gpu0_process1", Slot.of(0, 1)),
        ("n12_gpu3_process0", Slot(Devices("n12", (3,)), 0)),
        ("gpu0-3_process0", Slot(Devices(HOME, (0, 1, 2, 3)), 0)),
        ("gpu0+2_process0", Slot(Devices(HOME, (0, 2)), 0)),
        ("n12_gpu0-1+5_process2", Slot(Devices("n12", (0, 1, 5)), 2)),
        ("gpu0_gpu1_process0", Slot(Devices("gpu0", (1,)), 0)),
    ],
)
def test_names_are_those_of_the_design(name: str, slot: Slot) -> None:
    assert slot.name == name
    assert Slot.parse(name) == slot


@pytest.mark.parametrize(
    "name",
    [
        *("gpu00_process0", "gpu0_process00", "gpu٣_process0", "gpu0_process0\n", "gpu_process0"),
        *("gpu0+1_process0", "gpu2+0_process0", "gpu0-0_process0", "gpu3-1_process0"),
        *("gpu0+0_process0", "gpu0-2+1_process0", "gpu100000_process0", "_gpu0_process0"),
        *("../x_gpu0_process0", "n.1_gpu0_process0", "-n_gpu0_process0", "gpu0_proc0", "gpu0"),
    ],
)
def test_another_way_to_write_it_is_no_name(name: str) -> None:
    assert Slot.parse(name) is None


@pytest.mark.parametrize(
    ("place", "gpus"),
    [("", ()), ("", (1, 0)), ("", (0, 0)), ("", (-1,)), ("", (True,)), ("a.b", (0,)), ("/", (0,))],
)
def test_devices_that_cannot_be_are_refused(place: str, gpus: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be|no host"):
        Devices(place, gpus)


def test_slots_come_by_place_then_devices_then_process() -> None:
    """At home as they always did: gpu2 before gpu10."""
    elsewhere = Slot(Devices("n1", (0,)), 0)
    ordered = [Slot.of(0, 0), Slot.of(0, 1), Slot.of(2, 0), Slot.of(10, 0), elsewhere]
    assert sorted(dict.fromkeys(ordered[::-1])) == ordered
    assert slots([0, 1], 2) == [Slot.of(0, 0), Slot.of(1, 0), Slot.of(0, 1), Slot.of(1, 1)]


def test_a_gate_knows_devices_by_their_names() -> None:
    """Of one place and the same devices only; also after it was written down."""
    home, elsewhere = Slot.of(3, 0), Slot(Devices("n12", (3,)), 0)
    gate = Gate().drain(True, [home.devices]).set_aside(elsewhere, "hot")
    gate = Gate.from_json(gate.to_json())
    assert gate.refusal(home, 0) == "asked to stop"
    assert gate.refusal(elsewhere, 0) == "n12_gpu3_process0 is set aside: hot"
    assert gate.reopen([home.devices]).aside == {elsewhere.name: "hot"}
    assert gate.reopen([elsewhere.devices]).aside == {}
    with pytest.raises(ValueError, match="are no devices"):
        Gate.from_json(Gate().to_json().replace('"apart": []', '"apart": ["3"]'))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("n12_gpu3_process0", "is a slot of another machine"),
        ("gpu0-3_process0", "is a slot of several GPUs"),
        ("gpu0", "is no slot's name"),
    ],
)
def test_a_slot_that_cannot_be_worked_with_is_refused_in_a_line(
    project: Project, name: str, why: str
) -> None:
    """On the command lines of supervisor and worker."""
    project.write()
    assert project.call("plan", "experiments/x.yaml").status == 0
    with pytest.raises(UserError, match=why):
        Slot.read(name)
    run = str(project.run_folder.path)
    for module in (["runner.slots.slot"], ["runner.worker", "--device=cpu"]):
        command = [sys.executable, "-m", *module, run, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert why in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_live_slot_that_cannot_be_worked_with_is_not_passed_over(tmp_path: Path) -> None:
    """Another version works there: nobody is to think that no slot is alive."""
    run = RunFolder(tmp_path / "x")
    run.locks.mkdir(parents=True)
    elsewhere = run.locks / "n12_gpu3_process0.lock"
    elsewhere.touch()
    with locked(run.lock(Slot.of(1, 0))):
        assert live_slots(run) == [Slot.of(1, 0)]
        with locked(elsewhere), pytest.raises(UserError, match="another machine"):
            live_slots(run)
