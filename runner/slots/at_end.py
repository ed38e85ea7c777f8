"""What a person wants done when the sweep has ended by itself: `--on-finish` and `--on-failure`.

Every supervisor asks as it ends; the last one to do so runs the commands, once. A supervisor
is small: it loads the queue's code only where there is something to run.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..disk.run_folder import RunFolder, locked, write_atomically
from ..job.slot_names import Slot
from ..text.forms import checked, is_writable, list_of
from ..text.input_file import read_json
from ..text.plain_text import plain_line

if TYPE_CHECKING:
    from ..watch.progress import Snapshot


_FORM = {"on_finish": list_of(is_writable), "on_failure": list_of(is_writable)}


@dataclass(frozen=True)
class EndCommands:
    """Argument lists, never shell texts. `on_failure` runs first, and only where jobs have
    failed or are left undone; `on_finish` runs at every end."""

    on_finish: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()

    def keep(self, run: RunFolder) -> None:
        """Put them down for the end of the sweep, in place of former ones."""
        if self == EndCommands():
            run.at_end.unlink(missing_ok=True)
        else:
            write_atomically(run.at_end, json.dumps(asdict(self), ensure_ascii=False).encode())

    @classmethod
    def take(cls, run: RunFolder) -> EndCommands:
        """The commands that were written down, for the process that is to run them."""
        try:
            values = checked(read_json(run.at_end), _FORM)
        except (OSError, ValueError):
            return cls()
        run.at_end.unlink()
        return cls(tuple(values["on_finish"]), tuple(values["on_failure"]))


def run_end_commands(
    run: RunFolder, say: Callable[[str], None], *, stopped: Slot | None = None
) -> None:
    """Run the end commands, if this sweep has ended by itself and they have not run yet.

    A sweep that was stopped by hand has not: no machine is to be shut down then. Nor has one of
    which every GPU was given back. One that went on without some of its GPUs has.

    Args:
        say: told what is run and how it ended.
        stopped: the caller's slot, where it ends because of a signal.
    """
    # Held, so that nobody is launching at this moment: what a launch puts down is seen here.
    with locked(run.launch_lock):
        if not run.at_end.exists():
            return
        from ..runs.runs import live_slots, open_queue, take_back
        from ..watch.progress import take_snapshot

        if live_slots(run):
            return
        queue = open_queue(run)
        try:
            gate = queue.gate()
            used = {row.slot.devices for row in queue.workers.rows()}
            if gate.is_draining() or (used and all(map(gate.is_draining, used))):
                return
            if stopped is not None and not gate.is_draining(stopped.devices):
                return
            take_back(run, queue)
            commands = EndCommands.take(run)
            summary = end_summary(take_snapshot(run.name, queue))
        finally:
            queue.close()
    wanted = [("on-finish", commands.on_finish)]
    if summary["ended"] != "done":
        wanted.insert(0, ("on-failure", commands.on_failure))
    for name, argv in wanted:
        if argv:
            first, *more = _run(run, argv, summary)
            say(f"--{name}: {first}")
            for line in more:
                say(f"  {line}")


def end_summary(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot, and in a word how the sweep ended: done, failed or incomplete."""
    if not snapshot.has_ended:
        ended = "incomplete"
    else:
        ended = "failed" if snapshot.counts.failed else "done"
    return {"ended": ended, **snapshot.to_json()}


def _run(run: RunFolder, argv: tuple[str, ...], summary: dict[str, Any]) -> list[str]:
    """Run a command with the summary on its standard input; returns lines on how that went."""
    environment = {**os.environ, "SWEEP_RUN_FOLDER": str(run.path)}
    try:
        result = subprocess.run(
            argv,
            input=json.dumps(summary, ensure_ascii=False).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    except (OSError, ValueError) as error:
        return [f"{argv[0]}: {getattr(error, 'strerror', None) or error}"]
    ended = f"{argv[0]} ended with status {result.returncode}"
    output = result.stdout.decode("utf-8", "replace").strip()
    if not output:
        return [ended]
    first, *more = map(plain_line, output.split("\n"))
    return [f"{ended}: {first}", *more]
