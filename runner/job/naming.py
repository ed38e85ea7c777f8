"""How points of the grid are called: ids, groups and output paths, the same for ever."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..text.canonical import canonical_json, sha256_of, sha256_of_each
from . import CATEGORY, SEED

SUFFIX_CHARACTERS = 120
"""Characters that axes may add to a file name, which can have 255 bytes in all."""


def job_ids(
    point: Mapping[str, str | int],
    seeds: Sequence[int],
    differing: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """The ids of the jobs at a point with these seeds: 16 hex digits each, which stay the same
    whatever else the experiment gains.

    Each is of the canonical JSON of the whole point, with `parameters` where some differ; what
    stands before the seed is hashed once.

    Args:
        differing: the parameters that an axis sets differently from `generation`.
    """
    whole: dict[str, Any] = dict(point)
    if differing:
        whole["parameters"] = dict(differing)
    return (digest[:16] for digest in sha256_of_each(whole, SEED, seeds))


def path_around_seed(point: Mapping[str, str | int], leading: str) -> tuple[str, str]:
    """What stands before the seed in the output path of a point's videos, and behind it.

    The values of file axes are folders, and so is that of the leading axis; numbers are words:
    `<category>/<video>/<audio>/seed_` and `_prompt_0`.
    """
    folders, words = [str(point[CATEGORY])], []
    for axis, value in point.items():
        if axis == CATEGORY:
            continue
        if isinstance(value, str) or axis == leading:
            folders.append(folder_name(axis, value))
        else:
            words.append(f"_{axis}_{value}")
    return f"{'/'.join(folders)}/seed_", "".join(words)


def group_key(point: Mapping[str, str | int], axes: Sequence[str]) -> str:
    """The group of a point whose jobs share what they have on these axes: `category/video`."""
    names = [folder_name(axis, point[axis]) for axis in axes if axis in point]
    return "/".join([str(point[CATEGORY]), *names])


def folder_name(axis: str, value: str | int) -> str:
    """A value as the name of a folder: a number says of which axis it is."""
    return value if isinstance(value, str) else f"{axis}_{value}"


def path_suffix(differing: Mapping[str, Any]) -> str:
    """What differing parameters add to the name of a video: `_cfg_scale=3.0_num_frames=49`.

    Two sets of them never share a suffix: names come in one order, no value has a `_` or a `=`,
    and what would be too long is the hash of all of it.
    """
    words = [f"_{name}={path_word(differing[name])}" for name in sorted(differing)]
    suffix = "".join(words)
    if len(suffix) > SUFFIX_CHARACTERS:
        return f"_parameters={_hashed(dict(differing))}"
    return suffix


_PLAIN = re.compile(r"[A-Za-z0-9+-]{1,32}")
_HASHED = re.compile(r"h[0-9a-f]{12}")


def path_word(value: Any) -> str:
    """A parameter's value in a file name: a number as it is, so a short plain text; else a hash.

    A text that reads like a number or a hash is hashed, so that no two values share a word.
    """
    if not isinstance(value, str):
        return _hashed(value) if isinstance(value, (list, dict)) else canonical_json(value)
    is_plain = _PLAIN.fullmatch(value) and not _HASHED.fullmatch(value)
    return value if is_plain and not _is_json(value) else _hashed(value)


def _hashed(value: Any) -> str:
    return f"h{sha256_of(value)[:12]}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
