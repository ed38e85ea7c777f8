"""Another interpreter at work for a backend: a service of its own, called through `Child`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.backends.foreign.child import Child
from runner.job.failures import ChildDied, ForeignError

SERVICE = """
import sys

class Odd:
    pass

def deeper():
    raise ValueError("deep 深")

def calls(pipe, *arguments):
    def add(one, two):
        return {"sum": one + two, "arguments": arguments, "file": __file__}

    def steps(total):
        for step in range(total):
            pipe.step(step + 1, total)
        return total

    def odd():
        return Odd()

    return {"add": add, "steps": steps, "odd": odd, "deeper": deeper, "leave": lambda: sys.exit(4)}
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    service = tmp_path / "服务.py"
    service.write_text(textwrap.dedent(SERVICE), encoding="utf-8")
    started: list[Child] = []

    def start(*arguments: str) -> Child:
        child = Child(Path(sys.executable), service, arguments, tmp_path, {}, name="dub")
        started.append(child)
        return child

    yield start
    for child in started:
        child.close()


def test_a_call_returns_what_its_function_does(start: Callable[..., Child], tmp_path: Path) -> None:
    child = start("一", "--two")
    assert child.call("add", one=1, two=2.5) == {
        "sum": 3.5,
        "arguments": ["一", "--two"],
        "file": str(tmp_path / "服务.py"),
    }
    assert child.call("no such call") is None
    assert child.memory() == child.memory(anew=True)
    assert child.memory().held is None


def test_steps_are_told_and_may_end_a_call(start: Callable[..., Child]) -> None:
    child = start()
    steps: list[int] = []

    def on_step(done: int, total: int) -> None:
        steps.append(done)
        if total == 100 and done == 3:
            raise KeyboardInterrupt

    assert child.call("steps", on_step, total=2) == 2
    with pytest.raises(KeyboardInterrupt):
        child.call("steps", on_step, total=100)
    assert [step for step in steps if step] == [1, 2, 1, 2, 3]
    assert child.call("steps", total=4) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("deeper", r"deep 深 \(at 服务.py:8 in deeper: raise ValueError\("),
        ("odd", "not JSON serializable"),
        ("add", "missing 2 required"),
        ("leave", "4"),
    ],
)
def test_an_error_is_told_and_the_process_goes_on(
    start: Callable[..., Child], call: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A service's own lines are in it, for its code may stand there."""
    child = start()
    with pytest.raises(ForeignError, match=message):
        child.call(call)
    said = capfd.readouterr().err
    assert "server.py" not in said
    assert ("in deeper" in said) is (call == "deeper")
    assert child.call("steps", total=1) == 1


def test_a_service_that_cannot_be_read_is_a_death(start: Callable[..., Child]) -> None:
    """Whose name is said, and why is in the log."""
    child: Any = start()
    child.close()
    (Path(child._process.args[2])).write_text("x = = 1\n")
    with pytest.raises(ChildDied, match="the dub's process ended with status 1"):
        start().call("add", one=1, two=2)
