"""Who is connected to a server: never so many that there is no room for one more, and nobody for
ever."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time

MOST_CONNECTIONS = 600
"""At a time, where the limit on open files allows them."""

OPEN_FILES_WANTED = 2048
"""For all connections, the files that they ask for and the programs that make pictures."""

REQUEST_SECONDS = 30.0
"""For a request to be there, from when it could begin."""

LINGER_SECONDS = 2.0
"""How long what a client still sends is thrown away, so that it comes to reading its answer."""


class Connections:
    """The connections of a server, each with a thread of its own, which is told of its end.

    Args:
        most: at a time; by default as many as the limit on open files allows, up to
            `MOST_CONNECTIONS`.
        request_seconds: whoever takes longer for a request, or for beginning one, is cut off.
    """

    def __init__(self, most: int | None = None, request_seconds: float = REQUEST_SECONDS) -> None:
        self._most = most or min(MOST_CONNECTIONS, open_files() // 2)
        self._request_seconds = request_seconds
        self._lock = threading.Lock()
        self._waiting: dict[socket.socket, float] = {}
        self._answering: dict[socket.socket, float] = {}

    def open(self, connection: socket.socket) -> None:
        """Take one in. Where it is one too many, the one that has been silent longest goes, or
        the one that has been answered longest."""
        with self._lock:
            if len(self._waiting) + len(self._answering) >= self._most:
                held = self._waiting or self._answering
                self._cut(min(held, key=held.__getitem__))
            self._waiting[connection] = time.monotonic()

    def wait(self, connection: socket.socket) -> None:
        """Its next request is waited for from now."""
        self._move(connection, self._waiting)

    def answer(self, connection: socket.socket) -> None:
        """Its request is there."""
        self._move(connection, self._answering)

    def close(self, connection: socket.socket) -> None:
        """It has ended."""
        with self._lock:
            self._forget(connection)

    def cut_late(self) -> None:
        """End those whose request does not come, however often a byte of it does."""
        with self._lock:
            latest = time.monotonic() - self._request_seconds
            for connection in [one for one, since in self._waiting.items() if since < latest]:
                self._cut(connection)

    def _move(self, connection: socket.socket, to: dict[socket.socket, float]) -> None:
        with self._lock:
            # One that was cut is no longer known, and its thread ends.
            if self._forget(connection):
                to[connection] = time.monotonic()

    def _forget(self, connection: socket.socket) -> bool:
        known = (self._waiting.pop(connection, None), self._answering.pop(connection, None))
        return known != (None, None)

    def _cut(self, connection: socket.socket) -> None:
        self._forget(connection)
        # Its thread wakes up at the end of its input, and closes it.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def open_files() -> int:
    """How many files this process may have open, after asking for enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return OPEN_FILES_WANTED if soft == resource.RLIM_INFINITY else soft


def linger(connection: socket.socket) -> None:
    """End the sending side, and throw away what comes, until the client ends its own or a moment
    has passed: closed at once, it may never see its answer."""
    ends = time.monotonic() + LINGER_SECONDS
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (left := ends - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(1 << 16):
                return
