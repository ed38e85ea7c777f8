"""Writes what is made from the models: docs/experiment.schema.json and docs/experiment.md.

python docs/make_reference.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from runner.backends import Section
from runner.backends.fake.planner import Fault
from runner.backends.registry import OURS, planner_class
from runner.backends.video_parameters import AXES
from runner.experiment.experiment import Experiment
from runner.experiment.method import MethodSection
from runner.experiment.schema import experiment_schema
from runner.experiment.sections import (
    ClipReading,
    Dataset,
    Limits,
    Output,
    Placement,
    Retries,
    dataset_type,
)

DOCS = Path(__file__).resolve().parent
SCHEMA, REFERENCE = DOCS / "experiment.schema.json", DOCS / "experiment.md"

HEAD = """\
# The experiment file

Made from the models by `python docs/make_reference.py`; do not edit it by hand. The first line
below has editors that speak to yaml-language-server complete and check the file; `sweep schema`
prints the schema.

    # yaml-language-server: $schema=../docs/experiment.schema.json
    name: motion_transfer
    backend: wan
    model:
      checkpoint: models/Wan2.1-T2V-14B
    dataset:
      videos: reference_videos
      prompts: prompts/motion_transfer.json
    seeds: [42, 142]
    generation:
      denoising_strength: 0.8
    axes:
      denoising_strength: [0.7, 0.8]
    exclude:
      - {category: camera_motion, seed: 142}

Relative paths start at the folder that holds `experiments/`, else at the file's own folder. Any
key can be set on the command line as well: `sweep plan FILE seeds=[1,2,3]
generation.num_inference_steps=20`; the run keeps such overrides until `KEY=` takes one back.

## The grid

A job is one point of category × video × prompt × seed, and of the parameters under `axes`. Every
field of `generation` may be an axis: `axes: {denoising_strength: [0.7, 0.8], cfg_scale: [3, 5]}`
makes four videos of each category, video, prompt and seed.

A job's id and the name of its video have only those parameters that an axis sets differently from
`generation`:

    camera_motion/ref_a/seed_42_prompt_0.mp4                              as in generation
    camera_motion/ref_a/seed_42_prompt_0_denoising_strength=0.7.mp4       otherwise

So videos, prompts, seeds, axes and values may be added to a sweep that is half done, or running:
`sweep plan` it again, and what is there keeps its place. A short plain text stands in the name as
it is; another text, a list, or more than 120 characters of parameters are there as `h` and the
first 12 digits of a hash, and the sidecar has them in full.

`include` and `exclude` cut the grid. Each is a list of rules; a rule names axes (category, video,
prompt as a number, seed, parameters) with a value or a list of values, and fits where all that it
names is so. What some rule of `include` fits is made, unless a rule of `exclude` fits it too. A
rule that fits nothing is an error. What is taken out of a sweep is retired: its video stays, and is
not counted.

## Several methods

In place of `backend` and `model`, `methods` puts several ways to make the videos into one grid,
each with its name, a backend and a model:

    methods:
      ours: {backend: script, model: {file: ours.py}, generation: {guidance: 3}}
      sdedit: {backend: wan, model: {checkpoint: models/Wan2.1-T2V-14B}}
    generation: {num_frames: 81, denoising_strength: 0.8}

`method` is then an axis like any other: every video, prompt and seed is made by each of them, and
`--only method=ours`, `--priority method`, rules, the report and the CSV know it. It adds
`_method=ours` to the names of videos. `axes: {method: [sdedit, ours]}` says which of them and in
which order, where it is not all. A method that adds nothing to names and ids is

- the one of `backend` and `model`, where they stand beside `methods`: it has no name (`null` among
  the values of `method`). So methods come to a sweep that has videos, and nothing is made again;
- or the one with a name that `generation: {method: ours}` says. Without `method` under `axes` it
  is the only one that is made.

`methods.<name>.generation` comes before the common `generation`, also its size, number of frames
and rate: each video is checked against its own method's. A parameter in the common `generation` is
for the methods whose backend has it; one that is in no backend's table below is for the scripts,
which take any. The same holds for `axes` and rules: an axis over a parameter multiplies the videos
of those methods that have it, and leaves one each of the others; a rule that names it fits none of
the others' videos. A parameter that no method has is an error.

A job's fingerprint has its own method's backend, recipe, model and parameters: a change in one
method makes nothing of another stale. A name is a parameter, too: a method that is called otherwise
makes its videos anew. All methods of a grid take the same inputs.

A worker has one method's model loaded at a time. It makes what it can with it before it loads
another, and workers that begin at the same time begin with different methods. `--priority` comes
before that: by another axis than `method` it may have a worker load a model at every change. Where
a method's model cannot be loaded, the log says so, and the videos of all others are made first.

## Chains: another sweep's videos as inputs

Where the values of an axis are videos, they may be those that another sweep makes:

    dataset:
      videos: {run: dub, only: {seed: 42}}
      prompts: lines.txt

`run` is the name of a sweep in the same `results`, planned already; `only`, which may be left out,
names axes or parameters of it with a value or a list. A video keeps its category, and is called by
the rest of its path: `camera_motion/ref_a/seed_42_prompt_0.mp4` becomes
`camera_motion/ref_a_seed_42_prompt_0`. In files of prompts it may also be called `ref_a`.

Such a job is not begun before the video is there: made, and vouched for by a sidecar with the
fingerprint for which this sweep was planned. Until then it is *awaiting*, counted as pending; both
sweeps may be launched at once, on the same GPUs, in any order. Workers with nothing else to do wait
for the other sweep's as long as any of these runs, and a minute longer; then they end and say so.

What changes above makes stale what was made of it: `sweep plan` the other sweep, then this one. A
sidecar names the other run's job, its fingerprint, and the sha256 of the video that was really
used.

## A list of jobs

`jobs: my_jobs.csv` takes the place of `seeds`, `axes` and `dataset.prompts`. It is a CSV or TSV
file with a line of names, or JSONL, in UTF-8:

    category,video,prompt,seed,denoising_strength
    camera_motion,ref_a,"A red ball, slowly",42,0.7
    camera_motion,ref_a,"A red ball, slowly",42,

`category` may be left out where there is only one; any parameter may have a column, and so may
`start` and `fit` of the clip ([what is read of it](clips.md)); an empty cell is as in the
experiment. Ids and paths are those of the same jobs in a grid; prompts of a video are numbered as
they come.
"""


LOSSES = """\
## The settings of a model

Behind each stands what a video loses where it is not the default; plan, sidecar and page name
such settings so. *exact*: nothing, the same bits. *same accuracy*: other last bits, no further
from exact arithmetic than the default's. *approximate*: another video, meant to look the same.
*another model*: another video, by other weights or another method.
"""


def reference() -> str:
    """The whole of docs/experiment.md."""
    return "\n".join([HEAD, *_sections()])


def schema_text() -> str:
    """The whole of docs/experiment.schema.json."""
    return json.dumps(experiment_schema(), ensure_ascii=False, indent=2) + "\n"


def _sections() -> Iterator[str]:
    yield from _table("Keys", Experiment, "", ("overrides",))
    for name, model in (
        ("dataset", dataset_type(AXES)),
        ("placement", Placement),
        ("output", Output),
        ("retries", Retries),
        ("limits", Limits),
    ):
        yield from _table(f"`{name}`", model, f"{name}.")
        if issubclass(model, Dataset):
            title = "A clip of `dataset.clips`"
            yield from _table(title, ClipReading, "dataset.clips.<category>/<video>.")
    yield from _table("One of the `methods`", MethodSection, "methods.<name>.")
    yield LOSSES
    for backend in sorted(OURS, reverse=True):
        cls = planner_class(backend)
        yield from _table(f"`model` of backend {backend}", cls.settings_type, "model.")
        title = f"`generation` of backend {backend}"
        yield from _table(title, cls.generation_type, "generation.")
    yield from _table("A fault of backend fake", Fault, "model.faults.")


def _table(
    title: str, model: type[Section], prefix: str, left_out: tuple[str, ...] = ()
) -> Iterator[str]:
    schema = model.model_json_schema()
    required = schema.get("required", [])
    yield f"## {title}\n"
    yield "| key | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for name, field in model.model_fields.items():
        if name in left_out:
            continue
        default = field.get_default(call_default_factory=True)
        is_section = isinstance(default, Section) or name in ("model", "generation", "dataset")
        shown = "" if is_section else f"`{json.dumps(default, ensure_ascii=False, default=str)}`"
        if name in required and not is_section:
            shown = "needed"
        assert is_section or shown == "needed" or default is not PydanticUndefined, name
        kind = "section" if is_section else _kind(schema["properties"][name], schema)
        meaning = (field.description or "").replace("|", "\\|")
        if (loss := _loss(field)) is not None:
            meaning = f"{meaning} (*{loss}*)"
        yield f"| `{prefix}{name}` | {kind} | {shown} | {meaning} |"
    yield ""


def _loss(field: FieldInfo) -> str | None:
    marks = field.json_schema_extra
    return str(marks["loss"]) if isinstance(marks, dict) and "loss" in marks else None


KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "nothing",
}
BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}


def _kind(schema: dict[str, Any], whole: dict[str, Any]) -> str:
    """A JSON Schema as a person says it."""
    if "$ref" in schema:
        return _kind(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in schema:
        return " or ".join(_kind(one, whole) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}), whole)}"
    if schema.get("type") == "object":
        of = schema.get("additionalProperties")
        return f"mapping to {_kind(of, whole)}" if isinstance(of, dict) else "mapping"
    bounds = [f"{word} {schema[key]:g}" for key, word in BOUNDS.items() if key in schema]
    return " ".join([KINDS.get(schema.get("type", ""), "any value"), *bounds])


def main() -> None:
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    REFERENCE.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
