"""Write docs/queue_states.md from the table of states: python docs/make_queue_states.py"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runner.job import JobState
from runner.queue.states import RULES, TransitionRule, transition

FILE = Path(__file__).with_name("queue_states.md")
HEAD = """\
# What can happen to a job

A job's row in the queue changes its state, its counters, its claim and what is noted of its
attempts and its video only by one of these events, and only so. The table is data,
`runner/queue/states.py`; the queue makes its statements of it, so that no event happens to a job
that is in no state for it, and tests hold the real queue against it.

This page is made by `python docs/make_queue_states.py`.

"No row" is a job that the queue does not know yet. Whether a job is *held*, outside the part of the
sweep that is being run, is no matter of its state.

"""


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join([*_events(), "", *_matrix()]) + "\n"


def _events() -> Iterator[str]:
    yield "## The events\n"
    yield "| event | when | from → to | what else changes |"
    yield "| --- | --- | --- | --- |"
    for rule in RULES:
        words = "; ".join(change.words for change in rule.changes)
        yield f"| `{rule.event.value}` | {rule.when} | {_steps(rule)} | {words} |"


def _steps(rule: TransitionRule) -> str:
    """The states from which an event leads to the same one are named together."""
    leading: dict[JobState, list[str]] = {}
    for state, to in rule.steps.items():
        leading.setdefault(to, []).append(_name(state))
    return "; ".join(f"{', '.join(own)} → **{to.value}**" for to, own in leading.items())


def _matrix() -> Iterator[str]:
    yield "## Every state and event\n"
    yield "An empty cell is refused: the job stays as it is.\n"
    states = (None, *JobState)
    yield f"| | {' | '.join(_name(state) for state in states)} |"
    yield "| --- |" + " --- |" * len(states)
    for rule in RULES:
        steps = (transition(state, rule.event) for state in states)
        cells = ("" if step is None else step.to.value for step in steps)
        yield f"| `{rule.event.value}` | {' | '.join(cells)} |"


def _name(state: JobState | None) -> str:
    return "no row" if state is None else state.value


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
