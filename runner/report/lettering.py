"""Text on pictures, in whatever script it is: fonts of this machine, one after the other.

Pillow brings a font with Latin letters; others come from the system, such as Debian's
`fonts-noto-cjk` for Chinese.
"""

from __future__ import annotations

import subprocess
import unicodedata
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..errors import UserError

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

Font = ImageFont.FreeTypeFont
ABSENT = "\U000ffffd"
"""A code point that no font has a letter for: what is drawn for it is drawn for any unknown one."""


class Lettering:
    """Text of one size. Every character is drawn with the first font that has it.

    Args:
        size: of the letters, in pixels.
        font: a font file to look in first.

    Raises:
        UserError: there is no such font file.
    """

    def __init__(self, size: int, font: Path | None = None) -> None:
        self.size = size
        self.line_height = round(size * 1.35)
        basic = ImageFont.load_default(size)
        assert isinstance(basic, Font), "Pillow without FreeType"
        self._fonts: list[Font] = [basic]
        self._more = list(font_files())
        if font is not None:
            try:
                self._fonts.insert(0, ImageFont.truetype(str(font), size))
            except OSError:
                raise UserError(f"--font {font}: is no font file that can be read") from None
        self._of: dict[str, Font] = {}

    def font(self, character: str) -> Font:
        """The font to draw a character with.

        Raises:
            UserError: it is a letter that no font here has.
        """
        found = self._of.get(character)
        if found is None:
            found = self._of[character] = self._find(character)
        return found

    def _find(self, character: str) -> Font:
        for font in self._fonts:
            if has(font, character):
                return font
        while self._more:
            path = self._more.pop(0)
            try:
                font = ImageFont.truetype(path, self.size)
            except OSError:
                continue
            self._fonts.append(font)
            if has(font, character):
                return font
        if unicodedata.category(character)[0] in "LN":
            raise UserError(
                f"no font on this machine has {character!r}; install one "
                "(Debian, Ubuntu: apt-get install fonts-noto-cjk), or name one with --font FILE"
            )
        # A picture character, such as an emoji: an empty box stands for it.
        return self._fonts[0]

    def width(self, text: str) -> float:
        return sum(self.font(character).getlength(character) for character in text)

    def wrap(self, text: str, width: int, lines: int) -> list[str]:
        """A text in at most so many lines of that width in pixels, cut short with `…`.

        It breaks at spaces, and between any two characters where a word is wider than a line,
        as Chinese text always may.
        """
        found = [""]
        for word in _words(" ".join(text.split())):
            if self.width(found[-1] + word.rstrip()) <= width:
                found[-1] += word
                continue
            if found[-1].strip():
                found.append("")
            for character in word.lstrip() if not found[-1] else word:
                if self.width(found[-1] + character) > width and found[-1]:
                    found.append("")
                found[-1] += character
        found = [line.strip() for line in found if line.strip()]
        if len(found) > lines:
            found = found[:lines]
            while found[-1] and self.width(found[-1] + "…") > width:
                found[-1] = found[-1][:-1]
            found[-1] = found[-1].rstrip() + "…"
        return found

    def write(self, image: Image.Image, at: tuple[int, int], lines: list[str], colour: str) -> None:
        """Draw lines of text from a top left corner on."""
        draw = ImageDraw.Draw(image)
        for number, line in enumerate(lines):
            x = float(at[0])
            # On one base line, whichever font a character is from.
            y = at[1] + number * self.line_height + self.size
            for character in line:
                font = self.font(character)
                draw.text((x, y), character, fill=colour, font=font, anchor="ls")
                x += font.getlength(character)


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
    """The system's fonts with Chinese: as fontconfig lists them, else by well-known names.

    Regular ones without serifs come first.
    """
    found: list[str] = []
    try:
        listed = subprocess.run(
            ["fc-list", ":lang=zh", "file"], capture_output=True, text=True, timeout=20, check=False
        )
        found = [line.rstrip(": ") for line in listed.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.TimeoutExpired):
        pass
    if not found:
        for folder in map(Path, FOLDERS):
            files = sorted(folder.expanduser().rglob("*.[to]t[cf]"))
            found += [str(f) for f in files if f.name.lower().startswith(NAMES)]

    def rank(path: str) -> tuple[bool, bool, str]:
        name = Path(path).name.lower()
        plain = "regular" in name or "-" not in name or name.startswith("wqy-")
        return ("serif" in name, not plain, path)

    return tuple(sorted(dict.fromkeys(found), key=rank))


def _words(text: str) -> list[str]:
    """Words with the space behind them; a wide character (Chinese) is a word of its own, with
    the mark that closes it."""
    found: list[str] = []
    for character in text:
        last = found[-1][-1] if found else " "
        closes = unicodedata.category(character) in ("Po", "Pe", "Pf") or character == " "
        breaks = last == " " or _is_wide(character) or _is_wide(last)
        if not found or (breaks and not closes):
            found.append("")
        found[-1] += character
    return found


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"
