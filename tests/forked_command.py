"""`sweep` in a process of its own without the half second in which Python imports what it needs.

A server imports the command once, when it is first asked, and forks for each call. The command's
process has its own arguments, folder, environment, standard streams, signal handlers and exit
status, and knows nothing of the tests; only its imports are shared. What Python reads once, as it
starts, is the server's: see `can_fork`. All test processes of a run share the servers; one of
them has also imported what a worker loads the Wan model with, which takes six seconds.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from forked_process import MAINS, Spawner, end_with, take_on

UNUSED = {"wan", "quality", "scenes", "__main__"}
"""What no quick command imports, or what no import may run."""

FOLDER = "SWEEP_TEST_COMMANDS"
"""The variable by which test processes find the servers' sockets."""

PLAIN, WAN = "plain", "wan"


class CommandServers:
    """The servers of a test run, and their sockets in a folder that the environment names."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sweep-commands-")
        self._processes = [self._start(name) for name in (PLAIN, WAN)]
        os.environ[FOLDER] = self._folder.name

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(Path(self._folder.name) / name))
            listener.listen(64)
            number = listener.fileno()
            return subprocess.Popen(
                [sys.executable, __file__, name, str(number), str(os.getpid())],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()
        self._folder.cleanup()


def run_forked(
    words: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    timeout: float,
    has_wan: bool = False,
) -> tuple[int, str, str]:
    """Exit status (negative: ended by that signal), standard output and standard error.

    Args:
        has_wan: whether its workers load the Wan model.

    Raises:
        subprocess.TimeoutExpired: it was killed after `timeout` seconds.
    """
    address = str(Path(os.environ[FOLDER]) / (WAN if has_wan else PLAIN))
    request = {"words": list(words), "cwd": str(cwd), "environment": dict(environment)}
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect(address)
        descriptors = array.array("i", [out.fileno(), err.fileno()])
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        connection.sendmsg([b"+"], control)
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        answers = connection.makefile("r")
        # What was never forked has no time to run out of.
        pid = int(answers.readline())
        ends = time.monotonic() + timeout
        connection.settimeout(timeout)
        try:
            status = int(answers.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(["sweep", *words], timeout) from None
        assert time.monotonic() < ends + 1
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
        return status, texts[0], texts[1]


def serve(name: str, listener: socket.socket, parent: int) -> None:
    """Fork for every connection, for as long as the test run lasts."""
    import gc

    from runner.machine.processes import die_with_parent

    die_with_parent(parent)
    select.select([listener], [], [])
    import_all(has_wan=name == WAN)
    # A command finds no module of the tests, unless it is told where they are.
    sys.path.remove(str(Path(__file__).parent))
    gc.collect()
    gc.freeze()
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            listener.close()
            attend(connection)
            os._exit(0)
        connection.close()


def import_all(*, has_wan: bool) -> None:
    """Import what commands, slots and workers do, and what loads the Wan model."""
    import runner

    unused = UNUSED - {WAN} if has_wan else UNUSED
    if has_wan:
        from runner.backends.wan.offline import import_torch

        import_torch()
        import diffsynth.pipelines.wan_video  # noqa: F401
    for module in pkgutil.walk_packages(runner.__path__, "runner.", onerror=lambda _: None):
        if not unused & set(module.name.split(".")):
            __import__(module.name)
    for name in MAINS.values():
        __import__(name)
    import decord  # noqa: F401
    import rich.table  # noqa: F401
    import sqlalchemy.dialects.sqlite  # noqa: F401


def attend(connection: socket.socket) -> None:
    """Fork the command that is asked for; tell its pid, and then its exit status."""
    _, control, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(8))
    ((_, _, data),) = control
    out, err = array.array("i", data)
    with connection.makefile("rb") as file:
        request = json.loads(file.read())
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        command(**request)
    connection.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def command(words: list[str], cwd: str, environment: dict[str, str]) -> None:
    """Be `sweep` with these words, and end."""
    from runner.cli import main

    Spawner().install()
    take_on(["sweep", *words], cwd, environment)
    end_with(main)


if __name__ == "__main__":
    serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
