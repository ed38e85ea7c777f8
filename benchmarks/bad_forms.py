"""Bad input in many forms, made from a seed, and `sweep` run on each in this process.

Every form has the exit statuses that are right for it, told by rules of its own: what PyYAML or
`json` cannot parse must be refused, what a key cannot hold too. Where a damaged text may still be
a fine experiment, 0 and 2 are right, and only a traceback or a third status is a fault.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from runner.cli import main
from runner.video import write_video

SECONDS = 120
"""A form that takes longer is a fault."""
LINES = 12
"""More than this on standard error of a refusal is a fault: a line or two, and one per clip."""

BASE: dict[str, Any] = {
    "name": "x",
    "backend": "fake",
    "model": {"seconds": 0.0, "load_seconds": 0.0},
    "dataset": {"videos": "videos", "prompts": "prompts.json", "categories": ["c", "类 别"]},
    "seeds": [1, 2],
    "generation": {
        "width": 112,
        "height": 64,
        "num_frames": 9,
        "fps": 15,
        "num_inference_steps": 2,
        "cfg_scale": 5.0,
        "denoising_strength": 0.8,
        "negative_prompt": "",
    },
    "placement": {"gpus": [0], "processes_per_gpu": 1, "assign": {"c": [0]}, "balance": "steal"},
    "output": {"quality": 5},
    "results": "results",
}
PROMPTS: dict[str, Any] = {"c": {"a": ["one", "一"], "-b": ["two"]}, "类 别": {"v🎬": ["three"]}}

ODD: list[Any] = [
    *(None, True, False, -1, 0, 1.5, 10**30, float("inf"), float("-inf"), float("nan")),
    *("", " ", "x" * 5000, "../../x", "/", "/dev/null", "a/b", ".", "-", "名字", "a\nb", "\ud800"),
    *("a\0b", "%s", "{0}", "$HOME", "auto", "2020-01-01", "[b]", "1e5"),
    *([], [None], [[]], [1, 1], [-1], ["a"], [1.5], [10**30], {}, {"a": 1}, {1: 2}, {"": {}}),
]
"""Values of which most fit nowhere."""

NASTY: list[str] = [
    "\0",
    "\t",
    "\x1b",
    "\ufeff",
    "\u2028",
    "\r",
    "{",
    "}",
    "[",
    "]",
    ":",
    "&a",
    "*a",
    "!!",
    "%",
]
NASTY += ["'", '"', "- ", "\n", "#", "|", ">", "<<: ", "?", "\x85", "😀", "\\", ",", "0x", "~"]

VERBS: tuple[str, ...] = (
    "plan",
    "launch",
    "progress",
    "resume",
    "stop",
    "logs",
    "verify",
    "explain",
    "adopt",
)
OPTIONS: tuple[str, ...] = (
    "--json",
    "--dry-run",
    "--only",
    "--sample",
    "--gpus",
    "--exclude-gpus",
    "--on",
    "--now",
)
OPTIONS += (
    "--pattern",
    "--stale",
    "--priority",
    "--min-free-gb",
    "--lines",
    "-n",
    "--skip-invalid",
)
WORDS: tuple[str, ...] = (
    "x",
    "experiments/x.yaml",
    "results/x",
    "videos",
    "nowhere",
    "",
    " ",
    "-",
    "0",
    "-1",
    "1,a",
)
WORDS += (
    "seed=1",
    "video=a",
    "prompt=x",
    "colour=1",
    "seeds=[1",
    "=",
    "a=b=c",
    "\udcff",
    "x" * 5000,
)
WORDS += ("{video}.mp4", "{video}_{prompt+1}_{seed}.mp4", "{", "../..", "9" * 30, "slurm", "local")


@dataclass(frozen=True)
class Form:
    """One bad input: what it does to a project, the command on it, and the right statuses."""

    family: str
    what: str
    words: tuple[str, ...]
    right: frozenset[int]
    damage: Callable[[Path], object] = field(repr=False, default=lambda _: None)


@dataclass(frozen=True)
class Ended:
    """How a command ended: `fault` says what is wrong with that, or is None."""

    form: Form
    status: int | None
    fault: str | None


PLAN = ("plan", "experiments/x.yaml")
FINE, WRONG, EITHER = frozenset({0}), frozenset({2}), frozenset({0, 2})
ANY = frozenset({0, 1, 2})


def forms(seed: int, number: int) -> Iterator[Form]:
    """So many forms, the families in turn; the same ones for the same seed."""
    families: tuple[Callable[[random.Random], Form], ...]
    families = (values, texts, prompts, prompt_texts, overrides, commands, clips, run_folders)
    families += (init_prompts, init_configs, init_folders, doctors)
    for place in range(number):
        yield families[place % len(families)](random.Random(f"{seed} {place}"))


def values(rng: random.Random) -> Form:
    """An odd value at some key, a key too many, or one too few."""
    made = json.loads(json.dumps(BASE))
    path = rng.choice(list(_keys(made)))
    section = made
    for name in path[:-1]:
        section = section[name]
    kind = rng.choice(["odd", "odd", "odd", "odd", "unknown", "gone"])
    dotted = ".".join(path)
    right = EITHER
    if kind == "odd":
        section[path[-1]] = value = rng.choice(ODD)
        if not _may_hold(dotted, value):
            right = WRONG
        what = f"{dotted} = {value!r:.60}"
    elif kind == "unknown":
        key = rng.choice([f"{path[-1]}s_", "widht", "", "名", "a.b", "__class__", "x" * 300])
        # `assign` takes any category as a key; that there is none of that name is found, too.
        section[key] = section[path[-1]]
        right, what = WRONG, f"unknown key {key!r:.40} beside {dotted}"
    else:
        del section[path[-1]]
        needed = ("name", "dataset", "seeds", "dataset.videos", "dataset.prompts")
        right, what = (WRONG if dotted in needed else EITHER), f"without {dotted}"
    return Form("experiment: values", what, PLAN, right, lambda root: _write(root, made))


def _keys(section: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    for key, value in section.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _keys(value, *above, key)


def _may_hold(key: str, value: Any) -> bool:
    """Whether a key may hold a value, as the design says and this module understands it.

    True also where a reader may be lenient (a number written as text, true for 1).
    """
    number = isinstance(value, (int, float)) and value == value and abs(value) < 1e300
    lenient = number or (isinstance(value, str) and value in ("1e5", "2020-01-01"))
    section = {"model", "dataset", "generation", "placement", "output", "placement.assign"}
    if key in section:
        return isinstance(value, dict) and not set(map(str, value)) & {"a", "1", ""}
    if key in ("seeds", "placement.gpus"):
        return (key != "seeds" and value == "auto") or (
            isinstance(value, list) and bool(value) and value != [1, 1] and _whole(value)
        )
    if key in ("generation.width", "generation.height", "generation.num_frames"):
        return lenient and (not number or value > 0)
    if key.startswith("generation.") and key != "generation.negative_prompt":
        return lenient
    if key in (
        "model.seconds",
        "model.load_seconds",
        "output.quality",
        "placement.processes_per_gpu",
    ):
        return lenient and (not number or value >= 0)
    if (key, value) == ("results", ""):
        # Run folders then go into the project root.
        return True
    if key in ("name", "backend", "results", "dataset.videos", "dataset.prompts"):
        return isinstance(value, (str, list)) and value not in ("", []) and "\0" not in str(value)
    return True


def _whole(items: list[Any]) -> bool:
    return all(type(item) is int and 0 <= item < 2**63 for item in items)


def texts(rng: random.Random) -> Form:
    """The experiment's text, damaged; what PyYAML cannot read must be refused."""
    text = yaml.safe_dump(BASE, allow_unicode=True, sort_keys=False)
    content, what = _damaged(text, rng)
    right = EITHER
    try:
        if not isinstance(yaml.safe_load(content.decode("utf-8")), dict):
            right = WRONG
    except (yaml.YAMLError, ValueError, RecursionError):
        right = WRONG
    return Form(
        "experiment: text",
        what,
        PLAN,
        right,
        lambda root: (root / "experiments" / "x.yaml").write_bytes(content),
    )


def _damaged(text: str, rng: random.Random) -> tuple[bytes, str]:
    kind = rng.choice(
        ["cut", "insert", "insert", "drop", "twice", "bytes", "nest", "noise", "swap"]
    )
    place = rng.randrange(len(text))
    lines = text.splitlines(keepends=True)
    line = rng.randrange(len(lines))
    if kind == "cut":
        text = text[:place]
    elif kind == "insert":
        text = text[:place] + rng.choice(NASTY) * rng.choice([1, 1, 3]) + text[place:]
    elif kind == "drop":
        text = "".join(lines[:line] + lines[line + 1 :])
    elif kind == "twice":
        text = "".join([*lines[: line + 1], *lines[line:]])
    elif kind == "swap":
        other = rng.randrange(len(lines))
        lines[line], lines[other] = lines[other], lines[line]
        text = "".join(lines)
    elif kind == "nest":
        text = text[:place] + rng.choice("[{") * 3000 + text[place:]
    elif kind == "noise":
        return rng.randbytes(200), "noise"
    content = text.encode("utf-8")
    if kind == "bytes":
        content = content[:place] + rng.randbytes(3) + content[place:]
    return content, f"{kind} at {place}, line {line + 1}"


def prompts(rng: random.Random) -> Form:
    """An odd value somewhere in the prompts; a prompt list holds texts, each once."""
    made = json.loads(json.dumps(PROMPTS))
    odd = rng.choice([value for value in ODD if not isinstance(value, dict)] + [{"a": 1}])
    category = rng.choice(list(made))
    video = rng.choice(list(made[category]))
    depth = rng.choice(["all", "category", "video", "prompt", "repeat", "extra"])
    if depth == "all":
        made = odd
    elif depth == "category":
        made[category] = odd
    elif depth == "video":
        made[category][video] = odd
    elif depth == "prompt":
        made[category][video][0] = odd
    elif depth == "repeat":
        made[category][video] *= 2
    else:
        made[category][rng.choice(["", "gone", "..", "\ud800", "x" * 300])] = ["a"]
    fits = depth == "prompt" and isinstance(odd, str) and odd.strip() and odd != "\ud800"
    fits = fits or (depth == "video" and odd == ["a"])
    what = f"{depth} of {category}/{video}: {odd!r:.60}"
    text = json.dumps(made)
    return Form(
        "prompts: values",
        what,
        PLAN,
        EITHER if fits else WRONG,
        lambda root: (root / "prompts.json").write_text(text, encoding="utf-8"),
    )


def prompt_texts(rng: random.Random) -> Form:
    """The prompts' text, damaged; what `json` cannot read must be refused."""
    content, what = _damaged(json.dumps(PROMPTS, ensure_ascii=False, indent=1), rng)
    right = EITHER
    try:
        json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        right = WRONG
    return Form(
        "prompts: text",
        what,
        PLAN,
        right,
        lambda root: (root / "prompts.json").write_bytes(content),
    )


def overrides(rng: random.Random) -> Form:
    """`KEY=VALUE` with an odd key, value or neither."""
    key = rng.choice([".".join(path) for path in _keys(BASE)])
    value = rng.choice(ODD)
    text = json.dumps(value, ensure_ascii=False) if rng.random() < 0.7 else str(value)
    kind = rng.choice(["value", "value", "key", "form", "text"])
    right = EITHER
    if kind == "value":
        word = f"{key}={text}"
    elif kind == "key":
        word = f"{key}{rng.choice(['_', '.x.y', '..', '. ', '[0]', 's'])}={text}"
        # Nothing after "=" takes an override back that was never made.
        right = EITHER if not text else WRONG
    elif kind == "form":
        word = rng.choice([key, "=", "=1", f".{key}=1", f"{key}.=1", "==", "a", "[]", " = "])
        right = WRONG
    else:
        word = f"{key}={rng.choice(NASTY)}{text}"
    # No program can be given a NUL in an argument.
    word = word.replace("\0", "").encode("utf-8", "replace").decode()
    return Form("overrides", repr(word[:80]), (*PLAN, word), right)


def commands(rng: random.Random) -> Form:
    """Verbs, options and words in any order; nothing is started, for `launch` is a dry run."""
    if rng.random() < 0.1:
        words = [rng.choice(["paln", "", "-x", "--josn", "x", "launch,", "\udcff", "名字"])]
        return Form("command lines", str(words), tuple(words), WRONG)
    verb = rng.choice(VERBS)
    words = [verb]
    if rng.random() < 0.6:
        words.append("experiments/x.yaml" if verb == "plan" else "x")
    for _ in range(rng.randrange(5)):
        words.append(rng.choice(OPTIONS if rng.random() < 0.4 else WORDS))
    if verb in ("launch", "resume"):
        words.insert(1, "--dry-run")
    planned = rng.random() < 0.5
    what = f"{[word[:40] for word in words]}{' on a planned run' if planned else ''}"
    damage = _plan if planned else (lambda _: None)
    return Form("command lines", what, tuple(words), ANY, damage)


def clips(rng: random.Random) -> Form:
    """A clip that cannot be used, or names that cannot stand for one."""
    clip = rng.choice(["c/a", "c/-b", "类 别/v🎬"])
    kind = rng.choice(["cut", "empty", "noise", "folder", "link", "gone", "short", "name", "twin"])
    share = rng.random()

    def damage(root: Path) -> None:
        path = root / "videos" / f"{clip}.mp4"
        content = path.read_bytes()
        if kind == "short":
            write_clip(path, frames=rng.randrange(1, 8))
        elif kind == "name":
            path.rename(os.fsdecode(os.fsencode(path.with_name("x")) + b"\xff\xfe.mp4"))
        elif kind == "twin":
            shutil.copyfile(path, path.with_suffix(".mov"))
        else:
            path.unlink()
            if kind == "cut":
                path.write_bytes(content[: int(len(content) * share)])
            elif kind == "empty":
                path.write_bytes(b"")
            elif kind == "noise":
                path.write_bytes(random.Random(share).randbytes(5000))
            elif kind == "folder":
                path.mkdir()
            elif kind == "link":
                path.symlink_to(path.name)

    return Form("clips", f"{kind} {clip}", PLAN, WRONG, damage)


def run_folders(rng: random.Random) -> Form:
    """A planned run whose files were damaged, and a question to it."""
    name = rng.choice(["experiment.yaml", "manifest.jsonl", "sweep.db", "attempts.jsonl"])
    kind = rng.choice(["cut", "empty", "noise", "folder", "gone"])
    share, seed = rng.random(), rng.random()
    words = rng.choice(
        [
            PLAN,
            ("progress", "x"),
            ("progress", "x", "--json"),
            ("verify", "x"),
            ("explain", "x", "video=a", "prompt=0", "seed=1"),
            ("logs", "x"),
            ("stop", "x"),
            ("resume", "x", "--dry-run", "--on", "local"),
            ("adopt", "x", "videos", "--pattern", "{category}/{video}{prompt}{seed}.mp4"),
        ]
    )

    def damage(root: Path) -> None:
        _plan(root)
        path = root / "results" / "x" / name
        content = path.read_bytes() if path.exists() else b'{"job": "x"}\n'
        for old in (path, *path.parent.glob(f"{name}-*")):
            old.unlink(missing_ok=True)
        if kind == "cut":
            path.write_bytes(content[: int(len(content) * share)])
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "noise":
            path.write_bytes(random.Random(seed).randbytes(5000))
        elif kind == "folder":
            path.mkdir()

    return Form("run folders", f"{kind} {name}: {' '.join(words)}", words, ANY, damage)


CSV = "category,video,prompt\nc,a,one\nc,a,一\nc,-b,two\n类 别,v🎬,three\n"
CONFIG: dict[str, Any] = {
    "model_path": "models/none",
    "video_dir": "videos",
    "prompt_file": "prompts.json",
    "seeds": [1, 2],
    "generation": {"num_frames": 9, "fps": 15, "cfg_scale": 5.0, "resolution": "112x64"},
    "gpu_assignment": {"c": 0, "类 别": [1]},
    "num_gpus": 2,
}


def init_prompts(rng: random.Random) -> Form:
    """A prompt file of any form, damaged, from which an experiment is to be made."""
    suffix = rng.choice([".json", ".yaml", ".csv", ".tsv", ".txt", ".md", ""])
    text = json.dumps(PROMPTS, ensure_ascii=False, indent=1)
    if suffix in (".csv", ".tsv"):
        text = CSV.replace(",", "\t") if suffix == ".tsv" else CSV
    content, what = _damaged(text, rng)
    right = ANY
    try:
        if suffix == ".json":
            json.loads(content.decode("utf-8-sig"))
        content.decode("utf-8")
    except (ValueError, RecursionError):
        right = WRONG
    named = rng.random() < 0.8
    words = ("init", "new", "--videos", "videos", *(("--prompts", f"p{suffix}") if named else ()))
    return Form(
        "init: prompts",
        f"{suffix} {what}{'' if named else ', not named'}",
        words,
        right if named else ANY,
        lambda root: (root / f"p{suffix}").write_bytes(content),
    )


def init_configs(rng: random.Random) -> Form:
    """Another script's settings, with odd values or a damaged text."""
    made = json.loads(json.dumps(CONFIG))
    right = ANY
    if rng.random() < 0.6:
        path = rng.choice(list(_keys(made)))
        section = made
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = value = rng.choice(ODD)
        content, what = json.dumps(made).encode(), f"{'.'.join(path)} = {value!r:.60}"
    else:
        content, what = _damaged(json.dumps(made, ensure_ascii=False, indent=1), rng)
        try:
            if not isinstance(json.loads(content.decode("utf-8-sig")), dict):
                right = WRONG
        except (ValueError, RecursionError):
            right = WRONG
    words = ["init", "new", "--config", "config.json"]
    words += rng.choice([[], ["--videos", "videos"], ["--json"], ["--checkpoint", "tiny"]])
    return Form(
        "init: another script's settings",
        what,
        tuple(words),
        right,
        lambda root: (root / "config.json").write_bytes(content),
    )


def init_folders(rng: random.Random) -> Form:
    """Clips in a folder of an awkward shape, or words that name none."""
    kind = rng.choice(
        ["file", "gone", "empty", "deep", "flat", "odd name", "reserved", "noise", "mixed", "name"]
    )
    name = rng.choice(["", "-x", "a/b", "..", "名字", "x" * 200, "a b", ".a"])
    words = ["init", "new", "--videos", "videos", "--prompts", "prompts.json"]
    right = ANY
    if kind == "gone":
        words[3], right = rng.choice(["nowhere", "", "/dev/null", "a\nb", "x" * 5000]), WRONG
    elif kind in ("file", "empty"):
        right = WRONG
    elif kind == "name":
        words[1], right = name, WRONG

    def damage(root: Path) -> None:
        videos = root / "videos"
        clip = (videos / "c" / "a.mp4").read_bytes()
        if kind in ("file", "empty"):
            shutil.rmtree(videos)
            if kind == "file":
                videos.write_bytes(clip)
            else:
                videos.mkdir()
        elif kind == "deep":
            (videos / "c" / "d" / "e").mkdir(parents=True)
            (videos / "c" / "d" / "e" / "a.mp4").write_bytes(clip)
        elif kind in ("flat", "mixed"):
            (videos / "loose.mp4").write_bytes(clip)
            if kind == "flat":
                shutil.rmtree(videos / "类 别")
                shutil.rmtree(videos / "c")
        elif kind == "odd name":
            for text in (b"\xff\xfe", b"a\nb", "👩‍👩‍👧".encode(), b"#", b"* &a"):
                (Path(os.fsdecode(os.fsencode(videos) + b"/" + text))).mkdir()
                (Path(os.fsdecode(os.fsencode(videos) + b"/" + text)) / "a.mp4").write_bytes(clip)
        elif kind == "reserved":
            (videos / "c").rename(videos / rng.choice(["logs", "report", ".c"]))
        elif kind == "noise":
            for path in videos.rglob("*.mp4"):
                path.write_bytes(random.Random(path.name).randbytes(5000))

    return Form(
        "init: folders", f"{kind}: {words[1]!r} {words[3]!r:.40}", tuple(words), right, damage
    )


def doctors(rng: random.Random) -> Form:
    """`sweep doctor` on what is wrong: it says so in its table, with status 1, and never falls."""
    base = rng.choice([values, texts, prompts, prompt_texts, clips, run_folders])(rng)
    words: tuple[str, ...] = ("doctor", "experiments/x.yaml")
    if base.family == "run folders":
        words = ("doctor", "x")
    if rng.random() < 0.3:
        words = (*words, "--json")
    # A run folder that has lost its experiment cannot be examined.
    right = ANY if words[1] == "x" else frozenset({0, 1})
    return Form("doctor", f"{base.family}: {base.what}", words, right, base.damage)


def _plan(root: Path) -> None:
    ended = run_here(PLAN, root)
    if ended[0] != 0:
        raise RuntimeError(f"the project that forms start from cannot be planned: {ended[2]}")


def write_clip(path: Path, *, frames: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(frames).integers(0, 255, (frames, 64, 112, 3), dtype=np.uint8)
    write_video(path, noise, fps=15, quality=5)


def make_base(folder: Path) -> None:
    """The fine project that every form starts from."""
    for category, videos in PROMPTS.items():
        for video in videos:
            write_clip(folder / "videos" / category / f"{video}.mp4")
    (folder / "prompts.json").write_text(json.dumps(PROMPTS), encoding="utf-8")
    _write(folder, BASE)


def _write(root: Path, experiment: dict[str, Any]) -> None:
    file = root / "experiments" / "x.yaml"
    file.parent.mkdir(exist_ok=True)
    try:
        text = yaml.safe_dump(experiment, allow_unicode=True, sort_keys=False)
        file.write_text(text, encoding="utf-8")
    except UnicodeEncodeError:
        # Half a character can be written as an escape.
        file.write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")


def run_form(form: Form, base: Path, root: Path, *, as_process: bool = False) -> Ended:
    """Run a form in a fresh copy of the base project, which is made at `root`."""
    shutil.copytree(base, root, symlinks=True)
    try:
        form.damage(root)
        if as_process:
            status, crash, err = run_process(form.words, root)
        else:
            status, crash, err = run_here(form.words, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    fault = None
    if crash or "Traceback (most recent" in err:
        fault = f"traceback: {(crash or err).strip().splitlines()[-1]}\n{crash or err}"
    elif status not in form.right:
        fault = f"exit status {status}, right is {sorted(form.right)}: {err[-400:]}"
    elif status == 2 and not 1 <= len(err.splitlines()) <= LINES:
        fault = f"{len(err.splitlines())} lines: {err[:400]}"
    return Ended(form, status, fault)


def run_here(words: tuple[str, ...], root: Path) -> tuple[int | None, str, str]:
    """Run `sweep` in this process: exit status, traceback ("" for none), standard error."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    status: int | None = None
    crash = ""
    before = Path.cwd()
    former = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    os.chdir(root)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException as error:
        crash = "".join(traceback.format_exception(error))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        os.chdir(before)
    err.flush()
    return status, crash, err.buffer.getvalue().decode("utf-8", "replace")


def _too_long(*_: object) -> None:
    # Not an OSError such as TimeoutError, which the command line would put into words.
    raise RuntimeError(f"it took longer than {SECONDS} s")


def run_process(words: tuple[str, ...], root: Path) -> tuple[int | None, str, str]:
    """The same as a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "runner", *words],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    return ended.returncode, "", ended.stderr.decode("utf-8", "replace")
