"""The contact sheet of a film: its shots on paper, A3 landscape at 150 dots an inch, for a wall.

Draws the view of the report (output.report). The same view and pictures are always the same bytes, on the same fonts
and version of Pillow.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw

from klingflow.animatic.design import plain, shortened, wrap
from klingflow.animatic.lettering import Face, from_right
from klingflow.core.redact import redact
from klingflow.output.report import Card, Join, Spot, View
from klingflow.output.words import count

DPI = 150
PAGE = (2480, 1754)
"""Pixels of A3 (420 x 297 mm)."""
MOST_HIGH = 16_000
"""Pixels of a PNG, which has all shots in one picture; what shows pictures gives up not far above."""

Picture = Callable[[str], Image.Image | None]
"""A picture by its path beside the page; None where it cannot be read."""

_MARGIN, _HEAD, _FOOT = 90, 200, 40
_GAP, _LINE = 56, 34
_TEXT = 118
"""Pixels below the two frames of a shot."""
_PAPER, _INK, _SOFT, _FAINT = (255, 255, 255), (24, 24, 27), (98, 98, 106), (222, 222, 226)
_ACCENT, _WARN, _BAD = (11, 87, 194), (138, 83, 0), (179, 38, 30)


def opened(folder: Path, name: str) -> Image.Image | None:
    """The picture `name` of a folder; None where it cannot be read."""
    try:
        with Image.open(folder / name) as found:
            return found.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None


def pdf(films: Sequence[tuple[View, Picture]]) -> bytes:
    """A PDF of as many pages as the films need. Its date is that of the newest clip."""
    pages = []
    for seen, picture in films:
        parts = _paged(seen)
        foot = "page {} of {}" if len(parts) > 1 else ""
        pages += [_page(seen, spots, picture, foot.format(n, len(parts))) for n, spots in enumerate(parts, 1)]
    day = max((card.made for seen, _ in films for card in seen.cards), default="") or "2000-01-01"
    made = time.strptime(day, "%Y-%m-%d")
    out = BytesIO()
    pages[0].save(
        out,
        "PDF",
        save_all=True,
        append_images=pages[1:],
        resolution=DPI,
        quality=90,
        title=redact(films[0][0].title),
        creator="klingflow",
        producer="klingflow",
        creationDate=made,
        modDate=made,
    )
    return out.getvalue()


def png(films: Sequence[tuple[View, Picture]]) -> bytes | None:
    """One picture of all films and shots, a page's shape where that is enough; None where it would be higher than
    MOST_HIGH."""
    heights = [_high(seen) for seen, _ in films]
    if sum(heights) > MOST_HIGH:
        return None
    whole = Image.new("RGB", (PAGE[0], sum(heights)), _PAPER)
    top = 0
    for (seen, picture), high in zip(films, heights, strict=True):
        whole.paste(_page(seen, seen.strip, picture, "", high), (0, top))
        top += high
    out = BytesIO()
    whole.save(out, "PNG", dpi=(DPI, DPI), optimize=True)
    return out.getvalue()


# ---------------------------------------------------------------- where everything is


def _shape(seen: View) -> float:
    """Width by height of most clips."""
    ratios = sorted(card.width / card.height for card in seen.cards if card.clip) or [16 / 9]
    return ratios[len(ratios) // 2]


def _columns(seen: View) -> int:
    return 3 if _shape(seen) >= 1 else 5


def _cell(seen: View) -> tuple[int, int]:
    """Width and height of what a shot has on the sheet."""
    columns = _columns(seen)
    wide = (PAGE[0] - 2 * _MARGIN - (columns - 1) * _GAP) // columns
    return wide, round((wide - 6) / 2 / _shape(seen)) + _TEXT


def _high(seen: View) -> int:
    """Pixels of all shots of a film on one sheet, at least a page."""
    rows = math.ceil(len(seen.strip) / _columns(seen))
    return max(PAGE[1], _HEAD + rows * (_cell(seen)[1] + _LINE) - _LINE + _FOOT + _MARGIN)


def _paged(seen: View) -> Sequence[Sequence[Spot]]:
    """The shots of each page; one page where the film has no shot."""
    room = PAGE[1] - _HEAD - _FOOT - _MARGIN
    most = max(1, (room + _LINE) // (_cell(seen)[1] + _LINE)) * _columns(seen)
    return [seen.strip[at : at + most] for at in range(0, len(seen.strip), most)] or [()]


# ---------------------------------------------------------------- drawing


def _page(seen: View, spots: Sequence[Spot], picture: Picture, foot: str, high: int = PAGE[1]) -> Image.Image:
    page = Image.new("RGB", (PAGE[0], high), _PAPER)
    _head(page, seen)
    wide, tall = _cell(seen)
    columns = _columns(seen)
    joins = {join.right.number: join for join in seen.joins}
    for n, spot in enumerate(spots):
        at = (_MARGIN + n % columns * (wide + _GAP), _HEAD + n // columns * (tall + _LINE))
        _spot(page, at, (wide, tall), spot, picture)
        if spot.number in joins:
            _link(page, at, tall - _TEXT, joins[spot.number])
    face = Face(19)
    y = high - _MARGIN + 24
    face.draw(page, (_MARGIN, y), plain(f"klingflow · {seen.storyboard}"), _SOFT)
    if foot:
        face.draw(page, (PAGE[0] - _MARGIN, y), foot, _SOFT, end=True)
    return page


def _head(page: Image.Image, seen: View) -> None:
    right = PAGE[0] - _MARGIN
    title, small = Face(58, True), Face(25)
    room = right - _MARGIN
    if seen.rehearsal or seen.drawn:
        said = "ANIMATIC REHEARSAL, NO DELIVERY" if seen.rehearsal else f"{seen.drawn} OF {len(seen.cards)} ANIMATIC"
        mark = Face(26, True)
        long = mark.width(said)
        ImageDraw.Draw(page).rounded_rectangle((right - long - 40, 60, right, 112), 8, outline=_WARN, width=4)
        mark.draw(page, (right - long - 20, 68), said, _WARN)
        room -= round(long) + 80
    _line(page, title, (_MARGIN, 48), seen.title, room, _INK)
    money = [f"{tile.name.lower()} {tile.value}" for tile in seen.tiles if tile.value not in ("nothing", "$0.00")]
    parts = [count(len(seen.strip), "shot"), seen.length, *([f"clips of {seen.dates}"] if seen.dates else []), *money]
    _line(page, small, (_MARGIN, 124), " · ".join(parts), right - _MARGIN, _SOFT)
    ImageDraw.Draw(page).line((_MARGIN, 170, right, 170), _FAINT, 3)


def _spot(page: Image.Image, at: tuple[int, int], size: tuple[int, int], spot: Spot, picture: Picture) -> None:
    card, (left, top), (wide, tall) = spot.card, at, size
    frame = ((wide - 6) // 2, tall - _TEXT)
    absent = "no picture here" if card.made else "no clip yet"
    for n, path in enumerate((card.poster, card.last)):
        _frame(page, (left + n * (wide - frame[0]), top), frame, picture(path) if path else None, absent)
    y = top + frame[1] + 8
    number = Face(30, True)
    number.draw(page, (left, y - 2), str(spot.number), _ACCENT)
    begin = left + round(number.width(str(spot.number))) + 16
    said = f"{spot.seconds:.1f} s · take {card.take}"
    about = Face(20)
    _line(page, Face(25, True), (begin, y), card.name, left + wide - begin - round(about.width(said)) - 24, _INK)
    about.draw(page, (left + wide, y + 3), said, _SOFT, end=True)
    y += 33
    state = _state(card)
    if state:
        colour = _BAD if card.tone == "bad" else _WARN
        about.draw(page, (left + wide, y), state, colour, end=True)
    room = wide - (round(about.width(state)) + 24 if state else 0)
    links = [f"{link.how} {link.shot}" for link in card.links]
    _line(page, about, (left, y), " · ".join([card.id, *links]), room, _SOFT)
    y += 27
    prompt = next((pieces for name, pieces in card.texts if name == "prompt"), ())
    text = plain(redact("".join(part for op, part in prompt if op != "-")))
    for row in wrap(text, about, wide, 2):
        about.draw(page, (left, y), row, _INK, room=wide, rtl=from_right(text))
        y += 25


def _state(card: Card) -> str:
    """What is to be said of a shot on paper: that its clip is not what it should be."""
    return "" if card.clip and not card.old and card.tone not in ("warn", "bad") else card.state


def _frame(
    page: Image.Image, at: tuple[int, int], size: tuple[int, int], picture: Image.Image | None, absent: str
) -> None:
    """A picture in its box; where there is none, `absent`."""
    left, top = at
    box = (left, top, left + size[0] - 1, top + size[1] - 1)
    draw = ImageDraw.Draw(page)
    if picture is None:
        draw.rectangle(box, (246, 246, 247), _FAINT, 2)
        face = Face(21)
        face.draw(page, (left + (size[0] - face.width(absent)) / 2, top + size[1] / 2 - 14), absent, _SOFT)
        return
    draw.rectangle(box, (16, 16, 18))
    part = min(size[0] / picture.width, size[1] / picture.height)
    small = picture.resize((max(1, round(picture.width * part)), max(1, round(picture.height * part))), _FINE)
    page.paste(small, (left + (size[0] - small.width) // 2, top + (size[1] - small.height) // 2))


_FINE = Image.Resampling.LANCZOS


def _link(page: Image.Image, at: tuple[int, int], tall: int, join: Join) -> None:
    """Between a shot and the one before it: a chain where it continues that one, else a thin line."""
    x, y = at[0] - _GAP // 2, at[1] + tall // 2
    draw = ImageDraw.Draw(page)
    colour = _BAD if join.tone == "bad" else _ACCENT if join.kind != "cut" else _FAINT
    if join.kind == "cut":
        draw.line((x, y - 26, x, y + 26), colour, 4)
    else:
        draw.line((x - 26, y, x + 26, y), colour, 5)
        for side in (-1, 1):
            draw.ellipse((x + side * 16 - 9, y - 9, x + side * 16 + 9, y + 9), _PAPER, colour, 4)
    if join.tone == "bad":
        Face(20, True).draw(page, (x - 5, y + 30), "!", _BAD)


def _line(
    page: Image.Image, face: Face, at: tuple[int, int], text: str, room: float, colour: tuple[int, int, int]
) -> None:
    shown = plain(redact(text))
    face.draw(page, at, shortened(shown, face, room), colour, room=room, rtl=from_right(shown))
