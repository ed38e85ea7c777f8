"""Reading YAML that a person wrote, with the place of every mistake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

try:
    # By libyaml: a file of some MiB takes seconds without.
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

from .errors import UserError
from .plain_text import printable
from .text_file import read_text, shown

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "experiment.schema.json"
"""The experiment file's, as published; an installation without the repository has none."""


MOST_REPEATED = 20
"""Times what a file holds, once its aliases are written out; or `NODES_ALWAYS_ALLOWED` nodes."""
NODES_ALWAYS_ALLOWED = 100_000


class UniqueKeyLoader(SafeLoader):
    """Safe YAML in which a repeated key is an error instead of the last one winning, and aliases
    cannot make a large thing of a small file."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            sizes: dict[int, int | None] = {}
            written_out = _written_out(node, sizes)
            if written_out > max(NODES_ALWAYS_ALLOWED, MOST_REPEATED * len(sizes)):
                raise yaml.constructor.ConstructorError(
                    None, None, "its aliases (*) repeat too much; write less of it", node.start_mark
                )
        return node


def _written_out(node: yaml.Node, sizes: dict[int, int | None]) -> int:
    """How many nodes there are below a node, it included, each alias counted as what it stands
    for.

    Args:
        sizes: those found so far, by the node's id; None while one is being counted.
    """
    key = id(node)
    if key in sizes:
        known = sizes[key]
        if known is None:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias (*) stands for what it is in", node.start_mark
            )
        return known
    sizes[key] = None
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    sizes[key] = size = 1 + sum(_written_out(one, sizes) for one in inner)
    return size


def _mapping(loader: UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node)
        if isinstance(key, (list, dict)) or key in keys:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is there twice", key_node.start_mark
            )
        keys.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = f":{at.line + 1}:{at.column + 1}" if at else ""
        raise UserError(f"{shown(path)}{where}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{shown(path)}: not valid YAML: {str(error).splitlines()[0]}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    values = parse_yaml(path, read_text(path, "experiment file"))
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path}: must be a mapping of keys such as name:, dataset:, seeds:")
    return values


def schema_line(folder: Path) -> str:
    """The first line of an experiment file in that folder, by which editors complete and check
    it; "" where the schema is not here."""
    if not SCHEMA.is_file():
        return ""
    path = Path(os.path.relpath(SCHEMA, folder.resolve())).as_posix()
    return printable(f"# yaml-language-server: $schema={path}") + "\n"
