"""YAML text -> a Document: plain data, and the place of every node on demand.

One pass over the events of PyYAML's C parser (its own loader would read `16:9` as a number, keep the last of two equal
keys, and walk an alias bomb). The rules:

- Scalars are those of the YAML 1.2 core schema (`scalar`): `on`, `no`, `16:9` and `2024-01-02` are text, `0123` is 123.
- A key is always text, and occurs once in its mapping.
- Tags, merge keys (`<<`) and a second document are refused. An alias may repeat what is finished above it, within
  a budget.
- At most MAX_BYTES of text, MAX_NODES values and MAX_DEPTH levels.

Knows nothing of storyboards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from klingflow.core.errors import StoryboardError
from klingflow.core.source import Document, Mark, Path, Problem, Severity, Span
from klingflow.storyboard import conflicts
from klingflow.storyboard.scalar import scalar

if TYPE_CHECKING:
    import yaml

# PyYAML is imported inside the functions that parse: it costs 25 ms, and a text that was read before is not parsed.

MAX_BYTES = 128 * 2**20
"""A storyboard of 100,000 shots is 35 MB, its lock 90 MB; nothing that people write comes near."""
MAX_NODES = 4_000_000
MAX_ALIASED = 50_000
"""Values that aliases repeat, in the whole document: ten levels of ten stop here, not in memory."""
MAX_DEPTH = 60
MAX_PROBLEMS = 50


def decode(path: str, raw: bytes) -> str:
    """The text of a file, without the byte order mark that some tools begin one with. Raises StoryboardError where the
    bytes are not UTF-8, with the place of the first bad one."""
    if len(raw) > MAX_BYTES:
        raise StoryboardError([_too_big(path, len(raw))])
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or (b"\0" in raw[:4] and b"\0" in raw[4:8]):
        what = "the file is UTF-16 or UTF-32, not UTF-8"
        raise StoryboardError([Problem(rule="encoding", what=what, span=Span(path, 1, 1, 2), mend="save it as UTF-8")])
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode()
    except UnicodeDecodeError as bad:
        before = raw[: bad.start].decode().split("\n")
        rest = raw[bad.start :].split(b"\n", 1)[0].decode("utf-8", "replace")
        line = (before[-1] + rest).rstrip("\r")
        span = Span(path, len(before), len(before[-1]) + 1, len(before[-1]) + 2, line)
        what = f"byte 0x{raw[bad.start]:02x} is not UTF-8 text"
        raise StoryboardError([Problem(rule="encoding", what=what, span=span, mend="save the file as UTF-8")]) from None


def read(path: str, text: str) -> Document:
    """The document in `text`; `path` is what people are shown as its place.

    An empty file is a Document whose data is None. Raises StoryboardError with every fault that could be found:
    a fault of YAML's syntax ends the reading, the others do not.
    """
    if len(text) > MAX_BYTES:
        raise StoryboardError([_too_big(path, len(text))])
    document = reopen(path, text, None)
    import yaml

    unmerged = conflicts.found(text)
    if unmerged:
        raise StoryboardError([_unmerged(document, first, last) for first, last in unmerged[:MAX_PROBLEMS]])
    bad = _FORBIDDEN.search(text)
    if bad:
        _fail(document, *_forbidden(bad))
    try:
        try:
            document.data = _build(document, text)
        except yaml.scanner.ScannerError as error:
            # libyaml 0.2.6 and newer stop at 1,000 levels of their own. Looking ahead on one line they get there
            # before the first event; the text up to there has no such fault, and is too deep for our limit.
            if error.problem_mark and "nesting depth" in (error.problem or ""):
                _build(document, text[: error.problem_mark.index])
            raise
    except _SecondDocument as second:
        what, mend = "a second YAML document begins here", "keep one document in a file"
        _fail(document, "second-document", what, mend, *second.at)
    except yaml.MarkedYAMLError as error:
        _fail(document, *_syntax(document, error))
    return document


def reopen(path: str, text: str, data: object) -> Document:
    """The document of a text whose data is known already (from a cache); parsed only when a place is asked for."""
    document = Document(path, text, data, lambda: _marks(text, document.data))
    return document


def lints(document: Document) -> list[Problem]:
    """Warnings about text that YAML reads otherwise than its writer meant: a text cut at ` #`."""
    hits = list(_CUT.finditer(document.text))
    if not hits:
        return []
    keys = {(mark.key_line, mark.key_col) for mark in document.remark().values()}
    out = []
    for hit in hits:
        line = document.text.count("\n", 0, hit.start()) + 1
        start = hit.start("key") - hit.start() + 1
        if (line, start) not in keys:  # inside a block of text
            continue
        col = hit.start("sign") - hit.start() + 1
        shown = document.line(line)
        span = Span(document.path, line, col, len(shown) + 1, shown)
        what = f"{hit['key']} ends here: YAML takes ` #` for the start of a comment"
        mend = "put the text in quotes, or leave a space after # where a comment is meant"
        out.append(Problem(rule="cut-by-comment", what=what, span=span, mend=mend, severity=Severity.WARNING))
    return out


_CUT = re.compile(
    r"""^[ ]*(?:-[ ]+)*(?P<key>[A-Za-z_][\w-]*):[ ]+(?:[^\s'"|>\[{&*!#][^\n]*?[ ]+)?(?P<sign>\#[^\s#!][^\n]*)$""",
    re.MULTILINE | re.VERBOSE,
)


# -- data


_NOT_TEXT = frozenset("-+.0123456789~tTfFnN")


class _Level:
    """A mapping or list that is being read.

    `step` is its place in its parent; `inside` counts values below its own, `height` levels below it.
    """

    __slots__ = ("anchor", "height", "inside", "key", "node", "step")

    def __init__(self, node: dict[str, object] | list[object], step: str | int | None, anchor: str | None) -> None:
        self.node = node
        self.step = step
        self.anchor = anchor
        self.key: str | None = None
        self.inside = 0
        self.height = 0


def _build(document: Document, part: str) -> object:
    """The data in `part`: the document's text, or its beginning.

    What aliases repeat is shared, not copied: nobody changes data that was read.
    """
    import yaml

    problems: list[Problem] = []
    anchors: dict[str, tuple[object, int, int]] = {}  # name -> value, values in it, levels in it
    open_anchors: set[str] = set()
    stack: list[_Level] = []
    root: object = None
    count = aliased = 0

    def refuse(event: yaml.Event, rule: str, what: str, mend: str = "", *, fatal: bool = False) -> None:
        problems.append(Problem(rule=rule, what=what, span=_span(document, *_place(event)), mend=mend))
        if fatal or len(problems) >= MAX_PROBLEMS:
            raise StoryboardError(problems)

    for event in _events(part):
        kind = type(event)
        top = stack[-1] if stack else None
        value: object
        if kind is yaml.ScalarEvent:
            text: str = event.value
            if event.tag is not None:
                refuse(event, "tag", f"a tag ({event.tag}) is not allowed here", "write the plain value")
            if top is not None and type(top.node) is dict and top.key is None:
                if text == "<<" and event.implicit[0]:
                    mend = "write the fields out, or use `defaults`"
                    refuse(event, "merge-key", "merge keys (<<) are not supported", mend)
                elif text in top.node:
                    way = [level.step for level in stack if level.step is not None]
                    first = document.span((*way, text), key=True)
                    what = f"the key '{text}' is here a second time; the first is at {first.line}:{first.col}"
                    entry = len(stack) > 1 and type(stack[-2].node) is list and first.line < event.start_mark.line + 1
                    if entry and text == next(iter(top.node)):  # and all its other keys may follow
                        what = f"a second entry begins here without its `-`: '{text}' is here again"
                        refuse(event, "duplicate-key", what, f"write `- {text}: …`, or remove the line", fatal=True)
                    refuse(event, "duplicate-key", what, "remove one of them")
                top.key = text
                if event.anchor:
                    anchors[event.anchor] = (text, 0, 0)
                continue
            value = scalar(text) if event.implicit[0] and (not text or text[0] in _NOT_TEXT) else text
            if event.anchor:
                anchors[event.anchor] = (value, 0, 0)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            done = stack.pop()
            size = done.inside + len(done.node)
            if stack:
                stack[-1].inside += size
                stack[-1].height = max(stack[-1].height, done.height + 1)
            if done.anchor:
                open_anchors.discard(done.anchor)
                anchors[done.anchor] = (done.node, size, done.height + 1)
            continue
        else:
            if top is not None and type(top.node) is dict and top.key is None:
                if kind is yaml.AliasEvent:
                    refuse(event, "key-not-text", "an alias cannot be a key", "write the key out", fatal=True)
                _refuse_key(document, event, problems)
            if kind is yaml.AliasEvent:
                if event.anchor not in anchors:
                    loop = event.anchor in open_anchors
                    what = (
                        f"the alias *{event.anchor} is inside what it names"
                        if loop
                        else f"the alias *{event.anchor} names nothing above it"
                    )
                    mend = "" if loop else f"name something with &{event.anchor} first, or quote the text"
                    refuse(event, "alias", what, mend, fatal=True)
                value, size, height = anchors[event.anchor]
                aliased += size + 1
                if aliased > MAX_ALIASED:
                    what = f"aliases repeat more than {MAX_ALIASED:,} values"
                    refuse(event, "alias", what, "write less with aliases", fatal=True)
                if len(stack) + height > MAX_DEPTH:
                    _too_deep(document, event, problems)
                if top is not None:
                    top.inside += size
                    top.height = max(top.height, height)
            else:
                if event.tag is not None:
                    refuse(event, "tag", f"a tag ({event.tag}) is not allowed here", "write the plain value")
                if len(stack) >= MAX_DEPTH:
                    _too_deep(document, event, problems)
                value = {} if kind is yaml.MappingStartEvent else []
                if event.anchor:
                    open_anchors.add(event.anchor)
                    anchors.pop(event.anchor, None)
                step = None if top is None else len(top.node) if top.key is None else top.key
                stack.append(_Level(value, step, event.anchor))  # type: ignore[arg-type]
        count += 1
        if count > MAX_NODES:
            refuse(event, "too-big", f"the file holds more than {MAX_NODES:,} values", "split it", fatal=True)
        if top is None:
            root = value
        elif type(top.node) is list:
            top.node.append(value)
        else:
            top.node.setdefault(top.key, value)  # type: ignore[union-attr, arg-type]
            top.key = None
    if problems:
        raise StoryboardError(problems)
    return root


class _SecondDocument(Exception):
    def __init__(self, line: int, col: int) -> None:
        super().__init__()
        self.at = (line, col)


def _events(text: str) -> Iterator[Any]:
    """The parser's events between the start of the first document and its end."""
    import yaml

    text, sign = _masked(text)
    parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # libyaml may be missing
    outside = (yaml.StreamStartEvent, yaml.DocumentEndEvent)
    documents = 0
    try:
        while True:
            event = parser.get_event()
            kind = type(event)
            if kind is yaml.StreamEndEvent:
                return
            if kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise _SecondDocument(*_place(event))
            elif kind not in outside:
                if sign and kind is yaml.ScalarEvent and sign in event.value:
                    event.value = _unmasked(event.value, sign, escapes=event.style == '"')
                yield event
    finally:
        parser.dispose()


_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\(u[dD][89abAB][0-9a-fA-F]{2})\\(u[dD][c-fC-F][0-9a-fA-F]{2})")


def _masked(text: str) -> tuple[str, str]:
    """JSON writes an emoji as the escapes of two halves, which YAML's parsers refuse. The text with another sign for
    the backslashes of such pairs, so that every place stays what it is; and that sign, empty where there is no pair."""
    if not _PAIR.search(text):
        return text, ""
    sign = next(c for c in map(chr, range(0xFDD0, 0xFDF0)) if c not in text)  # Unicode has no character there
    return _PAIR.sub(rf"\g<1>{sign}\g<2>{sign}\g<3>", text), sign


def _unmasked(value: str, sign: str, *, escapes: bool) -> str:
    if not escapes:  # outside of double quotes a backslash is a backslash
        return value.replace(sign, "\\")
    pair = re.compile(f"{sign}u(....){sign}u(....)")
    return pair.sub(lambda two: bytes.fromhex(two[1] + two[2]).decode("utf-16-be"), value)


# -- places


def _marks(text: str, data: object) -> dict[Path, Mark]:
    """The place of every node. What an alias repeats has the place where it was first written.

    Of two equal keys the first one counts; a text that does not parse has marks up to its fault.
    """
    import yaml

    marks: dict[Path, Mark] = {}
    stack: list[list[Any]] = []  # [path, next index or key or None, is a mapping, line and column of the key]
    anchors: dict[str, Path] = {}
    try:
        for event in _events(text):
            kind = type(event)
            if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                stack.pop()
                continue
            top = stack[-1] if stack else None
            start = event.start_mark
            if top is None:
                path: Path = ()
                mark = Mark(start.line + 1, start.column + 1)
            elif top[2]:
                if top[1] is None:
                    top[1], top[3] = getattr(event, "value", ""), (start.line + 1, start.column + 1)
                    continue
                path = (*top[0], top[1])
                mark = Mark(start.line + 1, start.column + 1, *top[3])
                top[1] = None
            else:
                path = (*top[0], top[1])
                mark = Mark(start.line + 1, start.column + 1)
                top[1] += 1
            marks.setdefault(path, mark)
            if kind is yaml.AliasEvent:
                _repeat(marks, data, anchors.get(event.anchor), path)
                continue
            if event.anchor:
                anchors[event.anchor] = path
            if kind is not yaml.ScalarEvent:
                mapping = kind is yaml.MappingStartEvent
                stack.append([path, None if mapping else 0, mapping, (0, 0)])
    except (yaml.YAMLError, _SecondDocument):
        pass
    return marks


@dataclass(frozen=True, slots=True)
class Extent:
    """Where in the text a node is written: from `start` to before `end`, counted in characters from 0. `key` is where
    its key begins, inside a mapping."""

    start: int
    end: int
    kind: str
    """"scalar", "alias", "flow" (a list or mapping in brackets) or "block" (one in lines of its own)."""
    key: int | None = None


def extents(text: str) -> dict[Path, Extent]:
    """The extent of every node of a text that was read without a fault. What an alias repeats is written elsewhere, and
    has none here but the alias itself. A block ends where its last node does."""
    import yaml

    found: dict[Path, Extent] = {}
    stack: list[list[Any]] = []  # [path, next index or key or None, is a mapping, start of the key, end of the last]
    for event in _events(text):
        kind = type(event)
        start, end = event.start_mark.index, event.end_mark.index
        if kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            path, _, _, _, last = stack.pop()
            begun = found[path]
            end = max(begun.end, last) if begun.kind == "block" else end
            found[path] = replace(begun, end=end)
            if stack:
                stack[-1][4] = end
            continue
        top = stack[-1] if stack else None
        key = None
        if top is None:
            path = ()
        elif top[2] and top[1] is None:
            top[1], top[3] = getattr(event, "value", ""), start
            continue
        else:
            path, key = (*top[0], top[1]), top[3] if top[2] else None
            top[1] = None if top[2] else top[1] + 1
            top[4] = end
        if kind is yaml.ScalarEvent or kind is yaml.AliasEvent:
            name = "alias" if kind is yaml.AliasEvent else "scalar"
        else:
            name = "flow" if event.flow_style else "block"
            mapping = kind is yaml.MappingStartEvent
            stack.append([path, None if mapping else 0, mapping, None, end])
        found[path] = Extent(start, end, name, key)
    return found


def _repeat(marks: dict[Path, Mark], data: object, source: Path | None, target: Path) -> None:
    """Gives what lies under `target` the marks of what lies under `source`."""
    if source is None:
        return
    node: object = data
    for step in source:
        if not isinstance(node, dict | list):
            return
        node = node[step]  # type: ignore[index]
    todo: list[tuple[object, Path]] = [(node, ())]
    while todo:
        at, way = todo.pop()
        if way and source + way in marks:
            marks.setdefault(target + way, marks[source + way])
        if isinstance(at, dict):
            todo += [(child, (*way, key)) for key, child in at.items()]
        elif isinstance(at, list):
            todo += [(child, (*way, index)) for index, child in enumerate(at)]


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _span(document: Document, line: int, col: int) -> Span:
    text = document.line(line)
    rest = text[col - 1 :]
    word = re.match(r"[\w.-]+|<<|---|\{[{%#]|.", rest)
    return Span(document.path, line, col, col + max(1, len(word[0]) if word else 1), text)


# -- what is wrong, in words


def _fail(document: Document, rule: str, what: str, mend: str, line: int, col: int) -> NoReturn:
    raise StoryboardError([Problem(rule=rule, what=what, mend=mend, span=_span(document, line, col))]) from None


def _too_big(path: str, size: int) -> Problem:
    what = f"the file has {size / 2**20:.0f} MiB; {MAX_BYTES // 2**20} MiB are read at most"
    return Problem(rule="too-big", what=what, span=Span(path, 1, 1, 2), mend="split it")


def _unmerged(document: Document, first: int, last: int) -> Problem:
    line = document.line(first)
    span = Span(document.path, first, 1, len(line) + 1, line)
    return Problem(rule="conflict-markers", what=conflicts.UNMERGED, span=span, mend=conflicts.mend(first, last))


def _too_deep(document: Document, event: yaml.Event, problems: list[Problem]) -> NoReturn:
    span = _span(document, *_place(event))
    what = f"nested more than {MAX_DEPTH} levels deep"
    raise StoryboardError([*problems, Problem(rule="too-deep", what=what, span=span, mend="write it flatter")])


_BARE_TEMPLATE = "an unquoted text cannot begin with `{`: YAML reads a mapping"
_QUOTE = "put the whole text in quotes"


def _refuse_key(document: Document, event: yaml.Event, problems: list[Problem]) -> NoReturn:
    line, col = _place(event)
    if document.line(line)[max(0, col - 2) : col] == "{{":
        span = _span(document, line, col - 1)
        problem = Problem(rule="unquoted-template", what=_BARE_TEMPLATE, span=span, mend=_QUOTE)
    else:
        span, mend = _span(document, line, col), "write a word before the colon"
        problem = Problem(rule="key-not-text", what="a key must be text", span=span, mend=mend)
    raise StoryboardError([*problems, problem])


_FORBIDDEN = re.compile("\\A\ufeff|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]|\r(?!\n)")


def _forbidden(bad: re.Match[str]) -> tuple[str, str, str, int, int]:
    char, before = bad[0], bad.string[: bad.start()]
    line, col = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    match char:
        case "\ufeff":
            return "encoding", "the file begins with a byte order mark", "save it as UTF-8 without BOM", line, col
        case "\r":
            mend = "save the file with LF or CRLF line ends"
            return "encoding", "a carriage return alone ends this line", mend, line, col
    name = f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
    what = f"the control character {name} is not allowed in the file"
    return "control-character", what, f'remove it, or write "{name}" inside double quotes', line, col


_QUOTED = re.compile(r"""^\s*(?:-[ ]+)*(?:[\w-]+:[ ]+)?(?P<quote>["'])""")


def _open_quote(document: Document, line: int, col: int) -> tuple[str, str, int, int] | None:
    """What is wrong with the quoted text that ended just before this place, where that is the fault: (what, mend, line,
    column). A quote that was forgotten ends at the next one, lines below; one inside the text ends it too early."""
    text = document.line(line)
    before = text[: col - 1].rstrip()
    quote = before[-1:]
    if quote not in ("'", '"') or not quote:
        return None
    begun = _QUOTED.match(text)
    if begun and begun["quote"] == quote and begun.start("quote") < len(before) - 1:
        other = "two of them, ''," if quote == "'" else '\\"'
        mend = f"write {other} for a quote inside the text" + (", or put the text in \"…\"" if quote == "'" else "")
        return "the quoted text ends here, and more follows", mend, line, len(before)
    for above in range(line - 1, max(0, line - _LINES_BACK), -1):
        begun = _QUOTED.match(document.line(above))
        if begun and begun["quote"] == quote and document.line(above).count(quote) == 1:
            return "the quoted text that begins here is not closed in its line", "close the quote", above, begun.end()
    return None


_LINES_BACK = 50


def _syntax(document: Document, error: yaml.MarkedYAMLError) -> tuple[str, str, str, int, int]:
    """libyaml's complaint as a sentence: (rule, what, mend, line, column)."""
    mark = error.problem_mark or error.context_mark
    line, col = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    text, problem = document.line(line), error.problem or "this is not YAML"
    indent = len(text) - len(text.lstrip(" "))
    if "tab character" in problem or (text[indent : indent + 1] == "\t" and "cannot start any token" in problem):
        return "tab", "a tab is used for indentation", "indent with spaces", line, indent + 1
    bare = re.search(r"(?:^|[:\-,\[]\s+)(\{[{%#])", text)
    if bare:
        return "unquoted-template", _BARE_TEMPLATE, _QUOTE, line, bare.start(1) + 1
    for place in filter(None, (error.context_mark, error.problem_mark)):
        if document.line(place.line + 1).startswith((f"{conflicts.BASE} ", conflicts.MIDDLE)):
            return "conflict-markers", conflicts.UNMERGED, "remove the line", place.line + 1, 1
    quoted = _open_quote(document, line, col)
    if quoted:
        return "yaml", *quoted
    if "mapping values are not allowed" in problem:
        curly = re.search(r":\s+([“”„‟«»‘’])", text)
        if curly:
            what = f"YAML takes {curly[1]} for a part of the text, not for a quote"
            return "yaml", what, "write straight quotes: \"…\"", line, curly.start(1) + 1
        if re.match(r"\s*(?:- +)*[^\s:][^:]*:\s+\S[^:]*:", text):
            return "yaml", "a second `: ` is in an unquoted text", _QUOTE, line, col
        above = next((document.line(n) for n in range(line - 1, 0, -1) if document.line(n).strip()), "")
        if re.match(r"\s*(?:- +)*[\w-]+:\s+\S", above) and len(above) - len(above.lstrip(" -")) < indent:
            what = "this line is indented deeper than the one above, which has its value already"
            return "yaml", what, "indent it as the one above", line, indent + 1
        return "yaml", "a key is not expected here", "check the indentation of this line and the one above", line, col
    if "cannot start any token" in problem:
        char = text[col - 1 : col]
        return "yaml", f"an unquoted text cannot begin with `{char}`", _QUOTE, line, col
    if "alphabetic or numeric character" in problem:
        at = error.context_mark
        where = (at.line + 1, at.column + 1) if at else (line, col)
        return "yaml", "an unquoted text cannot begin with `*` or `&`", _QUOTE, *where
    if "unknown escape character" in problem:
        mend = "write \\\\ for a backslash, or use single quotes"
        return "yaml", "this escape is not known inside double quotes", mend, line, col
    if "Unicode character escape" in problem:
        mend = "write the character itself; in JSON an emoji is two escapes, as \\ud83d\\ude00"
        return "yaml", "this escape is no character", mend, line, max(1, col - 2)
    if "unexpected end of stream" in problem and error.context_mark:
        at = error.context_mark
        return "yaml", "the quoted text that begins here never ends", "close the quote", at.line + 1, at.column + 1
    if "',' or '" in problem and error.context_mark:
        at = error.context_mark
        closing = "]" if "']'" in problem else "}"
        what = f"the list or mapping that begins here needs `,` or `{closing}` before line {line}, column {col}"
        return "yaml", what, "close it, or put text with commas and brackets in quotes", at.line + 1, at.column + 1
    if "did not find expected key" in problem:
        mend = "check the indentation, and that a quoted text is the whole value"
        return "yaml", "a key was expected here", mend, line, col
    if "could not find expected ':'" in problem:
        at = error.context_mark
        where = (at.line + 1, at.column + 1) if at else (line, col)
        shown = document.line(where[0])
        close = re.match(r"\s*(?:- +)*[\w-]+(:)\S", shown)
        if close:
            return "yaml", "a space is missing after this `:`", "write `key: value`", where[0], close.start(1) + 1
        mend = "write `key: value`, or indent the text under its key"
        return "yaml", "a `:` is missing after this text", mend, *where
    if "unexpected ':'" in problem:
        return "yaml", "a space is missing after this `:`", "write `key: value`, or put the text in quotes", line, col
    if "expected '-' indicator" in problem:
        if text[col - 1 : col] == "-":
            return "yaml", "a space is missing after this `-`", "write `- key: value`", line, col
        mend = "indent it as the lines of the entry above; or, if it begins an entry, write `- ` before it"
        return "yaml", "this line belongs to no entry of the list", mend, line, col
    if "expected node content" in problem:
        mend = "remove a comma or a bracket, or put the text in quotes"
        return "yaml", "a value was expected here", mend, line, col
    if "scanning a tag" in (error.context or "") and error.context_mark:
        at = error.context_mark
        return "yaml", "an unquoted text cannot begin with `!`", _QUOTE, at.line + 1, at.column + 1
    if "block sequence entries" in problem:
        mend = "begin the list on the next line, indented"
        return "yaml", "a list cannot begin on the line of its key", mend, line, col
    context = f" {error.context}" if error.context else ""
    return "yaml", f"this is not YAML: {problem}{context}", "", line, col
