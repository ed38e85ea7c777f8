"""The one text form of a value, and hashes of it: what ids and fingerprints are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any


def canonical_json(value: Any) -> str:
    """The one text form of a value: sorted keys, no spaces, non-ASCII kept as it is."""
    return _encode(value)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def json_in_order(value: Any) -> str:
    """As `canonical_json`, with its keys in the order that they have."""
    return _encode_in_order(value)


_encode_in_order = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def sha256_of(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON in UTF-8."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def sha256_of_each(common: dict[str, Any], key: str, values: Sequence[int]) -> Iterator[str]:
    """`sha256_of({**common, key: value})` for each value, hashing the common beginning once."""
    before = canonical_json({k: v for k, v in common.items() if k < key})
    after = canonical_json({k: v for k, v in common.items() if k > key})
    comma = "," if before != "{}" else ""
    head = f"{before[:-1]}{comma}{json.dumps(key)}:".encode("utf-8", "surrogatepass")
    tail = (f",{after[1:]}" if after != "{}" else "}").encode("utf-8", "surrogatepass")
    prefix = hashlib.sha256(head)
    for value in values:
        digest = prefix.copy()
        digest.update(b"%d" % value + tail)
        yield digest.hexdigest()
