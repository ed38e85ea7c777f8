"""A proposal as the experiment file that a person reads: every key with a comment."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.cells import cell_len

from ..backends import Section
from ..backends.registry import planner_class
from ..experiment.experiment import Experiment
from ..experiment.sections import dataset_type
from ..text.plain_text import printable
from ..text.yaml_file import schema_line
from . import Proposal

COMMENT_COLUMN = 36
LINE_CHARACTERS = 100
NOT_A_PERSONS = ("project", "overrides")

COMMENTS = {
    "dataset.videos": "folder of <category>/<video>.mp4, or of <video>.mp4",
    "name": "of the run folder and of the tmux sessions",
    "backend": "what makes the videos; fake needs no model",
    "model": "the backend's own",
    "dataset": "the clips and their prompts",
    "seeds": "one video of every clip and prompt for each",
    "generation": "one value for all videos",
    "generation.num_inference_steps": "denoising steps",
    "generation.num_frames": "of each video; 4n+1",
    "generation.negative_prompt": "what no video should show",
    "placement": "which GPU does what",
    "placement.processes_per_gpu": "workers on each GPU; each loads the model",
    "output": "how videos are written",
    "retries": "what a job may cost before it is given up",
    "limits": "what is too much",
}
"""For keys that the models say nothing of, or not enough."""


def experiment_text(name: str, proposal: Proposal, file: Path) -> str:
    """The whole file, to be written to `file`."""
    planner = planner_class("wan")
    sections = {
        "model": planner.settings_type,
        "dataset": dataset_type(planner.axes),
        "generation": planner.generation_type,
    }
    values = {"name": name, "backend": "wan", **proposal.values}
    lines = [*head(name, proposal), ""]
    # A section stands by itself; keys without one stand together.
    for key in Experiment.model_fields:
        if key in NOT_A_PERSONS:
            continue
        section = sections.get(key) or section_of(Experiment, key)
        if section is None:
            if lines[-1].startswith((" ", "#  ")):
                lines.append("")
            lines += entry(key, key, values, proposal.notes, Experiment)
            continue
        inner = [f"{key}.{own}" for own in section.model_fields]
        used = any(dotted in values for dotted in inner)
        lines.append("")
        lines += line(f"{key}:", comment_of(key, Experiment, key, {}), 0, used=used)
        for dotted, own in zip(inner, section.model_fields, strict=True):
            lines += entry(dotted, own, values, proposal.notes, section, indent=2, used=used)
    return schema_line(file.absolute().parent) + "\n".join(lines) + "\n"


def head(name: str, proposal: Proposal) -> Iterator[str]:
    clips, videos = proposal.clips, proposal.videos
    yield printable(
        f"# {name}: {clips} clips in {len(proposal.categories)} categories, {proposal.prompts} "
        f"prompts, {videos} videos."
    )
    yield f"#   sweep plan experiments/{name}.yaml      what it will take"
    yield f"#   sweep launch experiments/{name}.yaml    make them"
    yield "# Paths start at the folder above this one. A key behind # has its default; ## explains."


def entry(
    dotted: str,
    own: str,
    values: Mapping[str, Any],
    notes: Mapping[str, str],
    section: type[Section],
    *,
    indent: int = 0,
    used: bool = True,
) -> Iterator[str]:
    """A key with its value, or its default behind a #."""
    given = dotted in values
    value = values[dotted] if given else default_of(section, own)
    comment = comment_of(dotted, section, own, notes)
    yield from line(f"{own}: {inline(value)}", comment, indent, used=used, off=not given)


def line(
    text: str, comment: str, indent: int, *, used: bool = True, off: bool = False
) -> Iterator[str]:
    """`text  # comment`, the comment above where there is no room for it."""
    start = "# " + " " * indent if not used else " " * indent + "# "
    text = (start if off or not used else " " * indent) + text
    comment = printable(comment)
    wide = cell_len(text)
    if wide < COMMENT_COLUMN and COMMENT_COLUMN + 2 + cell_len(comment) <= LINE_CHARACTERS:
        yield f"{text}{' ' * (COMMENT_COLUMN - wide)}# {comment}"
        return
    # Not to be taken for a key behind a #, whatever it begins with.
    above = "## " if not used else " " * indent + "## "
    for part in textwrap.wrap(comment, LINE_CHARACTERS - len(above)):
        yield above + part
    yield text


def comment_of(dotted: str, section: type[Section], own: str, notes: Mapping[str, str]) -> str:
    described = section.model_fields[own].description or ""
    return notes.get(dotted) or COMMENTS.get(dotted) or described or own.replace("_", " ")


def default_of(section: type[Section], own: str) -> Any:
    return section.model_fields[own].get_default(call_default_factory=True)


def section_of(schema: type[Section], key: str) -> type[Section] | None:
    kind = schema.model_fields[key].annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def inline(value: Any) -> str:
    """A value as YAML on one line, quoted where it must be."""
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**9)
    return text.strip()[1:-1]
