"""Make the pictures of `docs/pictures/`: the report's page and the live view of a real sweep.

A sweep of the sample clips is run through the tiny checkpoint, on the CPU, in tmux; one worker is
killed, and one clip is another for a while, so that its jobs fail. `sweep progress --watch` is
taken from its session, and the page is opened in a headless Chromium.

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

import yaml
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from runner.disk.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
NAME = "motion_study"
SOCKET = f"sweep-pictures-{os.getpid()}"
FAILING = "videos/multiple_objects/ref_two_balls_256x160.mp4"
CHANGED = "ref_slow zoom in_256x160"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        run = RunFolder(root / "results" / NAME)
        make_project(root)
        try:
            terminal = run_sweep(root)
        finally:
            subprocess.run(["tmux", "-L", SOCKET, "kill-server"], check=False, capture_output=True)
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
        "backend": "wan",
        "model": {"checkpoint": "tiny"},
        "dataset": {"videos": "videos", "prompts": "prompts.json"},
        "seeds": [42, 142],
        "generation": {
            **{"width": 128, "height": 80, "num_frames": 17, "fps": 8},
            **{"num_inference_steps": 12, "cfg_scale": 3.5, "denoising_strength": 0.7},
        },
        "placement": {"gpus": [0, 1], "processes_per_gpu": 2, "device": "cpu"},
    }
    (root / "x.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")


def run_sweep(root: Path) -> str:
    """Run it all; returns the live view as it stood in the middle, with its colours."""
    sweep(root, "launch", "x.yaml")
    clip = (root / FAILING).read_bytes()
    (root / FAILING).write_bytes(clip + b"\0\0\0\x08free")
    session = f"={NAME}_main:"
    tmux = ["tmux", "-L", SOCKET]
    subprocess.run([*tmux, "resize-window", "-t", session, "-x", "80", "-y", "24"], check=True)
    progress: dict[str, Any] = {"done": 0}
    killed = False
    while progress["done"] < 44:
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
    (root / FAILING).write_bytes(clip)
    return shown


def change(root: Path) -> None:
    """A prompt that has changed since, and one that is new."""
    prompts = json.loads((root / "prompts.json").read_text(encoding="utf-8"))
    prompts["camera_motion"][CHANGED][1] += " At night."
    prompts["camera_motion"][CHANGED].append("Through a snow storm.")
    (root / "prompts.json").write_text(json.dumps(prompts, ensure_ascii=False), encoding="utf-8")
    sweep(root, "plan", "x.yaml")


def take_terminal(browser: Browser, shown: str, root: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
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
        page.wait_for_timeout(2500)
        return page

    page = opened(1180, 760, "light")
    page.locator(".cell.done").first.click()
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.mouse.move(0, 0)
    page.wait_for_timeout(2500)
    page.screenshot(path=PICTURES / "page.png")
    page.locator("#size").fill("190")
    page.locator(".chip[data-state=failed]").click()
    page.locator(".chip[data-state=stale]").click()
    page.locator(".chip[data-state=pending]").click()
    page.wait_for_timeout(2500)
    page.screenshot(path=PICTURES / "states.png")
    page.close()
    page = opened(1180, 760, "dark")
    page.locator(".cell.done").first.click()
    page.locator("#transport input").fill("9")
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
