"""The `tmux` launcher: one session per slot, and one for the live view, through libtmux.

Sessions live on tmux's default server, or on the socket that SWEEP_TMUX_SOCKET names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import libtmux

from ..errors import UserError
from ..run_folder import RunFolder
from . import PASSED, Launcher, SlotCommand, session_prefix

MARK = "SWEEP_RUN"
"""Set in every session: the run folder that it belongs to."""


class TmuxLauncher(Launcher):
    def __init__(self) -> None:
        self._socket = os.environ.get("SWEEP_TMUX_SOCKET") or None
        self._server = libtmux.Server(socket_name=self._socket)

    def check(self, commands: Sequence[SlotCommand]) -> None:
        """tmux must be there, and no session of these names may be another's."""
        if shutil.which("tmux") is None:
            raise UserError(
                "tmux is not installed; install it (Debian, Ubuntu: apt-get install tmux), or "
                "start detached processes with --on local"
            )
        for command in commands:
            owner = self._owner(command.session)
            if owner not in (None, str(command.run)):
                raise UserError(
                    f"tmux has a session {command.session} of {owner}; end that sweep, or give "
                    "this one another name"
                )

    def start(self, commands: Sequence[SlotCommand]) -> None:
        for command in commands:
            self._start(command)

    def start_view(self, command: SlotCommand) -> bool:
        self.check([command])
        self._start(command)
        return True

    def view_hint(self, run: RunFolder) -> str:
        socket = f" -L {self._socket}" if self._socket else ""
        return f"tmux{socket} attach -t {session_prefix(run)}_main"

    def _owner(self, session: str) -> str | None:
        """The run folder of a session, "another program" where it says none, None if absent."""
        # tmux matches names by their start; `=` asks for this very session.
        if self._server.cmd("has-session", "-t", f"={session}").returncode != 0:
            return None
        lines = self._server.cmd("show-environment", "-t", f"={session}", MARK).stdout
        return lines[0].partition("=")[2] if lines else "another program"

    def _start(self, command: SlotCommand) -> None:
        if self._owner(command.session) is not None:
            self._server.cmd("kill-session", "-t", f"={command.session}")
        environment = {**command.environment, MARK: str(command.run)}
        # The server hands on its own environment: what is not set here must not come from there.
        unset = [f"--unset={name}" for name in PASSED if name not in environment]
        result = self._server.cmd(
            "new-session",
            *("-d", "-s", command.session, "-x", "160", "-y", "48"),
            *(f"-e{key}={value}" for key, value in environment.items()),
            "--",
            # More than one argument, so that tmux runs the list itself and no shell reads it.
            *("env", *unset, *command.argv),
        )
        if result.returncode != 0:
            reason = " ".join(result.stderr) or "no reason given"
            raise UserError(f"tmux could not start the session {command.session}: {reason}")


LAUNCHER = TmuxLauncher
