"""The page's server among clients that are slow, many, or send what no browser does."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Project
from hypothesis import given, settings
from hypothesis import strategies as st
from shown_sweep import Served, copy_of

from runner.report.connections import MOST_CONNECTIONS, Connections
from runner.report.server import Server
from runner.report.site import Site
from runner.report.writing import ReportWish

SECONDS = 60
"""A test that waits so long has failed."""


class Page:
    """A served page: its address, the URL path of a video, and what the server said."""

    def __init__(self, served: Served, url: str) -> None:
        self.served = served
        self.port = urlsplit(url).port or 0
        data = json.loads(self.ask("/data.json")[1])
        cell = next(cell for cell in data["cells"] if "video" in cell)
        self.video = "/" + data["runs"][cell["run"]]["base"] + cell["video"]
        self.content = self.ask(self.video)[1]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def ask(self, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        said = answer.status, answer.read(), answer.headers
        connection.close()
        return said

    def send(self, data: bytes, *, whole: bool = True) -> bytes:
        """What is answered to these bytes until the server ends the connection."""
        with self.connect() as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
            if whole:
                client.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while piece := client.recv(65536):
                    answer += piece
            return answer


@pytest.fixture(scope="module")
def page(shown: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    served = Served(copy_of(shown, tmp_path_factory.mktemp("served") / "p"))
    with served as url:
        yield Page(served, url)
        served.process.send_signal(signal.SIGINT)
        assert served.process.stderr is not None
        assert "Traceback" not in served.process.stderr.read()


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def check_range(page: Page, header: str) -> int:
    """Whatever is asked for, it is a part that there is, or all, or a refusal."""
    status, body, headers = page.ask(page.video, Range=header)
    size = len(page.content)
    if status == 206:
        span = headers["Content-Range"].removeprefix("bytes ").partition("/")[0]
        first, last = map(int, span.split("-"))
        assert body == page.content[first : last + 1] != b""
    elif status == 416:
        assert headers["Content-Range"] == f"bytes */{size}"
        assert body == b""
    else:
        assert (status, body) == (200, page.content)
    return status


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("header", "statuses"),
    [
        ("bytes=0-0", {206}),
        (f"bytes=0-{DIGITS}", {206}),
        (f"bytes={'0' * 5000}1-2", {206}),
        (f"bytes=-{DIGITS}", {206}),
        (f"bytes={DIGITS}-", {416}),
        (f"bytes={DIGITS}-{DIGITS}", {416, 200}),
        (f"bytes={DIGITS}-0", {416, 200}),
        ("bytes=18446744073709551616-", {416}),
        ("bytes=9223372036854775807-", {416}),
        ("bytes=-0", {416}),
        ("bytes=--1", {416, 200}),
        ("bytes=-1-2", {416, 200}),
        ("bytes=5-2", {416, 200}),
        ("bytes=1-2,2-3", {206, 416, 200}),
        (f"bytes={','.join('0-' for _ in range(10_000))}", {416, 200}),
        (f"bytes={','.join(f'{n}-{n}' for n in range(5_000))}", {416, 200}),
        ("bytes=\xb2-\xb3", {416, 200}),
        ("bytes=1e3-", {416, 200}),
        ("bytes=0x10-", {416, 200}),
        ("bytes=1_0-", {416, 200}),
        ("bytes", {200}),
        ("", {200}),
        ("lines=1-2", {200}),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str) else "",
)
def test_a_range_of_any_form_is_answered(page: Page, header: str, statuses: set[int]) -> None:
    assert check_range(page, header) in statuses


@settings(max_examples=60)
@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))
    | st.lists(st.integers(-5, 10**30), min_size=1, max_size=9).map(lambda n: "-".join(map(str, n)))
)
def test_a_range_of_any_characters_is_answered(page: Page, header: str) -> None:
    check_range(page, f"bytes={header}")


def test_of_a_file_that_may_be_another_the_whole_is_sent(page: Page) -> None:
    status, body, _ = page.ask(page.video, Range="bytes=0-1", **{"If-Range": '"a"'})
    assert (status, body) == (200, page.content)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b" 414 "),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b" 431 "),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 5_000 + b"\r\n", b" 431 "),
        (b"POST / HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n" + b"a" * 9_000_000, b" 501 "),
        (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", b" 403 "),
        (b"GET / HTTP/1.1\r\n\r\n", b" 403 "),
        (b"GET / HTTP/9.9.9\r\n\r\n", b" 400 "),
        (b"\x1b[31m\x00\xff\r\n\r\n", b" 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n", b" 400 "),
    ],
    ids=["line", "header", "headers", "body", "no name", "no host", "version", "bytes", "TLS"],
)
def test_what_no_browser_sends_is_answered(page: Page, data: bytes, status: bytes) -> None:
    """However large it is; and the next one is answered too."""
    answer = page.send(data)
    assert status in answer.partition(b"\r\n")[0] + b" ", answer[:200]
    assert page.ask("/data.json")[0] == 200


def test_a_body_is_not_taken_for_the_next_request(page: Page) -> None:
    inner = b"GET /data.json HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % page.port
    head = b"GET /nothing HTTP/1.1\r\nHost: localhost:%d\r\n" % page.port
    for length in (
        b"Content-Length: %d\r\n\r\n" % len(inner),
        b"Transfer-Encoding: chunked\r\n\r\n",
    ):
        answer = page.send(head + length + inner, whole=False)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b" 404 " in answer


def test_hundreds_of_silent_clients_keep_nobody_out(page: Page, many_files: None) -> None:
    """Some say nothing, some half a request; and more than there is room for."""
    with contextlib.ExitStack() as held:
        for number in range(MOST_CONNECTIONS + 100):
            client = held.enter_context(page.connect())
            if number % 3 == 0:
                with contextlib.suppress(ConnectionError):
                    client.sendall(b"GET / HTTP/1.1\r\nHost: ")
            if number in (499, MOST_CONNECTIONS + 99):
                assert page.ask("/data.json")[0] == 200
                assert page.ask(page.video)[1] == page.content


def test_a_request_that_is_never_whole_is_cut_off(shown: Project) -> None:
    """A byte now and then (slow loris) does not keep a connection."""
    site = Site([shown.run_folder], ReportWish())
    connections = Connections(request_seconds=0.5)
    with Server(site, port=0, connections=connections) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=SECONDS) as client:
            ends = time.monotonic() + SECONDS
            with contextlib.suppress(ConnectionError):
                client.sendall(b"GET / HTTP/1.1\r\nX: ")
                client.settimeout(0.1)
                while time.monotonic() < ends:
                    client.sendall(b"a")
                    with contextlib.suppress(TimeoutError):
                        if client.recv(1) == b"":
                            break
            assert time.monotonic() < ends
        server.shutdown()


def test_a_pipe_in_the_place_of_a_video_holds_nobody_up(page: Page) -> None:
    folder = page.served.project.run_folder.path
    rows = json.loads(page.served.project.call("export", "x", "--json").out)
    done = [row["video_file"] for row in rows if row["video_file"]]
    (folder / done[-1]).unlink()
    os.mkfifo(folder / done[-1])
    data = json.loads(page.ask("/data.json")[1])
    videos = [
        "/" + data["runs"][c["run"]]["base"] + c["video"] for c in data["cells"] if "video" in c
    ]
    assert {page.ask(video)[0] for video in videos} <= {200, 404}
    assert page.ask("/")[0] == 200
    Path(folder / done[-1]).unlink()
