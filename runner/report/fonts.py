"""The fonts that labels are written in.

Pillow brings one with Latin letters, and one with Chinese lies in `font/`; what these do not have
comes from the system, such as Debian's `fonts-noto-cjk` for Korean and `fonts-noto-color-emoji`.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

CHINESE = Path(__file__).with_name("font") / "NotoSansCJKsc-GBK.otf"

FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
)
NAMES = (
    "notosanscjk",
    "notosanssc",
    "sourcehansans",
    "wqy-",
    "pingfang",
    "hiragino",
    "droidsansfallback",
)
"""Fonts with Chinese, Japanese and Korean, as their files are called."""
EMOJI_NAMES = ("notocoloremoji", "notoemoji", "symbola", "apple color emoji")

Font = ImageFont.FreeTypeFont
STRIKE_PIXELS = (109, 136, 128, 160)
"""The sizes in which fonts of pictures in place of outlines have them: Noto's, then others'."""
ABSENT = "\U000ffffd"
"""A code point that no font has a letter for: what is drawn for it is drawn for any unknown one."""


@dataclass(frozen=True)
class Face:
    """A font at one size; where it has pictures of another size only, they are scaled."""

    font: Font
    scale: float = 1.0

    @property
    def is_pictures(self) -> bool:
        return self.scale != 1.0

    def width(self, character: str) -> float:
        return self.font.getlength(character) * self.scale


def basic(size: int) -> Face:
    """Pillow's own font."""
    font = ImageFont.load_default(size)
    assert isinstance(font, Font), "Pillow without FreeType"
    return Face(font)


def open_face(path: str, size: int) -> Face | None:
    """A font file at a size in pixels; None where the file cannot be read as a font."""
    for own in (size, *STRIKE_PIXELS):
        try:
            return Face(ImageFont.truetype(path, own), size / own)
        except OSError:
            continue
    return None


def has(font: Font, character: str) -> bool:
    """Whether a font has a character, by whether it draws it as an unknown one."""
    if character.isspace():
        return True
    own, unknown = font.getmask(character), _unknown(font)
    return own.size != unknown[0] or bytes(own) != unknown[1]


@lru_cache
def _unknown(font: Font) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(ABSENT)
    return mask.size, bytes(mask)


@lru_cache
def font_files() -> tuple[str, ...]:
    """The fonts with Chinese: our own, then the system's, as fontconfig lists them, else by
    well-known names.

    Regular ones without serifs come first.
    """
    system = sorted(_listed(":lang=zh") or named_fonts(NAMES), key=_rank)
    return (str(CHINESE), *system)


@lru_cache(maxsize=1024)
def fonts_with(character: str) -> tuple[str, ...]:
    """The system's fonts with a character, of whatever script: as fontconfig lists them, else
    those with emoji by well-known names."""
    listed = _listed(f":charset={ord(character):x}") or named_fonts(EMOJI_NAMES)
    return tuple(sorted(listed, key=_rank))


def _listed(pattern: str) -> set[str]:
    """The files that fontconfig has for a pattern; none where there is no fontconfig."""
    command = ["fc-list", pattern, "file"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return {line.rstrip(": ") for line in listed.stdout.splitlines() if line.strip()}


def named_fonts(names: tuple[str, ...]) -> set[str]:
    """Font files of this machine whose names begin so."""
    return {
        str(file)
        for folder in map(Path, FOLDERS)
        for file in folder.expanduser().rglob("*.[to]t[cf]")
        if file.name.lower().startswith(names)
    }


def _rank(path: str) -> tuple[bool, bool, str]:
    name = Path(path).name.lower()
    plain = "regular" in name or "-" not in name or name.startswith("wqy-")
    return ("serif" in name, not plain, path)
