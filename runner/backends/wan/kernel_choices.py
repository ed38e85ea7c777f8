"""What torch.compile chose by timing, as data: made once by one worker and followed by the others.

Inductor times several configurations of each kernel that it writes and takes the fastest. Two
processes seldom measure the same, and another block size adds up in another order: so two workers
would make videos of other last bits. Here the choices of the first worker are kept in the run
folder's `cache/kernels/`, a file for each kind of GPU, set of versions, settings and shape.

Only choices are kept, as small numbers, and never what was compiled: a run folder is input, and
Inductor's own cache is code and pickles, which would be run. Each process compiles from its own
source, and whatever a file says can only be one of the configurations that such a kernel has.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...disk.run_folder import locked, write_atomically
from ...machine.waiting import Busy, Waiting
from ...text.canonical import canonical_json, sha256_of
from ...text.input_file import parse_json, read_input

logger = logging.getLogger("sweep.wan")

KernelFacts = Mapping[str, Any]
"""What the choices hold for: device, versions, settings, the model's sizes, the video's shape."""
Config = Mapping[str, int | str]
"""A kernel's block sizes, numbers of warps and stages, and which configurations it is one of."""

SCHEMA = 1
MOST_FILE_BYTES = 4 << 20
MOST_KERNELS = 10_000
MOST_WAIT_SECONDS = 180.0
"""For another worker's choices: a process that is frozen keeps its lock."""

KERNEL = re.compile(r"[a-z0-9]{2}/[a-z0-9]{20,80}\.(py|main\.cpp)")
CONFIGURED = re.compile(r"[a-z0-9]{2}/[0-9a-f]{64}\.best_config")
_BLOCK = re.compile(r"(X|Y|Z|R|R0_|R1_)BLOCK|RSPLIT")
_DIGEST = re.compile(r"[0-9a-f]{64}")
LARGEST_OF_KEY = {"XBLOCK": 4096, "YBLOCK": 1024, "ZBLOCK": 1024, "num_warps": 32, "num_stages": 16}
"""What Inductor never goes beyond: above its largest block a kernel's bounds are not checked."""
LARGEST_OF_OTHER_KEYS = 65536


@dataclass(frozen=True)
class Choices:
    """The kernels of a graph, named by their source's hash, and the configurations chosen for
    those that have several."""

    kernels: tuple[str, ...]
    configs: Mapping[str, Config]

    @property
    def hash(self) -> str:
        """Of all that decides the last bits of what the graph computes."""
        return sha256_of({"kernels": self.kernels, "configs": _plain(self.configs)})

    def difference(self, other: Choices) -> str:
        """In what they differ, in a few words."""
        kernels = len(set(self.kernels) ^ set(other.kernels))
        both = self.configs.keys() & other.configs.keys()
        configs = sum(dict(self.configs[name]) != dict(other.configs[name]) for name in both)
        configs += len(self.configs.keys() ^ other.configs.keys())
        return f"{kernels} kernels and {configs} configurations differ"


class Refused(ValueError):
    """A file of choices that is not to be followed; says why."""


class KernelChoices:
    """The choices that the workers of a sweep share.

    Args:
        folder: where they are kept.
        most_seconds: how long to wait for another worker that makes them.
    """

    def __init__(self, folder: Path, most_seconds: float = MOST_WAIT_SECONDS) -> None:
        self._folder = folder
        self._most_seconds = most_seconds

    def settle(
        self, facts: KernelFacts, make: Callable[[Mapping[str, Config]], Choices]
    ) -> Choices:
        """Compile by the choices that are sealed for these facts, or make and seal them.

        One worker makes them while the others wait; if it dies, the kernel frees its lock, and the
        next one makes them. Sealed choices are never altered.

        Args:
            make: compiles the graph, with the configurations it is handed where a kernel has one
                there, and tells what was chosen in the end.

        Returns:
            What this process computes with.
        """
        path = self.path(facts)
        sealed = self._read(path, facts)
        if sealed is None:
            with self._turn(path.with_suffix(".lock")) as is_ours:
                sealed = self._read(path, facts)
                if sealed is None:
                    return self._make(path, facts, make, seals=is_ours)
        made = make(sealed.configs)
        if made.hash != sealed.hash:
            logger.warning(
                "the sealed choices of kernels %s cannot be followed here (%s): this worker's "
                "videos have other last bits",
                *(sealed.hash[:12], sealed.difference(made)),
            )
        else:
            logger.info("kernels compiled by the sealed choices %s", sealed.hash[:12])
        return made

    def path(self, facts: KernelFacts) -> Path:
        """Where the choices for these facts are kept."""
        return self._folder / f"{sha256_of(facts)}.json"

    def _make(
        self,
        path: Path,
        facts: KernelFacts,
        make: Callable[[Mapping[str, Config]], Choices],
        *,
        seals: bool,
    ) -> Choices:
        start = time.monotonic()
        made = make({})
        if seals:
            try:
                content = _written(facts, made)
                # What the others would refuse is not handed to them.
                choices_in(content, facts)
                write_atomically(path, content)
            except (OSError, ValueError) as error:
                logger.warning("the choices of kernels are not kept: %s", error)
                seals = False
        logger.info(
            "%d kernels compiled in %.1f s, %d of them by choices made here%s: %s",
            *(len(made.kernels), time.monotonic() - start, len(made.configs)),
            *(" and sealed for every worker" if seals else "", made.hash[:12]),
        )
        return made

    def _read(self, path: Path, facts: KernelFacts) -> Choices | None:
        try:
            return choices_in(read_input(path, MOST_FILE_BYTES), facts)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("%s is not followed, and made again: %s", path.name, error)
            return None

    @contextmanager
    def _turn(self, lock: Path) -> Iterator[bool]:
        """Wait for whoever makes the choices; yields whether it is now this worker's turn."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, Waiting.at_most(self._most_seconds)))
                is_ours = True
            except Busy as error:
                logger.warning(
                    "%s; this one goes on with choices of kernels of its own, and other last bits",
                    error,
                )
                is_ours = False
            yield is_ours


def choices_in(content: bytes, facts: KernelFacts) -> Choices:
    """The choices that a file holds for these facts.

    Raises:
        ValueError: it is no such file, or not all of it is what Inductor could have chosen.
    """
    held = parse_json(content)
    if not isinstance(held, dict) or held.get("schema") != SCHEMA:
        raise Refused(f"it is no list of choices of schema {SCHEMA}")
    if held.get("facts") != json.loads(canonical_json(facts)):
        raise Refused("it is for another device, version, setting or shape")
    kernels, configs = held.get("kernels"), held.get("configs")
    if not isinstance(kernels, list) or not isinstance(configs, dict):
        raise Refused("kernels or configs are missing")
    if len(kernels) + len(configs) > MOST_KERNELS:
        raise Refused(f"it names more than {MOST_KERNELS} kernels")
    for name in kernels:
        if not isinstance(name, str) or not KERNEL.fullmatch(name):
            raise Refused("a kernel's name is none of Inductor's")
    for name, config in configs.items():
        if not CONFIGURED.fullmatch(name):
            raise Refused("a configuration's name is none of Inductor's")
        _require_config(config)
    found = Choices(tuple(kernels), configs)
    if held.get("hash") != found.hash:
        raise Refused("its hash is not that of its content")
    return found


def known_config(values: Mapping[str, Any]) -> dict[str, int | str]:
    """The part of a configuration that decides what a kernel computes: neither how long it took
    nor where it is cached."""
    return {
        key: values[key]
        for key in sorted(values)
        if key not in ("time_taken_ms", "triton_cache_hash") and values[key] is not None
    }


def _require_config(config: object) -> None:
    if not isinstance(config, dict) or len(config) > 32:
        raise Refused("a configuration is no table")
    for key, value in config.items():
        if key == "configs_hash":
            is_good = isinstance(value, str) and _DIGEST.fullmatch(value) is not None
        elif key == "found_by_coordesc":
            is_good = value is False
        elif key in ("num_consumer_groups", "num_buffers_warp_spec", "num_stages"):
            is_good = _is_number(value, 0, LARGEST_OF_KEY["num_stages"])
        elif key == "num_warps" or _BLOCK.fullmatch(key):
            most = LARGEST_OF_KEY.get(key, LARGEST_OF_OTHER_KEYS)
            # Blocks and warps are powers of two.
            is_good = _is_number(value, 1, most) and value & (value - 1) == 0
        else:
            is_good = False
        if not is_good:
            raise Refused(f"{key!r:.40} is not what a kernel can be configured with")


def _is_number(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _written(facts: KernelFacts, made: Choices) -> bytes:
    held = {
        "schema": SCHEMA,
        "facts": facts,
        "hash": made.hash,
        "kernels": list(made.kernels),
        "configs": _plain(made.configs),
    }
    return (json.dumps(held, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _plain(configs: Mapping[str, Config]) -> dict[str, dict[str, int | str]]:
    return {name: dict(config) for name, config in configs.items()}
