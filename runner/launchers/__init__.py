"""The launcher contract: what starts the slots of a sweep. Launchers know no worker or backend."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..disk.run_folder import RunFolder
from ..job.slot_names import Slot
from ..text.errors import UserError

NAMES = ("tmux", "local")


@dataclass(frozen=True)
class SlotCommand:
    """What starts one slot (or the view): its session's name and its argument list.

    `lock` is held as long as the slot lives. Its environment is `launch_environment()`, and it
    stands in the run folder, whatever launcher starts it.
    """

    run: Path
    session: str
    argv: tuple[str, ...]
    log: Path
    lock: Path

    def __str__(self) -> str:
        return f"{self.session}: {shlex.join(self.argv)}"


class Launcher(ABC):
    """Starts slots so that they outlive the command that started them."""

    @abstractmethod
    def check(self, commands: Sequence[SlotCommand]) -> None:
        """Raise `UserError` where these cannot be started on this machine."""

    @abstractmethod
    def start(self, commands: Sequence[SlotCommand]) -> None:
        """Start every slot; returns when all are started.

        Raises:
            UserError: one cannot be started; the message has the reason.
        """

    @abstractmethod
    def has_ended(self, command: SlotCommand) -> bool:
        """Whether a slot that this launcher has started is not there any more."""

    def start_view(self, command: SlotCommand) -> bool:
        """Start the live view of the sweep, where this launcher has a place for one."""
        return False

    def view_hint(self, run: RunFolder) -> str:
        """What a person types to watch the sweep."""
        return f"sweep progress --watch {run.name}"


def launcher(name: str) -> Launcher:
    """The launcher of that name.

    Raises:
        UserError: there is no such launcher; the message lists the ones there are.
    """
    if name not in NAMES:
        raise UserError(f"--on: no launcher is called {name!r} (valid: {', '.join(NAMES)})")
    made: Launcher = importlib.import_module(f"{__name__}.{name}").LAUNCHER()
    return made


def slot_command(
    run: RunFolder, slot: Slot, *, device: str, threads: int, home: Sequence[str]
) -> SlotCommand:
    """The command that supervises one slot of a run."""
    argv = [sys.executable, "-m", "runner.slots.slot", str(run.path)]
    argv += [slot.name, f"--device={device}", f"--threads={threads}"]
    argv += [f"--home={category}" for category in home]
    session = f"{session_prefix(run)}_{slot.session}"
    return SlotCommand(run.path, session, tuple(argv), run.log(slot), run.lock(slot))


def view_command(run: RunFolder) -> SlotCommand:
    """The command of the `_main` session: the live view, until the sweep ends."""
    argv = (sys.executable, "-m", "runner", "progress", "--watch", str(run.path))
    session = f"{session_prefix(run)}_main"
    return SlotCommand(run.path, session, argv, run.logs / "main.log", run.locks / "main.lock")


def session_prefix(run: RunFolder) -> str:
    """The run's name as tmux would spell it: a copied run folder may have any name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", run.name)
