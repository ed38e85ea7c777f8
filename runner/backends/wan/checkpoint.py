"""A Wan checkpoint folder: which files it must hold, which are missing, and what is in them.

The layout is that of the published Wan2.1 text-to-video folders:

    diffusion_pytorch_model*.safetensors     the DiT, in one file or several shards
    models_t5_umt5-xxl-enc-bf16.pth          the text encoder
    Wan2.1_VAE.pth                           the VAE
    google/umt5-xxl/                         the tokenizer

Weights may be `.safetensors` or `.pth`; where both are there, `.safetensors` is taken.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...input_file import open_input, parse_json, read_json
from ...job import sha256_of
from .. import FileState
from ..model_file import content_of, header_bytes

DIT = "diffusion_pytorch_model"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16"
VAE = "Wan2.1_VAE"
TOKENIZER = "google/umt5-xxl"

SUFFIXES = (".safetensors", ".pth")
FULL_SIZE = 4 * 1024**3
_SHARD = re.compile(r"-\d{5}-of-(\d{5})$")


@dataclass(frozen=True)
class Checkpoint:
    """The files of one checkpoint folder, found by name; none of them need be there."""

    folder: Path

    @property
    def dit(self) -> list[Path]:
        """The DiT's shards in order; empty where there are none."""
        for suffix in SUFFIXES:
            if shards := sorted(self.folder.glob(f"{DIT}*{suffix}")):
                return shards
        return []

    @property
    def text_encoder(self) -> Path:
        return self._either(TEXT_ENCODER)

    @property
    def vae(self) -> Path:
        return self._either(VAE)

    @property
    def tokenizer(self) -> Path:
        return self.folder / TOKENIZER

    def missing(self) -> list[str]:
        """Every file that must be there and is not, relative to the folder."""
        absent = self._missing_shards()
        for part in (TEXT_ENCODER, VAE):
            if not self._either(part).is_file():
                absent.append(f"{part}.safetensors (or .pth)")
        if not (self.tokenizer / "tokenizer_config.json").is_file():
            absent.append(f"{TOKENIZER}/tokenizer_config.json")
        if not any(
            (self.tokenizer / name).is_file() for name in ("tokenizer.json", "spiece.model")
        ):
            absent.append(f"{TOKENIZER}/tokenizer.json (or spiece.model)")
        return absent

    def require(self, remedy: str) -> None:
        """Raise `UserError` naming every missing file, followed by `remedy`, or a file that
        was not copied whole as far as headers tell."""
        if not self.folder.is_dir():
            raise UserError(f"model.checkpoint: no such folder: {self.folder}; {remedy}")
        if absent := self.missing():
            raise UserError(f"model.checkpoint: {self.folder} lacks {', '.join(absent)}; {remedy}")
        for path in (*self.dit, self.text_encoder, self.vae):
            if path.suffix == ".safetensors":
                tensors_in(path)

    def states(self) -> list[FileState]:
        """Every file that must be there, and whether its header says that it is whole."""
        remedy = "copy it here, or set model.checkpoint"
        try:
            absent = self.missing()
        except UserError as error:
            return [FileState(str(self.folder), problem=str(error), remedy="copy it again")]
        found = [FileState(name, problem="is missing", remedy=remedy) for name in absent]
        for path in (*self.dit, self.text_encoder, self.vae):
            if path.is_file():
                name, size = path.relative_to(self.folder).as_posix(), path.stat().st_size
                problem = header_problem(path)
                found.append(FileState(name, size, problem, "copy it again" if problem else ""))
        return found

    def full_size(self) -> bool:
        """Whether the DiT is too large to be of use on a CPU."""
        return sum(shard.stat().st_size for shard in self.dit) > FULL_SIZE

    def digest(self) -> str:
        """Hex digest of the contents: names, sizes, headers and fixed sampled blocks of every
        file that is loaded. It reads a few MiB of each file, and is the same wherever the
        folder lies and whatever it is called."""
        return sha256_of(
            {path.relative_to(self.folder).as_posix(): content_of(path) for path in self.files()}
        )

    def contents(self) -> list[dict[str, Any]]:
        """What `digest` is made of: each file, its size (bytes) and its hashes."""
        return [
            {"file": path.relative_to(self.folder).as_posix(), **content_of(path)}
            for path in self.files()
        ]

    def text_encoder_contents(self) -> list[dict[str, Any]]:
        """What decides a prompt's embedding: text encoder and tokenizer, as in `contents`."""
        return [content_of(path) for path in (self.text_encoder, *self._tokenizer_files())]

    def files(self) -> Iterator[Path]:
        """Every file that is loaded."""
        yield from self.dit
        yield self.text_encoder
        yield self.vae
        yield from self._tokenizer_files()

    def _tokenizer_files(self) -> Iterator[Path]:
        for path in sorted(self.tokenizer.rglob("*")):
            # Download tools leave records of their own in dot folders.
            inside = path.relative_to(self.tokenizer).parts
            if path.is_file() and not any(part.startswith(".") for part in inside):
                yield path

    def _either(self, stem: str) -> Path:
        paths = [self.folder / f"{stem}{suffix}" for suffix in SUFFIXES]
        return next((path for path in paths if path.is_file()), paths[0])

    def _missing_shards(self) -> list[str]:
        shards = self.dit
        if not shards:
            return [f"{DIT}*.safetensors (or .pth)"]
        present = {path.name for path in shards}
        expected: set[str] = set()
        index = self.folder / f"{DIT}{shards[0].suffix}.index.json"
        if index.is_file():
            try:
                expected.update(read_json(index)["weight_map"].values())
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(f"model.checkpoint: {index} is no index of shards") from error
        for path in shards:
            if numbered := _SHARD.search(path.stem):
                count = int(numbered[1])
                stem = path.stem[: numbered.start()]
                expected.update(
                    f"{stem}-{i:05}-of-{count:05}{path.suffix}" for i in range(1, count + 1)
                )
        return sorted(expected - present)


def tensors_in(path: Path) -> dict[str, list[int]]:
    """The shape of every tensor in a `.safetensors` file, from its header alone.

    Raises:
        UserError: the header cannot be read, or the file is longer or shorter than it says.
    """
    length = header_bytes(path)
    try:
        with open_input(path) as file:
            file.seek(8)
            header = parse_json(file.read(length))
        header.pop("__metadata__", None)
        end = max(entry["data_offsets"][1] for entry in header.values())
        shapes = {name: entry["shape"] for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"model.checkpoint: {path} is no safetensors file; copy it again"
        ) from error
    if path.stat().st_size != 8 + length + end:
        raise UserError(
            f"model.checkpoint: {path} has {path.stat().st_size} bytes and should have "
            f"{8 + length + end}; copy it again"
        )
    return shapes


def header_problem(path: Path) -> str | None:
    """What the header of a weights file says is wrong with it.

    A `.pth` is a zip whose table of contents stands at its end: a file cut short has none
    (https://pytorch.org/docs/stable/notes/serialization.html).
    """
    try:
        if path.suffix == ".safetensors":
            tensors_in(path)
        elif not zipfile.is_zipfile(path):
            return "is no file that torch saved, or was cut short"
    except UserError as error:
        return str(error).partition(str(path))[2].partition(";")[0].strip()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def parameters_in(path: Path) -> int:
    """The number of weights in a file; a `.pth` is taken to hold two bytes for each."""
    if path.suffix == ".safetensors":
        return sum(math.prod(shape) for shape in tensors_in(path).values())
    return path.stat().st_size // 2
