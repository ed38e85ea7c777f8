"""Serving a site over HTTP on this machine: GET and HEAD, with ranges (RFC 9110, section 14)."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError
from .site import Site, url_of

LOOPBACK = "127.0.0.1"
PORT = 8377
BLOCK = 1 << 16
KINDS = {".mp4": "video/mp4", ".jpg": "image/jpeg"}


class Server(ThreadingHTTPServer):
    """A server of one site.

    Args:
        host: the address to listen on.
        port: 0 takes any that is free; None prefers `PORT`.

    Raises:
        UserError: it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, site: Site, host: str = LOOPBACK, port: int | None = None) -> None:
        self.site = site
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


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "sweep"
    sys_version = ""
    timeout = 60

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
            file = path.open("rb")
        except OSError:
            # Moved away since the runs were read.
            self._nothing()
            return
        with file:
            size = file.seek(0, 2)
            wanted = byte_range(self.headers.get("Range"), size)
            kind = KINDS.get(path.suffix, "application/octet-stream")
            if wanted is None:
                start, end, status = 0, size, HTTPStatus.OK
            elif wanted[0] >= wanted[1]:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
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
        return max(0, size - int(last)), size
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None
    return (int(first), end) if int(first) < size else (size, size)


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    left = end - start
    while left > 0 and (block := file.read(min(BLOCK, left))):
        left -= len(block)
        yield block
