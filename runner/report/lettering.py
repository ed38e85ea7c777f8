"""Text on pictures, in whatever script it is: every character with the first font that has it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

from ..text.errors import UserError
from .fonts import Face, basic, font_files, fonts_with, has, open_face


class Lettering:
    """Text of one size. Every character is drawn with the first font that has it.

    Characters that no font here has are left out, and are in `left_out`; letters are not left
    out but an error. Of an emoji made of several the parts are drawn.

    Args:
        size: of the letters, in pixels.
        font: a font file to look in first.

    Raises:
        UserError: there is no such font file.
    """

    def __init__(self, size: int, font: Path | None = None) -> None:
        self.size = size
        self.line_height = round(size * 1.35)
        self.left_out: set[str] = set()
        self._faces: list[Face] = [basic(size)]
        self._more = list(font_files())
        if font is not None:
            face = open_face(str(font), size)
            if face is None:
                raise UserError(f"--font {font}: is no font file that can be read")
            self._faces.insert(0, face)
        self._of: dict[str, Face | None] = {}

    def face(self, character: str) -> Face | None:
        """What to draw a character with; None for one that is left out.

        Raises:
            UserError: it is a letter that no font here has.
        """
        if character not in self._of:
            self._of[character] = None if is_unseen(character) else self._find(character)
        return self._of[character]

    def _find(self, character: str) -> Face | None:
        for face in self._faces_for(character):
            if has(face.font, character):
                return face
        if unicodedata.category(character)[0] in "LN":
            package = "fonts-noto-cjk" if _is_wide(character) else "fonts-noto-core"
            raise UserError(
                f"no font on this machine has {character!r}; install one "
                f"(Debian, Ubuntu: apt-get install {package}), or name one with --font FILE"
            )
        self.left_out.add(character)
        return None

    def _faces_for(self, character: str) -> Iterator[Face]:
        """Those in hand, then all that this machine has; what is opened is kept."""
        yield from list(self._faces)
        while self._more:
            yield from self._open(self._more.pop(0))
        for path in fonts_with(character):
            yield from self._open(path)

    def _open(self, path: str) -> list[Face]:
        face = open_face(path, self.size)
        found = [] if face is None else [face]
        self._faces += found
        return found

    def width(self, text: str) -> float:
        faces = ((self.face(character), character) for character in text)
        return sum(face.width(character) for face, character in faces if face is not None)

    def wrap(self, text: str, width: int, lines: int) -> list[str]:
        """A text in at most this number of lines of that width in pixels, cut short with `…`.

        It breaks at spaces, and between any two characters where a word is wider than a line, as
        Chinese text always may.
        """
        found = [""]
        text = unicodedata.normalize("NFC", text)
        kept = "".join(c for c in " ".join(text.split()) if self.face(c) is not None)
        for word in _words(" ".join(kept.split())):
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
        for number, line in enumerate(lines):
            x = float(at[0])
            # On one base line, whichever font a character is from.
            y = at[1] + number * self.line_height + self.size
            for character in line:
                face = self.face(character)
                if face is not None:
                    _draw(image, (x, y), character, face, colour)
                    x += face.width(character)


def _draw(
    image: Image.Image, at: tuple[float, float], character: str, face: Face, colour: str
) -> None:
    """Draw a character from a place on its base line on."""
    if not face.is_pictures:
        ImageDraw.Draw(image).text(at, character, fill=colour, font=face.font, anchor="ls")
        return
    left, top, right, bottom = face.font.getbbox(character, anchor="ls")
    picture = Image.new("RGBA", (max(1, round(right - left)), max(1, round(bottom - top))))
    own = ImageDraw.Draw(picture)
    own.text((-left, -top), character, font=face.font, anchor="ls", embedded_color=True)
    size = [max(1, round(side * face.scale)) for side in picture.size]
    small = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    corner = (round(at[0] + left * face.scale), round(at[1] + top * face.scale))
    image.paste(small.convert(image.mode), corner, small)


def is_unseen(character: str) -> bool:
    """Whether a character only changes the one before it or how text runs: a variation selector,
    a joiner, a skin tone, a control character."""
    if "\ufe00" <= character <= "\ufe0f" or "\U0001f3fb" <= character <= "\U0001f3ff":
        return True
    return not character.isspace() and unicodedata.category(character) in ("Cc", "Cf", "Cs")


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
