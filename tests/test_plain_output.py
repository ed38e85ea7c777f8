"""Names and texts of every kind of character, through every command and into the logs."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import (
    FPS,
    FRAMES,
    HEIGHT,
    WIDTH,
    Finished,
    Project,
    write_clip,
)

from runner.text.log_lines import STAMP, Passing
from runner.text.plain_text import printable

FORGED = "2026-01-01 00:00:00,000 INFO    0123456789abcdef: claimed (forged"
NAME = (
    f"a\x1b[31m\x1b]0;b\x07\x9b2J\r\x7f\t\u202e\u2066\u2028\u2029\u200b\ufeff[red]:tada:\n{FORGED}"
)
"""What a folder, a clip, a prompt or a value may be called on Linux."""

METHOD = """
import os, shutil, sys

def load(settings):
    os.write(1, b"\\x1b[32mloaded\\x1b[0m \\x9b\\xff and more\\rover it\\n")

def generate(job, path):
    print(job.prompt, job.parameters["style"], job.category, flush=True)
    sys.stderr.write(job.prompt + "\\r" + job.prompt + "\\n")
    if job.prompt_number:
        raise RuntimeError(job.prompt)
    shutil.copyfile(job.reference, path)
    job.step(1, 1)
"""


def obeyed(text: str, *, but: str = "") -> set[str]:
    """The characters of a text that a terminal would obey or that are not seen."""
    return {
        character
        for character in text.replace("\r\n", "\n")
        if character not in f"\n{but}"
        and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


def check(finished: Finished, *, is_json: bool = False, is_csv: bool = False) -> Finished:
    """What a command says is nothing but text, and no line of it is one of a name's."""
    for text in (finished.out, finished.err):
        assert not obeyed(text), text
    said = finished.err if is_json else finished.out + finished.err
    # Line ends in a cell stand between quotes.
    assert is_csv or not [line for line in said.splitlines() if line.startswith(FORGED[:19])]
    if is_json:
        json.loads(finished.out)
    return finished


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A sweep whose names, texts and values are such, after its launch: half of it has failed."""
    made = Project(tmp_path_factory.mktemp("hostile") / f"p {NAME}")
    made.root.mkdir()
    write_clip(made.root / "videos" / NAME / f"{NAME}.mp4")
    prompts = {NAME: {NAME: [f"good {NAME}", f"bad {NAME}"]}}
    (made.root / f"{NAME}.json").write_text(json.dumps(prompts), encoding="utf-8")
    (made.root / f"{NAME}.py").write_text(METHOD, encoding="utf-8")
    made.write(
        backend="script",
        model={"file": f"{NAME}.py", "interpreter": sys.executable},
        dataset={"videos": "videos", "prompts": f"{NAME}.json"},
        generation={
            "width": WIDTH,
            "height": HEIGHT,
            "num_frames": FRAMES,
            "fps": FPS,
            "style": NAME,
        },
        axes={"style": [NAME, f"-{NAME}"]},
        retries={"backoff_seconds": 0},
    )
    launched = made.sweep(
        *("launch", "experiments/x.yaml", "--on", "local", "--wait"),
        *("--on-finish", f"{sys.executable} -c 'print(\"told\\n\\x1b[31m{FORGED}\")'"),
    )
    assert launched.status == 1, launched.err
    check(launched)
    return made


def test_every_command_prints_text_alone(hostile: Project) -> None:
    """Of names, prompts, values and errors nothing reaches a terminal but what can be read."""
    jobs = json.loads(check(hostile.call("export", "x", "--json"), is_json=True).out)
    assert sorted(job["state"] for job in jobs) == ["done", "done", "failed", "failed"]
    assert {job["prompt_text"] for job in jobs} == {f"good {NAME}", f"bad {NAME}"}
    failed = next(job["job"] for job in jobs if job["state"] == "failed")
    for words in (
        ("plan", "experiments/x.yaml"),
        ("progress", "x"),
        ("progress", "x", "--watch"),
        ("explain", "x", failed),
        ("logs", "x", "-n", "1000"),
        ("verify", "x"),
        ("export", "x", "--csv"),
        ("report", "x"),
        ("doctor", "experiments/x.yaml"),
        ("resume", "x", "--dry-run", "--on", "local"),
        ("stop", "x"),
    ):
        told = check(hostile.call(*words), is_csv="--csv" in words)
        assert told.out or told.err, words
        assert words[0] == "logs" or "Traceback" not in told.err
        if words[0] not in ("export", "resume") and "--watch" not in words:
            check(hostile.call(*words, "--json"), is_json=True)
    assert printable(NAME)[:30] in hostile.call("plan", "experiments/x.yaml").out


def test_a_log_has_text_alone_and_no_line_is_forged(hostile: Project) -> None:
    """Whoever prints a text with line ends in it, sweep, a script or a command at the end."""
    logs = list((hostile.run_folder.path / "logs").glob("*.log"))
    text = "".join(log.read_text(encoding="utf-8") for log in logs)
    assert not obeyed(text)
    assert "\nover it\n" in text
    assert text.count(FORGED) > 4
    assert not [line for line in text.splitlines() if line.startswith(FORGED[:19])]
    stamped = [line for line in text.splitlines() if STAMP.match(line)]
    claimed = [line for line in stamped if re.match(r"\S+ \S+ INFO +[0-9a-f]{16}: claimed ", line)]
    assert len(claimed) == len(hostile.run_folder.attempts.read_bytes().splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ("plan", NAME),
        ("plan", "experiments/x.yaml", f"{NAME}=1"),
        ("plan", "experiments/x.yaml", f"generation.width={NAME}"),
        ("plan", "experiments/x.yaml", f"dataset.videos={NAME}"),
        ("plan", "experiments/x.yaml", f"dataset.prompts={NAME}"),
        ("plan", "experiments/x.yaml", f"model.file={NAME}"),
        ("launch", "experiments/x.yaml", "--only", f"{NAME}=1"),
        ("launch", "experiments/x.yaml", "--only", f"video={NAME}no"),
        ("launch", "experiments/x.yaml", "--on", NAME),
        ("launch", "experiments/x.yaml", "--here", f"{NAME}=1"),
        ("launch", "experiments/x.yaml", "--on-finish", NAME),
        ("logs", "x", NAME),
        ("explain", "x", NAME),
        ("init", NAME),
        ("init", "fresh", "--videos", NAME),
        ("report", NAME),
        (f"--{NAME}",),
        (NAME,),
    ],
)
def test_a_refusal_is_text_alone(hostile: Project, words: tuple[str, ...]) -> None:
    """A line or two, even where what is wrong has line ends in its name."""
    told = check(hostile.call(*words))
    assert told.status == 2
    assert 1 <= len(told.err.splitlines()) <= 2


def test_a_name_that_is_not_utf8_is_refused_in_words(tmp_path: Path) -> None:
    made = Project(tmp_path / "p")
    made.add_clips({"a": {"b": ["c"]}})
    made.write()
    (made.root / "videos/a/b.mp4").rename(made.root / "videos/a/\udcff\x1b.mp4")
    told = check(made.call("plan", "experiments/x.yaml"))
    assert told.status == 2
    assert "the file name is not UTF-8" in told.err


def in_a_terminal(command: list[str], folder: Path) -> str:
    """What a command writes where it has a terminal of its own."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(command[0], command)
    shown = b""
    # A terminal whose last writer has gone is an error to read from.
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 65536):
            shown += data
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown.decode().replace("\r\n", "\n")


def test_the_live_view_shows_text_alone(hostile: Project) -> None:
    """On a terminal its own colours are the only escapes."""
    text = in_a_terminal(hostile.command("progress", "x", "--watch"), hostile.root)
    assert "a\\x1b[31m" in text
    assert "\x1b]" not in text
    assert not obeyed(text, but="\x1b\r")


def test_what_passes_to_a_terminal_is_clean_wherever_it_is_cut() -> None:
    """A worker's output comes in pieces, which may end in the middle of anything."""
    said = f"\x1b[32mgreen\x1b[0m 项目\r 10%\r 20%\n{NAME}\n".encode() + b"\xff\x9b2J\n"
    whole = Passing().through(said)
    for size in (1, 2, 3, 7):
        passing = Passing()
        pieces = [passing.through(said[i : i + size]) for i in range(0, len(said), size)]
        assert b"".join(pieces) == whole
    assert not obeyed(whole.decode(), but="\r\t")
    assert whole.startswith("green 项目\r 10%\r 20%\na\\x1b]0;b\\x07".encode())


def test_letters_of_every_script_stay_as_they_are() -> None:
    for text in ("项目　一", "می‌خواهم", "👨‍👩‍👧 🏳️‍🌈", "क्‍ष", "a\u00a0b", "한국어"):
        assert printable(text) == text


def test_a_shell_is_offered_no_name_that_it_would_obey(hostile: Project) -> None:
    words = f"sweep launch x --only category={NAME[0]}"
    environment = {"_SWEEP_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}
    offered = Project(hostile.root, environment).call()
    assert not obeyed(offered.out)
    assert "forged" not in offered.out


@pytest.fixture
def unmade(hostile: Project, tmp_path: Path) -> Project:
    """The same sweep, planned and not yet begun."""
    made = Project(tmp_path / "p")
    shutil.copytree(hostile.root, made.root, ignore=shutil.ignore_patterns("results"))
    assert made.call("plan", "experiments/x.yaml").status == 0
    return made


def test_a_slots_terminal_shows_text_alone(unmade: Project) -> None:
    """What a worker and its script print passes to it as it comes, cleaned; bars stay bars."""
    run = str(unmade.run_folder.path)
    slot = [sys.executable, "-m", "runner.slots.slot", run, "gpu0_process0", "--device=cpu"]
    text = in_a_terminal(slot, unmade.root)
    assert "loaded \\x9b\\xff and more\rover it" in text
    assert f"good {printable(NAME)[:4]}" in text
    assert not obeyed(text, but="\r\t")
