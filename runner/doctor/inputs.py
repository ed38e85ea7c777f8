"""What an experiment reads: model files, reference clips, prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..backends import Backend
from ..dataset import NOT_READ, Clip, Dataset, read_dataset
from ..errors import UserError
from ..experiment import Experiment
from ..grid import Setting
from ..plain_text import size
from ..text_file import shown
from ..video import BrokenVideo, frames_available, read_clip
from .finding import Finding, right, shortened, warning, wrong

LOOK = 16
"""Frames are decoded at their own size and kept at so many pixels."""
WIDE = 0x2E80
"""From here on, nearly every script writes a word in one or two characters."""


def check_model(backend: Backend[Any]) -> Iterator[Finding]:
    """Every file of the model: there, whole as far as that shows, of which size."""
    for state in backend.look_at_files():
        if state.problem is not None:
            yield wrong("model", f"{state.file}: {state.problem}", state.remedy)
        else:
            yield right("model", f"{state.file}: {size(state.size)}, {state.note}")


def check_data(experiment: Experiment) -> tuple[Dataset | None, list[Finding]]:
    """The clips that can be used, and what is right and wrong with clips and prompts."""
    try:
        dataset = read_dataset(experiment, skip_invalid=True)
    except UserError as error:
        found = [
            wrong("clips", line, "mend it in the experiment") for line in str(error).split("\n")
        ]
        return None, list(shortened(found))
    remedy = "mend the clip or its prompts, or plan with --skip-invalid"
    findings = list(shortened(wrong("clips", line, remedy) for line in dataset.left_out))
    # Of what rules leave out nothing is made, so it need not be fit.
    clips = [clip for clip in dataset.clips if clip.info is not NOT_READ]
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(lambda clip: decode(experiment, clip), clips))
    broken = [
        wrong("clips", f"{clip.path}: {problem}", "make the clip again; ffmpeg -i FILE says more")
        for clip, problem in zip(clips, problems, strict=True)
        if problem is not None
    ]
    findings += shortened(broken)
    findings += shortened(compare(experiment, clips))
    rates = Counter(f"{clip.info.fps:g}" for clip in clips)
    good = len(clips) - len(broken)
    findings.append(
        right("clips", f"{good} decode and are long enough; frame rates: {said(rates)}")
    )
    return dataset, findings


def decode(experiment: Experiment, clip: Clip) -> str | None:
    """What is wrong with the frames that a job reads of a clip."""
    wanted = {
        (s.parameters["fps"], s.parameters["num_frames"]) for s in settings_of(experiment, clip)
    }
    # The longest at each rate has all that the others have.
    longest = dict(sorted(wanted))
    try:
        for fps, most in longest.items():
            frames = min(most, frames_available(clip.info, fps))
            path = experiment.data / clip.path
            read_clip(path, width=LOOK, height=LOOK, num_frames=frames, fps=fps)
    except BrokenVideo as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def settings_of(experiment: Experiment, clip: Clip) -> Sequence[Setting]:
    """The settings with which something may be made of a clip."""
    if clip.listed is None:
        return experiment.settings
    return [job.setting for job in clip.listed]


def compare(experiment: Experiment, clips: Sequence[Clip]) -> Iterator[Finding]:
    """Clips of which more is asked than they have."""
    for clip in clips:
        info = clip.info
        wanted = [setting.parameters for setting in settings_of(experiment, clip)]
        fps = max(own["fps"] for own in wanted)
        if info.fps < fps * 0.999:
            found = f"{clip.path}: has {info.fps:g} frames a second, {fps:g} are asked for"
            yield warning("clips", found, f"frames are repeated; fps: {info.fps:g} repeats none")
        width, height = (max(own[side] for own in wanted) for side in ("width", "height"))
        if info.width < width or info.height < height:
            found = f"{clip.path}: is {info.width}x{info.height}"
            yield warning("clips", found, f"it is scaled up to {width}x{height}")


def check_prompts(
    experiment: Experiment, backend: Backend[Any], data: Dataset
) -> Iterator[Finding]:
    """Prompts of which the text encoder would read only the beginning."""
    limit = backend.prompt_tokens
    texts = {text: clip for clip in data.clips for text in clip.prompts}
    if limit is None:
        yield right("prompts", f"{len(texts)} different ones")
        return
    negative = experiment.generation.negative_prompt
    count, source = token_counter(backend.tokenizer_file())
    longest = max((count(text) for text in texts), default=0)
    remedy = "shorten it: the rest is not read"
    found = [
        warning(
            "prompts", f"{clip.category}/{clip.video}: {count(text)} tokens: {text:.40}", remedy
        )
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
    wide = sum(ord(character) >= WIDE for character in text)
    return round(wide / 1.5 + (len(text) - wide) / 4) + 1


def said(counts: Counter[str]) -> str:
    return ", ".join(f"{value} ({number})" for value, number in counts.most_common(5))
