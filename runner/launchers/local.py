"""The `local` launcher: detached processes of their own, which outlive the terminal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from . import Launcher, SlotCommand


class LocalLauncher(Launcher):
    def check(self, commands: Sequence[SlotCommand]) -> None:
        """Nothing but processes is needed."""

    def start(self, commands: Sequence[SlotCommand]) -> None:
        for command in commands:
            command.log.parent.mkdir(parents=True, exist_ok=True)
            # What goes wrong before the slot opens its log itself must be found there too.
            with command.log.open("ab") as log:
                subprocess.Popen(
                    [*command.argv, "--quiet"],
                    cwd=command.run,
                    env={**os.environ, **command.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )


LAUNCHER = LocalLauncher
