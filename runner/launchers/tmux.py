"""The `tmux` launcher: one session per slot, and one for the live view, through libtmux.

Sessions live on tmux's default server, or on the socket that SWEEP_TMUX_SOCKET names. That server
is a person's own: it may have run for weeks with other variables than this shell has, and with
any options and hooks. A session takes none of these: its environment comes from a file, and what
would end, keep or rename it is set for it alone, before tmux comes to heed what is set for all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

import libtmux

from ..disk.run_folder import RunFolder
from ..machine.environment_file import launch_environment, write_environment
from ..text.errors import UserError
from . import Launcher, SlotCommand, session_prefix

MARK = "SWEEP_RUN"
"""Set in every session: the run folder that it belongs to."""

BEGIN = Path(__file__).with_name("with_environment.py")

ENVIRONMENT_READ_SECONDS = 30.0
"""A slot that has not read its environment by then never will."""

POLL_SECONDS = 0.02

SERVER_GONE = "server exited"
"""What tmux says where its server ended, for want of sessions, just as it was spoken to: another
one is then started by the same command, sent again."""
MOST_SENDS = 20

OWN_OPTIONS = ("destroy-unattached", "remain-on-exit")
"""What is off for a session, whatever is set for all."""

HOOKS = (
    *("session-created", "session-renamed", "session-window-changed"),
    *("window-linked", "window-renamed", "window-layout-changed", "window-pane-changed"),
    *("pane-exited", "pane-died"),
)
"""A session's own hooks, all empty: a person's would act on workers. They are heeded only after
the command that makes the session, of which setting these is a part."""

FIRST_HOOK = "after-new-session"
"""Heeded at once, so it is taken away, and put back, around the making of a session."""


class Begun(Enum):
    """What became of a session that was made."""

    STAYS = "stays"
    ENDED = "ended"
    """Its process has read its environment, and has ended since: by itself, or by a hook."""
    NOT = "not"
    """It was gone before its process could read anything."""


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
            command.log.parent.mkdir(parents=True, exist_ok=True)
            self._start(command, str(command.log))

    def has_ended(self, command: SlotCommand) -> bool:
        return not self._is_there(command.session)

    def start_view(self, command: SlotCommand) -> bool:
        self.check([command])
        self._start(command, "-")
        return True

    def view_hint(self, run: RunFolder) -> str:
        socket = f" -L {self._socket}" if self._socket else ""
        return f"tmux{socket} attach -t {session_prefix(run)}_main"

    def _is_there(self, session: str) -> bool:
        # tmux matches names by their start; `=` asks for this very session.
        return bool(self._server.cmd("has-session", "-t", f"={session}").returncode == 0)

    def _owner(self, session: str) -> str | None:
        """The run folder of a session, "another program" where it says none, None if absent."""
        if not self._is_there(session):
            return None
        lines = self._server.cmd("show-environment", "-t", f"={session}", MARK).stdout
        return lines[0].partition("=")[2] if lines else "another program"

    def _start(self, command: SlotCommand, log: str) -> None:
        """Start a session, and wait until its process has read its environment.

        Args:
            log: for what is said before the process has a log of its own, `-` for none.

        Raises:
            UserError: it does not come to that.
        """
        if self._owner(command.session) is not None:
            self._server.cmd("kill-session", "-t", f"={command.session}")
        known = self._first_hooks()
        begun = self._begin(command, log, known)
        if begun is Begun.STAYS:
            return
        # A server that was not running has read the person's configuration only now.
        hooks = self._first_hooks("start-server", ";")
        if hooks and (begun is Begun.NOT or hooks != known):
            begun = self._begin(command, log, hooks)
        if begun is Begun.NOT:
            raise UserError(
                f"tmux ended the session {command.session} before anything ran in it, as a hook "
                "of its configuration may; `--on local` starts without tmux"
            )

    def _begin(self, command: SlotCommand, log: str, hooks: Sequence[tuple[str, str]]) -> Begun:
        """Make a session, and wait until its process has read its environment or is gone."""
        with handed(command) as file:
            begin = [sys.executable, *["-I", "-S", "-X", "utf8"], str(BEGIN), str(file)]
            argv = [*begin, str(command.run), log, *command.argv]
            session = self._make(command, argv, hooks)
            ends = time.monotonic() + ENVIRONMENT_READ_SECONDS
            while file.exists() and time.monotonic() < ends:
                if self._server.cmd("has-session", "-t", session).returncode != 0:
                    break
                time.sleep(POLL_SECONDS)
            was_read = not file.exists()
        if self._server.cmd("has-session", "-t", session).returncode != 0:
            return Begun.ENDED if was_read else Begun.NOT
        if not self._is_there(command.session):
            self._server.cmd("rename-session", "-t", session, command.session)
        return Begun.STAYS

    def _make(
        self, command: SlotCommand, argv: Sequence[str], hooks: Sequence[tuple[str, str]]
    ) -> str:
        """Make a session that runs `argv`, as one command of tmux's; returns its id.

        Raises:
            UserError: tmux has refused.
        """
        target = f"={command.session}:"
        # Without it a server ends whose sessions nobody looks at.
        words = ["set-option", "-s", "exit-unattached", "off", ";"]
        for name, _ in hooks:
            words += ["set-hook", "-gu", name, ";"]
        words += ["new-session", "-d", "-P", "-F", "#{session_id}", "-s", command.session]
        # More than one argument, so that tmux runs the list itself and no shell reads it.
        words += ["-x", "160", "-y", "48", "--", "env", *loader_variables(), *argv, ";"]
        for name, text in hooks:
            words += ["set-hook", "-g", name, text, ";"]
        words += ["set-environment", "-t", target, MARK, str(command.run)]
        for name in OWN_OPTIONS:
            words += [";", "set-option", "-t", target, name, "off"]
        for name in HOOKS:
            words += [";", "set-hook", "-t", target, name, ""]
        for _ in range(MOST_SENDS):
            result = self._server.cmd(words[0], *map(literal, words[1:]))
            if result.stdout or not any(SERVER_GONE in line for line in result.stderr):
                break
            time.sleep(POLL_SECONDS)
        if not result.stdout:
            for name, text in hooks:
                self._server.cmd("set-hook", "-g", name, text)
            reason = " ".join(result.stderr) or "no reason given"
            raise UserError(f"tmux could not start the session {command.session}: {reason}")
        return str(result.stdout[0])

    def _first_hooks(self, *before: str) -> list[tuple[str, str]]:
        """What a person has tmux do whenever a session was made: names and commands.

        Args:
            before: a command of tmux's to be given first.
        """
        words = (*before, "show-hooks", "-g", FIRST_HOOK)
        lines = self._server.cmd(words[0], *words[1:]).stdout
        pairs = (line.partition(" ") for line in lines)
        return [(name, text) for name, _, text in pairs if name.startswith(FIRST_HOOK) and text]


@contextlib.contextmanager
def handed(command: SlotCommand) -> Iterator[Path]:
    """A file with the environment for a slot, which is gone afterwards whether it was read or not.

    Raises:
        UserError: it cannot be written.
    """
    try:
        file = write_environment(launch_environment(), outside=command.run)
    except OSError as error:
        raise UserError(
            f"{error.filename or 'the folder for temporary files'}: the environment cannot be "
            f"handed to tmux: {error.strerror}; make room there, or set TMPDIR"
        ) from None
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def loader_variables() -> list[str]:
    """Words for env(1) by which the interpreter itself starts as it did here; what the server has
    of these could keep it from starting."""
    path = os.environ.get("LD_LIBRARY_PATH")
    given = [f"LD_LIBRARY_PATH={path}"] if path else []
    return ["-u", "LD_PRELOAD", "-u", "LD_AUDIT", "-u", "LD_LIBRARY_PATH", *given]


def literal(word: str) -> str:
    """A word as tmux takes it in an argument list: a semicolon at the end begins a command."""
    if word != ";" and word.endswith(";"):
        return word[:-1] + "\\;"
    return word


LAUNCHER = TmuxLauncher
