"""Conflict markers that git leaves in a text where two branches changed the same lines.

Knows no YAML and no git: only the lines that begin with seven `<`, `|`, `=` or `>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE = re.compile(r"(?m)^(<{7}|\|{7}|={7}|>{7})(?: [^\n]*)?\r?$")
UNMERGED = "git's conflict marker: two branches changed this place, and nobody has chosen yet"
BEGIN, BASE, MIDDLE, END = "<" * 7, "|" * 7, "=" * 7, ">" * 7


def found(text: str) -> list[tuple[int, int]]:
    """The first and the last line of every conflict in the text, from 1; of one that never ends, its first line twice.
    Rules of equals signs alone are none."""
    if BEGIN not in text and END not in text:
        return []
    out: list[tuple[int, int]] = []
    begun = 0
    for number, sign in _signs(text):
        if sign == BEGIN:
            if begun:
                out.append((begun, begun))
            begun = number
        elif sign == END:
            out.append((begun or number, number))
            begun = 0
    return [*out, (begun, begun)] if begun else out


def mend(first: int, last: int) -> str:
    where = f"between lines {first} and {last}" if last > first else "here"
    return f"keep one of the two versions {where}, and remove the lines with {BEGIN}, {MIDDLE} and {END}"


def sides(text: str) -> tuple[str, str]:
    """The text as each of the two branches had it, as far as it can be told: what stands outside of the conflicts is
    common to both. Every line keeps its number."""
    ours: list[str] = []
    theirs: list[str] = []
    part = ""
    for line in text.split("\n"):
        sign = _LINE.fullmatch(line)
        if sign and (sign[1] == BEGIN or part):
            part = "" if sign[1] == END else sign[1]
            line = ""
            ours.append(line)
            theirs.append(line)
        else:
            ours.append(line if part in ("", BEGIN) else "")
            theirs.append(line if part in ("", MIDDLE) else "")
    return "\n".join(ours), "\n".join(theirs)


def marked(ours: str, theirs: str) -> str:
    """Two whole texts as one with conflict markers."""
    return f"{BEGIN} ours\n{_ended(ours)}{MIDDLE}\n{_ended(theirs)}{END} theirs\n"


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def _signs(text: str) -> Iterator[tuple[int, str]]:
    line, at = 1, 0
    for sign in _LINE.finditer(text):
        line += text.count("\n", at, sign.start())
        at = sign.start()
        yield line, sign[1]
