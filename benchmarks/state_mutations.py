"""Ways to damage a file that commands read, made from a seed: values that cannot be, texts that are
cut or nested without end, and pipes, folders, links and sockets in a file's place.

Every way is a function on a path and a random source that says in a line what it did.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

Way = Callable[[random.Random, Path, Path], str]
"""Damages a file; is given the random source, the file, and the folder that must stay as it is."""

HUGE = "x" * 300_000
DEEP = 100_000


def nasty(rng: random.Random, canary: Path) -> Any:
    """A value that fits hardly anywhere."""
    return rng.choice(
        [
            *(None, True, False, -1, 0, 1, 1.5, -2.5, 2**31, 2**53, 2**63, -(2**63), 10**40, 1e308),
            *(float("nan"), float("inf"), float("-inf"), 1e-300, 10**4200),
            *("", " ", "0", "1", "-1", "1e5", "true", "null", "x", "名字", "a\nb", "\x1b[31m"),
            HUGE,
            *("\0", "a\0b", "\ud800", "\udcff", "\u202e", "%s", "{0}", "$HOME", "~", "-", "--now"),
            *("..", ".", "/", "../../..", "../../canary/dear.txt", "../../../canary/folder"),
            *(str(canary / "dear.txt"), str(canary / "folder"), "/dev/zero", "/proc/self/mem"),
            *("a/../../../canary/new.mp4", "canary//x.mp4", "a/./x.mp4", "x.mp4", "/x.mp4"),
            *("0" * 16, "f" * 64, "0123456789abcdeF", "2020-01-01", "gpu0", "gpu9_process9"),
            *("pending", "running", "done", "failed", "stale", "retired", "stopped", "fake", "wan"),
            *([], [None], [[]], [1, 2], ["../x"], {}, {"a": 1}, {"": {}}, {"path": "../x"}),
        ]
    )


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a nested one, itself included."""
    found = [here]
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*here, key))
    elif isinstance(value, list):
        for number in range(min(len(value), 20)):
            found += places(value[number], (*here, number))
    return found


def changed(rng: random.Random, value: Any, canary: Path) -> tuple[Any, str]:
    """A nested value with one thing changed in it, and what that was."""
    value = copy.deepcopy(value)
    place = rng.choice(places(value))
    what = rng.choice(["set", "set", "set", "set", "set", "drop", "add", "double", "rename"])
    new = nasty(rng, canary)
    told = f"{what} {'.'.join(map(str, place)) or 'all'} {short(new)}"
    if not place:
        if what == "add" and isinstance(value, dict):
            value["surplus"] = new
            return value, told
        return (new, told) if what == "set" else (value, "nothing")
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    key = place[-1]
    if what == "set":
        holder[key] = new
    elif what == "drop":
        del holder[key]
    elif what == "add" and isinstance(holder, dict):
        holder[f"{key}_more"] = new
    elif what == "rename" and isinstance(holder, dict):
        holder[str(new)] = holder.pop(key)
    elif isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = [holder[key]]
    return value, told


def short(value: Any) -> str:
    return ascii(value)[:60]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def json_record(rng: random.Random, path: Path, canary: Path) -> str:
    """One value of a JSON file."""
    value, told = changed(rng, json.loads(path.read_bytes()), canary)
    path.write_bytes(as_json(value))
    return told


def json_any(rng: random.Random, path: Path, canary: Path) -> str:
    """A JSON value in the place of what a file has, such as a process that is none."""
    value = {"host": nasty(rng, canary), "pid": nasty(rng, canary), "started": 1}
    path.write_bytes(as_json(rng.choice([value, nasty(rng, canary)])))
    return "another value"


def json_line(rng: random.Random, path: Path, canary: Path) -> str:
    """One line of a file of JSON lines, or their order."""
    lines = path.read_bytes().splitlines()
    number = rng.randrange(len(lines))
    what = rng.choice(["change", "change", "change", "change", "double", "drop", "swap", "foreign"])
    told = what
    if what == "change":
        value, told = changed(rng, json.loads(lines[number]), canary)
        lines[number] = as_json(value)
    elif what == "double":
        lines.insert(rng.randrange(len(lines) + 1), lines[number])
    elif what == "drop":
        del lines[number]
    elif what == "swap":
        lines.reverse()
    else:
        lines.insert(number, as_json(nasty(rng, canary)))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return f"line {number}: {told}"


def yaml_record(rng: random.Random, path: Path, canary: Path) -> str:
    """One value of a YAML file."""
    try:
        former = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, ValueError):
        # An earlier damage of the same case.
        former = {"name": "x"}
    value, told = changed(rng, former, canary)
    try:
        text = yaml.safe_dump(value, allow_unicode=False)
    except (yaml.YAMLError, ValueError):
        text = json.dumps(value)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return told


YAML_TEXTS = (
    "!!python/object/apply:os.system ['touch pwned']\n",
    "a: &a [*a]\n",
    "a: &a {b: 1}\nc: {<<: *a}\n",
    "<<: 1\n",
    "? [a, b]\n: 1\n",
    "a: 1\na: 2\n",
    "\tname: x\n",
    "name: 2020-02-30\n",
    "--- 1\n--- 2\n",
    "- " * 3000 + "1\n",
    "{" * 3000,
)


def yaml_text(rng: random.Random, path: Path, _canary: Path) -> str:
    """What only YAML can say."""
    text = rng.choice(YAML_TEXTS)
    former = path.read_bytes()
    path.write_bytes(rng.choice([text.encode(), former + text.encode(), text.encode() + former]))
    return f"YAML {text[:40]!r}"


def random_bytes(rng: random.Random, path: Path, _canary: Path) -> str:
    """Some bytes changed, put in, taken out; or all of them."""
    content = bytearray(path.read_bytes())
    what = rng.choice(["flip", "flip", "insert", "remove", "cut", "zero", "noise", "double"])
    size = len(content)
    start = rng.randrange(size + 1)
    length = rng.choice([1, 2, 8, 64, 1000, 5000])
    if what == "flip":
        for _ in range(rng.choice([1, 3, 20])):
            if size:
                content[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif what == "insert":
        content[start:start] = rng.randbytes(length)
    elif what == "remove":
        del content[start : start + length]
    elif what == "cut":
        del content[start:]
    elif what == "zero":
        content[start : start + length] = bytes(len(content[start : start + length]))
    elif what == "noise":
        content = bytearray(rng.randbytes(rng.choice([0, 1, 50, 5000])))
    else:
        content += bytes(content)
    path.write_bytes(bytes(content))
    return f"bytes: {what} at {start} of {size}, {length}"


def odd_text(rng: random.Random, path: Path, _canary: Path) -> str:
    """A text that is hard to read in some way."""
    former = path.read_bytes()
    texts = {
        "deep lists": b"[" * DEEP + b"]" * DEEP,
        "deep mappings": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        "a long number": b'{"a": ' + b"9" * 10_000 + b"}",
        "one long line": b'"' + b"x" * 2_000_000 + b'"',
        "many lines": b"{}\n" * 100_000,
        "a mark before it": b"\xef\xbb\xbf" + former,
        "UTF-16": former.decode("utf-8", "replace").encode("utf-16"),
        "no UTF-8": former + b"\xff\xfe\xfa",
        "only zeros": bytes(len(former)),
        "nothing": b"",
        "a new line": b"\n",
        "null": b"null",
        "a list": b"[]",
        "a mapping": b"{}",
        "a word": b"x",
        "carriage returns": former.replace(b"\n", b"\r"),
    }
    name = rng.choice(list(texts))
    path.write_bytes(texts[name])
    return f"text: {name}"


def instead(rng: random.Random, path: Path, canary: Path) -> str:
    """Something else than a file in its place."""
    kinds: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "full folder": lambda: (path / "a" / "b").mkdir(parents=True),
        "socket": lambda: bind(path),
        "endless device": lambda: path.symlink_to("/dev/zero"),
        "terminal": lambda: path.symlink_to("/dev/tty"),
        "link to a file outside": lambda: path.symlink_to(canary / "dear.txt"),
        "link to a folder outside": lambda: path.symlink_to(canary / "folder"),
        "link to nothing outside": lambda: path.symlink_to(canary / "folder" / "new"),
        "link to itself": lambda: path.symlink_to(path.name),
        "link to a parent": lambda: path.symlink_to("../.."),
        # A clip of that size would just take its time.
        "huge file": lambda: sparse(path, (200 << 20) if path.suffix == ".mp4" else 3 << 30),
        "nothing": lambda: None,
    }
    remove(path)
    kind = rng.choice(list(kinds))
    kinds[kind]()
    return f"in its place: {kind}"


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"

SQL = (
    "DROP TABLE {table}",
    "DELETE FROM {table}",
    "ALTER TABLE {table} DROP COLUMN {column}",
    "ALTER TABLE {table} RENAME COLUMN {column} TO other",
    "ALTER TABLE {table} RENAME TO other",
    "CREATE TRIGGER t AFTER UPDATE ON {table} BEGIN DELETE FROM {table}; END",
    "CREATE TABLE surplus (a)",
    "PRAGMA user_version = 7",
    "PRAGMA auto_vacuum = FULL",
    "UPDATE meta SET value = '2' WHERE key = 'schema'",
    "UPDATE sqlite_master SET rootpage = 999 WHERE name = '{table}'",
    "UPDATE sqlite_master SET rootpage = 2 WHERE name = '{table}'",
    "UPDATE sqlite_master SET sql = 'CREATE TABLE {table} (a)' WHERE name = '{table}'",
    "UPDATE sqlite_master SET sql = 'nonsense' WHERE name = '{table}'",
    "DELETE FROM sqlite_master WHERE type = 'index'",
)


def database_rows(rng: random.Random, path: Path, canary: Path) -> str:
    """Values in rows of a queue."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        tables = connection.execute(TABLES).fetchall()
        told = []
        for _ in range(rng.choice([1, 1, 3])):
            (table,) = rng.choice(tables)
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            column = rng.choice(columns)
            value = nasty(rng, canary)
            if isinstance(value, (list, dict)):
                value = json.dumps(value)
            if isinstance(value, str) and rng.random() < 0.1:
                value = value.encode("utf-8", "surrogatepass")
            which = rng.choice(["1", "rowid = 1", f'"{column}" IS NOT NULL'])
            told.append(f"{table}.{column} = {short(value)} where {which}")
            try:
                connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE {which}', [value])
            except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
                told[-1] += f" ({error})"
    return f"rows: {'; '.join(told)}"


def database_schema(rng: random.Random, path: Path, _canary: Path) -> str:
    """The tables of a queue."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        tables = connection.execute(TABLES).fetchall()
        (table,) = rng.choice(tables)
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        statement = rng.choice(SQL).format(table=table, column=rng.choice(columns))
        connection.execute("PRAGMA writable_schema = ON")
        try:
            connection.execute(statement)
        except sqlite3.Error as error:
            statement += f" ({error})"
    return f"schema: {statement}"


def database_pages(rng: random.Random, path: Path, _canary: Path) -> str:
    """Pages of a queue, or its header."""
    size = path.stat().st_size
    page = rng.randrange(max(1, size // 4096))
    what = rng.choice(["zero", "noise", "header", "cut", "swap", "log", "memory"])
    with path.open("r+b") as file:
        if what == "cut":
            file.truncate(4096 * page + rng.choice([0, 1, 100, 2000]))
        elif what == "header":
            file.seek(rng.randrange(100))
            file.write(rng.randbytes(rng.choice([1, 2, 4])))
        elif what == "swap" and size >= 2 * 4096:
            file.seek(0)
            first = file.read(4096)
            file.seek(4096 * page)
            file.write(first)
        elif what in ("log", "memory"):
            name = f"{path.name}{'-wal' if what == 'log' else '-shm'}"
            path.with_name(name).write_bytes(rng.randbytes(rng.choice([0, 10, 5000, 40_000])))
        else:
            file.seek(4096 * page)
            file.write(bytes(4096) if what == "zero" else rng.randbytes(4096))
    return f"pages: {what} {page} of {size // 4096}"


TEXT: tuple[Way, ...] = (random_bytes, odd_text, instead)
JSON: tuple[Way, ...] = (json_record, json_record, json_record, json_record, *TEXT)
LINES: tuple[Way, ...] = (json_line, json_line, json_line, json_line, *TEXT)
YAML: tuple[Way, ...] = (yaml_record, yaml_record, yaml_record, yaml_text, *TEXT)
DATABASE: tuple[Way, ...] = (
    *(database_rows, database_rows, database_rows, database_schema),
    *(database_pages, random_bytes, instead),
)
