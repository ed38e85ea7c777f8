"""An experiment from its file: YAML, overrides and what this machine says, checked as a whole."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, create_model

from ..backends import Generation, Section
from ..backends.registry import planner_class
from ..job.axes import Axes
from ..machine.machine_file import MachineFile, read_machine
from ..text.errors import UserError
from ..text.yaml_file import read_yaml
from .experiment import Experiment, is_planned
from .grid import checked_axes, parameter_sets_of
from .method import (
    DEFAULT_BACKEND,
    former_methods,
    has_plain_method,
    methods_of,
    read_methods,
    with_methods,
)
from .mistakes import describe
from .overrides import apply_override, merged_overrides
from .rules import check_rules
from .sections import Placement, dataset_type


@dataclass(frozen=True)
class ExperimentFile:
    """An experiment file as it was read: experiments with any overrides are made of it."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> ExperimentFile:
        """Read an experiment file, a person's or one that plan wrote.

        Raises:
            UserError: no such file, or no YAML.
        """
        return cls(path, read_planned_yaml(path) if is_planned(path) else read_yaml(path))

    def experiment(self, overrides: Sequence[str] = ()) -> Experiment:
        """The checked experiment.

        Args:
            overrides: `key.path=value` each, the value in YAML. They come after the file's own
                `overrides`, and win.

        Raises:
            UserError: an unknown key, a wrong value; with the place.
        """
        values = self._with(overrides)
        try:
            experiment = _validated(values)
            experiment._file = self.path.absolute()
            experiment._root = project_root(experiment._file, experiment.project)
            experiment = _with_grid(experiment)
        except UserError as error:
            raise UserError(f"{self.path}: {error.lines[0]}", *error.lines[1:]) from None
        machine = read_machine(experiment.root)
        machine.refuse(overrides)
        return on_machine(experiment, machine)

    def _with(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The values with the file's own overrides and these."""
        values = deepcopy(dict(self.values))
        kept = values.get("overrides") or []
        if not isinstance(kept, list) or not all(isinstance(item, str) for item in kept):
            raise UserError(f"{self.path}: overrides: must be a list of key=value texts")
        kept = merged_overrides(kept, overrides)
        for override in kept:
            apply_override(values, override)
        if kept:
            values["overrides"] = kept
        return former_methods(values)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file; see `ExperimentFile`."""
    return ExperimentFile.read(path).experiment(overrides)


def _validated(values: dict[str, Any]) -> Experiment:
    """The experiment of these values, each section checked by itself."""
    named = read_methods(values)
    schema = _schema(values)
    try:
        experiment: Experiment = schema.model_validate({**values, "methods": named})
    except ValidationError as error:
        raise UserError(*describe(error, schema)) from None
    return experiment


def _with_grid(experiment: Experiment) -> Experiment:
    """The experiment with its methods and its axes, checked against each other."""
    model = experiment.model
    plain = None if model is None else (str(experiment.backend), model)
    experiment._methods = methods_of(
        plain, experiment.methods, experiment.generation, experiment.root
    )
    refuse_two_sources(experiment)
    own = experiment._generations
    for kind in ("include", "exclude"):
        names = experiment.parameter_names
        check_rules(kind, getattr(experiment, kind), experiment.input_axes.names, names)
    axes = with_methods(experiment.axes, own)
    axes = checked_axes(own, axes, experiment.input_axes.names)
    experiment = experiment.model_copy(update={"axes": axes})
    experiment._parameter_sets = parameter_sets_of(own, axes)
    return experiment


def _schema(values: Mapping[str, Any]) -> type[Experiment]:
    """The schema of an experiment with these values: backends have their own sections.

    Raises:
        UserError: there is no such backend.
    """
    has_plain = has_plain_method(values)
    if has_plain:
        cls = planner_class(values.get("backend") or DEFAULT_BACKEND)
    else:
        first = next(iter(values["methods"].values()))
        cls = planner_class(first.get("backend", DEFAULT_BACKEND))
    # Methods of other axes than the first one's are refused later.
    own = (cls.settings_type, cls.generation_type) if has_plain else None
    return _schema_of(cls.axes, own, has_methods=bool(values.get("methods")))


@functools.cache
def _schema_of(
    axes: Axes, own: tuple[type[Section], type[Generation]] | None, *, has_methods: bool
) -> type[Experiment]:
    """The schema of experiments with these input axes; building it takes longer than reading
    the file.

    Args:
        own: the sections `model` and `generation` of the plain method, None where there is none.
    """
    fields: dict[str, Any] = {"dataset": (dataset_type(axes), Field())}
    if own is None:
        fields |= {"backend": (None, None), "model": (None, None)}
    else:
        settings, generation = own
        model = Field(default_factory=settings, description="the backend's own")
        fields |= {"backend": (str, DEFAULT_BACKEND), "model": (settings, model)}
        fields["generation"] = (generation, Field(default_factory=generation))
    if has_methods:
        fields["generation"] = (dict[str, Any], Field(default_factory=dict))
    return create_model("Experiment", __base__=Experiment, **fields)


def on_machine(experiment: Experiment, machine: MachineFile) -> Experiment:
    """The experiment as it holds on a machine. Its YAML stays as it was."""
    values: dict[str, Any] = {}
    if machine.results is not None:
        values["results"] = str(machine.path(machine.results))
    if machine.placement:
        placement = {**experiment.placement.model_dump(), **machine.placement}
        try:
            values["placement"] = Placement.model_validate(placement)
        except ValidationError as error:
            first, *more = describe(error, Placement)
            raise UserError(f"{machine.file}: {first}", *more) from None
    changed = experiment.model_copy(update=values)
    changed._machine = machine
    changed._own = experiment.model_dump(mode="json", include=set(values))
    return changed


def refuse_two_sources(experiment: Experiment) -> None:
    """Raise UserError where there is neither a grid nor a list of jobs, or where keys of both are
    given."""
    texts = experiment.input_axes.texts
    grid: dict[str, object] = {"seeds": experiment.seeds, "axes": experiment.axes}
    grid |= {f"dataset.{axis.key}": experiment.dataset.text_files(axis) for axis in texts}
    optional = {"axes", *(f"dataset.{axis.key}" for axis in texts if axis.is_optional)}
    for key, value in grid.items():
        if experiment.jobs is not None and value:
            raise UserError(f"{key}: a list of jobs (`jobs`) has its own; take one of the two out")
        if experiment.jobs is None and not value and key not in optional:
            raise UserError(f"{key}: this key is missing, or has nothing in it")


def project_root(file: Path, project: str | None) -> Path:
    """Where relative paths start: the folder that holds `experiments/`, else the file's own."""
    folder = file.resolve().parent
    if project is not None:
        return (folder / project).resolve()
    return folder.parent if folder.name == "experiments" else folder


def root_of(path: Path) -> Path:
    """The project root of an experiment file, whatever else is in it.

    Raises:
        UserError: it cannot be read.
    """
    project = read_yaml(path).get("project")
    return project_root(path.absolute(), project if isinstance(project, str) else None)


def read_planned_yaml(path: Path) -> dict[str, Any]:
    """The experiment as `plan` wrote it. Where that file is damaged, the error says how to restore
    it."""
    remedy = "`sweep plan FILE` restores it from the experiment file"
    try:
        values = read_yaml(path)
    except UserError as error:
        raise UserError(*error.lines, remedy) from None
    # It has every key, and this one comes last.
    if "overrides" not in values:
        raise UserError(f"{path}: is damaged: cut short; {remedy}")
    return values
