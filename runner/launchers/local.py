"""The `local` launcher: detached processes of their own, which outlive the terminal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from ..disk.run_folder import open_own
from ..machine.environment_file import launch_environment
from . import Launcher, SlotCommand

_outliving: list[subprocess.Popen[bytes]] = []
"""What this process has started and is meant to outlive it: whoever drops one that runs is warned.
A notebook that launches again and again collects here those that have ended."""


class LocalLauncher(Launcher):
    def __init__(self) -> None:
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def check(self, commands: Sequence[SlotCommand]) -> None:
        """Nothing but processes is needed."""

    def start(self, commands: Sequence[SlotCommand]) -> None:
        environment = launch_environment()
        _outliving[:] = [process for process in _outliving if process.poll() is None]
        for command in commands:
            command.log.parent.mkdir(parents=True, exist_ok=True)
            # What goes wrong before the slot opens its log itself must be found there too.
            log = open_own(command.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                self._started[command.session] = subprocess.Popen(
                    [*command.argv, "--quiet"],
                    cwd=command.run,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            finally:
                os.close(log)
            _outliving.append(self._started[command.session])

    def has_ended(self, command: SlotCommand) -> bool:
        return self._started[command.session].poll() is not None


LAUNCHER = LocalLauncher
