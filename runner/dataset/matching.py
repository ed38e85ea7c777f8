"""Clips and prompts, matched by name: who is whose, and what is left over on either side."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..text.text_file import nfc
from .files import FileValue
from .prompts import Prompts, Texts, named
from .run_videos import RunVideo

MOST_NAMES_COMPARED = 50
"""Left-over names that are compared with the others: a person reads no more of them."""


@dataclass(frozen=True)
class Leftover:
    """A clip without prompts (`clip` is its file) or prompts without a clip (None).

    `name` is None for a whole category. `problem` is what is wrong, `nearest` the name that
    comes nearest on the other side.
    """

    category: str | None
    name: str | None
    clip: FileValue | None
    problem: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f"; the nearest name is {self.nearest!r}" if self.nearest else ""
        return f"{named(self.category, self.name)}: {self.problem}{hint}"


@dataclass(frozen=True)
class Match:
    """The prompts of each clip, by its file, and what is left over: clips in their order, then
    prompts."""

    prompts: Mapping[FileValue, Texts]
    leftovers: tuple[Leftover, ...]


def match(
    clips: Mapping[str, Sequence[FileValue]],
    prompts: Prompts,
    *,
    folder: str,
    source: str,
    is_subset: bool = False,
    elsewhere: frozenset[str] = frozenset(),
) -> Match:
    """Give every clip its prompts. A prompt file may call a clip by its stem or its file name.

    Args:
        clips: {category: its clips}.
        folder: where the clips lie, for a person.
        source: where the prompts lie, for a person.
        is_subset: whether these are some categories of several: prompts for others are no error.
        elsewhere: NFC stems of clips in the categories that are not among these.
    """
    texts: dict[FileValue, Texts] = {}
    bare: list[tuple[str, FileValue]] = []
    used: set[tuple[str | None, str]] = set()
    homes: dict[str, set[str]] = defaultdict(set)
    for category, files in clips.items():
        for file in files:
            names = [nfc(name) for name in names_of(file)]
            own = prompts.of(category, names)
            used |= {(within, name) for name in names for within in (nfc(category), None)}
            for name in names:
                homes[name].add(category)
            if own:
                texts[file] = own
            else:
                bare.append((category, file))
    lonely: list[tuple[str | None, str | None, str]] = []
    known = {nfc(category) for category in clips}
    for within, name in sorted(prompts.videos - used, key=lambda one: (one[0] or "", one[1])):
        stem = name.rpartition(".")[0] or name
        if within is None and not {name, stem} & elsewhere:
            lonely.append((None, name, f"has prompts but no video in {folder}"))
        elif within in known:
            lonely.append((within, name, f"has prompts but no video in {folder}/{within}"))
    if not is_subset:
        lonely += [
            (category, None, f"has prompts but no folder in {folder}")
            for category in sorted(set(prompts.by_category) - known)
        ]
    lonely += [
        (None, name, f"has prompts for no category in particular, and clips in {' and '.join(at)}")
        for name in prompts.by_video
        if len(at := sorted(homes.get(name, ()))) > 1
    ]
    return Match(texts, tuple(_leftovers(bare, lonely, source)))


def names_of(file: FileValue) -> list[str]:
    """What prompts may call a clip. A video of another run is also called as what it is a version
    of."""
    own = [file.stem, file.name]
    return [*own, file.lead] if isinstance(file, RunVideo) else own


def _leftovers(
    bare: Sequence[tuple[str, FileValue]],
    lonely: Sequence[tuple[str | None, str | None, str]],
    source: str,
) -> list[Leftover]:
    """Both sides, each name with the nearest of the other side."""
    wanted = [name for _, name, _ in lonely if name]
    unclaimed = [nfc(file.stem) for _, file in bare]
    found: list[Leftover] = []
    for category, file in bare:
        near = _nearest(nfc(file.stem), wanted) if len(found) < MOST_NAMES_COMPARED else None
        found.append(Leftover(category, file.name, file, f"has no prompts in {source}", near))
    for number, (within, name, problem) in enumerate(lonely):
        near = _nearest(name, unclaimed) if name and number < MOST_NAMES_COMPARED else None
        found.append(Leftover(within, name, None, problem, near))
    return found


def _nearest(name: str, others: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, others, n=1)), None)
