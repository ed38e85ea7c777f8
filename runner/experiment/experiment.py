"""What an experiment file says, as the rest of the program is given it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    Field,
    PrivateAttr,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from ..backends import Generation, Section
from ..disk.run_folder import RunFolder
from ..job import METHOD, RUN_NAME, Unsaid
from ..job.axes import Axes
from ..job.failures import Policy, failures_allowed
from ..machine.machine_file import MachineFile
from ..text.yaml_file import schema_line
from ..video.reading import Reading
from .grid import ParameterSet, parameter_set_of, refuse_other_method
from .method import DEFAULT_BACKEND, Method, MethodSection
from .mistakes import shown
from .rules import Cut
from .sections import Dataset, Limits, Output, Placement, Retries, clip_name, refuse_repeats


class Experiment(Section):
    """One experiment as resolved: every key has its value, overrides included.

    `model` and `generation` are the backend's own classes. Where there are `methods`, `generation`
    is what they have in common, as it was written; and where the experiment names no backend beside
    them, `backend` and `model` are None. Paths stay as written, relative to `root`.
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
    _machine: MachineFile = PrivateAttr(default_factory=MachineFile)
    _own: dict[str, Any] = PrivateAttr(default_factory=dict)
    _methods: dict[str | None, Method] = PrivateAttr()
    _parameter_sets: tuple[ParameterSet, ...] = PrivateAttr()
    _read_parameter_sets: dict[Reading, tuple[ParameterSet, ...]] = PrivateAttr(
        default_factory=dict
    )

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
    def machine(self) -> MachineFile:
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
    def parameter_sets(self) -> tuple[ParameterSet, ...]:
        """The parameters of its jobs: one for each combination of the axes' values."""
        return self._parameter_sets

    def reading_of(self, category: str, video: str) -> Reading:
        """How a clip is read."""
        usual = self.dataset.reading
        own = self.dataset.own_reading(clip_name(f"{category}/{video}"))
        return Reading(
            usual.start if own.start is None else own.start,
            usual.fit if own.fit is None else own.fit,
        )

    def parameter_sets_of(self, category: str, video: str) -> tuple[ParameterSet, ...]:
        """The parameters of a clip's jobs; clips that are read alike share them."""
        reading = self.reading_of(category, video)
        if reading == Reading():
            return self.parameter_sets
        if reading not in self._read_parameter_sets:
            self._read_parameter_sets[reading] = tuple(
                s.read_as(reading) for s in self.parameter_sets
            )
        return self._read_parameter_sets[reading]

    @property
    def cut(self) -> Cut:
        """What `include` and `exclude` leave of the grid."""
        return Cut.of(self.include, self.exclude)

    @property
    def every_method(self) -> tuple[Method, ...]:
        """The ways to make its videos; the one of `backend` and `model` comes first."""
        return tuple(self._methods.values())

    @property
    def unsaid(self) -> Unsaid:
        """The parameters that the jobs of each method have without saying so."""
        return {method.name: method.unsaid for method in self.every_method}

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

    def parameter_set_of(self, values: Mapping[str, Any], where: str) -> ParameterSet:
        """The parameters of a job that is listed with these values.

        Args:
            where: where they stand, for an error.

        Raises:
            UserError: they are of no method, or the method's schema refuses one.
        """
        if len(self._methods) > 1 or None not in self._methods:
            name = values.get(METHOD, self.usual_method)
            refuse_other_method(f"{where}: {METHOD}", name, self._generations)
            values = {**values, METHOD: name}
        return parameter_set_of(self._generations, values, where)

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


def is_planned(path: Path) -> bool:
    """Whether this is an experiment as plan wrote it into its run folder."""
    return path.name == "experiment.yaml" and (path.parent / "manifest.jsonl").exists()


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
