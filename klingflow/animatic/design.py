"""What one frame of an animatic looks like: a picture, and below it a strip that reads as a slate.

The picture is never drawn over. Caption, times and the marks of the last frame are in the strip and in the bars beside
the picture; so a shot that continues another takes the picture out of the frame that it is handed, pixel for pixel, and
captions never pile up along a chain. The *stamp* in the strip's corner, a few words, tells a frame of an animatic from
any other image, and how the picture in it came to be.

    +----------------------------------------+
    |    |                              |    |
    |    |           picture            |    |
    |    |                              |    |
    +==========-----------------------------+    how much of the shot has passed
    | shot id     prompt, two lines     meta |
    | SHOT time   of it                      |
    | FILM time   number, title        stamp |    times and titles in a film: see animatic.slate
    +----------------------------------------+

Pillow alone; knows no video, no file but its font, and no task.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps, ImageStat

from klingflow.animatic.lettering import Face, from_right, own_font
from klingflow.core.source import visible

AREA = 960 * 540
LONGEST = 960
"""Drawn small, whatever resolution was ordered: so many pixels, and no side longer."""

GROUND = (13, 13, 13)
STRIP = (24, 24, 24)
"""Neutral greys, so that the timecode needs no colour planes."""
AMBER = (236, 176, 84)
WHITE = (222, 222, 218)
GREY = (132, 132, 130)

MARGIN = 18
LEFT = 190
"""Where the caption of a wide frame begins: right of the id and the times."""
SIDE = 142
"""The width kept for the facts at the strip's right end."""
STEP = 23
"""From one line of the caption to the next."""

Box = tuple[int, int, int, int]

_USUAL = (16 / 9, 9 / 16, 4 / 3, 3 / 4, 1.0, 3 / 2, 2 / 3, 21 / 9)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand on a frame of this size. Everything follows from the size, so a frame alone tells it."""

    width: int
    height: int

    @property
    def wide(self) -> bool:
        return self.width >= 1.2 * self.height

    @property
    def strip(self) -> int:
        """The strip's height."""
        return 84 if self.wide else 156 if self.lines == 3 else 132

    @property
    def lines(self) -> int:
        """Of the caption."""
        return 3 if self.width < 600 else 2

    @property
    def picture(self) -> Box:
        """The picture keeps the shape of the whole frame; even edges, because colour is kept at half size."""
        height = self.height - self.strip
        width = round(self.width * height / self.height / 4) * 4
        left = (self.width - width) // 2
        return left, 0, left + width, height

    @property
    def picture_size(self) -> tuple[int, int]:
        left, top, right, bottom = self.picture
        return right - left, bottom - top

    @property
    def top(self) -> int:
        """Of the strip."""
        return self.height - self.strip

    @property
    def shot_time(self) -> tuple[int, int]:
        return MARGIN, self.top + 34

    @property
    def film_time(self) -> tuple[int, int]:
        return (MARGIN, self.top + 58) if self.wide else (MARGIN + 160, self.top + 34)

    @property
    def title(self) -> Box:
        """Room for the shot's number and title in the film."""
        left = LEFT if self.wide else MARGIN
        return left, self.height - 27, self.stamp[0] - 8, self.height - 4

    @property
    def stamp(self) -> Box:
        return self.width - MARGIN - 124, self.height - 26, self.width - MARGIN, self.height - 6


def layout(ratio: float) -> Layout:
    """The layout for a shape (width over height). A shape close to a usual one is taken to be it."""
    ratio = min(max(ratio, 0.38), 2.6)
    ratio = next((usual for usual in _USUAL if abs(ratio / usual - 1) < 0.02), ratio)
    width = min(math.sqrt(AREA * ratio), LONGEST, LONGEST * ratio)
    return Layout(round(width / 4) * 4, round(width / ratio / 2) * 2)


# The stamp -----------------------------------------------------------------------------------------------------

MOST_PUSHES = 15
CARD = MOST_PUSHES + 1
"""The stamp of a frame that shows a title card instead of a picture."""
_WORDS = ("ANIMATIC · STILL", "ANIMATIC", *(f"ANIMATIC · LINK {n}" for n in range(2, CARD)), "ANIMATIC · CARD")
"""By the number of pushes that went into the picture: none, where it is a still as it was given; one; the second and
later links of a chain."""
_LIKE = 4.0
"""The most levels by which a stamp in a clip differs from the stamp as drawn, in the mean (measured: 0.5). An empty
strip differs by 7 and more."""


@lru_cache(maxsize=1)
def _stamps() -> tuple[Image.Image, ...]:
    """All stamps, in grey."""
    left, top, right, bottom = Layout(960, 540).stamp
    out = []
    for words in _WORDS:
        image = Image.new("RGB", (right - left, bottom - top), STRIP)
        Face(12, True).draw(image, (image.width, 3), words, GREY, end=True)
        out.append(image.convert("L"))
    return tuple(out)


def stamp_of(frame: Image.Image) -> int | None:
    """Which stamp a frame of an animatic has: the number of pushes in its picture, or CARD; None for another image."""
    at = Layout(*frame.size)
    if min(at.picture_size) < 16 or at.stamp[0] < 0:
        return None
    found = frame.crop(at.stamp).convert("L")
    apart = [ImageStat.Stat(ImageChops.difference(found, stamp)).mean[0] for stamp in _stamps()]
    least = min(apart)
    return apart.index(least) if least < _LIKE else None


def picture_in(frame: Image.Image) -> Image.Image:
    """The picture of an animatic's frame, exactly as it was shown."""
    return frame.crop(Layout(*frame.size).picture)


def fitted(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image filling `size`, cut at the edges where the shapes differ; the very pixels where it has that size."""
    if image.size == size:
        return image
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


# Text ----------------------------------------------------------------------------------------------------------

def plain(text: str) -> str:
    """Text on one line that can be drawn: white space as single blanks, control characters as escapes.

    The joiner and the non-joiner stay: Persian, Hindi and emoji are spelled with them.
    """
    return "".join(c if c in "\u200c\u200d" else visible(c) for c in " ".join(text.split()))


def wrap(text: str, face: Face, width: float, lines: int) -> list[str]:
    """At most `lines` lines no wider than `width`; words too long are broken, and what does not fit ends in "…"."""
    out: list[str] = []
    line = ""
    words = [part for word in plain(text[:4000]).split(" ") for part in _broken(word, face, width)]
    for n, word in enumerate(words):
        longer = f"{line} {word}" if line else word
        if face.width(longer) <= width:
            line = longer
            continue
        if len(out) == lines - 1:
            return [*out, shortened(" ".join((line, *words[n : n + 1])), face, width, always=True)]
        out.append(line)
        line = word
    return [*out, line] if line else out


def _broken(word: str, face: Face, width: float) -> list[str]:
    """A word in pieces no wider than `width`: an endless word, or a script written without blanks."""
    out, begin, used = [], 0, 0.0
    for i, char in enumerate(word):
        advance = face.width(char)
        if used + advance > width and i > begin:
            if i - 1 > begin and unicodedata.category(char) in ("Mn", "Mc", "Me", "Pe", "Po", "Pf"):
                i -= 1  # a mark, or what closes a phrase, stays with the sign before it
                advance += face.width(word[i])
            out.append(word[begin:i])
            begin, used = i, 0.0
        used += advance
    return [*out, word[begin:]]


def shortened(text: str, face: Face, width: float, always: bool = False) -> str:
    """The text, cut with "…" where it is too wide (or `always`, because more text follows)."""
    if not always and face.width(text) <= width:
        return text
    room, end = width - face.width("…"), 0
    for char in text:
        room -= face.width(char)
        if room < 0:
            break
        end += 1
    return text[:end].rstrip(" ,;:.-–") + "…"


# The frame round the picture -----------------------------------------------------------------------------------


def surround(
    at: Layout, *, shot: str, text: str, meta: str, stamp: int, last: bool, aside: bool = False
) -> Image.Image:
    """A whole frame with an empty picture: bars, strip, caption, stamp.

    `aside`: the text is a remark, not the shot's prompt. `last` adds the marks of the frame that is handed on: corner
    ticks beside the picture and a badge.
    """
    frame = Image.new("RGB", (at.width, at.height), GROUND)
    draw = ImageDraw.Draw(frame)
    draw.rectangle((0, at.top, at.width, at.height), fill=STRIP)
    draw.rectangle((0, at.top, at.width, at.top + PASSED - 1), fill=(46, 46, 46))
    long = LEFT - MARGIN - 12 if at.wide else at.width - 2 * MARGIN - SIDE
    Face(17, True).draw(frame, (MARGIN, at.top + 9), shortened(plain(shot), Face(17, True), long), AMBER)
    label(draw, at.shot_time, "SHOT")
    left, line = (LEFT, at.top + 10) if at.wide else (MARGIN, at.top + 58)
    wide = at.width - left - MARGIN - (SIDE if at.wide else 0)
    for row in wrap(text, Face(16), wide, at.lines):
        Face(16).draw(frame, (left, line), row, GREY if aside else WHITE, room=wide, rtl=from_right(text))
        line += STEP
    if last:
        _ticks(draw, at)
        Face(12, True).draw(frame, (at.width - MARGIN, at.top + 13), "LAST FRAME", AMBER, end=True)
    else:
        meta = shortened(plain(meta), Face(12), SIDE - 8)
        Face(12).draw(frame, (at.width - MARGIN, at.top + 13), meta, GREY, end=True)
    frame.paste(_stamps()[stamp].convert("RGB"), at.stamp[:2])
    return frame


PASSED = 3
"""The height of the line along the strip's top, which fills as the shot passes."""


def _ticks(draw: ImageDraw.ImageDraw, at: Layout) -> None:
    """Registration ticks at the picture's corners, in the bars beside it."""
    left, top, right, bottom = at.picture
    arm = min(20, left - 6)
    if arm <= 0:
        return
    for y in (top + 1, bottom - 3):
        draw.rectangle((left - arm, y, left - 4, y + 2), fill=AMBER)
        draw.rectangle((right + 4, y, right + arm, y + 2), fill=AMBER)
    for y in (top + 1, bottom - arm):
        draw.rectangle((left - 6, y, left - 4, y + arm - 1), fill=AMBER)
        draw.rectangle((right + 4, y, right + 6, y + arm - 1), fill=AMBER)


# Time ----------------------------------------------------------------------------------------------------------

TIME_LEFT = 38
"""From the label of a time to its first digit."""


def label(draw: ImageDraw.ImageDraw, at: tuple[int, int], word: str) -> None:
    """The word before a time."""
    grey = GREY if draw.mode == "RGB" else GREY[0]
    draw.text((at[0], at[1] + 15), word, grey, own_font(12, True), anchor="ls")


def digits() -> dict[str, Image.Image]:
    """The signs of a time, all of one size, ready to be pasted into a grey plane."""
    face = own_font(16)
    width = math.ceil(max(face.getlength(c) for c in "0123456789"))
    out = {}
    for char in "0123456789:":
        sign = Image.new("L", (width if char != ":" else width // 2 + 2, 20), STRIP[0])
        ImageDraw.Draw(sign).text((sign.width / 2, 15), char, 190, face, anchor="ms")
        out[char] = sign
    return out


def limited(image: Image.Image) -> Image.Image:
    """A grey picture in the range of a clip's luma."""
    return image.point([16 + round(i * 219 / 255) for i in range(256)])


def write_time(on: Image.Image, at: tuple[int, int], n: int, rate: int, signs: Mapping[str, Image.Image]) -> None:
    """The time of frame `n` as hours, minutes, seconds and frames, right of a label at `at`."""
    x, y = at[0] + TIME_LEFT, at[1]
    seconds = n // rate
    for char in f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{n % rate:02}":
        on.paste(signs[char], (x, y))
        x += signs[char].width


# Title cards ---------------------------------------------------------------------------------------------------


def card(size: tuple[int, int], *, seed: str, over: str, text: str, images: Sequence[Image.Image] = ()) -> Image.Image:
    """A shot that has no still: its prompt, well set on a quiet ground whose colour follows from `seed`.

    `over` is set small above the prompt; `images` are the reference images, shown as a row of small pictures.
    """
    width, height = size
    ground = _ground(size, seed)
    draw = ImageDraw.Draw(ground)
    margin = round(min(size) * 0.11)
    room = height - 2 * margin - 45
    thumb = round(height * 0.2) if images else 0
    rows, face, step = _set(text, width - 2 * margin, room - (thumb + margin // 2 if thumb else 0))
    block = 40 + len(rows) * step + (thumb + margin // 2 if thumb else 0)
    y = (height - block) // 2
    if over:
        Face(17, True).draw(ground, (margin, y), shortened(plain(over), Face(17, True), width - 2 * margin), AMBER)
    draw.rectangle((margin, y + 27, margin + 48, y + 28), fill=AMBER)
    y += 40
    rtl = from_right(text)
    for row in rows:
        face.draw(ground, (margin + 2, y + 2), row, (0, 0, 0), room=width - 2 * margin, rtl=rtl)
        face.draw(ground, (margin, y), row, (240, 238, 232), room=width - 2 * margin, rtl=rtl)
        y += step
    x = margin
    for image in images:
        small = image.resize((max(2, round(image.width * thumb / image.height)), thumb), Image.Resampling.LANCZOS)
        if x + small.width > width - margin:
            break
        ground.paste(small, (x, y + margin // 2))
        draw.rectangle((x, y + margin // 2, x + small.width - 1, y + margin // 2 + thumb - 1), outline=(200, 198, 190))
        x += small.width + 16
    return ground


def _set(text: str, width: int, room: int) -> tuple[list[str], Face, int]:
    """The lines of a text in the largest size at which it fits; in the smallest it is cut."""
    for size in (42, 36, 31, 27, 23, 20, 18):
        face, step = Face(size), round(size * 1.38)
        rows = wrap(text, face, width, 99)
        if len(rows) * step <= room and len(rows) <= 9:
            return rows, face, step
    return wrap(text, face, width, max(1, min(9, room // step))), face, step


def _ground(size: tuple[int, int], seed: str) -> Image.Image:
    """A dark sky of one hue with a soft light in it and a vignette."""
    dice = hashlib.sha256(seed.encode()).digest()
    hue = dice[0] / 255
    low, high, glow = (_hsv(hue, 0.55, 0.13), _hsv(hue + 0.04, 0.5, 0.36), _hsv(hue + 0.09, 0.42, 0.62))
    down = Image.linear_gradient("L").resize(size, Image.Resampling.BICUBIC)
    ground = Image.composite(Image.new("RGB", size, high), Image.new("RGB", size, low), ImageOps.invert(down))
    reach = round(max(size) * (0.9 + dice[1] / 510))
    # Pillow's gradient is 180 at the middle of an edge: dark from there on, or the light has corners.
    fall = [round(max(0.0, 1 - i / 180) ** 2 * 150) for i in range(256)]
    light = Image.radial_gradient("L").point(fall).resize((reach, reach), Image.Resampling.BICUBIC)
    place = Image.new("L", size, 0)
    x, y = size[0] * (0.55 + dice[2] / 850), size[1] * dice[3] / 900
    place.paste(light, (round(x) - reach // 2, round(y) - reach // 2))
    ground.paste(Image.new("RGB", size, glow), (0, 0), place)
    hills = Image.new("L", size, 0)
    draw = ImageDraw.Draw(hills)
    for layer in range(3):
        base = size[1] * (0.72 + 0.09 * layer)
        wave, phase = size[0] * (0.20 - 0.035 * layer), dice[4 + layer] / 40
        points = [
            (x, base + size[1] * 0.045 * (math.sin(x / wave + phase) + 0.5 * math.sin(x / wave * 2.3 + phase * 2)))
            for x in range(0, size[0] + 16, 8)
        ]
        draw.polygon([*points, (size[0] + 16, size[1]), (0, size[1])], fill=60 + 50 * layer)
    shade = ImageOps.invert(hills.filter(ImageFilter.GaussianBlur(1.2)))
    return ImageChops.multiply(ground, Image.merge("RGB", (shade, shade, shade)))


def _hsv(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    levels = (round(hue * 255) % 256, round(saturation * 255), round(value * 255))
    red, green, blue = Image.new("HSV", (1, 1), levels).convert("RGB").tobytes()
    return red, green, blue
