"""Prompt files: JSON, YAML, CSV, TSV or text in, prompts by category and video out.

*.json, *.yaml, *.yml   {category: {video: [prompt, ...]}} or {video: [prompt, ...]}
*.csv, *.tsv            a first line of column names: category (optional), video, prompt
*.txt                   a prompt a line, for every clip
a folder                <video>.txt or <category>/<video>.txt in it, a prompt a line
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..text.errors import UserError
from ..text.text_file import nfc, read_text, shown
from ..text.yaml_file import parse_yaml

YAML_SUFFIXES = frozenset({".yaml", ".yml"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
SUFFIXES = frozenset({".json", ".txt", *YAML_SUFFIXES, *TABLE_SUFFIXES})
PROMPT_FILE = "prompt file"
SHAPE = "{category: {video: [prompt, ...]}} or {video: [prompt, ...]}"

Texts = tuple[str, ...]
PromptRow = tuple[str | None, str | None, Texts]
"""A category, a video, and their prompts, as a file has them; None where the file names no category
or no video."""


@dataclass(frozen=True)
class Prompts:
    """Prompts by what they were written for; names in Unicode's NFC form.

    A file system may spell a name in another Unicode form than the file beside it.

    Args:
        by_category: {category: {video: prompts}}.
        by_video: {video: prompts}, of files that name no category.
        of_all: for every clip.
    """

    by_category: Mapping[str, Mapping[str, Texts]] = field(default_factory=dict)
    by_video: Mapping[str, Texts] = field(default_factory=dict)
    of_all: Texts = ()

    @property
    def videos(self) -> set[tuple[str | None, str]]:
        """Every (category, video) that has prompts of its own; the category is None where the file
        names none."""
        own = {(c, video) for c, videos in self.by_category.items() for video in videos}
        return own | {(None, video) for video in self.by_video}

    def of(self, category: str, names: Sequence[str]) -> Texts:
        """The prompts of a clip that may be called by any of these names, in the order of
        `by_category`, `by_video`, `of_all`."""
        own = self.by_category.get(nfc(category), {})
        keys = [nfc(name) for name in names]
        texts = [
            text for held in (own, self.by_video) for key in keys for text in held.get(key, ())
        ]
        return (*texts, *self.of_all)


def read_prompts(paths: Iterable[Path]) -> Prompts:
    """Read prompt files or folders; what several say of one video is added up, in their order.

    Raises:
        UserError: a file cannot be read or is not of a form above, or the same prompt is there
            twice for a video; with file, and line where there is one.
    """
    by_category: dict[str, dict[str, Texts]] = {}
    by_video: dict[str, Texts] = {}
    of_all: Texts = ()
    for path in paths:
        for category, video, texts in read_rows(path):
            refuse_bad_texts(path, category, video, texts)
            where = f"{shown(path)}: {named(category, video)}"
            if video is None:
                of_all = added(where, of_all, texts)
                continue
            held = by_video if category is None else by_category.setdefault(nfc(category), {})
            held[nfc(video)] = added(where, held.get(nfc(video), ()), texts)
    return Prompts(by_category, by_video, of_all)


def read_rows(path: Path) -> Iterator[PromptRow]:
    """What one file or folder says, as it says it."""
    if path.is_dir():
        yield from read_folder(path)
    elif path.suffix.lower() == ".txt":
        yield None, None, tuple(lines_of(read_text(path, PROMPT_FILE)))
    elif path.suffix.lower() in TABLE_SUFFIXES:
        yield from read_table(path)
    elif path.suffix.lower() in YAML_SUFFIXES:
        yield from rows_of(path, parse_yaml(path, read_text(path, PROMPT_FILE)))
    else:
        yield from rows_of(path, parse_json(path, read_text(path, PROMPT_FILE)))


def read_folder(folder: Path) -> Iterator[PromptRow]:
    """A folder of `<video>.txt`, or of `<category>/<video>.txt`."""
    found = False
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*/*.txt")]):
        if path.name.startswith(".") or not path.is_file():
            continue
        found = True
        category = None if path.parent == folder else path.parent.name
        yield category, path.stem, tuple(lines_of(read_text(path, PROMPT_FILE)))
    if not found:
        raise UserError(f"{shown(folder)}: has no prompts; put <video>.txt there, a prompt a line")


def read_table(path: Path) -> Iterator[PromptRow]:
    """A CSV or TSV file whose first line names the columns; others than ours are passed over."""
    text = read_text(path, PROMPT_FILE)
    first = text.partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        head = [cell.strip().lower() for cell in next(reader, [])]
        for name in ("video", "prompt"):
            if (count := head.count(name)) != 1:
                raise UserError(
                    f"{shown(path)}:1: has {count} columns called {name!r} and needs one; the "
                    "first line names the columns: category (optional), video, prompt"
                )
        column_of = {
            name: head.index(name) for name in ("category", "video", "prompt") if name in head
        }
        last = max(column_of.values())
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not last < len(cells) <= len(head):
                raise UserError(
                    f"{shown(path)}:{reader.line_num}: has {len(cells)} cells, the first line "
                    f"{len(head)}; quote a cell that has {delimiter!r} in it"
                )
            values = {name: cells[index].strip() for name, index in column_of.items()}
            if not values["video"] or not values["prompt"]:
                empty = "video" if not values["video"] else "prompt"
                raise UserError(f"{shown(path)}:{reader.line_num}: {empty}: this cell is empty")
            yield values.get("category") or None, values["video"], (values["prompt"],)
    except csv.Error as error:
        raise UserError(f"{shown(path)}:{reader.line_num}: not valid CSV: {error}") from None


def rows_of(path: Path, values: Any) -> Iterator[PromptRow]:
    """What JSON or YAML says; a list of prompts stands for a video, a mapping for a category."""
    if not isinstance(values, dict):
        raise UserError(f"{shown(path)}: must be {SHAPE}")
    for name, inner in values.items():
        if not isinstance(name, str):
            raise UserError(f"{shown(path)}: the name {name!r} must be text; quote it")
        if isinstance(inner, list):
            yield None, name, prompt_list(path, name, inner)
        elif isinstance(inner, dict):
            for video, prompts in inner.items():
                if not isinstance(video, str):
                    raise UserError(f"{shown(path)}: the name {video!r} must be text; quote it")
                if not isinstance(prompts, list):
                    raise UserError(f"{shown(path)}: {name}/{video}: must be a list of prompts")
                yield name, video, prompt_list(path, named(name, video), prompts)
        else:
            raise UserError(f"{shown(path)}: {name}: must be {{video: [prompt, ...]}} or a list")


def prompt_list(path: Path, where: str, values: list[Any]) -> Texts:
    if not all(isinstance(value, str) for value in values):
        raise UserError(f"{shown(path)}: {where}: must be a list of prompts")
    return tuple(values)


def lines_of(text: str) -> list[str]:
    """A prompt a line; empty lines are none."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def refuse_bad_texts(
    path: Path, category: str | None, video: str | None, texts: Iterable[str]
) -> None:
    """Raise UserError for a prompt that says nothing, or that no file could hold."""
    for text in texts:
        if not text.strip() or not is_utf8(text) or "\0" in text:
            raise UserError(
                f"{shown(path)}: {named(category, video)}: {text!r:.80} is no prompt; write text"
            )


def added(where: str, former: Texts, texts: Texts) -> Texts:
    """Both in order.

    Raises:
        UserError: a text would be there twice.
    """
    known = set(former)
    for text in texts:
        if text in known:
            raise UserError(
                f"{where}: the prompt {text!r} is there twice; for another take of it, add a seed"
            )
        known.add(text)
    return former + texts


def named(category: str | None, video: str | None) -> str:
    """For whom prompts in a file are, for a person."""
    return "/".join(name for name in (category, video) if name is not None) or "every clip"


def parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{shown(path)}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)}: {error}") from None


def unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} is there twice")
        values[key] = value
    return values


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
