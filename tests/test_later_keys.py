"""A key that is added once there are videos makes none of them stale."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from runner.backends import Generation, Planner, Section
from runner.backends.section import Loss, defaults, key
from runner.backends.settings import (
    deciding_settings,
    settings_line,
    settings_record,
    settings_set,
)
from runner.backends.video_parameters import VideoGeneration
from runner.backends.wan.settings import WanSettings
from runner.experiment.grid import checked_axes, parameter_set_of, parameter_sets_of
from runner.experiment.overrides import apply_override
from runner.job.naming import job_ids, path_suffix
from runner.text.canonical import canonical_json
from runner.text.errors import UserError


class Camera(Section):
    """A section that there was from the first."""

    height: float = 1.5
    moves: bool = False


class Before(Generation):
    """A backend's parameters as they were."""

    width: int = 832
    cfg_scale: float = 5
    camera: Camera = Camera()
    text: str = ""


class Guidance(Section):
    kind: Literal["none", "optical", "depth"] = "none"
    strength: float = 1
    words: list[str] = Field(default_factory=list)


class After(Before):
    """As they are: two keys are new, one of them a section."""

    upscale: int = key(1, later=True, description="times")
    motion_guidance: Guidance = key(default_factory=Guidance, later=True)


OLD: dict[str, st.SearchStrategy[Any]] = {
    "width": st.integers(1, 2000),
    "cfg_scale": st.floats(0, 10) | st.integers(0, 10),
    "camera.height": st.floats(0, 3),
    "camera.moves": st.booleans(),
    "text": st.text(),
}
NEW: dict[str, st.SearchStrategy[Any]] = {
    "upscale": st.integers(1, 4),
    "motion_guidance.kind": st.sampled_from(["none", "optical", "depth"]),
    "motion_guidance.strength": st.sampled_from([0.5, 1.0, 2.0]),
    "motion_guidance.words": st.lists(st.text(), max_size=2),
}
OLD_VALUES = st.fixed_dictionaries({}, optional=OLD)
VALUES = st.fixed_dictionaries({}, optional={**OLD, **NEW})


@given(values=OLD_VALUES)
def test_what_was_there_stays_as_it_was(values: dict[str, Any]) -> None:
    """To the last byte, whatever was set of it, and in its order."""
    before = Before.from_parameters(values).to_parameters()
    after = After.from_parameters(values).to_parameters()
    assert json.dumps(after) == json.dumps(before)
    assert After.from_parameters(before) == After.from_parameters(values)


@given(values=VALUES)
def test_parameters_round_trip_and_have_later_keys_only_where_they_say_something(
    values: dict[str, Any],
) -> None:
    generation = After.from_parameters(values)
    parameters = generation.to_parameters()
    assert After.from_parameters(parameters) == generation
    assert After.from_parameters(json.loads(json.dumps(parameters))) == generation
    assert After.model_validate(generation.model_dump(mode="json")) == generation
    complete = generation.complete()
    assert list(complete) == ["method", *OLD, *NEW]
    for name, value in complete.items():
        is_default = canonical_json(value) == canonical_json(defaults(After)[name].value)
        assert (name in parameters) is not (name not in OLD and is_default)
        assert parameters.get(name, value) == value


@given(values=VALUES, axis=st.sampled_from([*OLD, *NEW]), data=st.data())
def test_an_axis_may_be_any_parameter(values: dict[str, Any], axis: str, data: Any) -> None:
    """Its values make settings of which each has its own id, path and parameters; the one that is
    as in `generation` is the job that was there without the axis."""
    generation = After.from_parameters(values)
    values_of = st.lists(({**OLD, **NEW})[axis], min_size=1, max_size=3, unique_by=repr)
    found: dict[str, Any] = {}
    for value in data.draw(values_of):
        found.setdefault(
            canonical_json(parameter_set_of({None: generation}, {axis: value}, "").complete), value
        )
    axes = checked_axes({None: generation}, {axis: list(found.values())}, ())
    parameter_sets = parameter_sets_of({None: generation}, axes)
    whole = {canonical_json(parameter_set.parameters) for parameter_set in parameter_sets}
    ids = {
        next(job_ids({"video": "v"}, [1], parameter_set.differing))
        for parameter_set in parameter_sets
    }
    paths = {path_suffix(parameter_set.differing) for parameter_set in parameter_sets}
    assert len(whole) == len(ids) == len(paths) == len(parameter_sets)
    plain = parameter_set_of({None: generation}, {}, "")
    for parameter_set in parameter_sets:
        own = generation.from_parameters(parameter_set.parameters)
        assert own.complete() == parameter_set.complete
        if not parameter_set.differing:
            assert parameter_set.parameters == plain.parameters


def test_what_is_no_parameter_is_refused_by_its_dotted_name() -> None:
    with pytest.raises(UserError, match=r"did you mean motion_guidance.kind\? \(valid: camera.he"):
        checked_axes({None: After()}, {"motion_guidance.kin": ["none"]}, ())
    with pytest.raises(UserError, match=r"axes.motion_guidance: no parameter is called so"):
        checked_axes({None: After()}, {"motion_guidance": [{}]}, ())
    with pytest.raises(UserError, match=r"axes.motion_guidance.kind.1: motion_guidance.kind='x'"):
        checked_axes({None: After()}, {"motion_guidance.kind": ["none", "x"]}, ())
    with pytest.raises(ValidationError, match="motion_guidance"):
        After.from_parameters({"motion_guidance.kin": "none"})


def test_a_section_that_may_be_nothing_is_no_parameter() -> None:
    """Nobody could tell its keys."""

    class Odd(Generation):
        guidance: Guidance | None = None

    with pytest.raises(TypeError, match="a key that says whether it is in use"):

        class OddPlanner(Planner[Any, Any]):
            generation_type = Odd


def test_an_override_finds_an_axis_by_its_dotted_name() -> None:
    values: dict[str, Any] = {"axes": {"motion_guidance.kind": ["none"]}}
    apply_override(values, "axes.motion_guidance.kind=[depth]")
    assert values == {"axes": {"motion_guidance.kind": ["depth"]}}
    apply_override(values, "axes.motion_guidance.strength=[1]")
    assert values["axes"]["motion_guidance"] == {"strength": [1]}


class Model(Section):
    checkpoint: str = key("tiny", loss=Loss.ANOTHER_MODEL)
    dtype: str = key("bfloat16", loss=Loss.SAME_ACCURACY)
    vram: str = key("resident", loss=Loss.EXACT)
    cache: float | None = key(None, loss=Loss.APPROXIMATE, later=True)


def test_settings_that_are_set_are_named_by_what_is_lost() -> None:
    """And of those that decide the pixels, a later one does so only where it is set."""
    assert settings_line(settings_set(Model())) == ""
    assert deciding_settings(Model()) == {"dtype": "bfloat16"}
    model = Model(checkpoint="models/a", vram="managed", cache=0.1)
    assert settings_line(settings_set(model)) == (
        "checkpoint=models/a (another model); cache=0.1 (approximate); vram=managed (exact)"
    )
    assert settings_record(settings_set(model))["cache"] == {"value": 0.1, "loss": "approximate"}
    assert deciding_settings(model) == {"dtype": "bfloat16", "cache": 0.1}
    assert list(deciding_settings(WanSettings())) == ["dtype", "vae_tiling"]


def test_a_model_that_does_not_say_what_a_key_loses_is_no_planner() -> None:
    class Silent(Section):
        speed: int = 1

    with pytest.raises(TypeError, match="Silent: speed: declare the loss of each key"):

        class SilentPlanner(Planner[Any, Any]):
            settings_type = Silent


def test_our_own_backends_have_the_parameters_that_they_had() -> None:
    """In this order: manifests are compared line by line."""
    assert list(VideoGeneration().to_parameters()) == [
        *("width", "height", "num_frames", "fps", "num_inference_steps", "cfg_scale"),
        *("denoising_strength", "negative_prompt"),
    ]
