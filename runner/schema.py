"""The JSON Schema of the experiment file, made from the models, for editors to complete and check.

Draft 2020-12 (https://json-schema.org/draft/2020-12). What a backend decides hangs on the value of
`backend`: its `model`, its `generation`, and which parameters can be axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .backends import Planner, Section
from .backends.registry import OURS, planner_class
from .backends.section import defaults
from .experiment import Experiment
from .sections import dataset_type

DRAFT = "https://json-schema.org/draft/2020-12/schema"
OF_A_BACKEND = ("model", "dataset", "generation", "axes")
DEFAULT_BACKEND = "wan"


def experiment_schema(names: Sequence[str] = tuple(OURS)) -> dict[str, Any]:
    """The schema as JSON, with the backends of these names.

    Raises:
        UserError: one of them cannot be imported.
    """
    whole = Experiment.model_json_schema()
    properties, definitions = whole["properties"], whole["$defs"]
    for name in OF_A_BACKEND:
        properties[name] = {"description": properties[name].get("description", "the backend's own")}
    properties["backend"] |= {"enum": list(names)}
    properties["retries"] = {"anyOf": [properties["retries"], {"type": "integer", "minimum": 0}]}
    rules = []
    for name in names:
        is_backend: dict[str, Any] = {"properties": {"backend": {"const": name}}}
        if name != DEFAULT_BACKEND:
            is_backend["required"] = ["backend"]
        rules.append(
            {"if": is_backend, "then": {"properties": _own(planner_class(name), definitions)}}
        )
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
    name = cls.generation_type.__name__
    axes = {
        leaf.name: {
            "type": "array",
            "minItems": 1,
            "items": {"$ref": f"#/$defs/{leaf.owner.__name__}/properties/{leaf.path[-1]}"},
        }
        for leaf in defaults(cls.generation_type).values()
    }
    takes_any = takes_own_keys(definitions[name])
    others = {"type": "array", "minItems": 1} if takes_any else False
    own: dict[str, Any] = {"type": "object", "properties": axes, "additionalProperties": others}
    return {**references, "axes": own}


def takes_own_keys(generation: dict[str, Any]) -> bool:
    """Whether a backend's `generation` takes keys of a person's own."""
    return generation.get("additionalProperties", True) is not False
