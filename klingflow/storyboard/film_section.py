"""The `film:` section of a storyboard: which part of which clip is shown, and the film's size."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from klingflow.core.model import Cut, ShotId
from klingflow.core.picture_size import SHORTER_SIDE
from klingflow.core.source import Path
from klingflow.storyboard.frames import MOST_RATE, Frames
from klingflow.storyboard.storyboard_file import Data, Skip, StoryboardFile

MOST_PIXELS = 8192
"""A side of the film."""
_TIME = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?s")
_NUMBER = re.compile(r"[0-9]{1,6}")


def cut(frames: Frames, entry: str | Data, context: Mapping[str, object], at: Path) -> Cut:
    """One entry of `film.shots`: a shot's id, or `{shot, in, out}`. Raises Skip with what is wrong."""
    file = frames.file
    given: Data = {"shot": entry} if isinstance(entry, str) else entry
    name_at = at if isinstance(entry, str) else (*at, "shot")
    name = file.text(given["shot"], context, name_at)
    if name not in frames.ids:
        frames.unknown(name, name_at)
        raise Skip(f"there is no shot '{name}'")
    start, end = (_place(frames, name, given[side], context, (*at, side)) if side in given else None for side in _SIDES)
    if start is not None and end is not None and start.endswith("s") == end.endswith("s"):
        first, after = (Decimal(text.removesuffix("s")) for text in (start, end))
        if after <= first:
            what = f"'{name}' is shown from {start} to {end}: that is nothing"
            mend = "`out` is the frame after the last one that is shown: write a later one"
            file.fault("cut", what, mend, (*at, "out"))
            raise Skip(what)
    return Cut(ShotId(name), start, end)


_SIDES = ("in", "out")


def _place(frames: Frames, shot: str, value: Any, context: Mapping[str, object], at: Path) -> str:
    """A frame's number or a time, in one spelling. Raises Skip."""
    file = frames.file
    text = file.text(value, context, at) if isinstance(value, str) else str(value)
    other = frames.raws[frames.ids[shot]]
    length = other.get("duration") or frames.defaults.get("duration") or 5
    known = not {"clip", "videos"} & other.keys()  # else the clip is as long as another one
    if _TIME.fullmatch(text):
        seconds = Decimal(text[:-1])
        if known and (seconds > length or (seconds == length and at[-1] == "in")):
            what = f"'{shot}' lasts {length} s: it has no frame at {text}"
            file.fault("cut", what, "write an earlier time", at)
            raise Skip(what)
        return f"{seconds.normalize():f}s"
    if _NUMBER.fullmatch(text):
        number = int(text)
        if known and number > length * MOST_RATE:
            what = f"'{shot}' lasts {length} s: it has no frame {number}"
            file.fault("cut", what, "write an earlier one", at)
            raise Skip(what)
        return str(number)
    mend = "write the number of a frame (0 is the first) or a time such as 2.5s"
    what = f"'{text}' is no place in a clip"
    file.fault("cut", what, mend, at)
    raise Skip(what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Size and rate of the film, as far as the storyboard says them: fields of core.model.Film."""

    size: tuple[int, int] | None = None
    resolution: str | None = None
    aspect: str | None = None
    rate: Fraction | None = None


def form(file: StoryboardFile, film: Data, context: Mapping[str, object], left_out: dict[str, str]) -> Form:
    """What the section says of size and rate. What is wrong is reported, and put into `left_out`."""
    read: Mapping[str, Callable[[StoryboardFile, str, Path], Any]]
    read = {"size": _size, "resolution": _resolution, "aspect": _aspect}
    found: dict[str, Any] = {}
    for name, reader in read.items():
        if film.get(name) is None:
            continue
        at = ("film", name)
        try:
            if name != "size" and film.get("size") is not None:
                what = f"film has both size and {name}"
                file.fault("exclusive", what, "keep size, or resolution and aspect", at, key=True)
                raise Skip(what)
            found[name] = reader(file, file.text(film[name], context, at), at)
        except Skip as why:
            left_out[f"film.{name}"] = str(why)
    rate = film.get("rate")
    return Form(**found, rate=None if rate is None else _RATES.get(rate, Fraction(rate)))


_RATES = {23.976: Fraction(24000, 1001), 29.97: Fraction(30000, 1001), 59.94: Fraction(60000, 1001)}
_WIDEST = 3
"""Width by height, or height by width."""


def _resolution(file: StoryboardFile, text: str, at: Path) -> str:
    if text not in SHORTER_SIDE:
        what = f"there is no resolution '{text}'"
        file.fault("film-size", what, file.meant(text, tuple(SHORTER_SIDE)), at)
        raise Skip(what)
    return text


def _aspect(file: StoryboardFile, text: str, at: Path) -> str:
    text = text.replace(" ", "")
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?:[0-9]{1,4}(\.[0-9]{1,3})?", text):
        width, height = map(Fraction, text.split(":"))
        if width and height and max(width / height, height / width) <= _WIDEST:
            return text
    what = f"'{text}' is no shape of a film"
    file.fault("film-size", what, f"write width:height, from 1:{_WIDEST} to {_WIDEST}:1, such as 16:9 or 2.39:1", at)
    raise Skip(what)


def _size(file: StoryboardFile, text: str, at: Path) -> tuple[int, int]:
    """Width and height. Raises Skip."""
    sides = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text.strip())
    width, height = (int(side) for side in sides.groups()) if sides else (0, 0)
    if width % 2 or height % 2 or not (16 <= width <= MOST_PIXELS and 16 <= height <= MOST_PIXELS):
        what = f"'{text}' is no size of a film"
        file.fault("film-size", what, f"write width x height, even numbers of 16 to {MOST_PIXELS}: 1920x1080", at)
        raise Skip(what)
    return width, height
