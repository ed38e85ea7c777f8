"""What the watching page can ask for, as URLs: the page, its data, and the files it shows.

Every file has its URL from the runs that are shown; a URL that none of them has leads nowhere,
whatever path it spells.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

from ..disk.run_folder import RunFolder
from .cells import Run, Sidecars, read_run
from .document import document
from .page import render
from .pictures import WantedMedium, make
from .writing import PageMedia, ReportWish, each_cell, read_runs, title_of

WATCH_SECONDS = 2.0


class Site:
    """The page of some runs and all that belongs to it, as it is now.

    The runs are read again when someone asks, at most every `WATCH_SECONDS`, and no more often
    than leaves most of the time to other things.
    """

    def __init__(self, folders: Sequence[RunFolder], wish: ReportWish) -> None:
        self._wish = wish
        self._sidecars = Sidecars()
        self._names = [(run.folder, run.name) for run in read_runs(folders)]
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._next = 0.0
        self._files: dict[str, Path] = {}
        self._wanted: dict[str, WantedMedium] = {}
        self._data = self._tag = b""
        self._refresh()

    def page(self) -> bytes:
        with self._lock:
            self._refresh()
            return render(json.loads(self._data))

    def data(self) -> tuple[bytes, str]:
        """The page's data as JSON in UTF-8, and its entity tag."""
        with self._lock:
            self._refresh()
            return self._data, self._tag.decode()

    def file(self, url_path: str) -> Path | None:
        """The file of a URL's path, or None where the page has no such file.

        A picture that is asked for the first time is made.
        """
        name = unquote(url_path, errors="surrogateescape")
        with self._lock:
            path, wanted = self._files.get(name), self._wanted.get(name)
        if wanted is None:
            return path
        if not wanted.path.exists():
            # One at a time: a page that opens asks for all it shows at once.
            with self._making:
                if not wanted.path.exists() and make(wanted) is not None:
                    return None
        return wanted.path

    def _refresh(self) -> None:
        if time.monotonic() < self._next:
            return
        start = time.monotonic()
        runs = [replace(read_run(f, self._sidecars), name=name) for f, name in self._names]
        self._take_in(runs)
        took = time.monotonic() - start
        self._next = time.monotonic() + max(WATCH_SECONDS, 4 * took)

    def _take_in(self, runs: Sequence[Run]) -> None:
        beside = PageMedia(self._wish.folder(runs[0].folder), runs, self._wish)
        roots = {cell.clip: run.root for run, cell in each_cell(runs) if cell.clip is not None}
        problems = {
            wanted.path: f"{reference.path}: is not on this machine"
            for reference, root in roots.items()
            for (sha256, *_), wanted in beside.references.items()
            if sha256 == reference.sha256
            and not wanted.path.exists()
            and not (root / reference.path).exists()
        }
        look = beside.look(
            problems,
            title=title_of(runs, self._wish),
            bases=[f"runs/{number}/" for number in range(len(runs))],
            assets="report/",
            is_anonymous=self._wish.is_anonymous,
            watch_seconds=WATCH_SECONDS,
        )
        value = document(runs, look)
        self._wanted = {f"/report/{beside.name(one)}": one for one in beside.wanted()}
        self._files = {
            f"/runs/{number}/{cell.job.output}": run.folder.video(cell.job)
            for number, run in enumerate(runs)
            for cell in run.cells
            if cell.record is not None
        }
        made_at, value["made_at"] = value["made_at"], None
        same = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        tag = hashlib.sha256(same.encode("utf-8", "backslashreplace")).hexdigest()[:32].encode()
        if tag != self._tag:
            value["made_at"] = made_at
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            self._data, self._tag = text.encode("utf-8", "backslashreplace"), tag


def url_of(host: str, port: int) -> str:
    return f"http://{quote(f'[{host}]' if ':' in host else host, safe='[]:.')}:{port}/"
