"""How long the report's page takes to write and to open, at 680 and 10,000 cells.

The page is opened from disk in a headless Chromium (Debian: `apt-get install chromium`), from
navigation to the moment its cells can be used, and to the moment every picture in the window is
painted; then it is scrolled through from top to bottom.

    python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from measuring import table, write_section
from playwright.sync_api import Browser, sync_playwright

from runner.backends.fake.engine import draw
from runner.disk.manifest import read_manifest
from runner.disk.publish import SCHEMA, inputs_of
from runner.disk.run_folder import RunFolder
from runner.job.shape import Shape
from runner.video import write_video

ROOT = Path(__file__).resolve().parents[1]
TITLE = "Opening the report"
SHAPES = {680: (68, 5, 2), 10_000: (100, 10, 10)}
"""Videos, prompts and seeds."""
DISTINCT = 8
SIZE = {"width": 832, "height": 480, "num_frames": 81, "fps": 15}
SHAPE = Shape(832, 480, 81, 15.0)
CATEGORIES = ("camera_motion", "single_object", "multiple_objects", "complex_human_motion")


def make_sweep(folder: Path, cells: int) -> RunFolder:
    """Plan a sweep of so many jobs, and put a video with its sidecar on disk for each.

    The videos are eight, each made another file by an empty box at its end (ISO/IEC 14496-12,
    8.1.2), so that every one has a poster of its own.
    """
    videos, prompts, seeds = SHAPES[cells]
    texts: dict[str, dict[str, list[str]]] = {}
    for number in range(videos):
        category, name = CATEGORIES[number % 4], f"ref_镜头_{number:03d}"
        texts.setdefault(category, {})[name] = [
            f"{n}: a slow pan across a harbour at dusk, gulls over the water, 电影感, {name}"
            for n in range(prompts)
        ]
        path = folder / "videos" / category / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        real = folder / f"clip_{number % 4}.mp4"
        if not real.exists():
            write_video(real, draw(number / 4, SHAPE), fps=15, quality=5)
        path.write_bytes(distinct(real.read_bytes(), number))
    (folder / "prompts.json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
    experiment = {
        "name": "report",
        "backend": "fake",
        "dataset": {"videos": "videos", "prompts": "prompts.json"},
        "seeds": list(range(seeds)),
        "generation": {**SIZE, "num_inference_steps": 50, "negative_prompt": "blurred, static"},
        "placement": {"gpus": [0], "device": "cpu"},
    }
    file = folder / "report.yaml"
    file.write_text(yaml.safe_dump(experiment, allow_unicode=True), encoding="utf-8")
    sweep("plan", str(file))
    run = RunFolder(folder / "results" / "report")
    put_on_disk(run, folder)
    return run


def distinct(content: bytes, number: int) -> bytes:
    """An MP4 with an empty box at its end that makes it another file."""
    return content + struct.pack(">I4sQ", 16, b"free", number)


def put_on_disk(run: RunFolder, folder: Path) -> None:
    """A video and its sidecar for every job, as `publish` leaves them."""
    real = []
    for number in range(DISTINCT):
        path = folder / f"output_{number}.mp4"
        write_video(path, draw(number / DISTINCT, SHAPE), fps=15, quality=5)
        real.append(path.read_bytes())
    now = time.time()
    for number, job in enumerate(read_manifest(run.manifest).jobs):
        content = distinct(real[number % DISTINCT], number)
        video = run.video(job)
        video.parent.mkdir(parents=True, exist_ok=True)
        video.write_bytes(content)
        sidecar = {
            "schema": SCHEMA,
            "job": job.id,
            "fingerprint": job.fingerprint,
            **inputs_of(job),
            "worker": f"gpu{number % 4}_process0",
            "finished_at": now + number,
            "seconds": {"generate": 200 + number % 7, "finish": 1.5},
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
            "video": {
                "file": video.name,
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                **SIZE,
            },
        }
        run.sidecar(job).write_text(json.dumps(sidecar, ensure_ascii=False), encoding="utf-8")
        attempt = {
            "job": job.id,
            "worker": sidecar["worker"],
            "outcome": "done",
            "started_at": now + 200 * (number // 4),
            "ended_at": now + 200 * (number // 4) + 198,
            "error": None,
            "seconds": sidecar["seconds"],
        }
        with run.attempts.open("a") as file:
            file.write(json.dumps(attempt) + "\n")


def sweep(*words: str) -> float:
    """Run `sweep` with these words; returns its seconds."""
    start = time.monotonic()
    command = [sys.executable, "-m", "runner", *words]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def borrow_posters(run: RunFolder) -> None:
    """Put a poster in place for every video but the first few, whose posters are copied."""
    from runner.report.cells import read_run
    from runner.report.pictures import Pictures, make

    pictures = Pictures(run.path / "report")
    first: list[Path] = []
    for cell in read_run(run).cells:
        sha256 = cell.video_sha256
        assert sha256 is not None
        wanted = pictures.poster(run.video(cell.job), sha256, cell.shape)
        if len(first) < DISTINCT:
            make(wanted)
            first.append(wanted.path)
        else:
            shutil.copy(first[len(first) % DISTINCT], wanted.path)


def open_page(browser: Browser, page_file: Path) -> dict[str, float]:
    """Seconds until the page can be used and until its window is painted, and how it scrolls."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def main_thread() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

    start = time.monotonic()
    page.goto(page_file.as_uri(), wait_until="commit")
    page.wait_for_selector("html[data-ready]")
    ready = time.monotonic() - start
    page.evaluate(
        "async () => { for (;;) { const all = [...document.querySelectorAll('.cell img')];"
        " if (all.length && all.every(i => i.complete || i.getBoundingClientRect().top > 900))"
        " return; await new Promise(requestAnimationFrame); } }"
    )
    painted = time.monotonic() - start
    page.wait_for_timeout(1000)
    opening = main_thread()
    frames = page.evaluate(
        "async () => { const times = []; let last = performance.now();"
        " for (let n = 0; n < 120; n++) { window.scrollBy(0, 400);"
        " await new Promise(requestAnimationFrame); const now = performance.now();"
        " times.push(now - last); last = now; } return times; }"
    )
    scrolling = (main_thread() - opening) / len(frames)
    nodes = page.evaluate("document.querySelectorAll('*').length")
    heap = page.evaluate("performance.memory.usedJSHeapSize")
    context.close()
    late = sorted(frames)
    return {
        "ready": ready,
        "painted": painted,
        "frame": statistics.median(late),
        "late": late[int(0.95 * len(late))],
        "opening": opening,
        "scrolling": 1000 * scrolling,
        "nodes": nodes,
        "heap": heap / 2**20,
    }


def measure(browser: Browser, cells: int) -> list[str]:
    """The table's row for so many cells."""
    with tempfile.TemporaryDirectory() as name:
        run = make_sweep(Path(name), cells)
        # Ten thousand pictures say nothing more of how they are made than 680.
        borrowed = cells > 1000
        if borrowed:
            borrow_posters(run)
        first = sweep("report", str(run.path))
        again = sweep("report", str(run.path))
        page = run.path / "report" / "index.html"
        opened = [open_page(browser, page) for _ in range(5)]
        middle = {key: statistics.median(one[key] for one in opened) for key in opened[0]}
        return [
            f"{cells:,}",
            "" if borrowed else f"{first:.1f}",
            f"{again:.1f}",
            f"{page.stat().st_size / 1e6:.1f}",
            f"{middle['ready']:.2f}",
            f"{middle['painted']:.2f}",
            f"{middle['opening']:.2f}",
            f"{middle['frame']:.0f} / {middle['late']:.0f}",
            f"{middle['scrolling']:.0f}",
            f"{middle['nodes']:,.0f}",
            f"{middle['heap']:.0f}",
        ]


HEAD = ["cells", "write, s", "write again, s", "page, MB", "open, s", "painted, s"]
HEAD += ["of its main thread, s", "frame while scrolling, ms (median / 95 %)"]
HEAD += ["of the main thread, ms", "elements", "heap, MiB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, choices=SHAPES, action="append")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        rows = [measure(browser, cells) for cells in arguments.cells or SHAPES]
        version = browser.version
        browser.close()
    seconds = f"{SIZE['num_frames'] / SIZE['fps']:g}"
    body = (
        f"`sweep report` on finished sweeps of 832x480 videos of {seconds} s, and its page in "
        f"Chromium {version} (headless, drawn without a GPU), at 1440x900, medians of five. "
        "The first writing makes a picture of every video and a copy of every reference clip, "
        "the second finds them; at 10,000 they were put in place beforehand. The page scrolls "
        "400 pixels a frame. The main thread's own time does not count what other programs took "
        f"of the machine.\n\n{table(HEAD, rows)}"
    )
    write_section(arguments.out, TITLE, body)


if __name__ == "__main__":
    main()
