"""Make the pictures of `docs/pictures/`: the report's page and the live view of a real sweep.

A sweep of the sample clips is run on the fake backend, with a clip that fails and a worker that
is killed; `sweep progress --watch` is taken from its tmux session. Then the sample clips in other
colours are published in place of the videos, so that there is something to look at, and the page
is opened in a headless Chromium.

    python docs/make_pictures.py
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from runner.job import Job, JobState
from runner.publish import publish, read_sidecar
from runner.run_folder import RunFolder
from runner.runs import open_queue
from runner.video import read_clip, write_video

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
NAME = "motion_study"
SOCKET = f"sweep-pictures-{os.getpid()}"
FAILING = "ref_two_balls_256x160"
CHANGED = "ref_slow zoom in_256x160"
SIZE = {"width": 256, "height": 160, "num_frames": 33, "fps": 12}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        run = RunFolder(root / "results" / NAME)
        make_project(root)
        try:
            terminal = run_sweep(root)
        finally:
            subprocess.run(["tmux", "-L", SOCKET, "kill-server"], check=False, capture_output=True)
        recolour(root, run)
        change(root)
        sweep(root, "report", NAME)
        PICTURES.mkdir(exist_ok=True)
        with sync_playwright() as playwright:
            chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            take_terminal(browser, terminal, root)
            take_page(browser, run)
            browser.close()
        sweep(root, "sheet", NAME, "--only", "seed=42", "--only", "video=ref_rolling_ball_256x160")
        (sheet,) = (run.path / "report" / "sheets").rglob("*.png")
        shutil.copy(sheet, PICTURES / "sheet.png")


def sweep(root: Path, *words: str) -> Any:
    environment = {**os.environ, "SWEEP_TMUX_SOCKET": SOCKET}
    command = [sys.executable, "-m", "runner", *words]
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{words}: ended with status {done.returncode}")
    return done.stdout


def make_project(root: Path) -> None:
    shutil.copytree(ROOT / "reference_videos", root / "videos")
    shutil.copy(ROOT / "prompts" / "motion_transfer.json", root / "prompts.json")
    experiment = {
        "name": NAME,
        "backend": "fake",
        "model": {"seconds": 2.0, "spread": 0.4, "faults": [{"kind": "fail", "video": FAILING}]},
        "dataset": {"videos": "videos", "prompts": "prompts.json"},
        "seeds": [42, 142],
        "generation": {**SIZE, "num_inference_steps": 20},
        "placement": {"gpus": [0, 1], "processes_per_gpu": 2, "device": "cpu"},
    }
    (root / "x.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")


def run_sweep(root: Path) -> str:
    """Run it all; returns the live view as it stood in the middle, with its colours."""
    sweep(root, "launch", "x.yaml")
    session = f"={NAME}_main:"
    tmux = ["tmux", "-L", SOCKET]
    subprocess.run([*tmux, "resize-window", "-t", session, "-x", "92", "-y", "24"], check=True)
    progress: dict[str, Any] = {"done": 0}
    killed = False
    while progress["done"] < 62:
        time.sleep(0.5)
        progress = json.loads(sweep(root, "progress", NAME, "--json"))
        if progress["done"] > 20 and not killed:
            os.kill(progress["workers"][1]["pid"], signal.SIGKILL)
            killed = True
    pane = [*tmux, "capture-pane", "-e", "-p", "-t", session]
    shown = subprocess.run(pane, check=True, capture_output=True, text=True).stdout
    while progress["running"] or progress["pending"]:
        time.sleep(1)
        progress = json.loads(sweep(root, "progress", NAME, "--json"))
    return shown


def recolour(root: Path, run: RunFolder) -> None:
    """Publish each job's reference clip, in colours of its own, in place of its video."""
    queue = open_queue(run)
    for row in queue.rows(JobState.DONE):
        job = row.job
        record = read_sidecar(run.sidecar(job))
        assert record is not None
        finished = run.temporary(job)
        write_video(finished, coloured(root, job), fps=SIZE["fps"], quality=7)
        for key in ("schema", "job", "fingerprint"):
            del record[key]
        publish(run, job, finished, record)
    queue.close()
    open_queue(run, look_at_disk=True).close()


def coloured(root: Path, job: Job) -> np.ndarray[Any, np.dtype[np.uint8]]:
    frames = read_clip(root / job.reference.path, **SIZE).astype(np.float32)
    random = np.random.default_rng(int(job.fingerprint[:8], 16))
    grey = frames.mean(axis=3, keepdims=True)
    mixed = 0.45 * grey + 0.55 * frames[..., random.permutation(3)]
    bright: np.ndarray[Any, np.dtype[np.uint8]] = np.clip(
        mixed * random.uniform(0.75, 1.15, 3), 0, 255
    ).astype(np.uint8)
    return bright


def change(root: Path) -> None:
    """A prompt that has changed since, and one that is new."""
    prompts = json.loads((root / "prompts.json").read_text(encoding="utf-8"))
    prompts["camera_motion"][CHANGED][1] += " At night."
    prompts["camera_motion"][CHANGED].append("Through a snow storm.")
    (root / "prompts.json").write_text(json.dumps(prompts, ensure_ascii=False), encoding="utf-8")
    sweep(root, "plan", "x.yaml")


def take_terminal(browser: Browser, shown: str, root: Path) -> None:
    console = Console(width=92, record=True, file=io.StringIO())
    console.print(Text.from_ansi(shown.rstrip()))
    svg = root / "terminal.svg"
    console.save_svg(str(svg), title=f"sweep progress {NAME} --watch")
    page = browser.new_page(viewport={"width": 1000, "height": 640})
    page.goto(svg.as_uri())
    box = page.evaluate(
        "() => { const b = document.documentElement.viewBox.baseVal; return [b.width, b.height]; }"
    )
    page.set_viewport_size({"width": round(box[0]), "height": round(box[1])})
    page.screenshot(path=PICTURES / "terminal.png", omit_background=True)
    page.close()


def take_page(browser: Browser, run: RunFolder) -> None:
    index = (run.path / "report" / "index.html").as_uri()

    def opened(width: int, height: int, scheme: Any, part: str = "videos") -> Page:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(f"{index}#{part}")
        page.wait_for_selector("html[data-ready]")
        page.locator("#size").fill("190" if width > 640 else "170")
        page.wait_for_timeout(2500)
        return page

    page = opened(1180, 760, "light")
    page.locator(".cell.done").nth(1).click()
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.mouse.move(0, 0)
    page.wait_for_timeout(2500)
    page.screenshot(path=PICTURES / "page.png")
    page.locator(".chip[data-state=stale], .chip[data-state=failed]").first.click()
    page.locator(".chip[data-state=stale]").click()
    page.locator(".chip[data-state=pending]").click()
    page.wait_for_timeout(2500)
    page.screenshot(path=PICTURES / "states.png")
    page.close()
    page = opened(1180, 760, "dark")
    page.locator(".cell.done").nth(1).click()
    page.locator("#transport input").fill("16")
    page.wait_for_timeout(2500)
    page.screenshot(path=PICTURES / "large.png")
    page.close()
    page = opened(1180, 720, "light", "dashboard")
    page.screenshot(path=PICTURES / "dashboard.png")
    page.close()
    page = opened(390, 760, "dark")
    page.screenshot(path=PICTURES / "phone.png")
    page.close()


if __name__ == "__main__":
    main()
