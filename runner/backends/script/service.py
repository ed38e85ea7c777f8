"""What a person's script is called for, in the script's own interpreter: Python 3.9 or newer.

It stands alone as `foreign/server.py` does, which runs it.

    -> load {"settings": {...}}
    -> prepare {"group": {...}}                where the script defines it
    -> generate {"job": {...}, "path": ...}
    -> close                                   likewise
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..foreign.server import Pipe


class BadInput(Exception):
    """The job's own prompt, clip or parameters cannot be used: another attempt would fail too."""


class ScriptGroup:
    """What `prepare` is given: a reference clip that the following jobs share."""

    BadInput = BadInput

    def __init__(
        self,
        *,
        category: str,
        video: str,
        reference: str,
        reference_start: float,
        reference_fit: str,
        parameters: dict[str, Any],
    ) -> None:
        self.category = category
        self.video = video
        self.reference = reference
        self.reference_start = reference_start
        self.reference_fit = reference_fit
        self.parameters = parameters


class ScriptJob:
    """What `generate` is given: one video to make."""

    BadInput = BadInput

    def __init__(
        self,
        pipe: Pipe,
        *,
        id: str,
        category: str,
        video: str,
        reference: str,
        reference_start: float,
        reference_fit: str,
        prompt: str,
        prompt_number: int,
        seed: int,
        parameters: dict[str, Any],
    ) -> None:
        self._pipe = pipe
        self.id = id
        self.category = category
        self.video = video
        self.reference = reference
        self.reference_start = reference_start
        self.reference_fit = reference_fit
        self.prompt = prompt
        self.prompt_number = prompt_number
        self.seed = seed
        self.parameters = parameters

    def step(self, done: int, total: int) -> None:
        """Say that so many steps of so many are done. It ends the job where a stop is asked for,
        by an exception that is better let through."""
        self._pipe.step(int(done), int(total))

    def steps(self, iterable: Iterable[Any], total: int | None = None) -> Iterator[Any]:
        """The items of an iterable, each reported as a step once it is done with, as tqdm does."""
        if total is None:
            iterable = list(iterable)
            total = len(iterable)
        for done, item in enumerate(iterable, 1):
            yield item
            self.step(done, total)


def calls(pipe: Pipe, path: str, sha256: str) -> dict[str, Callable[..., None]]:
    """The calls of the script at `path`, whose content must have that sha256.

    Frames that only lead to the script are hidden from a person: see the server's `is_hidden`.
    """
    script: Any = None

    def load(settings: dict[str, Any]) -> None:
        nonlocal script
        __tracebackhide__ = True
        script = read_script(Path(path), sha256)
        script.load(settings)

    def prepare(group: dict[str, Any]) -> None:
        __tracebackhide__ = True
        getattr(script, "prepare", ignore)(ScriptGroup(**group))

    def generate(job: dict[str, Any], path: str) -> None:
        __tracebackhide__ = True
        script.generate(ScriptJob(pipe, **job), path)

    def close() -> None:
        __tracebackhide__ = True
        getattr(script, "close", ignore)()

    return {"load": load, "prepare": prepare, "generate": generate, "close": close}


def ignore(*_arguments: object) -> None:
    """In the place of a function that a script need not have."""


def read_script(path: Path, sha256: str) -> types.ModuleType:
    """The script as a module. It is compiled from what was read here, never from a cache."""
    __tracebackhide__ = True
    source = path.read_bytes()
    if hashlib.sha256(source).hexdigest() != sha256:
        raise RuntimeError(f"{path.name} has changed since this worker started")
    # As for a script run by hand: its own folder is where imports start.
    sys.path.insert(0, str(path.parent))
    sys.argv = [str(path)]
    name = path.stem if path.stem not in sys.modules else f"script_{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    return module
