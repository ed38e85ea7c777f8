"""The methods of an experiment: the ways to make its videos, each a backend with its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from ..backends import Generation, Planner, Section
from ..backends.registry import planner_class
from ..backends.section import defaults
from ..backends.video_parameters import STEPS
from ..job import METHOD
from ..job.axes import Axes
from ..job.shape import Shape
from ..text.errors import UserError
from .grid import GenerationByMethod, refuse_other_method
from .mistakes import describe, shown

DEFAULT_BACKEND = "wan"


class MethodSection(Section):
    """One of the `methods`. `model` is the backend's own class; of `generation` there is what a
    person has written."""

    backend: str = Field(DEFAULT_BACKEND, description="what turns a job into a video")
    model: SerializeAsAny[Section] = Field(description="the backend's own")
    generation: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters of this method alone; they come before the common `generation`",
    )

    @field_validator("generation")
    @classmethod
    def _own(cls, value: dict[str, Any]) -> dict[str, Any]:
        if METHOD in value:
            raise ValueError(f"{METHOD} is none of its parameters: it has its name")
        return value


@dataclass(frozen=True)
class Method:
    """One way to make an experiment's videos.

    Args:
        name: None for the one that `backend` and `model` are, and that adds nothing to ids.
        model: the backend's own class, as `generation` is.
        root: the project root, where relative paths of `model` start.
    """

    name: str | None
    backend: str
    model: Section
    generation: Generation
    root: Path

    @property
    def key(self) -> str:
        """What the experiment's keys of it begin with."""
        return "" if self.name is None else f"methods.{self.name}."

    @property
    def axes(self) -> Axes:
        return planner_class(self.backend).axes

    @property
    def unsaid(self) -> dict[str, Any]:
        """The parameters that its jobs have without saying so: see `Generation.to_parameters`."""
        every = defaults(type(self.generation)).values()
        return {leaf.name: leaf.value for leaf in every if leaf.is_later}

    @property
    def steps_are_alike(self) -> bool | None:
        """See `Planner`; of a backend that counts no denoising steps, nobody can tell by them."""
        if STEPS not in self.generation.complete():
            return False
        return self.planner().steps_are_alike()

    def planner(self) -> Planner[Any, Any]:
        return planner_class(self.backend)(self.model, self.root)

    def shape(self, parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> Shape:
        """What the video of a job of this method must be; see `Planner`."""
        return self._shaper.shape(parameters, facts)

    @cached_property
    def _shaper(self) -> Planner[Any, Any]:
        """A planner for what no file of the model decides: one serves every job."""
        return self.planner()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Within this, errors of its backend name the key as the experiment has it.

        Raises:
            UserError: what was raised.
        """
        try:
            yield
        except UserError as error:
            if self.name is None:
                raise
            raise UserError(self.say(error.lines[0]), *error.lines[1:]) from error

    def say(self, line: str) -> str:
        """A line that its backend says, with the key as the experiment has it."""
        is_key = line.startswith(("model.", "generation."))
        return f"{self.key}{line}" if is_key or self.name is None else f"{self.key[:-1]}: {line}"


def read_methods(values: Mapping[str, Any]) -> dict[str, MethodSection]:
    """The named methods of an experiment's values.

    Raises:
        UserError: one of them is wrong; with its key.
    """
    given = values.get("methods") or {}
    if not isinstance(given, dict):
        raise UserError(f"methods: {shown(given)}: must have methods by their names")
    found = {}
    for name, own in given.items():
        if not isinstance(name, str) or not name:
            raise UserError(f"methods: {name!r}: a method's name must be text (quote it)")
        if not isinstance(own, dict):
            raise UserError(f"methods.{name}: {shown(own)}: must have backend and model")
        with _placed(f"methods.{name}."):
            backend = own.get("backend", DEFAULT_BACKEND)
            if not isinstance(backend, str):
                raise UserError(f"backend: {shown(backend)}: must be text")
            schema = planner_class(backend).settings_type
            with _placed("model.", schema):
                model = schema.model_validate(own.get("model") or {})
            with _placed("", MethodSection):
                found[name] = MethodSection.model_validate({**own, "model": model})
    return found


@contextmanager
def _placed(prefix: str, schema: type[Section] | None = None) -> Iterator[None]:
    """Within this, what is wrong is said with its whole key.

    Args:
        schema: of what is validated.
    """
    try:
        yield
    except ValidationError as error:
        assert schema is not None
        first, *more = describe(error, schema)
        raise UserError(f"{prefix}{first}", *more) from None
    except UserError as error:
        raise UserError(f"{prefix}{error.lines[0]}", *error.lines[1:]) from None


def has_plain_method(values: Mapping[str, Any]) -> bool:
    """Whether `backend` and `model` are a method of an experiment's values."""
    given = (values.get("backend"), values.get("model"))
    return not values.get("methods") or given != (None, None)


def methods_of(
    plain: tuple[str, Section] | None,
    named: Mapping[str, MethodSection],
    generation: Any,
    root: Path,
) -> dict[str | None, Method]:
    """The methods of an experiment by their names, the one without a name first.

    Args:
        plain: `backend` and `model`, where they are a method.
        generation: the backend's own class; where methods have names, what is written.
        root: the project root.

    Raises:
        UserError: the parameters of one are wrong, or they have not all the same input axes.
    """
    models: dict[str | None, tuple[str, Section]] = {} if plain is None else {None: plain}
    models |= {name: (own.backend, own.model) for name, own in named.items()}
    parameters: dict[str | None, Generation] = {None: generation}
    if named:
        parameters = generations(
            generation,
            [
                (name, backend, named[name].generation if name is not None else {})
                for name, (backend, _) in models.items()
            ],
        )
    methods = {
        name: Method(name, backend, model, parameters[name], root)
        for name, (backend, model) in models.items()
    }
    first = next(iter(methods.values()))
    for method in methods.values():
        if method.axes != first.axes:
            raise UserError(
                f"{method.key}backend: {method.backend} takes other inputs than {first.backend}; "
                "they cannot share a grid"
            )
    usual = first.generation.method
    if usual is not None:
        if named and plain is not None:
            raise UserError(
                f"generation.{METHOD}: {usual}: take it out: where `backend` and `model` stand "
                "beside `methods`, theirs is the method that adds nothing to paths"
            )
        refuse_other_method(f"generation.{METHOD}", usual, parameters)
    return methods


def with_methods(
    axes: Mapping[str, list[Any]], methods: GenerationByMethod
) -> dict[str, list[Any]]:
    """The axes, the one of several methods among them: where it is not given, the one that
    `generation` names, else all."""
    if list(methods) == [None] or METHOD in axes:
        return dict(axes)
    usual = next(iter(methods.values())).method
    return {METHOD: list(methods) if usual is None else [usual], **axes}


def generations(
    common: Mapping[str, Any], methods: Sequence[tuple[str | None, str, Mapping[str, Any]]]
) -> dict[str | None, Generation]:
    """The parameters of each of several methods.

    A parameter of the common `generation` is for the methods whose backend has it. One that is in
    no backend's schema is for those that take a person's own.

    Args:
        methods: of each its name, its backend and its own parameters.

    Raises:
        UserError: a parameter that none takes, or a value that a schema refuses.
    """
    schemas = {name: planner_class(backend).generation_type for name, backend, _ in methods}
    declared = {key for schema in schemas.values() for key in schema.model_fields}
    takers = [name for name, schema in schemas.items() if takes_own_keys(schema)]
    found: dict[str | None, Generation] = {}
    for name, _, own in methods:
        schema = schemas[name]
        shared = {
            key: value
            for key, value in common.items()
            # Where nobody takes it, everybody says so.
            if key in schema.model_fields
            or (key not in declared and (name in takers or not takers))
        }
        try:
            found[name] = schema.model_validate(merged(shared, own))
        except ValidationError as error:
            first, *more = describe(error, schema)
            key = str(error.errors()[0]["loc"][0]) if error.errors()[0]["loc"] else ""
            where = "" if name is None or key not in own else f"methods.{name}."
            raise UserError(f"{where}generation.{first}", *more) from None
    return found


def takes_own_keys(schema: type[Generation]) -> bool:
    """Whether a backend's `generation` takes keys of a person's own."""
    return schema.model_config.get("extra") == "allow"


def merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Both, section by section; where both have a value, `own` has the say."""
    result = dict(common)
    for key, value in own.items():
        former = result.get(key)
        both = isinstance(former, dict) and isinstance(value, dict)
        result[key] = merged(former, value) if both else value  # type: ignore[arg-type]
    return result


def former_methods(values: dict[str, Any]) -> dict[str, Any]:
    """An experiment's values with the `model.methods` that scripts once had as `methods`."""
    model = values.get("model")
    if values.get("backend") != "script" or not isinstance(model, dict) or "methods" not in model:
        return values
    model = dict(model)
    named = model.pop("methods")
    if not named:
        return {**values, "model": model}
    if not isinstance(named, dict):
        return values
    methods = {name: {"backend": "script", "model": own} for name, own in named.items()}
    further = values.get("methods") or {}
    rest = {key: value for key, value in values.items() if key not in ("backend", "model")}
    return {**rest, "methods": merged(methods, further)}
