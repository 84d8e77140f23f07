"""Places in source text, and what is wrong there.

A Span is a place, a Problem is something wrong at a place: both are data. Nothing here prints;
`render` turns a Problem into the text that is shown. Knows no YAML and no storyboard.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from klingflow.core.alike import alike

Path = tuple[str | int, ...]
"""A way into parsed data: ("shots", 3, "prompt")."""


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text file; lines and columns count from 1, columns in characters, `end_col` is exclusive."""

    path: str
    line: int
    col: int
    end_col: int
    text: str = ""
    """The whole line, without its newline: what the caret is drawn under."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.col}"


class Severity(StrEnum):
    """Whether a Problem stops (error) or not (warning)."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong: what, where, how to mend it.

    `rule` is a stable lower-case id ("unknown-key", "cycle") for SARIF and for tests.
    `span` is None only where no file is at fault (a command-line value, the environment).
    """

    rule: str
    what: str
    span: Span | None = None
    mend: str = ""
    severity: Severity = Severity.ERROR


@dataclass(frozen=True, slots=True)
class Mark:
    """The place of one node: its value, and (inside a mapping) its key; 1-based line and column."""

    line: int
    col: int
    key_line: int = 0
    key_col: int = 0


Marks = Mapping[Path, Mark]


@dataclass(slots=True)
class Document:
    """A parsed file: its text, its data, and the place of each node.

    The marks are made on first need (`remark`), because data that comes out of a cache has none
    and a file without a mistake never computes one.
    """

    path: str
    """As shown in messages: relative to where the command was started when it can be."""
    text: str
    data: object
    remark: Callable[[], Marks]
    _marks: Marks | None = field(default=None, repr=False)
    _lines: list[str] | None = field(default=None, repr=False)

    def line(self, number: int) -> str:
        if self._lines is None:
            self._lines = self.text.split("\n")
        return self._lines[number - 1].rstrip("\r") if 1 <= number <= len(self._lines) else ""

    def place(self, path: Path) -> tuple[Document, Path]:
        """The file in which a node was written, with the way to it there: another one where files were joined."""
        return self, path

    def span(self, path: Path, *, key: bool = False) -> Span:
        """The place of a node, or of its key. A path that is not in the file gives its nearest ancestor."""
        file, path = self.place(path)
        if file is not self:
            return file.span(path, key=key)
        if self._marks is None:
            self._marks = self.remark()
        at = path
        while at and at not in self._marks:
            at = at[:-1]
        mark = self._marks.get(at, Mark(1, 1))
        line, col = (mark.key_line, mark.key_col) if (key or at != path) and mark.key_line else (mark.line, mark.col)
        text = self.line(line)
        return Span(self.path, line, col, _end(text, col), text)


def _end(text: str, col: int) -> int:
    """Where the word or quoted text that begins at `col` ends; at least one character on."""
    rest = text[col - 1 :]
    if rest[:1] in ('"', "'"):
        close = rest.find(rest[0], 1)
        return col + (close + 1 if close > 0 else len(rest.rstrip()))
    stop = len(rest)
    for sign in (": ", ", ", " #", "]", "}"):
        found = rest.find(sign)
        if found > 0:
            stop = min(stop, found)
    word = rest[:stop].rstrip().removesuffix(":")
    return col + max(1, len(word))


def visible(text: str) -> str:
    """Text that acts on no terminal, log or comment: control and direction characters are shown escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c
        if c == "\n" or c == "\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else _escape(c)
        for c in text
    )


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


_COMMANDS = re.compile(
    r"(?m)^[^\S\n]*:(?=:)|##(?=\[|vso\[)|[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def inert(text: str) -> str:
    """Finished output, several lines of it or JSON, in which no CI runner and no terminal finds a command: `::error` at
    the beginning of a line, `##[error]` anywhere. Their signs are escaped as in JSON, which so stays the same JSON."""
    return _COMMANDS.sub(lambda found: f"{found[0][:-1]}\\u{ord(found[0][-1]):04x}", text)


def render(problem: Problem) -> str:
    """The problem as text: `file:line:col: what`, the line, a caret, the mend."""
    head = f"{problem.span}: " if problem.span else ""
    kind = "warning: " if problem.severity is Severity.WARNING else ""
    out = [f"{head}{kind}{visible(problem.what)}"]
    if problem.span and problem.span.text:
        span = problem.span
        text, start, width = _window(span)
        gutter = f"{span.line:>5} | "
        out.append(gutter + text)
        out.append(" " * (len(gutter) - 2) + "| " + " " * start + "^" * width)
    if problem.mend:
        out.append(f"mend: {visible(problem.mend)}")
    return "\n".join(out)


ALIKE = 3
"""Problems that differ in nothing but the shot, or the file that the text begins with, are told one by one up to this
number, and more of them as one."""
_ABOUT = re.compile(r"shots? (?:'[^'\n]*'|[0-9]+)|^[^:\n]+: ")
_PLACES = 12


def rendered(problems: Sequence[Problem]) -> list[str]:
    """Each problem as text, in their order; the many that say the same of one shot after another are one text, which
    names the other places."""
    alike: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.rule, _ABOUT.sub("", problem.what), problem.mend), []).append(problem)
    out: list[tuple[int, str]] = []
    order = {id(problem): place for place, problem in enumerate(problems)}
    for group in alike.values():
        if len(group) <= ALIKE:
            out += [(order[id(problem)], render(problem)) for problem in group]
            continue
        places = list(dict.fromkeys(str(problem.span) for problem in group[1:] if problem.span))
        more = f", and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
        where = f": {', '.join(places[:_PLACES])}{more}" if places else ""
        out.append((order[id(group[0])], f"{render(group[0])}\nthe same {len(group) - 1} times more{where}"))
    return [text for _, text in sorted(out, key=lambda one: one[0])]


def _window(span: Span, most: int = 100) -> tuple[str, int, int]:
    """The line cut to a readable width round the span, made harmless: (text, caret column from 0, caret width)."""
    before, inside, after = (
        span.text[: span.col - 1],
        span.text[span.col - 1 : span.end_col - 1],
        span.text[span.end_col - 1 :],
    )
    before, inside, after = (visible(part).replace("\t", " ") for part in (before, inside, after))
    if len(before) > most // 2:
        before = "…" + before[-(most // 2) :]
    inside = inside if len(inside) <= most else inside[: most - 1] + "…"
    after = (
        after
        if len(before) + len(inside) + len(after) <= most
        else after[: max(0, most - len(before) - len(inside))] + "…"
    )
    return before + inside + after, columns(before), max(1, columns(inside))


def columns(text: str) -> int:
    """Columns on a terminal: wide East Asian characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def declares_storyboard(head: bytes) -> bool:
    """Whether a YAML file that begins so is a storyboard: a line of its own begins with `klingflow:`."""
    return any(line.lstrip(b"\xef\xbb\xbf").startswith(b"klingflow:") for line in head.splitlines())


def beside_storyboards(name: str) -> bool:
    """Whether a file of this name is klingflow's own and never a storyboard: a lock, a project file, a price list."""
    return name.endswith(".lock.yaml") or name in ("klingflow.yaml", "klingflow.yml", "klingflow.prices.yaml")


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The valid name that was most likely intended, or None."""
    looking = next((one for one in names if alike(one, name)), None)
    if looking is not None:
        return looking
    import difflib  # costs 5 ms and is needed only when something is wrong

    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return found[0] if found else None
