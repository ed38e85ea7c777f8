"""The `tmux` launcher: one session per slot, and one for the live view, through libtmux.

Sessions live on tmux's default server, or on the socket that SWEEP_TMUX_SOCKET names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import libtmux

from ..errors import UserError
from . import Launcher, SlotCommand


class TmuxLauncher(Launcher):
    def __init__(self) -> None:
        self._socket = os.environ.get("SWEEP_TMUX_SOCKET") or None

    def check(self) -> None:
        if shutil.which("tmux") is None:
            raise UserError(
                "tmux is not installed; install it (Debian, Ubuntu: apt-get install tmux), or "
                "start detached processes with --on local"
            )

    def start(self, commands: Sequence[SlotCommand]) -> None:
        for command in commands:
            self._start(command)

    def start_view(self, command: SlotCommand) -> bool:
        self._start(command)
        return True

    def view_hint(self, name: str) -> str:
        socket = f" -L {self._socket}" if self._socket else ""
        return f"tmux{socket} attach -t {name}_main"

    def _start(self, command: SlotCommand) -> None:
        server = libtmux.Server(socket_name=self._socket)
        # tmux matches names by their start; `=` asks for this very session.
        if server.cmd("has-session", "-t", f"={command.session}").returncode == 0:
            server.cmd("kill-session", "-t", f"={command.session}")
        variables = [f"-e{key}={value}" for key, value in command.environment.items()]
        size = ("-x", "160", "-y", "48")
        result = server.cmd(
            "new-session",
            *("-d", "-s", command.session, "-c", str(command.folder)),
            *size,
            *variables,
            "--",
            # More than one argument, so that tmux runs the list itself and no shell reads it.
            *command.argv,
        )
        if result.returncode != 0:
            reason = " ".join(result.stderr) or "no reason given"
            raise UserError(f"tmux could not start the session {command.session}: {reason}")


LAUNCHER = TmuxLauncher
