"""The tiny checkpoint's tokenizer: byte-level BPE whose merges come from captions.

A word of the captions or a Chinese character is one token; other text is told apart by bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from runner.backends.wan.sizes import TINY
from runner.backends.wan.tokenizer import CONFIGURATION, SPECIAL
from runner.scenes.caption import captions
from runner.scenes.chance import random_scene
from runner.scenes.words import CATEGORIES

TOKENS = 40
"""A training text's tokens at most, `</s>` included."""

UNWANTED = ("blurry", "low quality", "noise", "distorted, ugly", "模糊", "低质量，变形")
"""Negative prompts that stand, in a part of the training, where the empty one stands."""


def train_tokenizer(folder: Path, clips: int = 6_000) -> None:
    """Learn the merges from the captions of that many scenes and write the folder."""
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    random = np.random.default_rng(0)
    texts: list[str] = list(UNWANTED) * 100
    for number in range(clips):
        texts += captions(random_scene(random, CATEGORIES[number % len(CATEGORIES)]))
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    # A word is the same wherever it stands, and Chinese has no spaces: a token a character.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=TINY.text_encoder["vocab"],
        min_frequency=20,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = json.dumps(CONFIGURATION, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def token_ids(folder: Path, texts: Iterable[str]) -> list[list[int]]:
    """Token ids of each text, with `</s>`.

    Raises:
        ValueError: a text has more than `TOKENS` of them.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    longest = max(map(len, ids))
    if longest > TOKENS:
        raise ValueError(f"a caption has {longest} tokens, {TOKENS} are allowed")
    return ids
