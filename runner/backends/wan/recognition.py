"""What a weights file is: its header held against the table of variants."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...text.plain_text import printable
from .headers import (
    Format,
    TensorHeaders,
    format_of,
    main_type,
    names_and_shapes_md5,
    number_of_weights,
    tensors_in,
)
from .measuring import measured, without_prefix
from .variants import (
    FP8_TYPES,
    LOADED_TYPES,
    LORA,
    LORA_DOWN,
    SCALES,
    SIZE_OF_WIDTH,
    T2V_LARGE,
    VARIANTS,
    KnownModel,
    ModelFacts,
    ModelPart,
)

NAME_CHARACTERS = 48
FETCH = "fetch the files of {}"
NAMED_KINDS = 5


@dataclass(frozen=True)
class Recognised:
    """What a file, or several that belong together, is.

    Args:
        what: for a person, such as `Wan2.1 T2V 14B in BF16`.
        part: which part of a checkpoint it is, where that is known.
        facts: of its shapes, where it has one's of this family.
        variant: the table's row.
        weights: number of them, 0 where only torch could tell.
        problem: why a worker could not load it; None where it can.
        remedy: what to do then.
    """

    what: str
    part: ModelPart | None = None
    facts: ModelFacts | None = None
    variant: KnownModel | None = None
    weights: int = 0
    problem: str | None = None
    remedy: str = ""


def brief(name: str) -> str:
    """A name that a file gives, fit for a terminal and a line."""
    short = name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"
    return printable(short)


def said(weights: int) -> str:
    """A number of weights as a person reads it."""
    number, unit = (weights / 1e9, "billion") if weights >= 1e9 else (weights / 1e6, "million")
    return f"{number:.3g} {unit} weights"


def recognise_file(path: Path) -> Recognised:
    """What a single file is.

    Raises:
        BadFile: it is a safetensors file whose header is wrong.
        OSError: it cannot be read.
    """
    found = format_of(path)
    if found is Format.GGUF:
        return Recognised(
            "GGUF, quantized for other programs",
            problem="which diffsynth does not read",
            remedy=f"{FETCH.format(T2V_LARGE)}, in safetensors",
        )
    if found is Format.PICKLE:
        return Recognised(f"{found.value}, whose tensors only torch can list")
    return recognise(tensors_in(path), [path.name, *_folders(path.parent)])


def recognise_shards(paths: Sequence[Path]) -> Recognised:
    """What several files are together. Raises as `recognise_file`."""
    if len(paths) == 1:
        return recognise_file(paths[0])
    for path in paths:
        if path.suffix != ".safetensors" or format_of(path) is not Format.SAFETENSORS:
            return recognise_file(path)
    tensors = {name: tensor for path in paths for name, tensor in tensors_in(path).items()}
    return recognise(tensors, [paths[0].name, *_folders(paths[0].parent)])


def _folders(folder: Path) -> list[str]:
    """The names that tell of an edition: the folder's, and the model's of a download cache."""
    return [folder.name, *(part for part in folder.parts if part.startswith("models--"))]


def recognise(tensors: TensorHeaders, names: Sequence[str] = ()) -> Recognised:
    """What tensors are.

    Args:
        names: of the file and its folder, which tell editions of one shape apart.
    """
    if any(LORA.search(name) for name in tensors):
        return _lora(tensors)
    md5 = names_and_shapes_md5(tensors)
    exact = next((variant for variant in VARIANTS if md5 in variant.md5), None)
    bare, prefix = without_prefix(tensors)
    part, facts, layout = measured(bare)
    variant = exact or next((v for v in VARIANTS if (v.part, v.facts) == (part, facts)), None)
    kind = main_type(tensors)
    is_scaled = any(SCALES.search(name) for name in tensors)
    name = variant.name_among(names) if variant else _description(bare, part, facts)
    what = f"{name} in {brief(kind)}" + (" with scales" if is_scaled else "")
    weights = number_of_weights(tensors)
    if exact is not None and kind in LOADED_TYPES:
        return Recognised(what, part, facts, variant, weights)
    problem, remedy = _obstacle(variant, kind, prefix, layout, is_scaled=is_scaled)
    return Recognised(what, part, facts, variant, weights, problem, remedy)


def _obstacle(
    variant: KnownModel | None, kind: str, prefix: str, layout: str, *, is_scaled: bool
) -> tuple[str, str]:
    """Why a worker cannot load what is not exactly in a row of the table, and what to do."""
    if variant is None:
        return "which is no model that this backend knows", FETCH.format(T2V_LARGE)
    remedy = FETCH.format(variant.repository)
    if variant.obstacle:
        return f"which {variant.obstacle}", remedy
    if is_scaled or kind not in LOADED_TYPES:
        why = "whose weights mean nothing without scales, which diffsynth does not apply"
        wish = (
            " and set model.fp8: true"
            if kind in FP8_TYPES and variant.part is ModelPart.DIT
            else ""
        )
        return why, remedy + wish
    if prefix:
        program = "as ComfyUI writes them, " if "diffusion_model" in prefix else ""
        return f"with `{prefix}` before each name, {program}which diffsynth does not know", remedy
    if layout:
        why = f"in the layout of {layout}, which diffsynth does not know"
        return (
            why,
            f"{remedy}, not its -Diffusers edition" if variant.part is ModelPart.DIT else remedy,
        )
    return "but some tensors are missing or are more than its own, so diffsynth refuses it", remedy


def _description(tensors: TensorHeaders, part: ModelPart | None, facts: ModelFacts | None) -> str:
    """What a model that is in no row looks like."""
    if part is not None and facts is not None:
        channels = f", {facts.channels[0]} channels in" if facts.channels[0] else ""
        more = (
            f", with {', '.join(map(brief, sorted(facts.branches)[:NAMED_KINDS]))}"
            if facts.branches
            else ""
        )
        return (
            f"an unknown {part.value} (width {facts.width}, {facts.layers} layers{channels}{more})"
        )
    kinds = Counter(name.split(".")[0] for name in tensors)
    first = ", ".join(f"{brief(name)}.*" for name, _ in kinds.most_common(NAMED_KINDS))
    widths = Counter(t.shape[-1] for t in tensors.values() if len(t.shape) == 2)
    width = f"width {widths.most_common(1)[0][0]}, " if widths else ""
    numbers = [int(n) for name in tensors for n in re.findall(r"\.(\d{1,4})\.", name)[:1]]
    layers = f"{max(numbers) + 1} layers, " if numbers else ""
    weights = said(number_of_weights(tensors))
    return f"something unknown ({width}{layers}{len(tensors)} tensors {first}, {weights})"


def _lora(tensors: TensorHeaders) -> Recognised:
    """A file of differences to another model's weights."""
    down = [t.shape for name, t in tensors.items() if LORA_DOWN.search(name) and len(t.shape) > 1]
    ranks = Counter(shape[0] for shape in down)
    rank = f" of rank {ranks.most_common(1)[0][0]}" if ranks else ""
    narrow = Counter(
        t.shape[-1]
        for name, t in tensors.items()
        if "attn" in name and len(t.shape) > 1 and (LORA_DOWN.search(name) or ".diff" in name)
    )
    width = narrow.most_common(1)[0][0] if narrow else 0
    is_wan = any("blocks" in name and "attn" in name for name in tensors)
    size = SIZE_OF_WIDTH.get(width)
    if is_wan and size:
        base = f" of Wan {size}"
    else:
        base = f" of a model of width {width}" if width else ""
    return Recognised(
        f"a LoRA{rank}{base}",
        problem="which is added to a model and is none",
        remedy="fuse it into that model's weights, or take it away; "
        + FETCH.format("Wan-AI/Wan2.1-T2V-1.3B" if size == "1.3B" else T2V_LARGE),
    )
