"""The experiment file: YAML and command-line overrides in, a checked `Experiment` out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from .axes import Axes
from .backends import Generation, Section
from .backends.registry import planner_class
from .errors import UserError
from .failures import Policy, failures_allowed
from .grid import Setting, checked_axes, refuse_other_method, setting_of, settings_of
from .job import METHOD, RUN_NAME
from .machine_file import Machine, read_machine
from .method import (
    DEFAULT_BACKEND,
    Method,
    MethodSection,
    former_methods,
    has_plain_method,
    methods_of,
    read_methods,
    with_methods,
)
from .mistakes import describe, shown
from .overrides import apply_override, merged_overrides
from .reading import Reading
from .rules import Cut, check_rules
from .run_folder import RunFolder
from .sections import (
    Dataset,
    Limits,
    Output,
    Placement,
    Retries,
    clip_name,
    dataset_type,
    refuse_repeats,
)
from .yaml_file import read_yaml, schema_line


class Experiment(Section):
    """One experiment as resolved: every key has its value, overrides included.

    `model` and `generation` are the backend's own classes; where there are `methods`, `generation`
    is what they have in common, as it was written, and `backend` and `model` are None where they
    are no method. Paths stay as written, relative to `root`.
    """

    name: str = Field(pattern=RUN_NAME, description="run folder and tmux prefix")
    backend: str | None = Field(DEFAULT_BACKEND, description="what turns a job into a video")
    model: Section | None
    methods: dict[str, SerializeAsAny[MethodSection]] = Field(
        default_factory=dict,
        description="name -> backend, model and generation: several methods in one grid, of which "
        "`method` is an axis. Beside them, `backend` and `model` are one more, without a name",
    )
    dataset: Dataset
    seeds: list[int] = Field(
        default_factory=list, description="one video of each; needed unless `jobs` is given"
    )
    jobs: str | None = Field(
        None,
        description="a list of jobs in the place of a grid: CSV, TSV or JSONL with category, "
        "video, prompt, seed and parameters",
    )
    generation: Any
    axes: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="parameter -> its values: each multiplies the grid, {cfg_scale: [3, 5]}",
    )
    include: list[dict[str, Any]] = Field(
        default_factory=list,
        description="rules: only what one of them fits is made, [{category: a, seed: [42, 142]}]",
    )
    exclude: list[dict[str, Any]] = Field(
        default_factory=list, description="rules: what one of them fits is not made"
    )
    placement: Placement = Placement()
    output: Output = Output()
    retries: Retries = Retries()
    limits: Limits = Limits()
    results: str = Field("results", description="where run folders go")
    reuse: bool = Field(
        True, description="link a video that a run folder of `results` has, in place of making it"
    )
    project: str | None = Field(
        None, description="where relative paths start, seen from the experiment file's folder"
    )
    overrides: list[str] = Field(
        default_factory=list, description="written by plan: the overrides that made this file"
    )

    _file: Path = PrivateAttr()
    _root: Path = PrivateAttr()
    _machine: Machine = PrivateAttr(default_factory=Machine)
    _own: dict[str, Any] = PrivateAttr(default_factory=dict)
    _methods: dict[str | None, Method] = PrivateAttr()
    _settings: tuple[Setting, ...] = PrivateAttr()
    _read_settings: dict[Reading, tuple[Setting, ...]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _texts(cls, values: Any) -> Any:
        refuse_unwritable(values)
        return values

    @field_validator("name", mode="before")
    @classmethod
    def _name(cls, value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("must be text: letters, digits, _ and - (quote a number)")  # noqa: TRY004
        return value

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, value: object) -> object:
        if not isinstance(value, list) or not all(
            type(seed) is int and 0 <= seed < 2**63 for seed in value
        ):
            raise ValueError("must be a list of whole numbers from 0, such as [42, 142]")
        refuse_repeats(value)
        return value

    @field_validator("axes", mode="before")
    @classmethod
    def _axes(cls, value: object) -> object:
        """Names and values are the backend's to check."""
        if isinstance(value, dict):
            value = dotted_axes(value)
            for name, values in value.items():
                if not isinstance(values, list):
                    raise ValueError(f"{name} must have a list of values such as [0.7, 0.8]")  # noqa: TRY004
        return value

    @field_validator("retries", mode="before")
    @classmethod
    def _retries(cls, value: object) -> object:
        """`retries: 2` for short."""
        return {"failures": value} if type(value) is int else value

    @property
    def policy(self) -> Policy:
        """What failures lead to."""
        allowed = failures_allowed(self.limits.max_failures)
        return Policy(
            failures=self.retries.failures,
            deaths=self.retries.deaths,
            backoff_seconds=self.retries.backoff_seconds,
            gpu_errors=self.limits.gpu_errors,
            max_failures=allowed,
        )

    @property
    def file(self) -> Path:
        """The file it was read from."""
        return self._file

    @property
    def root(self) -> Path:
        """The project root: where relative paths start."""
        return self._root

    @property
    def machine(self) -> Machine:
        """What is particular to this machine."""
        return self._machine

    @property
    def data(self) -> Path:
        """Where the data set's relative paths start: the project root, or as the machine has it."""
        data = self.machine.data
        return self._root if data is None else self.machine.path(data)

    @property
    def run_folder(self) -> RunFolder:
        if is_planned(self._file):
            return RunFolder(self._file.parent)
        return RunFolder(self._root / self.results / self.name)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The parameters of its jobs: one for each combination of the axes' values."""
        return self._settings

    def reading_of(self, category: str, video: str) -> Reading:
        """How a clip is read."""
        usual = self.dataset.reading
        own = self.dataset.own_reading(clip_name(f"{category}/{video}"))
        return Reading(
            usual.start if own.start is None else own.start,
            usual.fit if own.fit is None else own.fit,
        )

    def settings_of(self, category: str, video: str) -> tuple[Setting, ...]:
        """The parameters of a clip's jobs; clips that are read alike share them."""
        reading = self.reading_of(category, video)
        if reading == Reading():
            return self.settings
        if reading not in self._read_settings:
            self._read_settings[reading] = tuple(s.read_as(reading) for s in self.settings)
        return self._read_settings[reading]

    @property
    def cut(self) -> Cut:
        """What `include` and `exclude` leave of the grid."""
        return Cut.of(self.include, self.exclude)

    @property
    def every_method(self) -> tuple[Method, ...]:
        """The ways to make its videos; the one of `backend` and `model` comes first."""
        return tuple(self._methods.values())

    def method_of(self, parameters: Mapping[str, Any]) -> Method:
        """The method that makes the jobs of these parameters, which are as in `Series`.

        Raises:
            UserError: they are of a method that there is not.
        """
        name = parameters.get(METHOD)
        if name not in self._methods:
            refuse_other_method(METHOD, name, self._generations)
        return self._methods[name]

    @property
    def parameter_names(self) -> list[str]:
        """The parameters of all its methods."""
        every = (method.generation.parameter_names() for method in self.every_method)
        return list(dict.fromkeys(name for own in every for name in own))

    @property
    def usual_method(self) -> str | None:
        """The name of the method that adds nothing to ids and paths; None where all others do."""
        name: str | None = self.every_method[0].generation.method
        return name

    def setting_of(self, values: Mapping[str, Any], place: str) -> Setting:
        """The setting of a job that is listed with these parameters.

        Args:
            place: where they stand, for an error.

        Raises:
            UserError: they are of no method, or the method's schema refuses one.
        """
        if len(self._methods) > 1 or None not in self._methods:
            name = values.get(METHOD, self.usual_method)
            refuse_other_method(f"{place}: {METHOD}", name, self._generations)
            values = {**values, METHOD: name}
        return setting_of(self._generations, values, place)

    @property
    def _generations(self) -> dict[str | None, Generation]:
        return {name: method.generation for name, method in self._methods.items()}

    @property
    def input_axes(self) -> Axes:
        """The axes of its grid whose values are files or texts."""
        return self.every_method[0].axes

    def to_yaml(self, folder: Path) -> str:
        """The resolved experiment as YAML that means the same when it lies in `folder`."""
        values = {**self.model_dump(mode="json"), **self._own}
        values["project"] = os.path.relpath(self._root, folder.resolve())
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
        return schema_line(folder) + text

    def differences(self, other: Experiment) -> list[str]:
        """Each key whose value differs, as `key: other's value -> own value`."""
        own, others = flat(self.model_dump(mode="json")), flat(other.model_dump(mode="json"))
        return [
            f"{key}: {shown(others.get(key))} -> {shown(own.get(key))}"
            for key in {**others, **own}
            if own.get(key) != others.get(key) and key not in ("project", "overrides")
        ]


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: the YAML file.
        overrides: `key.path=value` each, the value in YAML. They come after the file's own
            `overrides`, and win.

    Raises:
        UserError: no such file, no YAML, an unknown key, a wrong value; with the place.
    """
    values = read_planned_yaml(path) if is_planned(path) else read_yaml(path)
    kept = values.get("overrides") or []
    if not isinstance(kept, list) or not all(isinstance(item, str) for item in kept):
        raise UserError(f"{path}: overrides: must be a list of key=value texts")
    kept = merged_overrides(kept, overrides)
    for override in kept:
        apply_override(values, override)
    if kept:
        values["overrides"] = kept
    values = former_methods(values)
    try:
        named = read_methods(values)
        schema = _schema(values)
        experiment: Experiment = schema.model_validate({**values, "methods": named})
    except ValidationError as error:
        first, *more = describe(error, schema)
        raise UserError(f"{path}: {first}", *more) from None
    except UserError as error:
        raise UserError(f"{path}: {error.lines[0]}", *error.lines[1:]) from None
    file = path.absolute()
    experiment._file = file
    experiment._root = project_root(file, experiment.project)
    try:
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
        experiment._settings = settings_of(own, axes)
    except UserError as error:
        raise UserError(f"{path}: {error.lines[0]}", *error.lines[1:]) from None
    machine = read_machine(experiment.root)
    machine.refuse(overrides)
    return on_machine(experiment, machine)


def _schema(values: Mapping[str, Any]) -> type[Experiment]:
    """The schema of an experiment with these values: backends have their own sections.

    Raises:
        UserError: there is no such backend.
    """
    own: dict[str, Any] = {}
    if not has_plain_method(values):
        own |= {"backend": (None, None), "model": (None, None)}
        first = next(iter(values["methods"].values()))
        cls = planner_class(first.get("backend", DEFAULT_BACKEND))
    else:
        cls = planner_class(values.get("backend") or DEFAULT_BACKEND)
        model = Field(default_factory=cls.settings_type, description="the backend's own")
        own |= {"backend": (str, DEFAULT_BACKEND), "model": (cls.settings_type, model)}
        own["generation"] = (cls.generation_type, Field(default_factory=cls.generation_type))
    # Methods of other axes than the first one's are refused later.
    own["dataset"] = (dataset_type(cls.axes), Field())
    if values.get("methods"):
        own["generation"] = (dict[str, Any], Field(default_factory=dict))
    return create_model("Experiment", __base__=Experiment, **own)


def on_machine(experiment: Experiment, machine: Machine) -> Experiment:
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
    """Raise UserError where neither a grid nor a list of jobs is given, or parts of both."""
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


def is_planned(path: Path) -> bool:
    """Whether this is an experiment as plan wrote it into its run folder."""
    return path.name == "experiment.yaml" and (path.parent / "manifest.jsonl").exists()


def read_planned_yaml(path: Path) -> dict[str, Any]:
    """What plan wrote; where that is damaged, the error says how to restore it."""
    remedy = "`sweep plan FILE` restores it from the experiment file"
    try:
        values = read_yaml(path)
    except UserError as error:
        raise UserError(*error.lines, remedy) from None
    # It has every key, and this one comes last.
    if "overrides" not in values:
        raise UserError(f"{path}: is damaged: cut short; {remedy}")
    return values


def dotted_axes(axes: dict[Any, Any]) -> dict[Any, Any]:
    """Axes of a section's parameters by their dotted names: `{a: {b: [1]}}` as `{"a.b": [1]}`."""
    found: dict[Any, Any] = {}
    for name, values in axes.items():
        inside = dotted_axes(values) if isinstance(values, dict) else {}
        for dotted, own in {f"{name}.{inner}": own for inner, own in inside.items()}.items():
            if dotted in axes:
                raise ValueError(f"{dotted} is there twice; name each once")
            found[dotted] = own
        if not inside:
            found[name] = values
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as `{"section.key": value}`."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result.update(flat(value, f"{prefix}{key}."))
        else:
            result[f"{prefix}{key}"] = value
    return result


def refuse_unwritable(value: object) -> None:
    """Raise ValueError for a text that no file could hold: half a character, or a NUL."""
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise ValueError(f"{value!r} has a character that cannot be written to a file")
    if isinstance(value, dict):
        for key, inner in value.items():
            refuse_unwritable(key)
            refuse_unwritable(inner)
    elif isinstance(value, list):
        for inner in value:
            refuse_unwritable(inner)
