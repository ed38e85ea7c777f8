"""What a weights file is made of, from its header alone: names, types and shapes of its tensors."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ...text.errors import UserError
from ...text.input_file import open_input, parse_json
from ..model_file import header_bytes


class BadFile(UserError):
    """A model's file that cannot be read as what it should be, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"model.checkpoint: {path} {reason}; copy it again")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class TensorHeader:
    """A tensor as a header describes it; `dtype` in the words of safetensors: BF16, F8_E4M3."""

    dtype: str
    shape: tuple[int, ...]


TensorHeaders = Mapping[str, TensorHeader]
MOST_TENSOR_AXES = 8
"""A video's tensor has five, with the batch."""
NO_SAFETENSORS = "is no safetensors file"


class Format(Enum):
    """What a file's first bytes say that it is."""

    SAFETENSORS = "safetensors"
    GGUF = "GGUF"
    PICKLE = "a Python pickle (.pth)"
    LFS_POINTER = "the pointer that Git LFS leaves in place of a file"
    WEB_PAGE = "a web page"
    EMPTY = "empty"
    UNKNOWN = "of no known format"


BEGINNINGS = (
    # https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    (b"GGUF", Format.GGUF),
    (b"PK\x03\x04", Format.PICKLE),
    # What torch wrote before its files were zips, and pickle's protocols 2 to 5.
    *((bytes([0x80, protocol]), Format.PICKLE) for protocol in (2, 3, 4, 5)),
    (b"version https://git-lfs", Format.LFS_POINTER),
    (b"<", Format.WEB_PAGE),
)


def format_of(path: Path) -> Format:
    """The format of a file, by its first bytes.

    Raises:
        OSError: it cannot be read.
    """
    with open_input(path) as file:
        start = file.read(64)
    if not start:
        return Format.EMPTY
    # A length of eight bytes stands before a JSON object.
    if start[8:9] == b"{":
        return Format.SAFETENSORS
    return next(
        (found for signature, found in BEGINNINGS if start.startswith(signature)), Format.UNKNOWN
    )


def tensors_in(path: Path) -> dict[str, TensorHeader]:
    """Every tensor in a `.safetensors` file.

    Raises:
        BadFile: the header cannot be read, or the file is longer or shorter than it says.
    """
    try:
        length = header_bytes(path)
        with open_input(path) as file:
            file.seek(8)
            header = parse_json(file.read(length))
        size = path.stat().st_size
    except OSError as error:
        raise BadFile(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadFile(path, NO_SAFETENSORS) from error
    try:
        header.pop("__metadata__", None)
        end = max(entry["data_offsets"][1] for entry in header.values())
        tensors = {name: _tensor(entry) for name, entry in header.items()}
        whole = 8 + length + end
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise BadFile(path, NO_SAFETENSORS) from error
    if size != whole:
        raise BadFile(path, f"has {size} bytes and should have {whole}")
    return tensors


def _tensor(entry: Mapping[str, object]) -> TensorHeader:
    shape = entry["shape"]
    if not isinstance(shape, list) or len(shape) > MOST_TENSOR_AXES:
        raise TypeError(shape)
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise ValueError(shape)
    return TensorHeader(str(entry["dtype"]), tuple(shape))


def header_problem(path: Path) -> str | None:
    """What the header of a weights file says is wrong with it.

    A `.pth` is a zip whose table of contents stands at its end: a file cut short has none
    (https://pytorch.org/docs/stable/notes/serialization.html).
    """
    try:
        found = format_of(path)
        if found in (Format.LFS_POINTER, Format.WEB_PAGE, Format.EMPTY):
            return f"is {found.value}"
        if path.suffix == ".safetensors":
            tensors_in(path)
        elif not zipfile.is_zipfile(path) and not is_old_pickle(path):
            return "is no file that torch saved, or was cut short"
    except BadFile as error:
        return error.reason
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def is_old_pickle(path: Path) -> bool:
    """Whether torch saved a file before its files were zips; whether it is whole does not show."""
    with open_input(path) as file:
        return file.read(1) == b"\x80"


def parameters_in(path: Path) -> int:
    """The number of weights in a file; a `.pth` is taken to hold two bytes for each.

    Raises:
        BadFile: as `tensors_in`.
    """
    if path.suffix == ".safetensors":
        return number_of_weights(tensors_in(path))
    return path.stat().st_size // 2


def number_of_weights(tensors: TensorHeaders) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def main_type(tensors: TensorHeaders) -> str:
    """The type that most of the weights have."""
    weights: Counter[str] = Counter()
    for tensor in tensors.values():
        weights[tensor.dtype] += math.prod(tensor.shape)
    return weights.most_common(1)[0][0] if weights else ""


def names_and_shapes_md5(tensors: TensorHeaders) -> str:
    """The MD5 by which diffsynth knows a model, of the names and shapes of all its tensors: what
    its `hash_model_file` gives."""
    keys = list(tensors)
    keys += [f"{name}:{'_'.join(map(str, tensor.shape))}" for name, tensor in tensors.items()]
    return hashlib.md5(",".join(sorted(keys)).encode(), usedforsecurity=False).hexdigest()
