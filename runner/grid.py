"""The parameter axes of a grid: any parameter of a backend, with its values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from pydantic import ValidationError

from .backends import Generation
from .canonical import canonical_json
from .errors import UserError
from .naming import path_suffix
from .reading import Reading, difference


@dataclass(frozen=True)
class Setting:
    """The parameters of some jobs.

    Args:
        parameters: as in `Job.parameters`.
        differing: those that an axis sets differently from `generation`: part of ids and paths.
        complete: every parameter, those too that are later ones and their default.
    """

    parameters: dict[str, Any]
    differing: dict[str, Any]
    complete: dict[str, Any]

    @property
    def suffix(self) -> str:
        """What it adds to the names of videos; "" where nothing differs."""
        return path_suffix(self.differing)

    def read_as(self, reading: Reading, usual: Reading | None = None) -> Setting:
        """This setting for clips that are read so.

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


def checked_axes(
    generation: Generation, axes: Mapping[str, Sequence[Any]], others: Sequence[str]
) -> dict[str, list[Any]]:
    """The axes with their values as the schema has them (5 as 5.0).

    Args:
        others: the axes that every grid of this backend has.

    Raises:
        UserError: a parameter that there is not, a value that the schema refuses, or the same
            value twice.
    """
    names = generation.parameter_names()
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
            place = f"axes.{name}.{number}"
            found = with_values(generation, {name: value}, place).complete()[name]
            if canonical_json(found) in own:
                raise UserError(f"{place}: {value!r} is there twice; name each value once")
            own[canonical_json(found)] = found
        checked[name] = list(own.values())
    return checked


def settings_of(generation: Generation, axes: Mapping[str, Sequence[Any]]) -> tuple[Setting, ...]:
    """A setting for each combination of the axes' values, the last axis changing fastest.

    Raises:
        UserError: values that the schema refuses together.
    """
    return tuple(
        setting_of(generation, dict(zip(axes, values, strict=True)), "axes")
        for values in product(*axes.values())
    )


def setting_of(generation: Generation, values: Mapping[str, Any], place: str) -> Setting:
    """The setting in which these parameters take the place of the experiment's.

    Args:
        place: where the values stand, for an error.
    """
    base = generation.complete()
    found = with_values(generation, values, place)
    complete = found.complete()
    differing = {
        name: complete[name]
        for name in values
        if canonical_json(complete[name]) != canonical_json(base[name])
    }
    return Setting(found.to_parameters(), differing, complete)


def with_values(generation: Generation, values: Mapping[str, Any], place: str) -> Generation:
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
        raise UserError(f"{place}: {said}: {message[:1].lower()}{message[1:]}") from None


def unknown_parameter(place: str, name: str, valid: Sequence[str]) -> str:
    """The message for a parameter that a backend does not have."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{place}: no parameter is called so{hint} (valid: {', '.join(sorted(valid))})"


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
