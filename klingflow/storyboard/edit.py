"""One value of a YAML file written anew, or put in, with every other byte as it was: comments, order, blank lines,
quotes, line ends. The result is read again, and given only where nothing else in it has changed.

Knows no field of a storyboard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from klingflow.core.errors import StoryboardError, UsageError
from klingflow.core.source import Path
from klingflow.storyboard import yamlread
from klingflow.storyboard.scalar import scalar
from klingflow.storyboard.yamlread import Extent

_WIDTH = 100
"""Characters of a line; a longer list has an entry a line."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a list as it shall be: the text of the old entry `old` where that is given, with another `value`
    where that is."""

    old: int | None = None
    value: object = None
    """None: as the old one has it."""


def put(shown: str, raw: bytes, way: Path, value: object, *, after: str | None = None) -> bytes:
    """The file with `value` at `way` (("shots", 3, "take")): a scalar, or a list or mapping of them.

    Where the last key is not there, it is put into its mapping: behind the key `after`, or at the end. `shown` is the
    file's path in messages. Raises StoryboardError where the file cannot be read, and UsageError, with what to write
    by hand, where its layout does not allow the edit (a value that an alias repeats, say).
    """
    file = _File(shown, raw, way)
    extent = file.nodes.get(way)
    if extent is not None:
        text = file.text[: extent.start] + file.written(value, extent, way) + file.text[extent.end :]
    else:
        text = file.inserted(way, value, after)
    return file.checked(text, value)


def put_list(shown: str, raw: bytes, way: Path, entries: Sequence[Entry]) -> bytes:
    """The file with these entries in the list at `way`. An entry that stays takes its comments along: the one on its
    line, and the lines between it and the entry above. As `put` in all else."""
    file = _File(shown, raw, way)
    old = _at(file.data, way)
    extent = file.nodes.get(way)
    items, used = [], set()
    for entry in entries:
        again = entry.old in used
        used.add(entry.old)
        value = old[entry.old] if entry.value is None and entry.old is not None else entry.value
        items.append(_Item(None if again else entry.old, value, again or entry.value is not None))
    values = [item.value for item in items]
    if extent is None or extent.kind == "alias" or not old or not items:
        raise file.by_hand(values)
    text = file.block(way, len(old), items) if extent.kind == "block" else file.flow(way, len(old), items)
    return file.checked(text, values)


@dataclass(frozen=True, slots=True)
class _Item:
    old: int | None
    """The old entry in whose place, among its comments, it is written."""
    value: object
    new: bool
    """Whether its own text is another than the old entry's."""


def scalar_text(value: object) -> str:
    """A scalar as YAML and its older readers take it for nothing else: plain where it can be, else in double quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float):
        return "null" if value is None else str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and scalar(text) == text and text.lower() not in _MEANT:
        return text
    return quoted(text)


def quoted(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*|[0-9]+(\.[0-9]+)?s")
_MEANT = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])
_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def _flow(value: object, *, as_json: bool) -> str:
    match value:
        case Mapping():
            key = quoted if as_json else scalar_text
            return "{" + ", ".join(f"{key(str(k))}: {_flow(v, as_json=as_json)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(_flow(each, as_json=as_json) for each in value) + "]"
        case str() if as_json:
            return quoted(value)
    return scalar_text(value)


def _at(data: Any, way: Path) -> Any:
    """Raises LookupError or TypeError where there is nothing."""
    for step in way:
        data = data[step]
    return data


class _File:
    """A file that is edited at one place."""

    def __init__(self, shown: str, raw: bytes, way: Path) -> None:
        self.shown, self.way = shown, way
        self.bom = raw.startswith(_BOM)
        self.text = yamlread.decode(shown, raw)
        self.data: Any = yamlread.read(shown, self.text).data
        self.nodes: Mapping[Path, Extent] = yamlread.extents(self.text)
        self.newline = "\r\n" if "\r\n" in self.text else "\n"

    def by_hand(self, value: object) -> UsageError:
        where = ".".join(map(str, self.way))
        mend = f"write it there by hand, as {_flow(value, as_json=False)}"
        return UsageError(f"{self.shown}: {where} is written in a way that cannot be edited", mend)

    def checked(self, text: str, value: object) -> bytes:
        """The edited file, where it says what was asked for and nothing else."""
        wanted = json.loads(json.dumps(self.data))  # a copy in which nothing that an alias repeats is shared
        try:
            *above, last = self.way
            _at(wanted, tuple(above))[last] = value
            now = yamlread.read(self.shown, text).data
            good = json.dumps(now, sort_keys=True) == json.dumps(wanted, sort_keys=True)
        except (StoryboardError, LookupError, TypeError):
            good = False
        if not good:
            raise self.by_hand(value)
        return (_BOM if self.bom else b"") + text.encode()

    # -- places

    def line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def line_end(self, at: int) -> int:
        """Behind the line break of the line that `at` is in."""
        found = self.text.find("\n", at)
        return len(self.text) if found < 0 else found + 1

    def column(self, at: int) -> int:
        return at - self.line_start(at)

    def as_json(self, way: Path) -> bool:
        """Whether the mapping at `way` writes all its keys in double quotes."""
        nodes = [self.nodes.get((*way, key)) for key in _keys(_at(self.data, way))]
        keys = [node.key for node in nodes if node is not None and node.key is not None]
        return bool(keys) and all(self.text[at] == '"' for at in keys)

    # -- one value

    def written(self, value: object, extent: Extent, way: Path) -> str:
        """A value in the place of another one."""
        as_json = bool(way) and isinstance(way[-1], str) and self.as_json(way[:-1])
        before = self.text[extent.start - 1 : extent.start]
        gap = " " if extent.start == extent.end and before == ":" else ""  # nothing stood there
        if extent.kind == "block" or (extent.kind == "scalar" and self.text[extent.end - 1 : extent.end] == "\n"):
            raise self.by_hand(value)
        return gap + _flow(value, as_json=as_json)

    def inserted(self, way: Path, value: object, after: str | None) -> str:
        """The text with a key more in the mapping that it belongs to."""
        *above, key = way
        owner = tuple(above)
        extent = self.nodes.get(owner)
        try:
            keys = _keys(_at(self.data, owner))
        except (LookupError, TypeError):
            keys = []
        if extent is None or not keys or extent.kind not in ("flow", "block"):
            raise self.by_hand(value)
        last = after if after in keys else keys[-1]
        neighbour = self.nodes[*owner, last]
        if extent.kind == "flow":
            as_json = self.as_json(owner)
            pair = f"{quoted(str(key)) if as_json else scalar_text(key)}: {_flow(value, as_json=as_json)}"
            assert neighbour.key is not None
            own_line = self.line_start(neighbour.key) > extent.start
            gap = self.newline + " " * self.column(neighbour.key) if own_line else " "
            return f"{self.text[: neighbour.end]},{gap}{pair}{self.text[neighbour.end :]}"
        first = self.nodes[*owner, keys[0]].key
        assert first is not None
        lines = self.pair(str(key), value, " " * self.column(first))
        at_end = not owner and last == keys[-1]
        at = len(self.text) if at_end else self.line_end(self.end_of(neighbour))
        before = self.text[:at]
        if before and not before.endswith("\n"):
            before += self.newline
        assert neighbour.key is not None
        if at_end and re.search(r"\n\r?\n\Z", self.text[: self.line_start(neighbour.key)]):
            before += self.newline  # set apart as the section above is
        return before + "".join(line + self.newline for line in lines) + self.text[at:]

    def end_of(self, extent: Extent) -> int:
        """The last character of a node; a text in lines of its own ends with the last that is not blank."""
        end = extent.end
        while end > extent.start and self.text[end - 1] in "\r\n ":
            end -= 1
        return end

    def pair(self, key: str, value: object, indent: str) -> list[str]:
        """A key and its value in the lines of a block."""
        line = f"{indent}{scalar_text(key)}: {_flow(value, as_json=False)}"
        if isinstance(value, Mapping):
            inner = [each for k, v in value.items() for each in self.pair(str(k), v, indent + "  ")]
            return [f"{indent}{scalar_text(key)}:", *inner]
        if isinstance(value, list | tuple) and (len(line) > _WIDTH or any(isinstance(v, Mapping) for v in value)):
            entries = [f"{indent}  - {_flow(each, as_json=False)}" for each in value]
            return [f"{indent}{scalar_text(key)}:", *entries]
        return [line]

    # -- a list

    def block(self, way: Path, count: int, items: Sequence[_Item]) -> str:
        """The text with the items of a list that has a dash and lines for each."""
        old = [self.nodes[(*way, i)] for i in range(count)]
        dashes = [self.text.rfind("-", 0, node.start) for node in old]
        starts = [self.line_start(at) for at in dashes]
        ends = [self.line_end(self.end_of(node)) for node in old]
        indent = self.text[starts[0] : dashes[0]]
        if indent.strip() or len(set(starts)) < count:
            raise self.by_hand([item.value for item in items])
        between = [self.text[end:start] for end, start in zip(ends, starts[1:], strict=False)]
        above, tail = _with_dropped(["", *between], items)
        out = []
        for item in items:
            line = f"- {_flow(item.value, as_json=False)}"
            if item.old is None:
                out.append(f"{indent}{line}{self.newline}")
                continue
            start, node, end = starts[item.old], old[item.old], ends[item.old]
            body = f"{indent}{line}{self.text[self.end_of(node) : end]}" if item.new else self.text[start:end]
            out.append(above[item.old] + body + ("" if body.endswith("\n") else self.newline))
        return self.text[: starts[0]] + "".join(out) + tail + self.text[ends[-1] :]

    def flow(self, way: Path, count: int, items: Sequence[_Item]) -> str:
        """The text with the items of a list in brackets: on one line where there were no more and they fit, else on a
        line each."""
        extent = self.nodes[way]
        old = [self.nodes[(*way, i)] for i in range(count)]
        as_json = self.text[old[0].start] == '"' and isinstance(way[-1], str) and self.as_json(way[:-1])
        texts = [
            self.text[old[item.old].start : old[item.old].end]
            if item.old is not None and not item.new
            else _flow(item.value, as_json=as_json)
            for item in items
        ]
        starts, ends = [*(node.start for node in old), extent.end - 1], [extent.start + 1, *(node.end for node in old)]
        gaps = [self.text[end:start] for end, start in zip(ends, starts, strict=True)]
        # What is behind an entry on its line is its own; lines of comments belong to what follows.
        beside = [_comments(gap.partition("\n")[0]) for gap in gaps[1:]]
        lines = [_comments(gaps[0]), *(_comments(gap.partition("\n")[2]) for gap in gaps[1:])]
        above, tail = _with_dropped(lines, items)
        start = self.line_start(extent.start)
        one = f"[{', '.join(texts)}]"
        short = "\n" not in self.text[extent.start : extent.end] + one and extent.start - start + len(one) <= _WIDTH
        if short and not any(lines) and not any(beside):
            return self.text[: extent.start] + one + self.text[extent.end :]
        outer = " " * (len(self.text[start:]) - len(self.text[start:].lstrip(" ")))
        spread = [node.start for node in old if self.line_start(node.start) > extent.start]
        inner = " " * self.column(spread[0]) if spread else outer + "  "
        out = ["["]
        for n, (item, text) in enumerate(zip(items, texts, strict=True), 1):
            out += [inner + comment for comment in (above[item.old] if item.old is not None else [])]
            comments = beside[item.old] if item.old is not None else []
            out.append("  ".join([f"{inner}{text}{',' if n < len(items) else ''}", *comments]))
        out += [*(inner + comment for comment in tail), f"{outer}]"]
        return self.text[: extent.start] + self.newline.join(out) + self.text[extent.end :]


def _keys(data: object) -> list[str]:
    return list(data) if isinstance(data, dict) else []


_COMMENT = re.compile(r"(?:^|(?<=[\s,]))#[^\r\n]*")


def _comments(gap: str) -> list[str]:
    return [found.rstrip() for found in _COMMENT.findall(gap)]


S = TypeVar("S", str, list[str])


def _with_dropped(above: Sequence[S], items: Sequence[_Item]) -> tuple[list[S], S]:
    """The lines above each old entry, those of one that is dropped before those of the next that stays; and those that
    no entry follows, at last what is above the end of the list where that is given."""
    kept = {item.old for item in items}
    out: list[S] = []
    held = above[0][:0]
    for i, lines in enumerate(above):
        out.append(held + lines)
        held = held[:0] if i in kept else out[-1]
    return out, held
