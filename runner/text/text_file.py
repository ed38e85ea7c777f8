"""Text files that a person wrote: experiments, prompts, lists of jobs."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from .errors import UserError
from .input_file import MOST_TEXT_BYTES, read_input


def read_text(path: Path, what: str, *, absent: str | None = None) -> str:
    """A file's text, with or without a byte order mark.

    Args:
        what: what the file should be, for a person: `prompt file`.
        absent: what is said where there is none.

    Raises:
        UserError: there is none, or it cannot be read, or not as UTF-8.
    """
    name = shown(path)
    try:
        return read_input(path, MOST_TEXT_BYTES).decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UserError(absent or f"{name}: no such {what}") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder, and no {what}") from None
    except UnicodeDecodeError:
        raise UserError(f"{name}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from None


def nfc(name: str) -> str:
    """A name in the one form of those that Unicode has for it: macOS writes another than others."""
    return unicodedata.normalize("NFC", name)


def shown(path: Path) -> str:
    """A path as a person can read it, whatever bytes it is made of."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
