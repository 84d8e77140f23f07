"""Names that look equal and are not: another Unicode form, a character that nobody can see, a letter of another script.

Knows no file and no storyboard.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

UNSEEN = re.compile("[\u034f\u115f\u1160\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
"""What Unicode counts as letters and marks, and nobody can see."""
_LATIN = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u051b\u03bf\u03bd\u0131",
    "aeopcyxijsdhqovi",
)
"""Letters of other scripts, small, that look like a Latin one: the commonest, Cyrillic and Greek."""


def form(name: str) -> str:
    """The name in the Unicode form that all its spellings share: an accented letter is one character."""
    return unicodedata.normalize("NFC", name)


def same(one: str, other: str) -> bool:
    """Whether two different names show the very same letters: they differ in Unicode form, or in characters that cannot
    be seen."""
    return one != other and not (one.isascii() and other.isascii()) and _seen(one) == _seen(other)


def alike(one: str, other: str) -> bool:
    """Whether two different names are easily taken for each other: `same`, or but for case and letters that look like
    Latin ones."""
    return one != other and _looks(one) == _looks(other)


def suggestion(near: str, name: str) -> str:
    """`did you mean 'dawn'?`, and where `name` looks equal, in what it differs."""
    told = difference(name, near)
    return f"did you mean '{near}'?" + (f" The two look equal: {told}" if told else "")


def difference(name: str, other: str) -> str:
    """In what two names differ that look equal, in words; empty where a reader sees the difference. `name` is the one
    that was written."""
    if not alike(name, other) or name.casefold() == other.casefold():
        return ""
    told = [f"the one written here has {odd(name)}"] if odd(name) != odd(other) and odd(name) else []
    told += [f"the other has {odd(other)}"] if odd(name) != odd(other) and odd(other) else []
    if form(name) != name or form(other) != other:
        told.append("they differ in Unicode form (an accented letter as one character, or as a letter and an accent)")
    return ", and ".join(told)


def odd(name: str) -> str:
    """The characters of a name that cannot be seen or look like Latin letters, each with its place: `a no-break space
    (U+00A0) at position 5`. Empty where there is none."""
    found = [f"a {_called(c)} (U+{ord(c):04X}) at position {place}" for place, c in _odd(name)]
    return ", ".join(found[:3]) + (", …" if len(found) > 3 else "")


def plain(name: str) -> str:
    """The name with each character that cannot be seen as its code, `dawn<U+00A0>.png`."""
    return "".join(f"<U+{ord(c):04X}>" if _unseen(c) else c for c in name)


def _odd(name: str) -> Iterator[tuple[int, str]]:
    if name.isascii() and name.isprintable():
        return
    latin = any("a" <= c <= "z" for c in name.casefold())  # in a word of another script its own letters are none
    for place, c in enumerate(name, 1):
        if _unseen(c) or (latin and c.casefold() != c.casefold().translate(_LATIN)):
            yield place, c


def _unseen(c: str) -> bool:
    if " " <= c <= "~":
        return False
    return unicodedata.category(c) in ("Cf", "Cc", "Zs", "Zl", "Zp") or bool(UNSEEN.match(c))


def _called(c: str) -> str:
    return unicodedata.name(c, "control character").lower()


def _seen(name: str) -> str:
    shown = (c if not _unseen(c) else " " if c.isspace() else "" for c in form(name))
    return form("".join(shown).strip())


def _looks(name: str) -> str:
    return form(_seen(name).casefold()).translate(_LATIN)
