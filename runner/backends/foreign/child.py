"""A foreign process as the worker sees it: started, asked, stopped and ended here."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...job.failures import ChildDied, ForeignError
from ...machine.processes import POLL_SECONDS, exit_status, how_it_ended, oom_kills
from .. import GpuMemory, OnStep

log = logging.getLogger("sweep.worker")

SERVER = Path(__file__).with_name("server.py")

LOOK_SECONDS = 0.2
"""While the process says nothing, how often the worker looks whether it lives and whether its job
is to end."""

STOP_SECONDS = 15.0
"""For a job that was asked to end to come to its next step. Together with CLOSE_SECONDS it is less
than the grace that a worker has."""

CLOSE_SECONDS = 5.0

NOT_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONSAFEPATH", "__PYVENV_LAUNCHER__")
"""Variables that concern the worker's own interpreter."""


class Child:
    """A running interpreter that serves the calls of a service: see `server`.

    Args:
        interpreter: the Python that runs it, 3.9 or newer; nothing has to be installed there.
        service: the file whose `calls(pipe, *arguments)` says what can be called.
        folder: where it runs, and relative paths of its own start.
        environment: further environment variables.
        name: what is at work there, for a person: `script`.
        stop_seconds: so long a job that was asked to end may take to its next step.
    """

    def __init__(
        self,
        interpreter: Path,
        service: Path,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        name: str,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        commands, self._commands = os.pipe()
        self._replies, replies = os.pipe()
        pipes = [str(service), str(commands), str(replies), str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                [str(interpreter), str(SERVER), *pipes, *arguments],
                cwd=folder,
                env=environment_of(environment),
                stdin=subprocess.DEVNULL,
                pass_fds=[commands, replies],
            )
        except BaseException:
            os.close(self._commands)
            os.close(self._replies)
            raise
        finally:
            os.close(commands)
            os.close(replies)
        self._name = name
        self._stop_seconds = stop_seconds
        self._memory = GpuMemory()
        self._rest = b""
        self._number = 0
        self._oom_kills = oom_kills()
        self.is_gone = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory(self, *, anew: bool = False) -> GpuMemory:
        """GPU memory as the process told it at the end of its last call, as `Engine.memory`."""
        told = self._memory
        if anew:
            self._memory = replace(told, peak=None)
        return told

    def call(self, name: str, on_step: OnStep | None = None, **values: Any) -> Any:
        """Have the service do something; returns what its function returns, as JSON has it.

        Args:
            on_step: told of every step, and asked meanwhile whether to end: see `OnStep`. What
                it raises passes through, once the process has ended the job or itself.

        Raises:
            ForeignError: the service raised it.
            ChildDied: its process is gone.
            MemoryError: the kernel has killed it for the host's memory.
        """
        self._number += 1
        self._send({"call": name, "number": self._number, "values": values})
        while True:
            message = self._receive(LOOK_SECONDS)
            if message is None:
                if on_step is not None:
                    self._tell(on_step, 0, 0)
            elif "step" in message:
                if on_step is not None:
                    self._tell(on_step, *message["step"])
            elif message.get("error") is not None:
                raise foreign_error(message["error"])
            else:
                done: dict[str, Any] = message.get("done") or {}
                self._note(done)
                return done.get("value")

    def _note(self, told: Mapping[str, Any]) -> None:
        """Keep what the process says of its GPU memory."""
        former = self._memory
        peaks = [peak for peak in (former.peak, told.get("peak_gpu_gib")) if peak is not None]
        self._memory = GpuMemory(told.get("gpu_gib", former.held), max(peaks, default=None))

    def close(self) -> None:
        """Let the service close what it has open, and end its process."""
        if not self.is_gone:
            with contextlib.suppress(ChildDied, MemoryError):
                self._number += 1
                self._send({"call": "close", "number": self._number})
                self._wait_for_reply(CLOSE_SECONDS)
                self._has_ended(CLOSE_SECONDS)
        self.end()

    def end(self) -> None:
        """Kill the process and all that it started, and forget it."""
        if self.is_gone:
            return
        self.is_gone = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # It may not have come to making a group of its own.
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._replies)

    def _tell(self, on_step: OnStep, step: int, steps: int) -> None:
        try:
            on_step(step, steps)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        """Have the service end the call in hand, or end its process where it does not."""
        with contextlib.suppress(ChildDied, MemoryError):
            self._send({"stop": self._number})
            if not self._wait_for_reply(self._stop_seconds):
                log.warning(
                    "the %s came to no step for %.0f s; ending it", self._name, self._stop_seconds
                )
                self.end()

    def _wait_for_reply(self, seconds: float) -> bool:
        """Wait for the end of the call in hand, whatever it is; False where it does not come."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            message = self._receive(min(left, LOOK_SECONDS))
            if message is not None and "step" not in message:
                return True
        return False

    def _send(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode("ascii") + b"\n"
        try:
            while data:
                data = data[os.write(self._commands, data) :]
        except BrokenPipeError:
            self._give_up()

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message of the call in hand; None where none comes in so many seconds."""
        while True:
            while b"\n" not in self._rest:
                if not select.select([self._replies], [], [], seconds)[0]:
                    # A process of its own may hold the pipe open beyond its end.
                    if self._has_ended(0):
                        self._give_up()
                    return None
                data = os.read(self._replies, 65536)
                if not data:
                    self._give_up()
                self._rest += data
            line, self._rest = self._rest.split(b"\n", 1)
            message: dict[str, Any] = json.loads(line)
            if message["number"] == self._number:
                return message

    def _has_ended(self, seconds: float) -> bool:
        """Wait for the process's end at most so long. It stays to be waited for, so that until
        `end` its pid is no other's."""
        ends = time.monotonic() + seconds
        while exit_status(self.pid) is None:
            if time.monotonic() >= ends:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _give_up(self) -> None:
        """Raise what the process's end means."""
        # Its pipe closes a moment before it has an exit status.
        status = exit_status(self.pid) if self._has_ended(CLOSE_SECONDS) else None
        self.end()
        if status == -signal.SIGKILL and oom_kills() > self._oom_kills:
            raise MemoryError(f"the kernel killed the {self._name}'s process for the host's memory")
        raise ChildDied(f"the {self._name}'s process {how_it_ended(status)}")


def environment_of(further: Mapping[str, str]) -> dict[str, str]:
    """The environment of a foreign process: the worker's, without what is its own interpreter's."""
    environment = {key: value for key, value in os.environ.items() if key not in NOT_OURS}
    environment.update(PYTHONUNBUFFERED="1", PYTHONFAULTHANDLER="1", PYTHONUTF8="1")
    return {**environment, **further}


def foreign_error(record: Mapping[str, Any]) -> ForeignError:
    """The error of a reply, with those that caused it."""
    text = str(record["text"])
    if where := record.get("where"):
        text = f"{text} (at {' > '.join(where)})" if text else f"at {' > '.join(where)}"
    error = ForeignError(tuple(record["names"]), text, record.get("errno"))
    if record.get("cause"):
        error.__cause__ = foreign_error(record["cause"])
    return error
