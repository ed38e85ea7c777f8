"""Prompt embeddings, computed once per sweep and kept in the run folder's cache.

The text encoder is loaded for as long as it has something to encode, all that the sweep is known
to need in one go, and freed again: the denoising has the GPU to itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...disk.run_folder import locked
from ...machine.waiting import Busy, Waiting
from ...text.canonical import sha256_of
from .tensor_file import read_tensors, try_to_write

logger = logging.getLogger("sweep.wan")

TEXTS_AT_ONCE = 1000
"""Encoded while a job waits for one of them."""

MAKER_WAITS = Waiting(seconds=None)
"""For a worker that encodes: as long as it takes, unless it stands still."""

Encode = Callable[[str], Any]
"""Gives a text's embedding, (1, length, width)."""


class PromptEmbeddings:
    """The embeddings of one text encoder's texts.

    Args:
        folder: where they are kept; shared by all workers of a sweep.
        encoder: what decides an embedding beside the text: the encoder's files by content, the
            arithmetic's type, the device.
        open_encoder: loads the text encoder, and frees it again.
        known: the texts that this sweep is known to need.
    """

    def __init__(
        self,
        folder: Path,
        encoder: dict[str, Any],
        open_encoder: Callable[[], AbstractContextManager[Encode]],
        known: Callable[[], Iterable[str]],
    ) -> None:
        self._folder = folder
        self._encoder = encoder
        self._open_encoder = open_encoder
        self._known = known

    def make_known(self, *, wait: bool) -> bool:
        """Make what is missing of the known texts, and let other workers have it.

        Args:
            wait: for a worker that is at it already; otherwise nothing is done beside one.

        Returns:
            Whether all known texts are there now.
        """
        if not self._missing():
            return True
        try:
            with locked(self._lock, MAKER_WAITS if wait else Waiting.at_most(0)):
                self._make(self._missing())
        except Busy:
            return False
        return True

    def of(self, text: str) -> Any:
        """The embedding of a text, on the CPU: (1, length, width). Made where it is missing
        or damaged, and with it all known texts of which the same is so."""
        found = self._read(text)
        if found is None:
            try:
                with locked(self._lock, MAKER_WAITS):
                    # Another worker may just have made it.
                    found = self._read(text)
                    if found is None:
                        found = self._make(self._with_others(text))
            except Busy as error:
                logger.warning("%s; encoding it here", error)
                found = self._make([text])
        return found

    def path(self, text: str) -> Path:
        """Where a text's embedding is kept."""
        return self._folder / f"{sha256_of({**self._encoder, 'text': text})}.safetensors"

    def _with_others(self, text: str) -> list[str]:
        """A text, and all that may be made with it: a damaged file seldom comes alone, and the
        encoder is loaded once for all."""
        others = self._unreadable() if self.path(text).exists() else self._missing()
        return [text, *(other for other in others if other != text)][:TEXTS_AT_ONCE]

    @property
    def _lock(self) -> Path:
        return self._folder / "lock"

    def _missing(self) -> list[str]:
        return [text for text in dict.fromkeys(self._known()) if not self.path(text).exists()]

    def _unreadable(self) -> list[str]:
        """As `_missing`, and damaged ones: all files are read."""
        known = dict.fromkeys(self._known())
        return [text for text in known if read_tensors(self.path(text)) is None]

    def _make(self, texts: list[str]) -> Any:
        """Encode and keep texts; returns the first one's embedding."""
        if not texts:
            return None
        start = time.monotonic()
        first = None
        with self._open_encoder() as encode:
            for number, text in enumerate(texts):
                embedding = encode(text).cpu()
                first = embedding if first is None else first
                # Rows past the text's end are zero: not worth their room on the disk.
                rows = _rows(embedding)
                tensors = {"rows": embedding[:, :rows]}
                facts = {"length": str(embedding.shape[1])}
                if not try_to_write(self.path(text), tensors, facts):
                    texts = texts[: number + 1]
                    break
        logger.info("%d prompt embeddings made in %.1f s", len(texts), time.monotonic() - start)
        return first

    def _read(self, text: str) -> Any:
        import torch

        held = read_tensors(self.path(text))
        if held is None:
            return None
        rows, length = held[0]["rows"], int(held[1]["length"])
        embedding = torch.zeros((1, length, rows.shape[2]), dtype=rows.dtype)
        embedding[:, : rows.shape[1]] = rows
        return embedding


def _rows(embedding: Any) -> int:
    """How many rows there are up to the last that is not zero in every bit."""
    import torch

    used = embedding[0].contiguous().view(torch.uint8).any(dim=1).nonzero()
    return int(used[-1]) + 1 if len(used) else 0
