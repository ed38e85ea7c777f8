"""Serves a person's script to a worker, in the script's own interpreter: Python 3.9 or newer.

This file stands alone. It is run by path, imports nothing beyond the standard library, and
nothing has to be installed where it runs.

    python server.py SCRIPT SHA256 COMMANDS REPLIES PARENT    serve SCRIPT
    python server.py --describe SCRIPT [PACKAGE]...           say what this interpreter is

COMMANDS and REPLIES are descriptors of pipes; a message is a line of JSON in ASCII. Standard
output and standard error are the script's own. PARENT is the worker's pid.

    -> {"call": "load" | "prepare" | "generate" | "close", "number": 1, ...}
    -> {"stop": 1}                             the call shall end at its next step
    <- {"step": [3, 50], "number": 1}
    <- {"done": {...}, "number": 1}            or "stopped", or "error": see `described`
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import select
import signal
import sys
import threading
import traceback
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
FRAMES = 3
"""So many of a traceback's last frames go into an error's record; the log has all of it."""
CHAIN = 5
"""So many exceptions that caused an error are told."""
LONGEST = 2000
"""Characters of an error's text."""
GIB = 1024**3


class BadInput(Exception):
    """The job's own prompt, clip or parameters cannot be used: another attempt would fail too."""


class Stopped(BaseException):
    """The job in hand shall end. Not an Exception, so that a script that catches its own errors
    does not catch it."""


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
                    raise Stopped
                self._stopped = message.get("stop", self._stopped)
        if self._stopped == self.number:
            raise Stopped

    def _read(self) -> dict[str, Any] | None:
        while b"\n" not in self._rest:
            data = os.read(self._commands, 65536)
            if not data:
                return None
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message


class Group:
    """What `prepare` is given: a reference clip that the following jobs share."""

    BadInput = BadInput

    def __init__(
        self,
        *,
        category: str,
        video: str,
        reference: str,
        reference_start: float,
        reference_fit: str,
        parameters: dict[str, Any],
    ) -> None:
        self.category = category
        self.video = video
        self.reference = reference
        self.reference_start = reference_start
        self.reference_fit = reference_fit
        self.parameters = parameters


class Job:
    """What `generate` is given: one video to make."""

    BadInput = BadInput

    def __init__(
        self,
        pipe: Pipe,
        *,
        id: str,
        category: str,
        video: str,
        reference: str,
        reference_start: float,
        reference_fit: str,
        prompt: str,
        prompt_number: int,
        seed: int,
        parameters: dict[str, Any],
    ) -> None:
        self._pipe = pipe
        self.id = id
        self.category = category
        self.video = video
        self.reference = reference
        self.reference_start = reference_start
        self.reference_fit = reference_fit
        self.prompt = prompt
        self.prompt_number = prompt_number
        self.seed = seed
        self.parameters = parameters

    def step(self, done: int, total: int) -> None:
        """Say that so many steps of so many are done. It ends the job where a stop is asked for,
        by an exception that is better let through."""
        self._pipe.step(int(done), int(total))

    def steps(self, iterable: Iterable[Any], total: int | None = None) -> Iterator[Any]:
        """The items of an iterable, each reported as a step once it is done with, as tqdm does."""
        if total is None:
            iterable = list(iterable)
            total = len(iterable)
        for done, item in enumerate(iterable, 1):
            yield item
            self.step(done, total)


def serve(path: Path, sha256: str, pipe: Pipe) -> None:
    """Answer calls until the worker says `close`, or is gone."""
    script: types.ModuleType | None = None
    while True:
        message = pipe.receive()
        if message is None:
            return
        call, pipe.number = message.pop("call"), message.pop("number")
        try:
            if call == "load":
                script = read_script(path, sha256)
                script.load(message["settings"])
            elif call == "prepare":
                getattr(script, "prepare", ignore)(Group(**message["group"]))
            elif call == "generate":
                assert script is not None, "load comes first"
                script.generate(Job(pipe, **message["job"]), message["path"])
            elif call == "close":
                getattr(script, "close", ignore)()
        except Stopped:
            pipe.reply(stopped=True)
        except BaseException as error:
            # The frame of this file itself says nothing to a person.
            inner = error.__traceback__.tb_next if error.__traceback__ else None
            traceback.print_exception(type(error), error, inner)
            flush()
            pipe.reply(error=described(error))
        else:
            flush()
            pipe.reply(done=gpu_memory())
        if call == "close":
            return


def ignore(*_arguments: object) -> None:
    """In the place of a function that a script need not have."""


def read_script(path: Path, sha256: str) -> types.ModuleType:
    """The script as a module. It is compiled from what was read here, never from a cache."""
    source = path.read_bytes()
    if hashlib.sha256(source).hexdigest() != sha256:
        raise RuntimeError(f"{path.name} has changed since this worker started")
    # As for a script run by hand: its own folder, not this file's, is where imports start.
    with contextlib.suppress(ValueError):
        sys.path.remove(str(Path(__file__).parent))
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path)]
    name = path.stem if path.stem not in sys.modules else f"script_{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    return module


def described(error: BaseException, depth: int = 1) -> dict[str, Any]:
    """An exception as the worker judges it: its classes' names, text, errno, last frames, cause."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be made)"
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if frame.filename != __file__][-FRAMES:]
    cause = error.__cause__ or error.__context__
    return {
        "names": [cls.__name__ for cls in type(error).__mro__],
        "text": text[:LONGEST],
        "errno": error.errno if isinstance(error, OSError) else None,
        "where": [
            f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}"
            for frame in frames
        ],
        "cause": described(cause, depth + 1) if cause is not None and depth < CHAIN else None,
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
        # Another torch than any known, or a script's own module of that name.
        return {}


def flush() -> None:
    """Have what the script printed reach the log before what comes after it."""
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
    """This interpreter's version and packages, and what of the script it cannot read."""
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
    path, sha256 = Path(sys.argv[1]), sys.argv[2]
    commands, replies, parent = map(int, sys.argv[3:])
    die_with(parent)
    # A group of its own: what the script starts can be ended with it.
    os.setpgid(0, 0)
    for descriptor in (commands, replies):
        os.set_inheritable(descriptor, False)
    serve(path, sha256, Pipe(commands, replies))


if __name__ == "__main__":
    main()
