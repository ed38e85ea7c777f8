"""A Wan checkpoint folder: which files it must hold, which are missing, and their digest.

The layout is that of the published Wan2.1 text-to-video folders:

    diffusion_pytorch_model*.safetensors     the DiT, in one file or several shards
    models_t5_umt5-xxl-enc-bf16.pth          the text encoder
    Wan2.1_VAE.pth                           the VAE
    google/umt5-xxl/                         the tokenizer

Weights may be `.safetensors` or `.pth`; where both are there, `.safetensors` is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...text.canonical import sha256_of
from ..model_file import content_of
from .shards import expected, without_mark

DIT = "diffusion_pytorch_model"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16"
VAE = "Wan2.1_VAE"
TOKENIZER = "google/umt5-xxl"

SUFFIXES = (".safetensors", ".pth")
FULL_SIZE_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Checkpoint:
    """The files of one checkpoint folder, found by name; none of them need be there."""

    folder: Path

    @property
    def dit(self) -> list[Path]:
        """The DiT's shards in order; empty where there are none."""
        for suffix in SUFFIXES:
            shards = sorted(self.folder.glob(f"{DIT}*{suffix}"))
            # Neither a link that leads nowhere nor a folder is a file to load.
            if shards := [path for path in shards if path.is_file()]:
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
        """Every file that must be there and is not, relative to the folder.

        Raises:
            BadFile: an index of shards is none.
        """
        return [said for said, _ in self.absent()]

    def absent(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """As `missing`, each with the names that it can have."""
        if shards := self.dit:
            for name in sorted(expected(shards) - {path.name for path in shards}):
                yield name, (name,)
        else:
            begun = [without_mark(path.name) for path in sorted(self.folder.glob(f"{DIT}*"))]
            begun += [f"{DIT}{suffix}" for suffix in SUFFIXES]
            yield f"{DIT}*.safetensors (or .pth)", tuple(dict.fromkeys(begun))
        for part in (TEXT_ENCODER, VAE):
            if not self._either(part).is_file():
                names = tuple(f"{part}{suffix}" for suffix in SUFFIXES)
                yield f"{part}.safetensors (or .pth)", names
        configuration = f"{TOKENIZER}/tokenizer_config.json"
        if not (self.folder / configuration).is_file():
            yield configuration, (configuration,)
        tables = tuple(f"{TOKENIZER}/{name}" for name in ("tokenizer.json", "spiece.model"))
        if not any((self.folder / name).is_file() for name in tables):
            yield f"{tables[0]} (or spiece.model)", tables

    def full_size(self) -> bool:
        """Whether the DiT is too large to be of use on a CPU."""
        return sum(shard.stat().st_size for shard in self.dit) > FULL_SIZE_BYTES

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
