"""The JSON Schema of the experiment file, made from the models, for editors to complete and check.

Draft 2020-12 (https://json-schema.org/draft/2020-12). What a backend decides hangs on the value of
`backend`, of the experiment or of one of its `methods`: its `model`, its `generation`, and which
parameters can be axes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..backends import Planner, Section
from ..backends.registry import OURS, planner_class
from ..backends.section import defaults
from .experiment import Experiment
from .method import DEFAULT_BACKEND, takes_own_keys
from .sections import dataset_type

DRAFT = "https://json-schema.org/draft/2020-12/schema"
OF_A_BACKEND = ("model", "dataset", "generation", "axes")
OF_A_METHOD = ("model", "generation")


def experiment_schema(names: Sequence[str] = tuple(OURS)) -> dict[str, Any]:
    """The schema as JSON, with the backends of these names.

    Raises:
        UserError: one of them cannot be imported.
    """
    whole = Experiment.model_json_schema()
    properties, definitions = whole["properties"], whole["$defs"]
    for name in OF_A_BACKEND:
        properties[name] = {"description": properties[name].get("description", "the backend's own")}
    # Null where there are only `methods`.
    properties["backend"] = {
        "description": properties["backend"]["description"],
        "default": DEFAULT_BACKEND,
        "enum": [*names, None],
    }
    properties["retries"] = {"anyOf": [properties["retries"], {"type": "integer", "minimum": 0}]}
    own = {name: _own(planner_class(name), definitions) for name in names}
    definitions["MethodSection"] = _method(own, definitions["MethodSection"])
    has_methods = {"required": ["methods"], "properties": {"methods": {"minProperties": 1}}}
    rules: list[dict[str, Any]] = []
    for name, parts in own.items():
        alone = {"allOf": [_is(name), {"not": has_methods}]}
        rules.append({"if": alone, "then": {"properties": parts}})
        beside = {"allOf": [_is(name), has_methods]}
        model = {"anyOf": [parts["model"], {"type": "null"}]}
        rules.append({"if": beside, "then": {"properties": {"model": model}}})
    datasets = {json.dumps(one["dataset"]): one["dataset"] for one in own.values()}
    in_common = {
        "dataset": {"anyOf": list(datasets.values())},
        "generation": {"type": "object"},
        "axes": {"type": "object", "additionalProperties": {"type": "array", "minItems": 1}},
    }
    rules.append({"if": has_methods, "then": {"properties": in_common}})
    # Nothing refers to it any more.
    for name in ("Section", "Generation", "Dataset"):
        definitions.pop(name, None)
    return {
        "$schema": DRAFT,
        "title": "sweep experiment",
        "description": "One sweep of generated videos: see docs/experiment.md.",
        "type": "object",
        "properties": properties,
        "required": ["name", "dataset"],
        "anyOf": [{"required": ["seeds"]}, {"required": ["jobs"]}],
        "additionalProperties": False,
        "allOf": rules,
        "$defs": definitions,
    }


def _is(name: str) -> dict[str, Any]:
    """The schema of what has that backend."""
    found: dict[str, Any] = {"properties": {"backend": {"const": name}}}
    return found if name == DEFAULT_BACKEND else {**found, "required": ["backend"]}


def _method(own: Mapping[str, Mapping[str, Any]], plain: dict[str, Any]) -> dict[str, Any]:
    """The schema of one of the `methods`.

    Args:
        own: the properties of each backend.
        plain: what is the same with all of them.
    """
    properties = {**plain["properties"], "model": {"description": "the backend's own"}}
    properties["backend"] = {**properties["backend"], "enum": list(own)}
    rules = [
        {"if": _is(name), "then": {"properties": {key: parts[key] for key in OF_A_METHOD}}}
        for name, parts in own.items()
    ]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "allOf": rules,
    }


def _own(cls: type[Planner[Any, Any]], definitions: dict[str, Any]) -> dict[str, Any]:
    """The properties of one backend; what they refer to is added to the definitions."""
    references = {}
    sections: dict[str, type[Section]] = {
        "model": cls.settings_type,
        "dataset": dataset_type(cls.axes),
        "generation": cls.generation_type,
    }
    for key, model in sections.items():
        schema = model.model_json_schema()
        definitions.update(schema.pop("$defs", {}))
        definitions[model.__name__] = schema
        references[key] = {"$ref": f"#/$defs/{model.__name__}"}
    axes = {
        leaf.name: {
            "type": "array",
            "minItems": 1,
            "items": {"$ref": f"#/$defs/{leaf.owner.__name__}/properties/{leaf.path[-1]}"},
        }
        for leaf in defaults(cls.generation_type).values()
    }
    takes_any = takes_own_keys(cls.generation_type)
    others = {"type": "array", "minItems": 1} if takes_any else False
    own: dict[str, Any] = {"type": "object", "properties": axes, "additionalProperties": others}
    return {**references, "axes": own}
