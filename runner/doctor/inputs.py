"""What an experiment reads: model files, reference clips, prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backends import Examined
from ..dataset.dataset import (
    NOT_READ,
    DatasetContent,
    Lead,
    is_long_enough,
    lacks,
    parameter_sets_wanted,
    read_dataset,
    shape_for,
)
from ..dataset.remarks import RemarkKind, by_kind, line_of
from ..disk.upstream import Upstream
from ..experiment.experiment import Experiment
from ..experiment.method import Method
from ..job import MadeInput
from ..job.axes import InputKind
from ..text.errors import UserError
from ..text.plain_text import size
from ..text.text_file import shown
from ..video import BrokenVideo, decoded_timing
from .finding import Finding, Severity, right, shortened, warning, wrong

HARMFUL = {
    RemarkKind.LOSES_PICTURE: "dataset.fit: pad, for these in dataset.clips",
    RemarkKind.ENLARGED: "a smaller generation.width and height",
    RemarkKind.INTERLACED: "ffmpeg -i FILE -vf bwdif FILE.mp4",
}
"""Remarks on what a model sees worse than it could be, and what helps."""
WIDE_CODE_POINT = 0x2E80
"""From here on, nearly every script writes a word in one or two characters."""


def check_model(model: Examined, method: Method) -> Iterator[Finding]:
    """What the model of a method is, and every file of it: there, whole as far as that shows, of
    which size."""
    whose = "model" if method.name is None else f"model of {method.name}"
    if model.what is not None:
        yield right(whose, model.what)
    for state in model.files:
        if state.problem is not None:
            key = method.key if state.problem.startswith("model.") else ""
            yield wrong(whose, f"{state.file}: {key}{state.problem}", state.remedy)
        else:
            yield right(whose, f"{state.file}: {size(state.size)}, {state.note}")


def check_data(experiment: Experiment) -> tuple[DatasetContent | None, list[Finding]]:
    """The clips that can be used, and what is right and wrong with clips and prompts."""
    try:
        dataset = read_dataset(experiment, skip_invalid=True)
    except UserError as error:
        found = [wrong("clips", line, "mend it in the experiment") for line in error.lines]
        return None, list(shortened(found))
    remedy = "mend the clip or its prompts, or plan with --skip-invalid"
    findings = list(shortened(wrong("clips", line, remedy) for line in dataset.left_out))
    if experiment.input_axes.leading.kind is not InputKind.CLIP:
        findings.append(right("files", f"{len(dataset.leads)} can be decoded"))
        return dataset, findings
    # Of what rules leave out nothing is made, so it need not be fit.
    used = [lead for lead in dataset.leads if lead.info is not NOT_READ]
    clips = [lead for lead in used if lead.file is not None]
    findings += check_run_videos(experiment, used)
    if used and not clips:
        return dataset, findings
    with ThreadPoolExecutor() as pool:
        found_by_decoding = list(pool.map(lambda clip: decode(experiment, clip), clips))
    broken = [own for own in found_by_decoding if own and own.verdict is Severity.WRONG]
    findings += shortened(own for own in found_by_decoding if own)
    if experiment.input_axes.leading.gives_frames:
        findings += shortened(compare(experiment, clips))
    for kind, remarks in by_kind(dataset.remarks).items():
        line = line_of(kind, remarks)
        harms = kind in HARMFUL
        findings.append(warning("clips", line, HARMFUL[kind]) if harms else right("clips", line))
    rates = Counter(f"{clip.info.fps:g}" for clip in clips)
    good = len(clips) - len(broken)
    findings.append(
        right("clips", f"{good} decode and are long enough; frame rates: {said(rates)}")
    )
    return dataset, findings


def check_run_videos(experiment: Experiment, used: Sequence[Lead]) -> Iterator[Finding]:
    """How many of the clips that other runs make are there."""
    given = (lead.item.given for lead in used)
    wanted = [one for one in given if isinstance(one, MadeInput)]
    made = Upstream.of(experiment.run_folder).made(wanted)
    for run in dict.fromkeys(one.run for one in wanted):
        there = sum(one.run == run for one in made)
        number = sum(one.run == run for one in wanted)
        yield right("clips", f"videos of the sweep {run}: {there} of {number} are made")


def decode(experiment: Experiment, clip: Lead) -> Finding | None:
    """What is wrong with the frames of a clip, by decoding all of them; None for nothing."""
    again = "make the clip again; ffmpeg -i FILE says more"
    assert clip.file is not None
    path = clip.file.path
    try:
        decoded = decoded_timing(experiment.data / path)
    except BrokenVideo as error:
        return wrong("clips", f"{path}: {error}", again)
    except OSError as error:
        return wrong("clips", f"{path}: cannot be read: {error.strerror}", again)
    whole = replace(clip.info, timing=decoded)
    if experiment.input_axes.leading.gives_frames:
        parameter_sets = parameter_sets_wanted(experiment, clip)
        told = [one for one in parameter_sets if is_long_enough(experiment, clip.info, one)]
        if short := list(lacks(experiment, whole, told)):
            return wrong("clips", f"{path}: decoded, it {short[0]}", again)
    planned = clip.info.timing
    if (decoded.num_frames, decoded.span) != (planned.num_frames, planned.span):
        found = (
            f"{path}: {decoded.num_frames} frames in {float(decoded.span):.3f} s are shown "
            f"once it is decoded, its container tells of {planned.num_frames} in "
            f"{float(planned.span):.3f} s"
        )
        return warning("clips", found, "what is decoded is read; making the clip again mends it")
    return None


def compare(experiment: Experiment, clips: Sequence[Lead]) -> Iterator[Finding]:
    """Clips with fewer frames a second than their videos are to have."""
    for clip in clips:
        info = clip.info
        parameter_sets = parameter_sets_wanted(experiment, clip)
        fps = max(shape_for(experiment, info, one).fps for one in parameter_sets)
        if info.fps < fps * 0.999:
            found = f"{clip.label}: has {info.fps:g} frames a second, {fps:g} are asked for"
            yield warning("clips", found, f"frames are repeated; fps: {info.fps:g} repeats none")


def check_prompts(method: Method, model: Examined, data: DatasetContent) -> Iterator[Finding]:
    """Prompts that are longer than a method's text encoder reads."""
    limit = method.planner().prompt_tokens
    texts = {text: clip for clip in data.leads for text in clip.prompts}
    if limit is None:
        yield right("prompts", f"{len(texts)} different ones")
        return
    negative = method.generation.complete().get("negative_prompt")
    count, source = token_counter(model.tokenizer)
    longest = max((count(text) for text in texts), default=0)
    remedy = "shorten it: the rest is not read"
    found = [
        warning("prompts", f"{clip.label}: {count(text)} tokens: {text:.40}", remedy)
        for text, clip in texts.items()
        if count(text) > limit
    ]
    if negative and count(negative) > limit:
        found.append(warning("prompts", f"negative_prompt: {count(negative)} tokens", remedy))
    yield from shortened(found)
    yield right(
        "prompts",
        f"{len(texts)} different ones; the longest has {longest} of {limit} tokens ({source})",
    )


def token_counter(file: Path | None) -> tuple[Any, str]:
    """What counts a text's tokens, and by what: the tokenizer itself, or an estimate."""
    if file is not None:
        try:
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(file))
        except Exception:
            # It raises a plain Exception for whatever its Rust part meets.
            return estimated_tokens, f"an estimate: {shown(file)} cannot be loaded"
        tokenizer.no_truncation()
        return (lambda text: len(tokenizer.encode(text).ids)), "the model's own tokenizer"
    return estimated_tokens, "an estimate: the tokenizer is not here"


def estimated_tokens(text: str) -> int:
    """About as many as a multilingual vocabulary of 256,000 pieces makes: a piece for four
    characters of an alphabet, for one and a half Chinese ones, and the end."""
    wide = sum(ord(character) >= WIDE_CODE_POINT for character in text)
    return round(wide / 1.5 + (len(text) - wide) / 4) + 1


def said(counts: Counter[str]) -> str:
    return ", ".join(f"{value} ({number})" for value, number in counts.most_common(5))
