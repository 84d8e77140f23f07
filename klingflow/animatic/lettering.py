"""Lines of text in any script: each sign in our own font, else in a font of this system that has it.

Our own font keeps the bytes of a clip the same on every machine wherever it has all the signs. Other scripts are asked
of fontconfig; what no font has is drawn as an empty box, and `missing` tells it. Joined letters, marks and
right-to-left within a run are shaped by raqm, where Pillow finds it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

Font = ImageFont.FreeTypeFont

FONTS = Path(__file__).parents[1] / "fonts"
"""Source Sans Pro 2.020 by Adobe, unchanged, under the SIL Open Font License 1.1 (OFL.txt beside it)."""

_JOINERS = "\u200c\u200d"


@lru_cache(maxsize=64)
def own_font(size: int, bold: bool = False) -> Font:
    """Source Sans Pro: Pillow's own font has no umlauts. The basic layout engine, because it is in every Pillow."""
    path = FONTS / ("SourceSansPro-Semibold.ttf" if bold else "SourceSansPro-Regular.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@dataclass(frozen=True, slots=True)
class Face:
    """One size and weight of lettering."""

    size: int
    bold: bool = False

    def width(self, text: str) -> float:
        return sum(self._long(font, part) for font, part in self._runs(text))

    def draw(
        self,
        on: Image.Image,
        at: tuple[float, float],
        text: str,
        fill: tuple[int, int, int],
        *,
        room: float = 0.0,
        rtl: bool | None = None,
        end: bool = False,
    ) -> None:
        """Draws a line, its top left corner at `at`; `end`: its top right one.

        `rtl`: whether the text that it is a line of is written from the right (else the line itself tells); then it
        stands at the right of `room`.
        """
        runs, (x, y) = self._runs(text), at
        rtl = from_right(text) if rtl is None else rtl
        if end or (rtl and room):
            x += (0.0 if end else room) - self.width(text)
        y += own_font(self.size, self.bold).getmetrics()[0]
        draw = ImageDraw.Draw(on)
        for font, part in reversed(runs) if rtl else runs:
            shaped = font.layout_engine == ImageFont.Layout.RAQM
            if rtl and not shaped:
                part = _turned(part)
            direction = ("rtl" if rtl else "ltr") if shaped else None
            if font.size == self.size:
                draw.text((x, y), part, fill, font, anchor="ls", direction=direction)
            else:
                picture = _picture(font, part, direction, self.size)
                on.paste(picture, (round(x), round(y) - round(picture.height * 0.8)), picture)
            x += self._long(font, part)

    def _long(self, font: Font, part: str) -> float:
        return _width(font, part) * self.size / font.size

    def _runs(self, text: str) -> list[tuple[Font, str]]:
        """The text in logical order, cut where the font changes; blanks and marks stay with the sign before them."""
        names: list[tuple[str, int] | None] = []
        for char in text:
            stays = names and (char == " " or char in _JOINERS or unicodedata.category(char)[0] == "M")
            names.append(names[-1] if stays else _place(char))
        runs = groupby(zip(names, text, strict=True), key=lambda pair: pair[0])
        return [(_font(name, self.size, self.bold), "".join(char for _, char in pairs)) for name, pairs in runs]


def _turned(part: str) -> str:
    """A part of a right-to-left line in a font that is not shaped: the blank after a word stands at its left, and
    brackets that hold nothing of the part open to the other side."""
    word = part.rstrip(" ")
    blanks = " " * (len(part) - len(word))
    return blanks + (word if any(char.isalnum() for char in word) else word.translate(_MIRROR))


_MIRROR = str.maketrans("()[]{}<>«»‹›", ")(][}{><»«›‹")


def _picture(font: Font, part: str, direction: str | None, size: int) -> Image.Image:
    """Signs that a font holds as pictures of one size, such as coloured emoji, made as small as the line."""
    ascent, descent = font.getmetrics()
    image = Image.new("RGBA", (max(1, round(font.getlength(part))), ascent + descent))
    ImageDraw.Draw(image).text((0, 0), part, "white", font, direction=direction, embedded_color=True)
    share = size / font.size
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))


def from_right(text: str) -> bool:
    """Whether the first letter that has a direction is written from right to left."""
    directions = (unicodedata.bidirectional(char) for char in text)
    return next((direction != "L" for direction in directions if direction in ("L", "R", "AL")), False)


def missing(texts: Iterable[str]) -> list[str]:
    """The signs, each once, that no font of this machine has."""
    return sorted({char for text in texts for char in text if char.isprintable() and _place(char) == _NOWHERE})


def shapes() -> bool:
    """Whether this machine's Pillow joins letters and sets right-to-left text."""
    return bool(features.check("raqm"))


_NOWHERE = ("", 0)


@lru_cache(maxsize=4096)
def _place(char: str) -> tuple[str, int] | None:
    """The file and index of a font that has the sign: None for our own, _NOWHERE where there is none."""
    own = own_font(16)
    if char.isspace() or bytes(own.getmask(char)) != bytes(own.getmask("\uffff")):
        return None
    for place, signs in _system():
        if ord(char) in signs:
            try:
                _font(place, 16, False)
            except OSError:
                continue
            return place
    return _NOWHERE


@lru_cache(maxsize=1)
def _system() -> list[tuple[tuple[str, int], Container[int]]]:
    """The fonts of this machine and the signs that each has, best first, and those of coloured pictures last."""
    import fontconfig  # where a text is in our own font, nobody waits for it

    return [
        ((str(found["file"]), int(found["index"]) & 0xFFFF), found["charset"])
        for colour in ("false", "true")
        for found in fontconfig.sort(f"sans-serif:color={colour}", select=("file", "index", "charset"))
    ]


@lru_cache(maxsize=256)
def _font(place: tuple[str, int] | None, size: int, bold: bool) -> Font:
    """Of another size where the font has pictures of one size alone."""
    if place is None or place == _NOWHERE:
        return own_font(size, bold)
    engine = ImageFont.Layout.RAQM if shapes() else ImageFont.Layout.BASIC
    for tried in (size, *_PICTURE_SIZES):
        try:
            return ImageFont.truetype(place[0], tried, index=place[1], layout_engine=engine)
        except OSError:
            if tried == _PICTURE_SIZES[-1]:
                raise
    raise AssertionError


_PICTURE_SIZES = (109, 128, 136, 160)
"""Of the coloured emoji of Noto, and of Apple."""


@lru_cache(maxsize=8192)
def _width(font: Font, text: str) -> float:
    return font.getlength(text)
