"""The pictures of a review: frames and stills as small JPEGs, where two stills differ, and the strip of all changes.

Knows no file, no store and no storyboard: pictures in RGB come in, pictures go out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from klingflow.animatic.lettering import Face

MOST_SIDE = 960
"""Pixels of the longer side of a picture that is kept."""
THUMB_SIDE = 200
_DETAIL_SIDE = 480
_LEAST_DETAIL = 48
"""Pixels of a still's part that is shown enlarged."""
_MARK = (255, 40, 210)
_CARD = (42, 43, 48)
_SOFT = (176, 178, 188)
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """An encoded picture."""

    data: bytes
    width: int
    height: int

    def smaller(self, side: int) -> Jpeg:
        """The same with at most so many pixels on its longer side."""
        if max(self.width, self.height) <= side:
            return self
        with Image.open(BytesIO(self.data)) as picture:
            picture.draft("RGB", (side, side))  # at a half or a quarter, where that is enough
            return encoded(picture.convert("RGB"), side, 72)

    def image(self) -> Image.Image:
        return Image.open(BytesIO(self.data)).convert("RGB")


def encoded(picture: Image.Image, side: int = MOST_SIDE, quality: int = 82) -> Jpeg:
    """A picture as JPEG, at most so many pixels on its longer side; a smaller one stays as large as it is."""
    part = min(1.0, side / max(picture.size))
    if part < 1:
        size = max(1, round(picture.width * part)), max(1, round(picture.height * part))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    data = BytesIO()
    picture.save(data, "JPEG", quality=quality, subsampling=0 if quality > 90 else -1)
    return Jpeg(data.getvalue(), *picture.size)


def card(lines: Sequence[str], size: tuple[int, int]) -> Image.Image:
    """A picture that stands where there is none, with the reason on it: the first line is large."""
    width, height = size
    picture = Image.new("RGB", size, _CARD)
    ImageDraw.Draw(picture).rectangle((0, 0, width - 1, height - 1), outline=(90, 92, 100), width=max(1, width // 320))
    large = max(12, min(width // 14, height // 7))
    faces = [Face(large if n == 0 else max(10, large * 2 // 3), bold=n == 0) for n in range(len(lines))]
    pairs = [(face, row) for face, line in zip(faces, lines, strict=True) for row in _rows(face, line, width * 0.88)]
    y = (height - sum(face.size * 1.35 for face, _ in pairs)) / 2
    for face, row in pairs:
        face.draw(picture, ((width - face.width(row)) / 2, y), row, _WHITE if face.bold else _SOFT)
        y += face.size * 1.35
    return picture


def _rows(face: Face, text: str, room: float) -> list[str]:
    """The words of a line in as many rows as they need; a word that is too long loses its end."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and face.width(longer) > room:
            rows.append(word)
        else:
            rows[-1] = longer
    return [_fitting(face, row, room) for row in rows[:4]]


def _fitting(face: Face, text: str, room: float) -> str:
    if face.width(text) <= room:
        return text
    while text and face.width(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two pictures of one size differ, pixel by pixel."""

    pixels: int
    of: int
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of all that differs, in pixels."""
    place: tuple[float, float, float, float]
    """The same as parts of the picture, from 0 to 1."""
    marked: Jpeg
    """The later picture in grey, what differs in one bright colour."""
    detail: tuple[Jpeg, Jpeg] | None
    """The place before and after, every pixel enlarged; None where the place is much of the picture."""

    @property
    def words(self) -> str:
        left, top, right, bottom = self.box
        place = f"in an area of {right - left} × {bottom - top} at {left}, {top}"
        return f"{self.pixels:,} of {self.of:,} pixels {'differs' if self.pixels == 1 else 'differ'}, {place}"


def difference(before: Image.Image, after: Image.Image) -> Difference | None:
    """Where two pictures in RGB and of one size differ; None where they do not."""
    parts = ImageChops.difference(before, after).split()
    mask = parts[0]
    for part in parts[1:]:
        mask = ImageChops.lighter(mask, part)
    mask = mask.point(lambda value: 255 if value else 0)
    box = mask.getbbox()
    if box is None:
        return None
    return Difference(
        pixels=mask.histogram()[255],
        of=mask.width * mask.height,
        box=box,
        place=(box[0] / mask.width, box[1] / mask.height, box[2] / mask.width, box[3] / mask.height),
        marked=_marked(after, mask, box),
        detail=_detail(before, after, box),
    )


def _marked(after: Image.Image, mask: Image.Image, box: tuple[int, int, int, int]) -> Jpeg:
    factor = math.ceil(max(after.size) / MOST_SIDE)  # a mean of so few pixels is not 0 where one of them is 255
    lit = mask.reduce(factor).point(lambda value: 255 if value else 0).filter(ImageFilter.MaxFilter(3))
    grey = after.reduce(factor).convert("L").point(lambda value: 60 + value // 3).convert("RGB")
    picture = Image.composite(Image.new("RGB", grey.size, _MARK), grey, lit)
    left, top, right, bottom = (value // factor for value in box)
    frame = (max(0, left - 8), max(0, top - 8), min(grey.width - 1, right + 8), min(grey.height - 1, bottom + 8))
    ImageDraw.Draw(picture).rectangle(frame, outline=_MARK, width=3)
    return encoded(picture)


def _detail(before: Image.Image, after: Image.Image, box: tuple[int, int, int, int]) -> tuple[Jpeg, Jpeg] | None:
    left, top, right, bottom = box
    side = max(_LEAST_DETAIL, round(1.5 * max(right - left, bottom - top)))
    if side * 4 > max(after.size):
        return None
    width, height = min(side, after.width), min(side, after.height)
    x = min(max(0, (left + right - width) // 2), after.width - width)
    y = min(max(0, (top + bottom - height) // 2), after.height - height)
    times = max(1, _DETAIL_SIDE // side)
    crop = (x, y, x + width, y + height)
    size = (width * times, height * times)
    one, other = (
        encoded(picture.crop(crop).resize(size, Image.Resampling.NEAREST), quality=92) for picture in (before, after)
    )
    return one, other


@dataclass(frozen=True, slots=True)
class Column:
    """One shot in the strip."""

    name: str
    state: str
    before: Jpeg | None
    now: Jpeg | None
    mark: tuple[float, float, float, float] | None = None
    """Where the pictures differ, as parts of them, where that is known."""


_ACROSS, _DOWN = 5, 4
_WIDE, _HIGH, _GAP, _LINE = 300, 170, 12, 26
"""Pixels: of a picture, the space between two, and a line of text."""


def strip(columns: Sequence[Column], title: str) -> Jpeg:
    """One picture of all changed shots side by side, each with what it was above what it is; the first 20 of them, and
    how many more there are."""
    shown = columns[: _ACROSS * _DOWN]
    across = min(_ACROSS, len(shown))
    rows = math.ceil(len(shown) / across)
    margin, block = 86, 2 * _LINE + 2 * _HIGH + 3 * _GAP
    width = max(700, margin + across * (_WIDE + _GAP) + _GAP)
    more = len(columns) - len(shown)
    picture = Image.new("RGB", (width, 44 + rows * block + (36 if more else 8)), (24, 25, 28))
    bold, plain = Face(20, bold=True), Face(18)
    bold.draw(picture, (_GAP, 10), _fitting(bold, title, width - 2 * _GAP), _WHITE)
    for n, column in enumerate(shown):
        x, y = margin + n % across * (_WIDE + _GAP), 44 + n // across * block
        bold.draw(picture, (x, y), _fitting(bold, column.name, _WIDE), _WHITE)
        plain.draw(picture, (x, y + _LINE), _fitting(plain, column.state, _WIDE), _SOFT)
        for row, (word, part) in enumerate((("before", column.before), ("now", column.now))):
            top = y + 2 * _LINE + 6 + row * (_HIGH + _GAP)
            if n % across == 0:
                plain.draw(picture, (_GAP, top + _HIGH / 2 - 12), word, _SOFT)
            _place(picture, part, (x, top), column.mark)
    if more:
        plain.draw(picture, (margin, 44 + rows * block), f"and {more} more, on the review page", _SOFT)
    return encoded(picture, max(picture.size), 84)


def _place(
    on: Image.Image, part: Jpeg | None, at: tuple[int, int], mark: tuple[float, float, float, float] | None
) -> None:
    if part is None:
        ImageDraw.Draw(on).rectangle((*at, at[0] + _WIDE - 1, at[1] + _HIGH - 1), outline=(70, 72, 78))
        face = Face(28)
        face.draw(on, (at[0] + (_WIDE - face.width("–")) / 2, at[1] + _HIGH / 2 - 18), "–", _SOFT)
        return
    picture = part.image()
    picture.thumbnail((_WIDE, _HIGH), Image.Resampling.LANCZOS)
    x, y = at[0] + (_WIDE - picture.width) // 2, at[1] + (_HIGH - picture.height) // 2
    on.paste(picture, (x, y))
    if mark is not None:
        left, top, right, bottom = mark
        box = (x + left * picture.width - 6, y + top * picture.height - 6)
        end = (x + right * picture.width + 6, y + bottom * picture.height + 6)
        ImageDraw.Draw(on).rectangle((*box, *end), outline=_MARK, width=2)
