"""Sections of the experiment file: their keys, what each key loses, and which came later.

A key that is added once videos have been made must make none of them stale: it is declared with
`later=True`, and then enters parameters, fingerprint and sidecar only where it is not its default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache
from types import UnionType
from typing import Any, NamedTuple, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ..text.canonical import canonical_json
from ..video.reading import own_parameters


class Loss(str, Enum):
    """What a video loses where a setting is not its default."""

    EXACT = "exact"
    """Nothing: the same bits."""
    SAME_ACCURACY = "same accuracy"
    """Other last bits, no further from exact arithmetic than those of the default."""
    APPROXIMATE = "approximate"
    """Another video, meant to look like the default's."""
    ANOTHER_MODEL = "another model"
    """Another video: other weights, or another computation, make it."""


def key(
    default: Any = PydanticUndefined,
    *,
    loss: Loss | None = None,
    later: bool = False,
    **field: Any,
) -> Any:
    """A key of a section, declared as by pydantic's `Field`.

    Args:
        loss: what a value that is not the default loses; each key of a `model` section has one.
        later: it was added when there were videos: see the module's own words. Of a section
            within a section, all of its keys are then later ones.
        field: as `Field` has it: `default_factory`, bounds, `description`.
    """
    extra: dict[str, Any] = {}
    if loss is not None:
        extra["loss"] = loss.value
    if later:
        extra["later"] = True
    return Field(default, json_schema_extra=extra or None, **field)


def _kinds(annotation: Any) -> set[Any]:
    """What an annotation is made of: `float | None` of float and None."""
    parts = get_args(annotation)
    return set().union(*map(_kinds, parts)) if parts else {annotation}


class Section(BaseModel):
    """A section of the experiment file: unknown keys are errors, values never change."""

    # Defaults are validated too: a 5 that stands for 5.0 would have another fingerprint.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """`tea_cache: true` would be 1.0."""
        if isinstance(value, bool) and info.field_name in cls.model_fields:
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if kinds & {int, float} and not kinds & {bool, Any}:
                raise ValueError("must be a number")
        return value


OwnGenerationT = TypeVar("OwnGenerationT", bound="Generation")


class Generation(Section):
    """The `generation` section: a backend's own keys are fields of a subclass.

    All have a default. A key may be a section itself, though not one that can be nothing; its
    keys are parameters by their dotted names, such as `motion_guidance.kind`.
    """

    method: str | None = key(
        None,
        later=True,
        description="which of `methods` makes a video; one of several that is named here adds "
        "nothing to ids and paths",
    )

    def complete(self) -> dict[str, Any]:
        """Every parameter as JSON has it, in the schema's order, by its dotted name."""
        return {leaf.name: leaf.value for leaf in leaves(self)}

    def to_parameters(self) -> dict[str, Any]:
        """What enters `Job.parameters`, fingerprint and sidecar: every parameter, without the
        later ones that are their default."""
        own = type(self)
        return {
            leaf.name: leaf.value
            for leaf in leaves(self)
            if not (leaf.is_later and is_default(leaf, own))
        }

    @classmethod
    def from_parameters(cls: type[OwnGenerationT], parameters: Mapping[str, Any]) -> OwnGenerationT:
        """The section of which these are the parameters, as `Job.parameters` or `complete` have
        them; what is not there is its default.

        Raises:
            pydantic.ValidationError: they are none of this backend's.
        """
        known = defaults(cls)
        values: dict[str, Any] = {}
        for name, value in own_parameters(parameters).items():
            *sections, last = known[name].path if name in known else (name,)
            inside = values
            for section in sections:
                inside = inside.setdefault(section, {})
            inside[last] = value
        return cls.model_validate(values)

    def parameter_names(self) -> list[str]:
        """Every parameter there is, a person's own included, where a backend takes such."""
        return list(self.complete())


class Leaf(NamedTuple):
    """A key that is no section itself, with its value as JSON has it."""

    path: tuple[str, ...]
    value: Any
    owner: type[Section]
    """The section that has the key."""
    is_later: bool
    loss: Loss | None

    @property
    def name(self) -> str:
        return ".".join(self.path)


def leaves(section: Section) -> Iterator[Leaf]:
    """The keys of a section and of the sections in it, in the schema's order; a person's own
    come last."""
    return _leaves(type(section), section.model_dump(mode="json"), (), False, None)


def _leaves(
    schema: type[Section],
    values: Mapping[str, Any],
    above: tuple[str, ...],
    is_later: bool,
    loss: Loss | None,
) -> Iterator[Leaf]:
    for name, value in values.items():
        field = schema.model_fields.get(name)
        extra = field.json_schema_extra if field is not None else None
        own = extra if isinstance(extra, dict) else {}
        later = is_later or bool(own.get("later"))
        lost = Loss(own["loss"]) if "loss" in own else loss
        inner = None if field is None else _inner(field)
        if inner is None:
            yield Leaf((*above, name), value, schema, later, lost)
        else:
            yield from _leaves(inner, value, (*above, name), later, lost)


def _inner(field: FieldInfo) -> type[Section] | None:
    """The section that a key is, or None where it is a value.

    Raises:
        TypeError: it is a section or something else, so that its keys would come and go.
    """
    of = field.annotation
    if _is_section(of):
        return of
    if get_origin(of) in (Union, UnionType) and any(map(_is_section, get_args(of))):
        raise TypeError(f"{of}: give the section a key that says whether it is in use")
    return None


def _is_section(annotation: Any) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


@lru_cache(maxsize=64)
def defaults(schema: type[Section]) -> Mapping[str, Leaf]:
    """The keys of a section where nothing is set, by their dotted names."""
    try:
        section = schema()
    except ValidationError:
        # One of them must be set; the others have their defaults all the same.
        section = schema.model_construct()
    return {leaf.name: leaf for leaf in leaves(section)}


def is_default(leaf: Leaf, schema: type[Section]) -> bool:
    """Whether a key's value is the one that it has where nothing is set."""
    default = defaults(schema).get(leaf.name)
    return default is not None and canonical_json(default.value) == canonical_json(leaf.value)
