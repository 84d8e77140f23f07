"""Counts and times in words, the same everywhere."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from klingflow.core.source import columns


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `1 h 20 min`: as exact as an estimate deserves."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def clock(seconds: float) -> str:
    """The length of a film: `29 s`, `2 min 05 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60:02} s"


def unknown(fields: Iterable[tuple[str, str]]) -> list[str]:
    """That it is not known whether some fields changed, a sentence a reason."""
    names: dict[str, list[str]] = {}
    for name, why in fields:
        names.setdefault(why, []).append(name)
    return [
        f"{', '.join(found)} changed or not is unknown" + (f": {why}" if why else "") for why, found in names.items()
    ]


def shortened(name: str, room: int) -> str:
    """The name in so many columns, without its middle where it is longer: names often differ in their ends alone."""
    if columns(name) <= room:
        return name
    tail = _ending(name, (room - 1) // 2)
    head = _ending(name[::-1], room - 1 - columns(tail))[::-1]
    return f"{head}…{tail}"


def _ending(text: str, room: int) -> str:
    """As much of the end as fits in so many columns."""
    start = len(text)
    while start and columns(text[start - 1 :]) <= room:
        start -= 1
    return text[start:]


def padded(text: str, room: int, *, right: bool = False) -> str:
    """The text in so many columns, at their left or their right end."""
    space = " " * (room - columns(text))
    return space + text if right else text + space


def wrapped(text: str, width: int, first: str = "", others: str = "", *, whole: bool = False) -> list[str]:
    """Lines of so many columns. A word is broken only where it is longer than a line; with `whole` none is: it holds
    paths and ids that are copied."""
    wide = text if text.isascii() else "".join(char + _FILLER * (columns(char) - 1) for char in text)
    if wide is not text:
        width -= 1  # a character of two columns may be parted from its filler, which is then on the next line
    lines = textwrap.wrap(
        wide,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        break_long_words=not whole,
    )
    return [line.replace(_FILLER, "") for line in lines]


_FILLER = "\ue000"
"""The second column of a wide character, while lines are counted in characters; `visible` lets none of its own pass."""
