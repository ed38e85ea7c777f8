"""The page in a real Chromium: it opens from disk, plays in step, and runs nothing it was told.

Needs a Chromium on the machine (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from conftest import Project, colour_chart, wait_for
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    FilePayload,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)
from shown_sweep import CLOSING, FPS, FRAMES, HOSTILE, Served, copy_of

from runner.disk.attempts import AttemptRecord, record_attempt
from runner.job import JobState, Outcome
from runner.job.failures import Policy
from runner.job.slot_names import Slot
from runner.machine.processes import ProcessId
from runner.queue.claim_order import Taste
from runner.runs.runs import open_queue
from runner.video import write_video

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Callable[..., Browser]]:
    """Starts a browser, with further options."""
    with sync_playwright() as playwright:

        def start(*options: str) -> Browser:
            # A container's root has no sandbox to run in.
            words = ["--no-sandbox", *options]
            return playwright.chromium.launch(executable_path=CHROMIUM, args=words)

        yield start


@pytest.fixture(scope="module")
def browser(chromium: Callable[..., Browser]) -> Iterator[Browser]:
    made = chromium()
    yield made
    made.close()


class Opened:
    """An opened page, with what it asked for and what it complained of."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("console", self._said)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _failed(self, request: Any) -> None:
        # A video that is scrolled away or closed is let go of while it loads.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.url}: {request.failure}")


@pytest.fixture
def opened(browser: Browser, shown: Project) -> Iterator[Opened]:
    # Tall enough to have all 24 cells in the window.
    size: ViewportSize = {"width": 1280, "height": 2600}
    context = browser.new_context(viewport=size, accept_downloads=True)
    result = Opened(context)
    result.page.goto(index(shown).as_uri())
    wait_until_built(result.page)
    yield result
    assert result.complaints == []
    context.close()


def wait_until_built(page: Page) -> None:
    """Wait for all 24 cells: rows are built over some frames."""
    page.wait_for_selector("html[data-ready]")
    expect(page.locator(".cell")).to_have_count(24)


@pytest.fixture
def page(opened: Opened) -> Page:
    return opened.page


def index(project: Project) -> Path:
    return project.run_folder.path / "report" / "index.html"


def times(page: Page, within: str = "") -> list[dict[str, Any]]:
    """Time, size and whether it plays of every video that is shown, at one moment."""
    found: list[dict[str, Any]] = page.evaluate(
        "within => [...document.querySelectorAll(`${within} video`)].map(v => ({"
        "time: v.currentTime, width: v.videoWidth, playing: !v.paused}))",
        within,
    )
    return found


def until(page: Page, expression: str, argument: object = None) -> None:
    """Wait until an expression is true. (Playwright's own way needs `eval`, which the page's
    policy forbids.)"""
    wait_for(lambda: bool(page.evaluate(expression, argument)))


def wait_until_playing(page: Page, after: float, number: int, within: str = "") -> None:
    until(
        page,
        "([within, after, number]) => { const all = [...document.querySelectorAll("
        "`${within} video`)].filter(v => !v.paused); return all.length >= number &&"
        " all.every(v => v.currentTime > after); }",
        [within, after, number],
    )


def cells(page: Page, state: str) -> int:
    return page.locator(f".cell.{state}").count()


def scroll_through(page: Page) -> None:
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(300)


def test_it_opens_from_disk_and_asks_for_nothing_beyond_its_folder(
    opened: Opened, shown: Project
) -> None:
    scroll_through(opened.page)
    run = shown.run_folder.path.as_uri()
    assert opened.requests
    assert all(url.startswith((f"{run}/", "data:", "blob:")) for url in opened.requests)
    assert opened.page.title() == "x"


def test_every_job_has_a_cell_in_its_state_and_says_why(page: Page) -> None:
    assert page.locator("section.section").count() == 4
    assert (cells(page, "done"), cells(page, "stale")) == (15, 2)
    assert (cells(page, "failed"), cells(page, "pending")) == (6, 1)
    assert "asked to fail on ref_fails <b>" in page.locator(".cell.failed").first.inner_text()
    assert "not made yet" in page.locator(".cell.pending").inner_text()
    page.locator(".cell.stale").first.hover()
    expect(page.locator("#tip")).to_contain_text("changed since: prompt")
    page.locator(".cell.done").nth(1).hover()
    expect(page.locator("#tip")).to_contain_text("prompt 0, seed 2")
    expect(page.locator("#tip")).to_contain_text(HOSTILE)


def test_what_prompts_and_names_hold_stays_text(page: Page) -> None:
    """Neither a script nor a closing tag nor an attribute comes alive, wherever it is shown."""
    heads = page.locator(".rowhead p").all_inner_texts()
    assert HOSTILE in heads
    assert CLOSING in heads
    headings = page.locator("h2 .name").all_inner_texts()
    assert 'z#b?c 100% "q" %41 &amp;' in headings
    assert page.locator("#grid script, #grid b b, #grid i, img[src=x]").count() == 0
    page.locator(".cell.done").first.click()
    assert HOSTILE in page.locator("#large blockquote").inner_text()
    assert page.locator("#large script, #large img[src=x]").count() == 0
    assert page.title() == "x"


def test_every_video_and_reference_loads_whatever_its_name(page: Page) -> None:
    """Names with #, ?, %, quotes, spaces, Chinese and emoji are all found from the page."""
    sources = page.evaluate(
        "() => { const d = JSON.parse(document.getElementById('data').textContent);"
        " return [...d.cells.filter(c => c.video).map(c => d.runs[c.run].base + c.video),"
        " ...d.references.map(r => r.clip)]; }"
    )
    assert len(sources) == 17 + 4
    sizes = page.evaluate(
        "sources => Promise.all(sources.map(source => new Promise(done => {"
        " const v = document.createElement('video');"
        " v.onloadeddata = () => done([v.videoWidth, v.videoHeight]);"
        " v.onerror = () => done(source); v.preload = 'auto'; v.src = source; })))",
        sources,
    )
    assert sizes == [[112, 64]] * len(sources)
    posters = page.evaluate(
        "() => [...document.querySelectorAll('.cell img')].map(i => i.decode().then("
        "() => i.naturalWidth)).reduce(async (a, p) => [...await a, await p], [])"
    )
    assert posters == [112] * 17


def test_the_page_plays_pauses_and_scrubs_in_step(page: Page) -> None:
    page.locator("#transport .big").click()
    wait_until_playing(page, 0.2, 8)
    # Whoever started late is brought back into step before the end, and stays there; sampled at
    # one moment, while they play.
    until(
        page,
        "frame => { const all = [...document.querySelectorAll('video')].filter(v => !v.paused)"
        ".map(v => v.currentTime);"
        " const last = Math.max(...all);"
        " return all.length >= 8 && last < 0.6 && last - Math.min(...all) <= frame; }",
        1 / FPS,
    )
    playing = [video["time"] for video in times(page) if video["playing"]]
    assert max(playing) - min(playing) <= 1 / FPS
    page.keyboard.press(" ")
    until(page, "[...document.querySelectorAll('video.shown')].every(v => v.paused && !v.seeking)")
    assert len({round(video["time"], 3) for video in times(page)}) == 1
    page.locator("#transport input").fill("11")
    until(
        page,
        "[...document.querySelectorAll('video.shown')].every(v => !v.seeking &&"
        f" Math.floor(v.currentTime * {FPS}) === 11)",
    )
    page.keyboard.press(".")
    until(
        page,
        "[...document.querySelectorAll('video.shown')].every(v => !v.seeking &&"
        f" Math.floor(v.currentTime * {FPS}) === 12)",
    )
    expect(page.locator(".clock")).to_contain_text("13/17")


def test_references_show_the_moment_that_posters_show(page: Page) -> None:
    """Before anything plays, clip and outputs are seen at the same frame, the one in the middle."""
    middle = FRAMES // 2
    until(
        page,
        "() => { const all = [...document.querySelectorAll('.reference video.shown')];"
        f" return all.length === 4 && all.every(v => Math.floor(v.currentTime * {FPS}) === {middle}"
        "); }",
    )


def test_a_row_plays_alone_beside_its_reference_and_loops(page: Page) -> None:
    page.locator(".rowname .play").first.click()
    wait_until_playing(page, 0.05, 3)
    assert sum(video["playing"] for video in times(page)) == 3
    assert page.locator(".row:has(.play.on) .cell video").count() == 2
    before = page.evaluate("performance.now()")
    until(
        page,
        "() => { const v = document.querySelector('.cell video'); window.most ??= 0;"
        " if (v.currentTime < window.most - 0.5) return true;"
        " window.most = Math.max(window.most, v.currentTime); return false; }",
    )
    assert page.evaluate("performance.now()") > before
    page.locator(".rowname .play.on").click()
    until(page, "[...document.querySelectorAll('video')].every(v => v.paused)")


def test_any_two_axes_go_on_rows_and_columns_and_the_rest_are_pickers(page: Page) -> None:
    page.get_by_label("rows", exact=True).select_option("video")
    assert page.locator("section.section").count() == 2
    assert page.locator(".columnhead b").all_inner_texts() == ["seed 1", "seed 2"] * 2
    # Each row has its reference beside it.
    expect(page.locator(".row .reference video.shown")).to_have_count(4)
    page.get_by_label("columns", exact=True).select_option("prompt")
    picker = page.get_by_label("seed", exact=True)
    expect(page.locator(".cell.failed")).to_have_count(3)
    expect(page.locator(".cell.pending")).to_have_count(0)
    picker.select_option("1")
    expect(page.locator(".cell.pending")).to_have_count(1)
    # The same axis on both exchanges them.
    page.get_by_label("rows", exact=True).select_option("prompt")
    assert page.get_by_label("columns", exact=True).input_value() == "video"
    assert page.locator(".rowname b").all_inner_texts()[:3] == ["prompt 0", "prompt 1", "prompt 2"]
    # And each column its own above it.
    expect(page.locator(".row .reference video.shown")).to_have_count(4)
    page.locator(".rowname .play").first.click()
    wait_until_playing(page, 0.05, 4)


def test_filters_by_category_text_and_state(page: Page) -> None:
    page.get_by_label("category", exact=True).select_option("camera_motion")
    assert page.locator("section.section").count() == 2
    page.get_by_label("category", exact=True).select_option("")
    page.get_by_label("filter by text").fill("红色")
    expect(page.locator(".row:not(.heads)")).to_have_count(1)
    expect(page.locator(".cell.done")).to_have_count(2)
    page.get_by_label("filter by text").fill("")
    page.locator(".chip[data-state=failed]").click()
    expect(page.locator("section.section")).to_have_count(1)
    expect(page.locator(".cell.failed")).to_have_count(6)
    page.get_by_label("filter by text").fill("nowhere to be found")
    expect(page.locator(".nothing")).to_be_visible()


def test_marks_are_made_by_keyboard_kept_and_exported(page: Page, shown: Project) -> None:
    page.keyboard.press("ArrowRight")
    page.keyboard.press("f")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("f")
    page.keyboard.press("f")
    assert page.locator("[data-mark=favourite].cell").count() == 1
    assert page.locator("[data-mark=reject].cell").count() == 1
    page.reload()
    wait_until_built(page)
    assert page.locator("[data-mark=favourite].cell").count() == 1
    page.get_by_text("marks", exact=True).click()
    with page.expect_download() as download:
        page.get_by_text("export as JSON").click()
    marks = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))["marks"]
    assert [(m["mark"], m["prompt"], m["seed"]) for m in marks] == [
        ("favourite", 0, 1),
        ("reject", 1, 1),
    ]
    jobs = {line["id"] for line in map(json.loads, shown.run_folder.manifest.open("rb"))}
    assert {mark["job"] for mark in marks} <= jobs
    with page.expect_download() as download:
        page.get_by_text("export as CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["prompt_text"] for row in rows] == [HOSTILE, "一只红色的球 🎈"]
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    given: FilePayload = {
        "name": "m.json",
        "mimeType": "application/json",
        "buffer": json.dumps({"marks": marks}).encode(),
    }
    page.locator("input[type=file]").set_input_files(given)
    expect(page.locator("[data-mark=reject].cell")).to_have_count(1)


def test_the_large_view_has_the_reference_the_record_and_the_attempts(page: Page) -> None:
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.locator("#large")
    expect(dialog).to_be_visible()
    assert dialog.locator("figure").count() == 2
    record = dialog.locator(".record").inner_text()
    for word in ("fingerprint", "num inference steps", "sha256", "versions", "worker"):
        assert word in record
    page.locator("#transport .big").click()
    wait_until_playing(page, 0.05, 2, "#large")
    page.keyboard.press("ArrowRight")
    assert "seed 2" in dialog.locator("h2").inner_text()
    page.keyboard.press("r")
    assert dialog.locator("figure").count() == 3
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.locator(".cell.failed").first.click()
    rows = dialog.locator(".attempts tbody tr")
    assert rows.count() >= 1
    assert "RuntimeError: asked to fail" in rows.first.inner_text()
    assert "parameters" in dialog.locator(".record").inner_text()


def test_the_dashboard_shows_progress_workers_times_and_failures(page: Page) -> None:
    page.get_by_role("tab", name="Dashboard").click()
    text = page.locator("#panel-dashboard").inner_text()
    for word in ("15 / 24", "backend bug", "GPU 0", "the ideal", "gpu0_process1"):
        assert word in re.sub(r"\s+", " ", text), word
    assert page.locator(".timeline path.failed").count() == 1
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#grid")).to_be_visible()


def test_it_says_what_waits_and_who_is_set_aside(
    browser: Browser, shown: Project, tmp_path: Path
) -> None:
    """A job to be tried again has its time, a slot its reason; deaths and further attempts stand
    out among what the workers did."""
    project = copy_of(shown, tmp_path / "p")
    now = time.time()
    queue = open_queue(project.run_folder)
    queue.set_policy(Policy(failures=3, deaths=10, backoff_seconds=300))
    queue.retry([JobState.FAILED])
    taken = queue.claim(Slot.of(0, 1), ProcessId.own(), Taste())
    assert taken is not None
    queue.fail(taken, "OSError: a <b>hiccup</b>")
    queue.set_aside(Slot.of(0, 1), "out of memory <i>twice</i>")
    queue.close()
    died = AttemptRecord(taken.job.id, "gpu0_process1", Outcome.DIED, now - 2, now, error="SIGKILL")
    record_attempt(project.run_folder.attempts, replace(died, started_at=now - 5, ended_at=now - 4))
    record_attempt(project.run_folder.attempts, died)
    answer = json.loads(project.call("progress", "x", "--json").out)
    assert (answer["waiting"], answer["next_try_at"]) == (1, pytest.approx(now + 300, abs=1))
    assert project.call("report", "x").status == 0
    context = browser.new_context(viewport={"width": 1280, "height": 2600})
    opened = open_page(context, index(project).as_uri())
    page = opened.page
    cell = page.locator(".cell.pending", has_text="a <b>hiccup</b>")
    expect(cell).to_contain_text("its next attempt not before")
    page.get_by_role("tab", name="Dashboard").click()
    notices = page.locator(".notices")
    expect(notices).to_contain_text("gpu0_process1 is set aside: out of memory <i>twice</i>")
    expect(notices).to_contain_text("1 job to be tried again, the next not before")
    assert page.locator(".timeline path.died, .timeline path.again").count() == 2
    box = page.locator(".timeline path.died").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    expect(page.locator("#tip")).to_contain_text(
        re.compile("died · worker died · attempt [2-9] at")
    )
    assert opened.complaints == []
    context.close()


def test_a_reader_who_does_not_see_is_told_what_each_cell_is(page: Page) -> None:
    grid = page.get_by_role("grid").first
    assert grid.get_attribute("aria-rowcount") == "4"
    label = grid.locator(".cell").first.get_attribute("aria-label")
    assert label == f"camera_motion, ref_镜头仰角, prompt 0, seed 1, done. {HOSTILE}"
    names = page.evaluate(
        "[...document.querySelectorAll('button, input, select, video')].filter(e => !("
        "e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).length"
    )
    assert names == 0


def test_it_fits_a_phone_and_follows_light_and_dark(browser: Browser, shown: Project) -> None:
    papers = []
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        page = context.new_page()
        page.goto(index(shown).as_uri())
        page.wait_for_selector("html[data-ready]")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        # Videos come first on a small window; the axes and filters are behind a button.
        assert page.locator(".cell").first.evaluate("c => c.getBoundingClientRect().top") < 422
        expect(page.get_by_label("rows", exact=True)).to_be_hidden()
        page.get_by_role("button", name="axes, filters").click()
        page.get_by_label("rows", exact=True).select_option("video")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_label("colours").select_option("dark")
        page.reload()
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    light, chosen, dark, _ = papers
    assert light != dark
    # What is chosen wins over what the system has, and is kept.
    assert chosen == dark


def test_only_rows_near_the_window_are_built(browser: Browser, shown: Project) -> None:
    """What is far from the window costs an empty box, so a page of 10,000 cells opens too."""
    context = browser.new_context(viewport={"width": 1280, "height": 300})
    page = context.new_page()
    page.goto(index(shown).as_uri())
    page.wait_for_selector("html[data-ready]")
    page.locator("#size").fill("520")
    first = page.locator(".row:not(.heads)").first
    expect(first.locator(".cell")).to_have_count(2)
    scroll_through(page)
    expect(first.locator(".cell")).to_have_count(0)
    expect(page.locator(".row:not(.heads)").last.locator(".cell")).to_have_count(2)
    context.close()


def open_page(context: BrowserContext, url: str) -> Opened:
    opened = Opened(context)
    opened.page.goto(url)
    opened.page.wait_for_selector("html[data-ready]")
    return opened


def test_several_runs_stand_beside_one_another(
    browser: Browser, shown: Project, tmp_path: Path
) -> None:
    """A run is one more axis, and a parameter that tells them apart is said once."""
    one, other = (copy_of(shown, tmp_path / name) for name in ("one", "other"))
    other.call("plan", str(other.file), "generation.num_inference_steps=3")
    made = one.call("report", str(one.run_folder.path), str(other.run_folder.path), "--json")
    assert made.status == 0, made.err
    context = browser.new_context(viewport={"width": 1280, "height": 1500})
    opened = open_page(context, Path(json.loads(made.out)["report"]).as_uri())
    page = opened.page
    heads = page.locator(".heads").first.locator(".columnhead b").all_inner_texts()
    assert heads == ["x (1)", "x (2)"]
    expect(page.locator("#runs")).to_contain_text("num_inference_steps 3")
    expect(page.locator(".cell.stale").nth(2)).to_be_visible()
    page.locator(".rowname .play").first.click()
    wait_until_playing(page, 0.05, 3)
    assert opened.complaints == []
    context.close()


@pytest.mark.parametrize(
    ("words", "width"), [([], 112), (["--preview", "64"], 64), (["--anonymous"], 112)]
)
def test_a_zip_opens_wherever_it_is_unpacked(
    browser: Browser, shown: Project, tmp_path: Path, words: list[str], width: int
) -> None:
    """With the videos, with small ones in their place, and with nothing that tells who made it."""
    made = shown.call("report", "x", "--zip", "--json", *words)
    assert made.status == 0, made.err
    with zipfile.ZipFile(json.loads(made.out)["report"]) as archive:
        archive.extractall(tmp_path)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = open_page(context, (tmp_path / "x" / "index.html").as_uri())
    opened.page.keyboard.press(" ")
    wait_until_playing(opened.page, 0.05, 3)
    widths = {video["width"] for video in times(opened.page) if video["playing"]}
    assert widths == {width}
    assert opened.complaints == []
    assert all(url.startswith((tmp_path.as_uri(), "data:")) for url in opened.requests)
    context.close()


def test_cells_fill_in_while_the_page_is_open(
    browser: Browser, shown: Project, tmp_path: Path
) -> None:
    """The served page shows a video within moments of its publication, without a reload."""
    project = copy_of(shown, tmp_path / "live")
    folder = project.run_folder.path
    for file in (folder / "camera_motion" / "ref_镜头仰角").iterdir():
        file.unlink()
    with Served(project) as url:
        context = browser.new_context(viewport={"width": 1280, "height": 2600})
        opened = open_page(context, url)
        page = opened.page
        expect(page.locator(".cell.pending")).to_have_count(7)
        expect(page.locator(".count").first).to_have_text("0 of 6")
        # Somebody looks at one of them in another tab, and here at the filter.
        other = open_page(context, url)
        other.page.locator(".cell.pending").first.click()
        page.get_by_label("filter by text").focus()
        resumed = project.sweep("resume", "x", "--on", "local", "--wait")
        assert "x:" in resumed.err
        expect(page.locator(".cell.pending")).to_have_count(0, timeout=20_000)
        expect(page.locator(".cell.done")).to_have_count(22 - 6)
        expect(page.locator(".count").first).to_have_text("6 of 6")
        expect(page.locator(".chip[data-state=done]")).to_have_text("done 16")
        expect(page.get_by_label("filter by text")).to_be_focused()
        expect(other.page.locator("#large .state")).to_have_text("done", timeout=20_000)
        expect(other.page.locator("#large video.shown")).to_have_count(2)
        assert other.complaints == []
        other.page.close()
        page.keyboard.press("Escape")
        page.keyboard.press(" ")
        wait_until_playing(page, 0.1, 8)
        page.locator("#transport input").fill("11")
        until(
            page,
            "[...document.querySelectorAll('video.shown')].every(v => !v.seeking &&"
            f" Math.floor(v.currentTime * {FPS}) === 11)",
        )
        assert all(one.startswith((url, "data:", "blob:")) for one in opened.requests)
        assert opened.complaints == []
        context.close()


def test_it_scrubs_from_a_server_that_knows_no_ranges(browser: Browser, shown: Project) -> None:
    """Python's own http.server, as many will use it: the page then holds what it plays."""
    folder = shown.run_folder.path
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        opened = open_page(context, f"http://127.0.0.1:{server.server_port}/report/index.html")
        opened.page.locator("#transport input").evaluate("bar => { bar.max = 16; }")
        opened.page.locator("#transport input").fill("11")
        until(
            opened.page,
            "() => { const all = [...document.querySelectorAll('.cell video.shown')];"
            " return all.length >= 4 && all.every(v => !v.seeking &&"
            f" Math.floor(v.currentTime * {FPS}) === 11); }}",
        )
        context.close()
        server.shutdown()


def test_a_parameter_axis_goes_on_rows_or_columns(browser: Browser, project: Project) -> None:
    """Values of a parameter stand beside each other, each with its own video."""
    project.write(model={"seconds": 0.02}, seeds=[1, 2])
    axes = "axes={denoising_strength: [0.7, 0.8], cfg_scale: [3, 5]}"
    made = project.sweep("launch", "experiments/x.yaml", axes, "--on", "local", "--wait")
    assert made.status == 0, made.err
    assert project.call("report", "x").status == 0
    context = browser.new_context(viewport={"width": 1280, "height": 3000})
    opened = open_page(context, index(project).as_uri())
    page = opened.page
    heads = page.locator(".heads").first.locator(".columnhead b")
    expect(heads).to_have_text(["denoising_strength 0.7", "denoising_strength 0.8"])
    strength = r"denoising_strength%3D0\.7"
    assert re.search(strength, video_of(page, 0, 0))
    assert "denoising_strength" not in video_of(page, 0, 1)
    picker = page.get_by_label("cfg_scale", exact=True)
    expect(picker.locator("option")).to_have_text(["cfg_scale 3", "cfg_scale 5"])
    assert "cfg_scale%3D3.0" in video_of(page, 0, 0)
    picker.select_option("1")
    assert "cfg_scale" not in video_of(page, 0, 0)
    page.get_by_label("rows", exact=True).select_option("cfg_scale")
    rows = page.locator("section.section").first.locator(".rowname b")
    expect(rows).to_have_text(["cfg_scale 3", "cfg_scale 5"])
    assert "cfg_scale%3D3.0_denoising_strength%3D0.7" in video_of(page, 0, 0)
    assert "%3D" not in video_of(page, 1, 1)
    page.get_by_label("columns", exact=True).select_option("seed")
    page.get_by_label("rows", exact=True).select_option("denoising_strength")
    expect(heads).to_have_text(["seed 1", "seed 2"])
    expect(rows).to_have_text(["denoising_strength 0.7", "denoising_strength 0.8"])
    page.locator(".rowname .play").first.click()
    wait_until_playing(page, 0.05, 3)
    assert opened.complaints == []
    context.close()


def video_of(page: Page, row: int, column: int) -> str:
    """The URL of the video of a cell of the first section, as the page has it."""
    cell = page.locator("section.section").first.locator(".row:not(.heads)").nth(row)
    number = int(cell.locator(".cell").nth(column).get_attribute("data-cell") or -1)
    url: str = page.evaluate(
        "number => JSON.parse(document.getElementById('data').textContent).cells[number].video",
        number,
    )
    return url


def test_a_video_is_shown_in_the_colours_that_were_written(
    chromium: Callable[..., Browser], tmp_path: Path
) -> None:
    """A player that was not told takes a video for BT.709 or BT.601 by its size.

    Drawn as a GPU would: without one, Chromium's own code for BT.709 bounds the factor of blue at
    2 (2.11 it is), and is off by up to 12.
    """
    width, height = 1280, 720
    chart, spots = colour_chart(width, height)
    write_video(tmp_path / "chart.mp4", [*np.repeat(chart[None], 5, 0)], fps=15, quality=10)
    (tmp_path / "page.html").write_text(
        "<body style='margin: 0'><video src='chart.mp4' preload='auto' muted></video>"
    )
    as_a_gpu = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    drawing = chromium(*as_a_gpu)
    page = drawing.new_page(viewport={"width": width, "height": height})
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    shown = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    drawing.close()
    for (y, x), colour in spots.items():
        assert np.abs(shown[y, x] - colour).max() <= 3, (shown[y, x], colour)
