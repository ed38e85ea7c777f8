"""Serves calls to a worker, in an interpreter of another environment: Python 3.9 or newer.

This file stands alone. It is run by path, imports nothing beyond the standard library, and
nothing has to be installed where it runs.

    python server.py SERVICE COMMANDS REPLIES PARENT [ARGUMENT]...    serve what SERVICE does
    python server.py --describe FILE [PACKAGE]...                     say what this interpreter is

SERVICE is a file that stands alone too. Its `calls(pipe, *arguments)` returns the functions that
can be called, by name; they are given the values of a call by name, and return what JSON can hold.
COMMANDS and REPLIES are descriptors of pipes; a message is a line of JSON in ASCII. Standard
output and standard error are the service's own. PARENT is the worker's pid.

    -> {"call": "generate", "number": 1, "values": {...}}    `close` is the last one
    -> {"stop": 1}                             the call shall end at its next step
    <- {"step": [3, 50], "number": 1}
    <- {"done": {"value": ...}, "number": 1}    or "stopped", or "error": see `described`
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
TRACEBACK_FRAMES = 3
"""The last frames of a traceback that go into an error's record; the log has all of it."""
CAUSES_TOLD = 5
"""Of an error, and of its causes in turn."""
ERROR_CHARACTERS = 2000
GIB = 1024**3


class CallStopped(BaseException):
    """The job in hand shall end. Not an Exception, so that a service that catches its own
    errors does not catch it."""


class Pipe:
    """Messages from and to the worker."""

    def __init__(self, commands: int, replies: int) -> None:
        self._commands = commands
        self._replies = replies
        self._rest = b""
        self._lock = threading.Lock()
        self._stopped = 0
        self.number = 0
        """The call in hand."""

    def receive(self) -> dict[str, Any] | None:
        """The next call; None once the worker is gone."""
        while True:
            message = self._read()
            if message is None or "call" in message:
                return message
            # A stop that came after its call had ended.

    def reply(self, **message: object) -> None:
        line = json.dumps({**message, "number": self.number}).encode("ascii") + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._replies, line) :]

    def step(self, done: int, total: int) -> None:
        """Report a step; raise Stopped where the worker has asked to end the call in hand."""
        self.reply(step=[done, total])
        with self._lock:
            while b"\n" in self._rest or select.select([self._commands], [], [], 0)[0]:
                message = self._read()
                if message is None:
                    raise CallStopped
                self._stopped = message.get("stop", self._stopped)
        if self._stopped == self.number:
            raise CallStopped

    def _read(self) -> dict[str, Any] | None:
        while b"\n" not in self._rest:
            data = os.read(self._commands, 65536)
            if not data:
                return None
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message


def serve(service: Path, arguments: list[str], pipe: Pipe) -> None:
    """Answer calls until the worker says `close`, or is gone."""
    calls = read_service(service).calls(pipe, *arguments)
    while True:
        message = pipe.receive()
        if message is None:
            return
        call, pipe.number = message["call"], message["number"]
        try:
            value = calls.get(call, ignore)(**message.get("values", {}))
            json.dumps(value)
        except CallStopped:
            pipe.reply(stopped=True)
        except BaseException as error:
            inner = error.__traceback__
            while inner is not None and is_hidden(inner.tb_frame):
                inner = inner.tb_next
            traceback.print_exception(type(error), error, inner)
            flush()
            pipe.reply(error=described(error))
        else:
            flush()
            pipe.reply(done={"value": value, **gpu_memory()})
        if call == "close":
            return


def ignore(**_values: object) -> None:
    """In the place of a function that a service need not have."""


def read_service(path: Path) -> Any:
    """The service as a module, compiled from what is read here, never from a cache."""
    module = types.ModuleType("service")
    module.__file__ = str(path)
    exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    return module


def is_hidden(frame: types.FrameType) -> bool:
    """Whether a frame just passes a call on, and says nothing to a person: this file's, and those
    with a `__tracebackhide__`, as pytest has it."""
    return frame.f_code.co_filename == __file__ or "__tracebackhide__" in frame.f_locals


def described(error: BaseException, depth: int = 1) -> dict[str, Any]:
    """An exception as the worker judges it: its classes' names, text, errno, last frames
    that are not hidden, cause."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    shown = (one for one in traceback.walk_tb(error.__traceback__) if not is_hidden(one[0]))
    frames = traceback.StackSummary.extract(shown)[-TRACEBACK_FRAMES:]
    cause = error.__cause__ or error.__context__
    return {
        "names": [cls.__name__ for cls in type(error).__mro__],
        "text": text[:ERROR_CHARACTERS],
        "errno": error.errno if isinstance(error, OSError) else None,
        "where": [
            f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}"
            for frame in frames
        ],
        "cause": described(cause, depth + 1) if cause and depth < CAUSES_TOLD else None,
    }


def gpu_memory() -> dict[str, Any]:
    """GPU memory that this process holds, and its peak since the last call, in GiB, as torch
    tells it; empty without torch."""
    torch = sys.modules.get("torch")
    try:
        if torch is None or not torch.cuda.is_initialized():
            return {}
        peak = torch.cuda.max_memory_reserved() / GIB
        torch.cuda.reset_peak_memory_stats()
        return {"gpu_gib": torch.cuda.memory_reserved() / GIB, "peak_gpu_gib": peak}
    except Exception:
        # Another torch than any known, or a module of one's own of that name.
        return {}


def flush() -> None:
    """Have what was printed reach the log before what comes after it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It died before it could be told from.
        os.kill(os.getpid(), signal.SIGKILL)


def describe(path: Path, packages: list[str]) -> dict[str, Any]:
    """This interpreter's version and packages, and what of a file it cannot read."""
    from importlib import metadata

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in packages:
        with contextlib.suppress(Exception):
            found[package] = metadata.version(package)
    problem = None
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        problem = str(error)
    return {"versions": found, "problem": problem}


def main() -> None:
    if sys.argv[1] == "--describe":
        print(json.dumps(describe(Path(sys.argv[2]), sys.argv[3:])))
        return
    service, arguments = Path(sys.argv[1]), sys.argv[5:]
    commands, replies, parent = map(int, sys.argv[2:5])
    die_with(parent)
    # A group of its own: what the script starts can be ended with it.
    os.setpgid(0, 0)
    for descriptor in (commands, replies):
        os.set_inheritable(descriptor, False)
    # This file's folder is nobody's place to import from.
    with contextlib.suppress(ValueError):
        sys.path.remove(str(Path(__file__).parent))
    serve(service, arguments, Pipe(commands, replies))


if __name__ == "__main__":
    main()
