"""A tokenizer folder for made-up checkpoints: bytes as tokens, so that no text is unknown."""

from __future__ import annotations

import json
from pathlib import Path

SPECIAL = ("<pad>", "</s>", "<unk>")
"""At ids 0, 1 and 2, as in UMT5's vocabulary."""


CONFIGURATION = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "model_max_length": 512,
    "clean_up_tokenization_spaces": False,
}
"""What `tokenizer_config.json` says."""


def write_tokenizer(folder: Path) -> None:
    """Write a byte-level tokenizer of 259 tokens that `AutoTokenizer.from_pretrained` loads.

    Like UMT5's it ends every text with `</s>`. Needs the `tokenizers` package.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE

    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(CONFIGURATION, indent=2) + "\n", encoding="utf-8")
