"""Reading YAML that a person wrote, with the place of every mistake."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError
from .plain_text import printable

SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "experiment.schema.json"
"""The experiment file's, as published; an installation without the repository has none."""


class UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a repeated key is an error instead of the last one winning."""


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


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such experiment file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not an experiment file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        values = yaml.load(text, UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
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
