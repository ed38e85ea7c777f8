"""The parameter axes of a grid: any parameter of a backend, with its values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from pydantic import ValidationError

from ..backends import Generation
from ..job import METHOD
from ..job.naming import path_suffix
from ..text.canonical import canonical_json
from ..text.errors import UserError
from ..video.reading import Reading, difference


@dataclass(frozen=True)
class ParameterSet:
    """The parameters of some jobs.

    Args:
        parameters: as in `Job.parameters`.
        differing: those that an axis sets differently from `generation`: part of ids and paths.
        complete: every parameter, those too that are later ones and their default; one that
            only other methods have is None.
    """

    parameters: dict[str, Any]
    differing: dict[str, Any]
    complete: dict[str, Any]

    @property
    def suffix(self) -> str:
        """What it adds to the names of videos; "" where nothing differs."""
        return path_suffix(self.differing)

    def read_as(self, reading: Reading, usual: Reading | None = None) -> ParameterSet:
        """These parameters for clips that are read in this way.

        Args:
            usual: how the experiment reads the clip, where a job differs from it.
        """
        own = reading.parameters()
        differing = {} if usual is None else difference(reading, usual)
        return replace(
            self,
            parameters={**self.parameters, **own},
            differing={**self.differing, **differing},
        )


GenerationByMethod = Mapping[str | None, Generation]
"""The methods of an experiment by their names, each with its parameters; None is the name of the
one that `backend` and `model` are."""


def checked_axes(
    methods: GenerationByMethod, axes: Mapping[str, Sequence[Any]], others: Sequence[str]
) -> dict[str, list[Any]]:
    """The axes with their values as the schema has them (5 as 5.0).

    Args:
        others: the axes that every grid of these methods has.

    Raises:
        UserError: a parameter that no method has, a value that the schema of one refuses, or the
            same value twice.
    """
    names = list(dict.fromkeys(n for own in methods.values() for n in own.parameter_names()))
    checked: dict[str, list[Any]] = {}
    for name, values in axes.items():
        if name not in names:
            raise UserError(unknown_parameter(f"axes.{name}", name, names))
        if name in others:
            raise UserError(f"axes.{name}: every grid has that axis; a parameter is called so too")
        if not values:
            raise UserError(f"axes.{name}: must have at least one value")
        own: dict[str, Any] = {}
        for number, value in enumerate(values):
            where = f"axes.{name}.{number}"
            if name == METHOD:
                refuse_other_method(where, value, methods)
            for generation in knowing(methods, name):
                found = with_values(generation, {name: value}, where).complete()[name]
            if canonical_json(found) in own:
                raise UserError(f"{where}: {value!r} is there twice; name each value once")
            own[canonical_json(found)] = found
        checked[name] = list(own.values())
    return checked


def knowing(methods: GenerationByMethod, parameter: str) -> list[Generation]:
    """The methods that have a parameter."""
    return [own for own in methods.values() if parameter in own.parameter_names()]


def refuse_other_method(where: str, name: Any, methods: GenerationByMethod) -> None:
    """Raise UserError where no method is called so."""
    if isinstance(name, (str, type(None))) and name in methods:
        return
    valid = ", ".join("null" if one is None else one for one in methods)
    if list(methods) == [None]:
        raise UserError(f"{where}: {shown(name)}: there are no methods; name them in `methods`")
    raise UserError(f"{where}: no method is called {shown(name)} (valid: {valid})")


def parameter_sets_of(
    methods: GenerationByMethod, axes: Mapping[str, Sequence[Any]]
) -> tuple[ParameterSet, ...]:
    """The parameters of each combination of the axes' values, the last axis changing fastest.

    An axis over a parameter that a method does not have multiplies the other methods' videos.

    Raises:
        UserError: values that the schema refuses together.
    """
    found: dict[str, ParameterSet] = {}
    for values in product(*axes.values()):
        given = dict(zip(axes, values, strict=True))
        names = set(of_method(methods, given).parameter_names())
        own = {parameter: value for parameter, value in given.items() if parameter in names}
        key = canonical_json(own)
        if key not in found:
            found[key] = parameter_set_of(methods, own, "axes")
    return tuple(found.values())


def of_method(methods: GenerationByMethod, values: Mapping[str, Any]) -> Generation:
    """The parameters of the method that `values` name; of several they name one."""
    return methods[values[METHOD]] if METHOD in values else next(iter(methods.values()))


def parameter_set_of(
    methods: GenerationByMethod, values: Mapping[str, Any], where: str
) -> ParameterSet:
    """A method's parameters, with these in the place of its own.

    Args:
        where: where the values stand, for an error.
    """
    generation = of_method(methods, values)
    base = generation.complete()
    found = with_values(generation, values, where)
    complete = found.complete()
    differing = {
        name: complete[name]
        for name in values
        if canonical_json(complete[name]) != canonical_json(base[name])
    }
    # What another method has, this one has not: no rule for it fits.
    others = (name for own in methods.values() for name in own.parameter_names())
    return ParameterSet(found.to_parameters(), differing, {**dict.fromkeys(others), **complete})


def with_values(generation: Generation, values: Mapping[str, Any], where: str) -> Generation:
    """A generation with those of `values` in the place of its own, checked by the schema.

    Args:
        values: parameters by their dotted names.

    Raises:
        UserError: the schema refuses a value.
    """
    try:
        return generation.from_parameters({**generation.complete(), **values})
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        message = detail["msg"].removeprefix("Value error, ")
        said = ", ".join(f"{name}={shown(value)}" for name, value in values.items())
        raise UserError(f"{where}: {said}: {message[:1].lower()}{message[1:]}") from None


def unknown_parameter(where: str, name: str, valid: Sequence[str]) -> str:
    """The message for a parameter that a backend does not have."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{where}: no parameter is called so{hint} (valid: {', '.join(sorted(valid))})"


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
