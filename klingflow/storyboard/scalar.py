"""What an unquoted word of YAML 1.2 means, and values that remember how they were written.

`007`, `3.10` and `1e3` are numbers: they can be compared, and a duration may be one. Where a template prints one, it is
the text that was written. Only a number that Python would print otherwise is kept so; all others are plain. `True` is
plain in the data, where it may be a field's value, and a WrittenTruth as a variable (`storyboard.variables`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_CONSTANTS: dict[str, object] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER = 40  # characters; int() of many thousand digits is slow, then refused


class WrittenInt(int):
    """A whole number with the text that was written for it."""

    text: str


class WrittenFloat(float):
    """As WrittenInt, of a number with a fraction or an exponent."""

    text: str


class WrittenTruth(int):
    """True or false as a variable, with the text that was written for it."""

    text: str


Written = WrittenInt | WrittenFloat | WrittenTruth


def truth(text: str) -> bool | WrittenTruth | None:
    """What `true`, `True`, `TRUE` and their opposites mean; None for any other text."""
    value = _CONSTANTS.get(text)
    if not isinstance(value, bool) or text in ("true", "false"):
        return value if isinstance(value, bool) else None
    kept = WrittenTruth(value)
    kept.text = text
    return kept


def scalar(text: str) -> object:
    """What an unquoted scalar means. `.inf`, `.nan` and numbers that no machine holds stay text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    number = _number(text)
    return text if number is None else number


def like(declared: object, given: str) -> object:
    """A value from the command line as the kind of value that the storyboard declares, where it can be read as one."""
    if isinstance(declared, bool):
        meant = truth(given)
        return given if meant is None else meant
    number = _number(given) if isinstance(declared, int | float) else None
    return given if number is None else number


def written(value: object) -> str:
    """A text, a number or a truth as it is printed: as it was written, where that is known."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _number(text: str) -> int | float | None:
    if len(text) > _LONGEST_NUMBER:
        return None
    number: int | float
    kept: WrittenInt | WrittenFloat
    if _INT.fullmatch(text):
        number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        kept = WrittenInt(number)
    elif _FLOAT.fullmatch(text):
        number = float(text)
        if abs(number) == float("inf"):
            return None
        kept = WrittenFloat(number)
    else:
        return None
    if str(number) == text:
        return number
    kept.text = text
    return kept


# -- through JSON, which keeps no writing


def pack(data: object) -> object:
    """Data as JSON can keep it; `unpack` makes it again."""
    return [data, [[place, number.text] for place, number in _kept(data, [])]]


def unpack(packed: object) -> Any:
    """What `pack` was given. None for anything that it did not make."""
    if not isinstance(packed, list) or len(packed) != 2 or not isinstance(packed[1], list):
        return None
    whole = [packed[0]]
    for place, text in packed[1]:
        node: Any = whole
        way = [0, *place]
        for step in way[:-1]:
            node = node[step]
        node[way[-1]] = _number(text)
    return whole[0]


def _kept(value: object, place: list[str | int]) -> Iterator[tuple[list[str | int], WrittenInt | WrittenFloat]]:
    if isinstance(value, WrittenInt | WrittenFloat):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if type(inner) is not str:
                yield from _kept(inner, [*place, key])
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            if type(inner) is not str:
                yield from _kept(inner, [*place, i])
