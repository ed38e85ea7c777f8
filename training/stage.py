"""A timed part of the training: its steps, its averaged weights, its state, its log."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.backends.wan.offline import import_torch

torch = import_torch()

WARM_UP = 200
"""Steps over which the learning rate rises: the first take long, since they are compiled."""

AVERAGE = 0.999
"""How much of the averaged weights a step keeps."""


class StopHere(Exception):
    """The time of this call is over; the state has been saved."""


@dataclass
class Run:
    """Where a run keeps its things, what it may use, and when this call is to end."""

    work: Path
    out: Path
    device: str
    deadline: float
    arguments: argparse.Namespace
    started: float = field(default_factory=time.monotonic)

    def log(self, **entry: Any) -> None:
        entry = {"at": round(time.monotonic() - self.started, 1), **entry}
        line = json.dumps(
            {name: round(v, 5) if isinstance(v, float) else v for name, v in entry.items()}
        )
        print(line, flush=True)
        with (self.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.work / "log.jsonl", self.out / "log.jsonl")

    def save(self, name: str, state: dict[str, Any]) -> None:
        path = self.work / name
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, name: str) -> Any:
        path = self.work / name
        if not path.is_file():
            return None
        return torch.load(path, map_location=self.device, weights_only=True)


def rate(share: float, step: int, peak: float) -> float:
    """Learning rate of a step after that share of the time: a warm-up, and down in a cosine."""
    falling = 0.5 + 0.5 * math.cos(math.pi * min(1.0, share))
    return peak * falling * min(1.0, (step + 1) / WARM_UP)


def write_weights(path: Path, state: Iterable[tuple[str, Any]]) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().to("cpu", torch.bfloat16).contiguous() for name, t in state}
    save_file(tensors, path, metadata={"format": "pt"})


class Stage:
    """A timed loop of steps over some parameters, with its averaged weights and its state.

    With `graph`, on a GPU, a whole step is recorded once and replayed: the VAE's thousands of
    small kernels would otherwise wait for Python. Every batch then has the first one's shape.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        modules: dict[str, Any],
        seconds: float,
        peak: float,
        *,
        graph: bool = False,
    ) -> None:
        self.run, self.name, self.seconds, self.peak = run, name, seconds, peak
        self.modules = modules
        named = {key: list(module.named_parameters()) for key, module in modules.items()}
        self.names = [(key, name) for key, some in named.items() for name, _ in some]
        self.parameters = [parameter for some in named.values() for _, parameter in some]
        cuda = run.device == "cuda"
        self.graphed = graph and cuda
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=torch.tensor(peak, device="cuda") if self.graphed else peak,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=cuda,
            capturable=self.graphed,
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.spent, self.step = 0.0, 0
        if state := run.load(f"{name}.pt"):
            for key, module in modules.items():
                module.load_state_dict(state["models"][key])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average = list(state["average"])
            self.spent, self.step = state["spent"], state["step"]
            run.log(stage=name, resumed_at=self.spent, step=self.step)

    def train(
        self,
        batch: Callable[[], tuple[Any, ...]],
        loss: Callable[..., tuple[Any, dict[str, Any]]],
        every: float,
        export: Callable[[], object] = lambda: None,
    ) -> None:
        """Step until the stage's seconds are spent.

        Args:
            batch: draws the inputs of a step.
            loss: gives the loss of a batch and what to log.
            every: seconds between two lines of the log and two saved states.
            export: called after each saved state.

        Raises:
            StopHere: this call's time ended first.
        """
        if self.spent >= self.seconds:
            return
        last = saved = time.monotonic()
        mark = self.step
        take = self._recorded(batch, loss) if self.graphed else self._taken(batch, loss)
        while self.spent < self.seconds:
            now_rate = rate(self.spent / self.seconds, self.step, self.peak)
            for group in self.optimiser.param_groups:
                if self.graphed:
                    group["lr"].fill_(now_rate)
                else:
                    group["lr"] = now_rate
            value, parts, norm = take()
            self.step += 1
            keep = min(AVERAGE, self.step / (self.step + 20))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - keep)
            if self.step % 10 == 0 and self.run.device == "cuda":
                torch.cuda.synchronize()
            now = time.monotonic()
            self.spent += now - last
            last = now
            if now - saved > every or self.spent >= self.seconds or now > self.run.deadline:
                shown = {name: float(part) for name, part in parts.items()}
                speed = (self.step - mark) / max(now - saved, 1e-9)
                self.run.log(
                    stage=self.name, step=self.step, seconds=self.spent,
                    loss=float(value.detach()), norm=float(norm), steps_a_second=speed, **shown,
                )  # fmt: skip
                self.save()
                export()
                last = saved = time.monotonic()
                mark = self.step
                if now > self.run.deadline and self.spent < self.seconds:
                    raise StopHere

    def _taken(self, batch: Any, loss: Any) -> Callable[[], tuple[Any, Any, Any]]:
        def take() -> tuple[Any, Any, Any]:
            value, parts = loss(*batch())
            self.optimiser.zero_grad(set_to_none=True)
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            return value, parts, norm

        return take

    def _recorded(self, batch: Any, loss: Any) -> Callable[[], tuple[Any, Any, Any]]:
        # https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
        inputs = batch()
        eager = self._taken(lambda: inputs, loss)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                eager()
        torch.cuda.current_stream().wait_stream(side)
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            value, parts = loss(*inputs)
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()

        def take() -> tuple[Any, Any, Any]:
            for old, new in zip(inputs, batch(), strict=True):
                old.copy_(new)
            graph.replay()
            return value, parts, norm

        return take

    def save(self) -> None:
        models = {key: module.state_dict() for key, module in self.modules.items()}
        self.run.save(
            f"{self.name}.pt",
            {
                "models": models,
                "optimiser": self.optimiser.state_dict(),
                "average": self.average,
                "spent": self.spent,
                "step": self.step,
            },
        )

    def averages(self, module: str) -> dict[str, Any]:
        """The averaged weights of one of the modules by name."""
        pairs = zip(self.names, self.average, strict=True)
        return {name: average for (key, name), average in pairs if key == module}

    def take_average(self) -> None:
        """Put the averaged weights into the modules."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average, strict=True):
                parameter.copy_(average)
