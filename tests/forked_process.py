"""The slots and workers that a forked command starts, forked as well: without a second of imports.

A command forks a spawner before it does anything, and asks it for each process that it would
start as `python -m runner.slots.slot` or `python -m runner.worker`. What comes of that is the
asking process's child, has the descriptors, folder, environment and session that were asked for,
and begins with nothing done but imports: locks, threads and connections are in no spawner.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import faulthandler
import fcntl
import importlib
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MAINS = {"runner.slots.slot": "runner.slots.slot", "runner.worker": "runner.worker.__main__"}
"""Where `main` is, for each word behind `python -m` that is forked."""

OF_THE_START = ("PYTHON", "LC_", "LANG", "LD_")
"""How variables begin that a process reads only as it starts."""

HEEDED = {"PYTHONPATH", "PYTHONUTF8", "PYTHONUNBUFFERED", "PYTHONFAULTHANDLER"}
"""Those of them that a forked process heeds; in UTF-8 mode all are, as the locale of tests is."""

UNDERSTOOD = {
    *("cwd", "env", "stdin", "stdout", "stderr"),
    *("pass_fds", "start_new_session", "preexec_fn"),
}
"""The arguments of `Popen` that a forked process can be started with."""

PR_SET_CHILD_SUBREAPER = 36
HIGH = 300
"""Where descriptors wait, above all that shall have a number of their own."""


def can_fork(changes: Mapping[str, str]) -> bool:
    """Whether a process with these changes of the environment may share another one's start."""
    if any(name.startswith(OF_THE_START) and name not in HEEDED for name in changes):
        return False
    paths = changes.get("PYTHONPATH", "").split(os.pathsep)
    return not any(Path(path, "sitecustomize.py").exists() for path in paths if path)


def take_on(words: Sequence[str], cwd: str, environment: Mapping[str, str]) -> None:
    """Have the arguments, folder, environment and import paths of a process that just began."""
    random.seed()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(words)
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    known = {Path(path).absolute() for path in sys.path}
    sys.path[:0] = [cwd, *(path for path in paths if Path(path).absolute() not in known)]


def end_with(main: Callable[[], object]) -> None:
    """Call `main`, and end this process as Python ends one."""
    status = 1
    try:
        ended = main()
        status = ended if isinstance(ended, int) else 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Spawner:
    """A process with nothing done but imports, forked for every process that this one starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._here, there = socket.socketpair()
        parent = os.getpid()
        if os.fork() == 0:
            self._here.close()
            _serve(there, parent)
        there.close()

    def start(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Start a child of this process; returns its pid.

        Args:
            request: what `_become` takes.
            descriptors: its standard input, output and error, and others to have in it.
        """
        data = pickle.dumps(dict(request))
        # This process takes in what its spawner's child leaves as that ends.
        libc = ctypes.CDLL(None)
        with self._lock:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
            try:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                self._here.sendmsg([len(data).to_bytes(8, "big")], rights)
                self._here.sendall(data)
                return int.from_bytes(_exactly(self._here, 8), "big")
            finally:
                libc.prctl(PR_SET_CHILD_SUBREAPER, 0)

    def install(self) -> None:
        """Have this process start its slots and workers by this spawner."""
        spawner = self

        class Popen(subprocess.Popen):  # type: ignore[type-arg]
            def __new__(cls, args: Any, *rest: Any, **given: Any) -> Any:
                if rest or not is_forked(args, given):
                    return super().__new__(cls)
                return _started_by(spawner, [os.fspath(word) for word in args], given)

        subprocess.Popen = Popen  # type: ignore[misc]


class ForkedProcess:
    """What `Popen` returns, as far as slots and workers are concerned."""

    def __init__(self, pid: int, stdout: IO[bytes] | None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        status = self._wait(0)
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def is_forked(args: Any, given: Mapping[str, Any]) -> bool:
    """Whether a process with these arguments of `Popen` is forked, and not started anew."""
    if isinstance(args, (str, bytes)) or not set(given) <= UNDERSTOOD:
        return False
    words = list(args)
    if words[:2] != [sys.executable, "-m"] or words[2] not in MAINS:
        return False
    changes = {
        name: value
        for name, value in _text(given.get("env")).items()
        if os.environ.get(name) != value
    }
    return can_fork(changes)


def _text(environment: Mapping[Any, Any] | None) -> dict[str, str]:
    given = os.environ if environment is None else environment
    return {os.fsdecode(name): os.fsdecode(value) for name, value in given.items()}


def _started_by(spawner: Spawner, words: list[str], given: Mapping[str, Any]) -> ForkedProcess:
    reads, opened = None, []
    numbers: list[int] = []
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        wanted = given.get(name)
        if wanted == subprocess.PIPE:
            reads, wanted = os.pipe()
            opened.append(wanted)
        elif wanted == subprocess.DEVNULL:
            wanted = os.open(os.devnull, os.O_RDWR)
            opened.append(wanted)
        elif wanted == subprocess.STDOUT:
            wanted = numbers[1]
        elif wanted is None:
            wanted = number
        numbers.append(wanted if isinstance(wanted, int) else wanted.fileno())
    passed = list(given.get("pass_fds", ()))
    request = {
        "words": words[2:],
        "cwd": os.fspath(given.get("cwd") or Path.cwd()),
        "environment": _text(given.get("env")),
        "session": bool(given.get("start_new_session")),
        "first": given.get("preexec_fn"),
        "numbers": [0, 1, 2, *passed],
    }
    try:
        pid = spawner.start(request, [*numbers, *passed])
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return ForkedProcess(pid, None if reads is None else os.fdopen(reads, "rb"))


def _exactly(connection: socket.socket, count: int) -> bytes:
    """That many bytes, fewer where the other end is gone."""
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


def _serve(connection: socket.socket, parent: int) -> None:
    """Fork for each request of the parent, until it is gone."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    while True:
        head, control, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(4 * 64))
        if not head:
            os._exit(0)
        descriptors = array.array("i")
        for _, _, data in control:
            descriptors.frombytes(data)
        size = int.from_bytes(head + _exactly(connection, 8 - len(head)), "big")
        request = _exactly(connection, size)
        first = os.fork()
        if first == 0:
            if os.fork():
                os._exit(0)
            _become(connection, parent, list(descriptors), **pickle.loads(request))
        os.waitpid(first, 0)
        for descriptor in descriptors:
            os.close(descriptor)


def _become(
    connection: socket.socket,
    parent: int,
    descriptors: list[int],
    *,
    words: list[str],
    cwd: str,
    environment: dict[str, str],
    session: bool,
    first: Callable[[], object] | None,
    numbers: list[int],
) -> None:
    """Be the process that was asked for, and end."""
    ends = time.monotonic() + 10
    while os.getppid() != parent:
        if time.monotonic() > ends:
            os._exit(1)
        time.sleep(0.0005)
    connection.sendall(os.getpid().to_bytes(8, "big"))
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    high = [fcntl.fcntl(one, fcntl.F_DUPFD, HIGH) for one in descriptors]
    connection.detach()
    os.closerange(3, HIGH)
    for descriptor, wanted in zip(high, numbers, strict=True):
        os.dup2(descriptor, wanted)
    os.closerange(HIGH, max(high) + 1)
    if session:
        os.setsid()
    module = MAINS[words[0]]
    take_on([module, *words[1:]], cwd, environment)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if environment.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    if words[0] == "runner.slots.slot":
        Spawner().install()
    if first is not None:
        first()
    end_with(importlib.import_module(module).main)
