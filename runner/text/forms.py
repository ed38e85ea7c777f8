"""What a record that was read from a file must look like: a test for each of its keys.

A file that somebody else may have written says anything: a text for a number, a number beyond
every clock. Where a record is read it is held against its form once, and from then on trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Any], bool]
Form = Mapping[str, Test]

LARGEST_NUMBER = 1e15
"""Beyond any size, time or number that a record of ours has."""
LARGEST_VIDEO_NUMBER = 1 << 20
"""Of a side in pixels, or of frames."""


def is_number(value: Any) -> bool:
    """A finite number of a size that has a meaning."""
    # Not by math.isfinite, which raises for a whole number of 400 digits.
    is_plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_plain and abs(value) <= LARGEST_NUMBER


def is_amount(value: Any) -> bool:
    """A number from 0."""
    return is_number(value) and value >= 0


def is_moment(value: Any) -> bool:
    """Unix seconds that a clock can show: until the year 9999."""
    return is_number(value) and 0 <= value < 253_402_300_800


def is_count(value: Any) -> bool:
    """A whole number from 0."""
    return type(value) is int and 0 <= value <= LARGEST_NUMBER


def is_size(value: Any) -> bool:
    """A whole number from 1, of pixels or frames."""
    return type(value) is int and 1 <= value <= LARGEST_VIDEO_NUMBER


def is_frames(value: Any) -> bool:
    """A number of frames, or the least and the most."""
    if isinstance(value, list) and len(value) == 2:
        return is_size(value[0]) and is_size(value[1]) and value[0] <= value[1]
    return is_size(value)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_writable(value: Any) -> bool:
    """A text that a file, a database and a file's name can hold: no half character, no NUL."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        # A hundred thousand prompts are looked at one after the other: not a character at a time.
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_MADE = {"run", "job", "fingerprint", "output"}
_INPUTS = ({"path", "sha256"}, {"text"}, _MADE, {*_MADE, "sha256"})


def is_input_record(value: Any) -> bool:
    """What a video is made from: a file by path and content, a text, or a job of another run."""
    keys = value.keys() if isinstance(value, dict) else ()
    return keys in _INPUTS and all(map(is_writable, value.values()))


def is_axis_value(value: Any) -> bool:
    """The name of a file or the number of a text."""
    return is_writable(value) if isinstance(value, str) else is_count(value) and value < 2**31


def is_fps(value: Any) -> bool:
    """A rate of frames that a video can have."""
    return is_number(value) and 1e-3 <= value <= LARGEST_VIDEO_NUMBER


def is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def mapping_of(test: Test) -> Test:
    """A mapping from texts; JSON has no other."""
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def record_of(form: Form) -> Test:
    """A check of mappings: a key of the form that a mapping has must have the form's kind of
    value."""
    return lambda value: isinstance(value, dict) and misfit(value, form) is None


def anything(_value: Any) -> bool:
    return True


def misfit(record: Mapping[str, Any], form: Form) -> str | None:
    """The first key of the form that a record has in another way, or None; keys may be absent."""
    return next(
        (key for key, test in form.items() if key in record and not test(record[key])), None
    )


def has_form(record: Any, form: Form) -> bool:
    """Whether it has every key of the form, each as the form has it, and no other."""
    return (
        isinstance(record, dict) and record.keys() == form.keys() and misfit(record, form) is None
    )


def checked(record: Any, form: Form) -> dict[str, Any]:
    """The record, of a mapping that has every key of the form, each as the form has it, and no
    other.

    Raises:
        ValueError: it is another.
    """
    if not isinstance(record, dict) or record.keys() != form.keys():
        raise ValueError("it does not have the keys that it must have")
    if (key := misfit(record, form)) is not None:
        raise ValueError(f"{key} is not as it must be")
    return record
