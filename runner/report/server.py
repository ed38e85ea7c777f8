"""Serving a site over HTTP on this machine: GET and HEAD, with ranges (RFC 9110, section 14)."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Iterator
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from ..text.errors import UserError
from ..text.input_file import open_input
from ..text.log_lines import print_traceback
from .connections import Connections, linger
from .site import Site, url_of

LOOPBACK = "127.0.0.1"
PORT = 8377
BLOCK_BYTES = 1 << 16
MOST_DIGITS = 20
"""Of a position in a file: with 64 bits there are as many."""
KINDS = {".mp4": "video/mp4", ".jpg": "image/jpeg"}


class Server(ThreadingHTTPServer):
    """A server of one site.

    Args:
        host: the address to listen on.
        port: 0 takes any that is free; None prefers `PORT`.
        connections: those that it has at a time.

    Raises:
        UserError: it cannot listen there.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(
        self,
        site: Site,
        host: str = LOOPBACK,
        port: int | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.site = site
        self.connections = connections or Connections()
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, PORT if port is None else port), Handler)
        except OSError as error:
            if port is not None:
                raise UserError(f"{host}:{port}: cannot be served on: {error.strerror}") from None
            super().__init__((host, 0), Handler)
        self.is_loopback = host in (LOOPBACK, "localhost", "::1")
        own = self.server_address[1]
        self.url = url_of(host, int(own))
        self.names = {f"{name}:{own}" for name in (LOOPBACK, "localhost", "[::1]")}

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.open(request)
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            # There is no thread to be had for it.
            self.close_request(request)
            self.connections.close(request)

    def shutdown_request(self, request: Any) -> None:
        self.connections.wait(request)
        linger(request)
        self.close_request(request)
        self.connections.close(request)

    def service_actions(self) -> None:
        self.connections.cut_late()

    def handle_error(self, request: Any, client_address: Any) -> None:
        kind, error, trace = sys.exc_info()
        # A client that goes away, or is cut off, is no error.
        if kind is not None and error is not None and not isinstance(error, OSError):
            print_traceback(kind, error, trace)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "sweep"
    sys_version = ""
    timeout = 60

    def handle_one_request(self) -> None:
        self.server.connections.wait(self.connection)
        super().handle_one_request()

    def parse_request(self) -> bool:
        is_good = super().parse_request()
        self.server.connections.answer(self.connection)
        if is_good and ("Transfer-Encoding" in self.headers or has_body(self.headers)):
            # Nobody reads it, and it is not to be taken for the next request.
            self.close_connection = True
        return is_good

    def do_GET(self) -> None:
        # A page elsewhere whose name was made to lead to this address must get nothing.
        if self.server.is_loopback and self.headers.get("Host") not in self.server.names:
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers to its own address only")
            return
        url_path = self.path.partition("?")[0].partition("#")[0]
        with contextlib.suppress(ConnectionError):
            if url_path in ("/", "/index.html"):
                self._send(self.server.site.page(), "text/html; charset=utf-8")
            elif url_path == "/data.json":
                data, tag = self.server.site.data()
                self._send(data, "application/json", tag)
            else:
                path = self.server.site.file(url_path)
                self._send_file(path) if path is not None else self._nothing()

    do_HEAD = do_GET

    def _send(self, content: bytes, kind: str, tag: str | None = None) -> None:
        if tag is not None and self.headers.get("If-None-Match") == f'"{tag}"':
            self._head(HTTPStatus.NOT_MODIFIED, kind, None, tag)
            return
        self._head(HTTPStatus.OK, kind, len(content), tag)
        if self.command == "GET":
            self.wfile.write(content)

    def _send_file(self, path: Path) -> None:
        try:
            file = open_input(path)
        except OSError:
            # Moved away since the runs were read, or no file.
            self._nothing()
            return
        with file:
            size = file.seek(0, 2)
            # A file has no name for its content, so that none can be said to be the same.
            header = None if "If-Range" in self.headers else self.headers.get("Range")
            wanted = byte_range(header, size)
            kind = KINDS.get(path.suffix, "application/octet-stream")
            if wanted is None:
                start, end, status = 0, size, HTTPStatus.OK
            elif wanted[0] >= wanted[1]:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self._end_head()
                return
            else:
                start, end, status = *wanted, HTTPStatus.PARTIAL_CONTENT
            extra = f"bytes {start}-{end - 1}/{size}" if wanted else None
            self._head(status, kind, end - start, content_range=extra)
            if self.command == "GET":
                for block in _blocks(file, start, end):
                    self.wfile.write(block)

    def _head(
        self,
        status: HTTPStatus,
        kind: str,
        size: int | None,
        tag: str | None = None,
        content_range: str | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if size is not None:
            self.send_header("Content-Length", str(size))
        if tag is not None:
            self.send_header("ETag", f'"{tag}"')
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self._end_head()

    def _end_head(self) -> None:
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _nothing(self) -> None:
        self.send_error(HTTPStatus.NOT_FOUND, "the report has no such file")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a page that plays asks many times a second."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, end) that a Range header asks for of a file of `size` bytes.

    None where the whole file is the answer: no header, one that is not understood, or several
    ranges. A range that the file does not have is empty.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").replace(" ", ""), re.ASCII)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - position(last)), size
    end = min(position(last) + 1, size) if last else size
    if last and position(last) < position(first):
        return None
    return (position(first), end) if position(first) < size else (size, size)


def position(digits: str) -> int:
    """A position in a file; one that no file has where there are too many digits for one."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= MOST_DIGITS else 10**MOST_DIGITS


def has_body(headers: Message) -> bool:
    return (headers.get("Content-Length") or "0").strip() != "0"


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    left = end - start
    while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
        left -= len(block)
        yield block
