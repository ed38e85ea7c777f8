"""Which settings give the same bits in two processes, on two GPUs, and after a restart.

    python benchmarks/same_bits.py --gpus 0,1
    python benchmarks/same_bits.py --gpus cpu --tiny --size 112x64x9     # the mechanism, no GPU

Random numbers in the 14B model's widths, few layers (`--layers`), made on each GPU from one seed.
Every column is a process of its own: the first makes a video and leaves half of a second one; a
second process on the same GPU, and one on the other GPU, make that video and go on from that half.
Settings that compile are measured in several ways (`--ways`):

    shared    as workers do: choices made once, under a lock, and followed by every process
    own       each process makes choices of its own, with Inductor's deterministic mode
    lottery   as plain torch.compile: own choices, and none of its reductions fixed
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from measuring import table, write_section

ROOT = Path(__file__).resolve().parents[1]
TITLE = "The same bits from every process"
FA4 = "flash_attention_4"
TOGETHER: dict[str, dict[str, Any]] = {
    "none": {},
    "vae_tiling: off": {"vae_tiling": "off"},
    "attention: cudnn": {"attention": "cudnn"},
    "attention: flash": {"attention": "flash"},
    f"attention: {FA4}": {"attention": FA4},
    "tea_cache: 0.2": {"tea_cache": 0.2},
    # Last: its weights are gone after it.
    "fp8": {"fp8": True},
}
"""Settings that are measured one after the other in the same processes."""
COMPILED: dict[str, dict[str, Any]] = {
    "compile": {"compile": True},
    f"compile, {FA4}": {"compile": True, "attention": FA4},
    "compile, fp8": {"compile": True, "fp8": True},
    f"compile, fp8, {FA4}": {"compile": True, "fp8": True, "attention": FA4},
}
WAYS = ("shared", "own", "lottery")
BESIDE = ("compile", "compile, fp8")
"""Measured in the other ways too."""
CHILD_SECONDS = 240


# One process.


def digest(tensor: Any) -> str:
    """The begin of a hash of a tensor's numbers."""
    from runner.backends.wan import trial

    return trial.digest(tensor)[:16]


class Given:
    """Stands for prompts' embeddings and references' latents: random numbers from one seed."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        import torch

        generator = torch.Generator("cpu").manual_seed(7)
        self._made = torch.randn(shape, generator=generator).to(dtype)

    def of(self, _: Any) -> Any:
        return self._made

    def close(self) -> None:
        pass


def engine_on(pipe: Any, settings: dict[str, Any], cache: Path, part: dict[str, Any]) -> Any:
    """The product's own engine around a pipe of random numbers."""
    from runner.backends.wan.engine import WanEngine
    from runner.backends.wan.pipeline import speed_up, versions_on
    from runner.backends.wan.planner import WanPlanner
    from runner.backends.wan.settings import WanSettings

    class Mixing(WanEngine):
        """Goes on from whatever latents there are, as if kernels were no part of a make."""

        def _kept(self, job: Any, scratch: Path) -> Any:
            kept = super()._kept(job, scratch)
            kept._belongs.pop("kernels", None)
            return kept

    kind = WanEngine if part["way"] == "shared" else Mixing
    engine: Any = kind(WanPlanner(WanSettings(keep_latents_every=1, **settings), ROOT))
    engine._device = part["device"]
    engine._surroundings = versions_on(part["device"])
    engine._pipe = pipe
    speed_up(pipe, engine.settings)
    if part["way"] == "lottery":
        import torch

        torch._inductor.config.deterministic = False
    engine._compiled = engine._compiled_blocks(cache)
    width, height, frames = part["size"]
    shape = (1, 16, (frames - 1) // 4 + 1, height // 8, width // 8)
    text = pipe.dit.text_embedding[0].in_features
    engine._references = Given(shape, pipe.torch_dtype)
    engine._prompts = Given((1, 512, text), pipe.torch_dtype)
    return engine


def job_of(part: dict[str, Any]) -> Any:
    from hand_made import a_job

    width, height, frames = part["size"]
    return a_job(
        seed=42,
        prompt_text="a red ball",
        parameters={
            "width": width,
            "height": height,
            "num_frames": frames,
            "fps": 15,
            "num_inference_steps": part["steps"],
            "negative_prompt": "blurry",
        },
        fingerprint="f" * 64,
    )


def make(engine: Any, part: dict[str, Any], scratch: Path, end_after: int = 0) -> dict[str, Any]:
    """The job's latents by this process: their hash, seconds of each step, steps found done."""
    from gpu_clock import Clock

    from runner.backends import Interrupted

    job, clock = job_of(part), Clock()

    def on_step(done: int, _total: int) -> None:
        clock.step()
        if done == end_after:
            raise Interrupted

    kept = engine.steps_kept(job, scratch)
    try:
        latents = engine.latents(job, scratch, on_step)
    except Interrupted:
        return {"from_step": kept}
    hashed = digest(latents)
    return {"hash": hashed, "seconds": clock.seconds(), "from_step": kept, "latents": latents}


def of_setting(pipe: Any, name: str, settings: dict[str, Any], part: dict[str, Any]) -> Any:
    """All that one process does of a setting."""
    from gpu_clock import timed

    from runner.backends.wan.attention import require_kernel
    from runner.backends.wan.denoise import decode
    from runner.machine.gpus import compute_capability
    from runner.text.errors import UserError

    try:
        capability = compute_capability() if part["device"] == "cuda" else None
        require_kernel(settings.get("attention", "torch"), part["device"], capability)
    except UserError as error:
        return {"absent": str(error)}
    folder = Path(part["folder"])
    own = folder / f"{part['way']}-{part['place']}"
    cache = folder / "cache" if part["way"] == "shared" else own / "cache"
    engine = engine_on(pipe, settings, cache, part)
    job = job_of(part)
    first_block: list[str] = []

    def note(_block: Any, _inputs: Any, out: Any) -> None:
        if not first_block:
            first_block.append(digest(out))

    hook = pipe.dit.blocks[0].register_forward_hook(note)
    preparing, _ = timed(lambda: engine.prepare(job.series))
    hook.remove()
    slug = "".join(letter if letter.isalnum() else "_" for letter in name)
    found = make(engine, part, own / slug / "whole")
    latents = found.pop("latents")
    found |= {"prepare": preparing, "first_block": first_block, "kernels": engine.kernels(job)}
    if "decodes" in part and name in part["decodes"]:
        tiled = engine.settings.vae_tiling == "on"
        seconds, frames = timed(lambda: decode(pipe, latents, tiled=tiled))
        found |= {"frames": hashlib.sha256(frames.tobytes()).hexdigest()[:16], "decode": seconds}
    if engine._compiled is not None:
        ((_, choices),) = engine._compiled._made.values()
        found["choices"] = {"kernels": choices.kernels, "configs": choices.configs}
    half = folder / f"half-{part['way']}" / slug
    if part["place"] == "first":
        make(engine, part, half, end_after=max(1, part["steps"] // 2))
    elif half.exists():
        mine = own / slug / "resumed"
        shutil.copytree(half, mine)
        again = make(engine, part, mine)
        found["resumed"] = {"hash": again["hash"], "from_step": again["from_step"]}
    return found


def products(device: str, *, tiny: bool) -> dict[str, str]:
    """Hashes of plain products, of bfloat16 and of eight-bit floats: nothing of Inductor's."""
    import torch

    if device == "cpu":
        return {}
    found = {}
    generator = torch.Generator(device).manual_seed(3)
    rows = 512 if tiny else 32760
    for inputs, outputs in ((5120, 5120), (5120, 13824), (13824, 5120)):
        x = torch.randn(rows, inputs, device=device, dtype=torch.bfloat16, generator=generator)
        weight = torch.randn(
            outputs, inputs, device=device, dtype=torch.bfloat16, generator=generator
        )
        found[f"bf16 {inputs} to {outputs}"] = digest(torch.nn.functional.linear(x, weight))
        from runner.backends.wan.fast_blocks import Linear, linear, to_float8

        eight, scale = to_float8(weight)
        part = Linear(eight, None, scale.t().contiguous())
        found[f"fp8 {inputs} to {outputs}"] = digest(linear(part, x[None]))
    return found


def one_process(part: dict[str, Any]) -> dict[str, Any]:
    import torch
    from gpu_clock import random_pipe

    start = time.perf_counter()
    pipe = random_pipe(part["layers"], tiny=part["tiny"])
    answer: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if part["device"] == "cuda" else "cpu",
        "weights": digest(pipe.dit.blocks[0].ffn[0].weight),
        "loading": time.perf_counter() - start,
        "settings": {},
    }
    if part["products"]:
        answer["products"] = products(part["device"], tiny=part["tiny"])
    originals = list(pipe.dit.blocks)
    for name, settings in part["settings"].items():
        for number, block in enumerate(originals):
            pipe.dit.blocks[number] = block
        answer["settings"][name] = of_setting(pipe, name, settings, part)
        print(f"  {part['way']}, {part['place']}: {name} done", file=sys.stderr, flush=True)
    return answer


# The parent.


@dataclass
class Part:
    """Settings that one row of processes measures in one way."""

    way: str
    settings: dict[str, dict[str, Any]]
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    part: Part
    place: str
    gpu: str


class Bench:
    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.gpus: list[str] = arguments.gpus.split(",")
        self.ends = time.monotonic() + arguments.limit
        self.lock = threading.Lock()
        self.raw: list[dict[str, Any]] = []

    def parts(self) -> list[Part]:
        chosen = {
            name
            for name in {**TOGETHER, **COMPILED}
            if not self.arguments.only or name in self.arguments.only
        }
        ways, parts = self.arguments.ways, []
        together = {name: TOGETHER[name] for name in TOGETHER if name in chosen}
        for way in WAYS:
            for name in COMPILED:
                if name in chosen and way in ways and (way == "shared" or name in BESIDE):
                    parts.append(Part(way, {name: COMPILED[name]}))
            if way == "shared" and together:
                parts.append(Part(way, together))
        return parts

    def run(self) -> list[Part]:
        """Have every GPU take the next task that can be begun, until there is none."""
        parts = self.parts()
        waiting: dict[str, queue.SimpleQueue[Task]] = {
            gpu: queue.SimpleQueue() for gpu in self.gpus
        }
        left = threading.Semaphore(0)
        for number, part in enumerate(parts):
            gpu = self.gpus[number % len(self.gpus)]
            waiting[gpu].put(Task(part, "first", gpu))
        total = len(parts) * (1 + min(2, 1 + (len(self.gpus) > 1)))

        def work(gpu: str) -> None:
            while True:
                try:
                    task = waiting[gpu].get(timeout=1.0)
                except queue.Empty:
                    if self.is_over.is_set():
                        return
                    continue
                self.do(task)
                if task.place == "first":
                    waiting[gpu].put(Task(task.part, "second", gpu))
                    others = [other for other in self.gpus if other != gpu]
                    for other in others[:1]:
                        waiting[other].put(Task(task.part, "other GPU", other))
                left.release()

        self.is_over = threading.Event()
        threads = [threading.Thread(target=work, args=(gpu,)) for gpu in self.gpus]
        for thread in threads:
            thread.start()
        for _ in range(total):
            left.acquire()
        self.is_over.set()
        for thread in threads:
            thread.join()
        return parts

    def do(self, task: Task) -> None:
        arguments, names = self.arguments, ", ".join(task.part.settings)
        if time.monotonic() > self.ends:
            task.part.answers[task.place] = {"error": "not begun: --limit"}
            return
        part = {
            "way": task.part.way,
            "place": task.place,
            "settings": task.part.settings,
            "device": "cpu" if task.gpu == "cpu" else "cuda",
            "layers": arguments.layers,
            "tiny": arguments.tiny,
            "steps": arguments.steps,
            "size": [int(number) for number in arguments.size.split("x")],
            "decodes": ["none", "vae_tiling: off"],
            "products": "none" in task.part.settings,
            "folder": str(self.folder),
        }
        given = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(given)}
        if task.gpu != "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = task.gpu
        start = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, __file__, "--part", json.dumps(part)],
                capture_output=True,
                text=True,
                check=False,
                env=environment,
                timeout=CHILD_SECONDS,
            )
            lines = done.stdout.strip().splitlines()
            answer = json.loads(lines[-1]) if done.returncode == 0 else {"error": done.stderr}
            said = done.stderr
        except subprocess.TimeoutExpired as error:
            answer, said = {"error": f"not done in {CHILD_SECONDS} s"}, str(error.stderr)
        task.part.answers[task.place] = answer
        seconds = time.monotonic() - start
        with self.lock:
            print(f"GPU {task.gpu}, {task.part.way}, {task.place}: {names}: {seconds:.0f} s")
            if "error" in answer:
                print(f"FAILED:\n{said[-3000:]}")
            else:
                lines = [*found_lines(answer), *kernel_lines(said)]
                print("".join(f"    {line}\n" for line in lines), end="")
            sys.stdout.flush()
            self.raw.append({"part": part, "gpu": task.gpu, "seconds": seconds, **answer})
            if arguments.raw:
                # After each, so that a time limit costs only what it cuts short.
                arguments.raw.write_text(json.dumps(self.raw, indent=1) + "\n", encoding="utf-8")


def found_lines(answer: dict[str, Any]) -> list[str]:
    """What a process found, in a line for each setting."""
    lines = [f"weights {answer['weights']}, loaded in {answer['loading']:.1f} s"]
    for name, found in answer["settings"].items():
        if "hash" not in found:
            lines.append(f"{name}: {found}")
            continue
        told = {key: found.get(key) for key in ("frames", "resumed", "first_block")}
        steps = " ".join(f"{seconds:.2f}" for seconds in found["seconds"])
        lines.append(f"{name}: {found['hash']} {told}, steps of {steps} s")
    return lines


def kernel_lines(said: str) -> list[str]:
    words = ("kernel", "begins anew", "choos")
    return [line for line in said.splitlines() if any(word in line for word in words)]


def sameness(one: Any, other: Any) -> str:
    if one is None or other is None:
        return "-"
    return "same" if one == other else "**different**"


def rows_of(part: Part) -> list[list[str]]:
    """A row for each setting: what agrees, and what a step took."""
    places = [part.answers.get(place, {}) for place in ("first", "second", "other GPU")]
    rows = []
    for name in part.settings:
        first, *others = (place.get("settings", {}).get(name, {}) for place in places)
        way = part.way if name in COMPILED else ""
        if "absent" in first or not first:
            rows.append([name, way, *["-"] * 7, "not here" if "absent" in first else "failed"])
            continue
        cells = [sameness(first["hash"], other.get("hash")) for other in others]
        if "frames" in first:
            for number, other in enumerate(others):
                if "frames" in other:
                    cells[number] += f", frames {sameness(first['frames'], other['frames'])}"
        for other in others:
            again = other.get("resumed")
            cells.append("-" if again is None else resumption(first, other))
        kernels = [sameness(first["kernels"], other.get("kernels")) for other in others]
        steady = first["seconds"][1:] or first["seconds"]
        cells += ["/".join(kernels) if first["kernels"] else "", f"{mean(steady):.3f}"]
        rows.append([name, way, *cells, f"{first['prepare']:.1f}", first["hash"][:8]])
    return rows


def resumption(first: dict[str, Any], other: dict[str, Any]) -> str:
    again = other["resumed"]
    if not again["from_step"]:
        # A make of its own from the first step to the last.
        return f"begins anew: {sameness(other['hash'], again['hash'])} as its own"
    return sameness(first["hash"], again["hash"])


def differences(parts: list[Part]) -> str:
    """Where processes differ: from which part on, and in which kernels."""
    said = []
    for part in parts:
        for name in part.settings:
            held = {
                place: answer["settings"].get(name, {})
                for place, answer in part.answers.items()
                if "settings" in answer
            }
            first = held.get("first", {})
            for place, other in held.items():
                if place == "first" or "hash" not in other or "hash" not in first:
                    continue
                mine, own = first.get("choices"), other.get("choices")
                if mine is None or own is None:
                    continue
                kernels = len(set(mine["kernels"]) ^ set(own["kernels"]))
                both = mine["configs"].keys() & own["configs"].keys()
                configs = [key for key in both if mine["configs"][key] != own["configs"][key]]
                block = sameness(first["first_block"], other["first_block"])
                said.append(
                    f"- {name}, {part.way}, {place}: {len(mine['kernels'])} kernels, of which "
                    f"{kernels} are in one process only; {len(mine['configs'])} chosen by timing, "
                    f"of which {len(configs)} differ; first block {block}"
                )
                for key in configs[:4]:
                    said.append(
                        f"    {plain(mine['configs'][key])} and {plain(own['configs'][key])}"
                    )
    return "\n".join(said)


def plain(config: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in config.items() if key != "configs_hash")


def agreement(parts: list[Part]) -> str:
    """Of what no setting touches: weights, and plain products."""
    answers = [answer for part in parts for answer in part.answers.values() if "weights" in answer]
    if not answers:
        return "no process ended well"
    weights = len({answer["weights"] for answer in answers})
    said = [f"Weights: {len(answers)} processes, {weights} kinds."]
    told = [answer["products"] for answer in answers if answer.get("products")]
    if told:
        differing = [name for name in told[0] if len({one[name] for one in told}) > 1]
        said.append(
            f"Plain products in {len(told)} processes: "
            + (f"different: {', '.join(differing)}." if differing else "the same.")
        )
    return " ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", default="0,1", help="numbers of one or two, or cpu")
    parser.add_argument("--layers", type=int, default=4, help="of the DiT")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--size", default="832x480x81")
    parser.add_argument("--tiny", action="store_true", help="the tiny checkpoint's widths")
    parser.add_argument("--only", nargs="+", choices=[*TOGETHER, *COMPILED], metavar="SETTING")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--limit", type=float, default=400, help="seconds; then nothing is begun")
    parser.add_argument("--raw", type=Path, help="a JSON file of all that was found")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "measurements.md")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        import logging

        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
        print(json.dumps(one_process(json.loads(arguments.part))))
        return
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(arguments, Path(name))
        parts = bench.run()
    head = ["setting", "way", "two processes, one GPU", "two GPUs"]
    head += ["restart, same GPU", "restart, other GPU", "kernels", "step", "prepare", "latents"]
    order = [*TOGETHER, *COMPILED]
    rows = sorted(
        (row for part in parts for row in rows_of(part)),
        key=lambda row: (order.index(row[0]), row[1] and WAYS.index(row[1])),
    )
    widths = "the tiny checkpoint's" if arguments.tiny else "the 14B model's"
    blocks = [
        f"{arguments.size}, {arguments.steps} steps with guidance, random numbers in {widths} "
        f"widths, {arguments.layers} layers. Each column compares final latents of two processes; "
        "`kernels` compares what they compiled; `step` and `prepare` in seconds, of the first "
        "process; `latents` is the begin of a hash.",
        table(head, rows),
        agreement(parts),
        differences(parts),
        f"In all {time.monotonic() - start:.0f} s.",
    ]
    write_section(arguments.out, TITLE, "\n\n".join(block for block in blocks if block))


if __name__ == "__main__":
    main()
