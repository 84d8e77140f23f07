"""Templates: the text of a field with its values put in. jinja2's syntax, a language much smaller than jinja2's.

jinja2 only parses here. Its sandbox stops a template from reaching Python, but not from running for ever or
growing without end (`'x' * 10**10`, nested loops, a macro that calls another twice), so nothing is compiled and
run: the tree is first held against a whitelist, then walked, and each step and each character is counted. A value
can only be looked up in what the storyboard declares; no Python attribute is ever read.

Knows no YAML and opens no file: what is included comes through a function of the caller's.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from klingflow.core.alike import suggestion
from klingflow.core.errors import KlingflowError, StoryboardError
from klingflow.core.source import Problem, Span, nearest
from klingflow.storyboard.scalar import WrittenTruth, written

if TYPE_CHECKING:
    from jinja2 import nodes

MAX_OUTPUT = 20_000
"""Characters of one value while it is built; eight times the longest prompt that a provider takes."""
MAX_TEMPLATE = 100_000
"""Characters of one template or included file."""
MAX_STEPS = 200_000
"""Nodes visited for one field: about a quarter of a second."""
MAX_LOOPS = 10_000
"""Rounds of loops, calls and includes for one field."""
MAX_CHARS = 2_000_000
"""Characters of all the texts that are built on the way to one field: they may all be in memory at once."""
MAX_FAULTS = 20
"""Faults reported of one field: each is looked for in the file's text again."""

Where = Callable[[int, int], Span]
"""The place of a piece of the template: (offset, length) -> Span."""


@dataclass(frozen=True, slots=True)
class Included:
    """A file that a template includes: its path as shown to people, and its text."""

    path: str
    text: str

    def span(self, offset: int, length: int) -> Span:
        start = self.text.rfind("\n", 0, offset) + 1
        stop = self.text.find("\n", start)
        line = self.text[start:] if stop < 0 else self.text[start:stop]
        col = offset - start + 1
        return Span(self.path, self.text.count("\n", 0, start) + 1, col, col + max(1, length), line)


Include = Callable[[str], Included]
"""Raises KlingflowError where the file cannot be had."""


@dataclass(slots=True)
class RenderBudget:
    """What all templates of one storyboard may cost together, and the templates that are parsed already."""

    steps: int = 5_000_000
    """About six seconds. Parsing counts too: a step for two characters, ten for a node (measured 2026-11)."""
    chars: int = 100_000_000
    read: int = 16_000_000
    """Characters of the files that are included."""
    guesses: int = 25
    """Searches for the name that was meant; a file with thousands of faults is not searched thousands of times."""
    pieces: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    """By text: what `_pieces` made of it."""
    trees: dict[str, nodes.Template | _Fault] = field(default_factory=dict)
    """By text: the checked tree, or why there is none. A node takes 100 to 180 bytes, so `steps` bounds them too."""

    @property
    def spent(self) -> bool:
        return self.steps < 0 or self.chars < 0 or self.read < 0

    def nearest(self, name: str, names: Iterable[str]) -> str | None:
        self.guesses -= 1
        if self.guesses < 0 or len(name) > LONGEST_NAME:
            return None
        return nearest(name, [one for one in names if len(one) <= LONGEST_NAME])

    def listed(self, names: Sequence[str]) -> str:
        """Some of the names in order, for a message; none when there were many faults already."""
        return ", ".join(sorted(names)[:12]) + (", …" if len(names) > 12 else "") if self.guesses >= 0 else ""


LONGEST_NAME = 100
"""Characters. What is longer was no slip of the pen, and comparing two long texts takes minutes."""


def render(
    text: str, context: Mapping[str, object], *, where: Where, include: Include, budget: RenderBudget | None = None
) -> str:
    """The text with its values put in. Raises StoryboardError with every fault that could be seen.

    `where` gives the place of a piece of `text`; faults in included files point into those files.
    """
    if "{" not in text:
        return text
    budget = budget or RenderBudget()
    if len(text) <= MAX_TEMPLATE and text not in budget.pieces:
        pieces = budget.pieces[text] = _pieces(text)
        budget.steps -= len(text) // 10 + 2 * len(pieces or ())
    pieces = budget.pieces.get(text)
    if pieces is None:
        return _walk(text, context, where, include, budget)
    budget.steps -= len(pieces) // 3
    if budget.steps < 0:
        raise StoryboardError([_too_many_steps().problem(where(0, 1))])
    problems: list[Problem] = []
    out = []
    at = 0
    for i, piece in enumerate(pieces):
        if len(problems) >= MAX_FAULTS:
            break
        if i % 3 == 0:
            out.append(piece)
        elif i % 3 == 1:
            found: object = context
            try:
                for name in piece.split("."):
                    found = found[name]  # type: ignore[index]
                out.append(found if type(found) is str else _printed(found, piece))
            except (KeyError, TypeError, IndexError):
                fault = _lost(piece.split("."), context, budget)
                problems.append(fault.problem(where(at, len(pieces[i + 1]))))
            except _Fault as fault:
                problems.append(fault.problem(where(at, len(pieces[i + 1]))))
        if i % 3 != 1:
            at += len(piece)
    if problems:
        raise StoryboardError(problems)
    done = "".join(out)
    budget.chars -= len(done)
    if len(done) > MAX_OUTPUT or budget.chars < 0:
        raise StoryboardError([_too_long().problem(where(0, 1))])
    return done


_SIMPLE = re.compile(r"(\{\{[ \t]*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)[ \t]*\}\})", re.ASCII)
_WORDS = frozenset(["true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else"])


def _pieces(text: str) -> tuple[str, ...] | None:
    """(literal, name, whole tag, literal, …) of a template of plain `{{ a.b }}` alone; None for any other.

    These are nearly all prompts there are, and 2,000 of them need no parser and no import of jinja2.
    """
    parts = _SIMPLE.split(text)
    for i in range(0, len(parts), 3):
        literal = parts[i]
        if "{" in literal and ("{{" in literal or "{%" in literal or "{#" in literal):
            return None
        if literal.endswith("{") and i + 1 < len(parts):
            return None
    for i in range(1, len(parts), 3):
        parts[i], parts[i + 1] = parts[i + 1], parts[i]
        if parts[i].partition(".")[0] in _WORDS:
            return None
    return tuple(parts)


class _Fault(Exception):
    """What is wrong, before its place is known."""

    def __init__(self, rule: str, what: str, mend: str = "", line: int = 0) -> None:
        super().__init__(what)
        self.rule, self.what, self.mend, self.line = rule, what, mend, line

    def problem(self, span: Span) -> Problem:
        return Problem(rule=self.rule, what=self.what, mend=self.mend, span=span)


class _Missing(_Fault):
    """A name or a field that is not there; `default` and `is defined` may forgive the last step of a path."""


def _too_long() -> _Fault:
    return _Fault("template-size", f"the text grows past {MAX_OUTPUT} characters", "make it shorter")


def _too_many_steps() -> _Fault:
    return _Fault("template-size", "the template takes too many steps", "use fewer or shorter loops and comparisons")


def _undeclared(name: str, known: Sequence[str], budget: RenderBudget) -> _Missing:
    if name in ("shot", "element"):
        return _Missing("undefined", f"'{name}' is known only inside a shot", "use it in a field of a shot")
    near, names = budget.nearest(name, known), budget.listed(known)
    mend = "declare it under vars" + (f"; known here: {names}" if names else "")
    mend = suggestion(near, name) if near else mend
    return _Missing("undefined", f"'{name}' is not declared", mend)


def _no_field(owner: str, value: object, name: str, budget: RenderBudget) -> _Missing:
    if isinstance(value, Mapping):
        near = budget.nearest(name, map(str, value))
        names = ", ".join(map(str, islice(value, 12)))
        mend = suggestion(near, name) if near else f"it has {names or 'no fields'}"
    elif isinstance(value, list | tuple):
        mend = f"it is a list of {len(value)}: write {owner}[0]"
    else:
        mend = "it is a plain value without fields"
    return _Missing("undefined", f"'{owner}' has no '{name}'", mend)


def _lost(path: Sequence[str], context: Mapping[str, object], budget: RenderBudget) -> _Missing:
    """Why a dotted path leads nowhere."""
    if path[0] not in context:
        return _undeclared(path[0], list(context), budget)
    value: object = context[path[0]]
    for i, name in enumerate(path[1:], 1):
        if not isinstance(value, Mapping) or name not in value:
            return _no_field(".".join(path[:i]), value, name, budget)
        value = value[name]
    raise AssertionError(f"{path} leads somewhere")  # BUG: the caller saw it lead nowhere


def _printed(value: object, expr: str) -> str:
    """A value as it is put into a text: a number and a truth as they were written."""
    match value:
        case str():
            return value
        case bool() | int() | float():
            return written(value)
        case None:
            raise _Fault("template-value", f"'{expr}' is empty", "give it a value, or use `| default('')`")
        case Mapping():
            name = next(iter(value), "field")
            raise _Fault(
                "template-value", f"'{expr}' has fields of its own", f"name one of them: {{{{ {expr}.{name} }}}}"
            )
        case list() | tuple():
            raise _Fault(
                "template-value",
                f"'{expr}' is a list",
                f"name one of its values, {{{{ {expr}[0] }}}}, or join them: {{{{ {expr} | join(', ') }}}}",
            )
        case _:
            raise _Fault("template-value", f"'{expr}' is not a text", "print a value")


# The walk over jinja2's tree.


def _walk(text: str, context: Mapping[str, object], where: Where, include: Include, budget: RenderBudget) -> str:
    run = _Run(_Source(text, where), include, budget)
    out = _Out(run)
    try:
        run.body(_parsed(text, budget).body, ({}, context), out)
    except _Fault as fault:
        raise StoryboardError([fault.problem(run.place(fault))]) from None
    except RecursionError:
        deep = _Fault("template-size", "the template is nested too deeply", "write it flatter")
        raise StoryboardError([deep.problem(run.place(deep))]) from None
    return "".join(out.parts)


def _parsed(text: str, budget: RenderBudget) -> nodes.Template:
    """The checked tree of a template; each different text is parsed once, one with a fault too. Raises _Fault."""
    tree = budget.trees.get(text)
    if tree is None:
        try:
            tree = _checked(text, budget)
        except RecursionError:
            tree = _Fault("template-size", "the template is nested too deeply", "write it flatter", 1)
        except _Fault as fault:
            tree = fault
        budget.trees[text] = tree
    if isinstance(tree, _Fault):
        raise _Fault(tree.rule, tree.what, tree.mend, tree.line)
    return tree


def _checked(text: str, budget: RenderBudget) -> nodes.Template:
    import jinja2  # 30 ms, and most storyboards never come here

    if len(text) > MAX_TEMPLATE:
        raise _Fault("template-size", f"the template is longer than {MAX_TEMPLATE} characters", "make it shorter", 1)
    budget.steps -= len(text) // 2
    if budget.steps < 0:
        raise _too_many_steps()
    try:
        tree = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined).parse(text)
    except jinja2.TemplateSyntaxError as exc:
        mend = "close {{ with }}, {% if %} with {% endif %}; for two braces as text write {% raw %}{{{% endraw %}"
        raise _Fault("template", f"the template cannot be read: {exc.message}", mend, exc.lineno) from None
    except (ValueError, OverflowError):
        raise _Fault("template", "the template holds a number that cannot be read", line=1) from None
    todo: list[nodes.Node] = [tree]
    while todo:
        node = todo.pop()
        budget.steps -= 10
        fault = _too_many_steps() if budget.steps < 0 else _refused(node)
        if fault is not None:
            fault.line = node.lineno
            raise fault
        todo.extend(node.iter_child_nodes())
    return tree


_ARITHMETIC = frozenset(["Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow", "Pos"])


def _refused(node: nodes.Node) -> _Fault | None:
    """Why a node of the tree is not in the whitelist."""
    kind = type(node).__name__
    given: Any = node
    if kind in _ARITHMETIC:
        mend = "declare the value under vars; text is joined with ~"
        if kind == "Sub":
            mend += "; a name is written with _, not with -"
        return _Fault("template-refused", "templates do not calculate", mend)
    if kind == "Filter" and given.node is None:
        kind = "FilterBlock"
    if kind not in _STATEMENTS and kind not in _EXPRESSIONS and kind not in _PARTS:
        return _Fault("template-refused", f"templates have no '{_SPOKEN.get(kind, kind.lower())}'", _PLAIN)
    if kind == "Filter" and given.name not in _FILTERS:
        near = nearest(given.name, sorted(_FILTERS))
        return _Fault(
            "template-refused",
            f"there is no filter '{given.name}' in storyboards",
            f"did you mean '{near}'?" if near else f"there are {', '.join(sorted(_FILTERS))}",
        )
    if kind == "Test" and given.name not in _TESTS:
        known = ", ".join(sorted(_TESTS))
        return _Fault("template-refused", f"there is no test 'is {given.name}'", f"there are {known}")
    if kind in ("Filter", "Test", "Call") and (given.dyn_args is not None or given.dyn_kwargs is not None):
        return _Fault("template-refused", "arguments are written out one by one, without *", _PLAIN)
    if kind in ("Filter", "Test") and given.kwargs:
        return _Fault("template-refused", f"'{given.name}' takes no named arguments", "give them by place")
    if kind == "Call" and type(given.node).__name__ not in ("Name", "Getattr"):
        return _Fault("template-refused", "only a macro can be called", _PLAIN)
    if kind == "Call" and type(given.node).__name__ == "Name" and given.node.name in _FUNCTIONS:
        return _Fault("template-refused", f"templates have no '{given.node.name}'", _PLAIN)
    if kind == "For" and given.recursive:
        return _Fault("template-refused", "loops do not call themselves", _PLAIN)
    if (
        kind == "For"
        and type(given.iter).__name__ not in ("Name", "Getattr", "Getitem", "List", "Tuple")
        and not (type(given.iter).__name__ == "Filter" and given.iter.name == "items")
    ):
        return _Fault(
            "template-refused", "a loop goes over a declared value", "declare the list under vars: {% for x in names %}"
        )
    if kind == "Include" and given.ignore_missing:
        return _Fault("template-refused", "an included file must be there", "leave out `ignore missing`")
    if kind == "AssignBlock" and given.filter is not None:
        return _Fault("template-refused", "a set block takes no filter", _PLAIN)
    return None


_PLAIN = "templates know values, if, for, set, macro, include, comparisons, ~ and simple filters"
_FUNCTIONS = frozenset(["range", "dict", "lipsum", "cycler", "joiner", "namespace", "super", "caller"])
_SPOKEN = {
    "FilterBlock": "filter block",
    "CallBlock": "call block",
    "ScopedEvalContextModifier": "autoescape",
    "Extends": "extends",
    "Block": "block",
    "Slice": "slice",
}


@dataclass(slots=True)
class _Out:
    """Text being built, with its size counted as it grows."""

    run: _Run
    parts: list[str] = field(default_factory=list)
    size: int = 0

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_OUTPUT:
            raise _too_long()
        self.run.built(len(text))
        self.parts.append(text)


@dataclass(frozen=True, slots=True)
class _Source:
    """A text being walked, and the places of its pieces."""

    text: str
    where: Where
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Macro:
    node: nodes.Macro
    scope: _Scope
    source: _Source


@dataclass(frozen=True, slots=True, eq=False)
class _Module:
    """The names that an imported file sets."""

    names: Mapping[str, object]


_Scope = tuple[Any, ...]
"""Names in sight, the innermost first: mappings, of which only the first is ever written to."""

_TAG = re.compile(r"\{\{[^{}]*\}\}|\{%[^%]*%\}")
_UNCLOSED = re.compile(r"\{\{[^{}\n]*(?:\}(?!\})|$|(?=\{\{))", re.MULTILINE)


class _Run:
    """One walk: its position, and what it may still cost."""

    def __init__(self, source: _Source, include: Include, budget: RenderBudget) -> None:
        self.sources = [source]
        self.include = include
        self.budget = budget
        self.steps = MAX_STEPS
        self.loops = MAX_LOOPS
        self.chars = MAX_CHARS
        self.calls: list[nodes.Macro] = []
        self.line = 1

    def place(self, fault: _Fault) -> Span:
        """The tag at fault: one that is not closed; else the first on the line of the walk that holds the quoted name,
        else the first."""
        source = self.sources[-1]
        self.budget.steps -= len(source.text) // 50
        start = 0
        for _ in range((fault.line or self.line) - 1):
            start = source.text.find("\n", start) + 1
        stop = source.text.find("\n", start)
        stop = len(source.text) if stop < 0 else stop
        unclosed = _UNCLOSED.search(source.text, start, stop) if fault.rule == "template" else None
        if unclosed:
            return source.where(unclosed.start(), len(unclosed.group()))
        quoted = re.findall(r"'([^']+)'", fault.what)
        tags = [tag for tag in _TAG.finditer(source.text) if tag.start() < stop and tag.end() > start]
        held = [tag for tag in tags if any(name.rpartition(".")[2] in tag.group() for name in quoted)]
        if tags:
            found = (held or tags)[0]
            return source.where(found.start(), len(found.group().partition("\n")[0]))
        brace = source.text.find("{", start, stop)
        return source.where(brace if brace >= 0 else start, 2 if brace >= 0 else max(1, stop - start))

    def step(self, node: nodes.Node) -> None:
        self.line = node.lineno
        self.pay(1)

    def pay(self, steps: int) -> None:
        self.steps -= steps
        self.budget.steps -= steps
        if self.steps < 0 or self.budget.steps < 0:
            raise _too_many_steps()

    def built(self, chars: int) -> None:
        self.chars -= chars
        self.budget.chars -= chars
        if self.chars < 0 or self.budget.chars < 0:
            raise _Fault("template-size", f"the template builds over {MAX_CHARS} characters", "use fewer long texts")

    def round(self) -> None:
        self.pay(5)
        self.loops -= 1
        if self.loops < 0:
            raise _Fault("template-size", f"the template takes over {MAX_LOOPS} rounds", "use fewer or shorter loops")

    # Statements

    def body(self, body: Sequence[nodes.Node], scope: _Scope, out: _Out) -> None:
        for node in body:
            self.step(node)
            _STATEMENTS[type(node).__name__](self, node, scope, out)

    def output(self, node: nodes.Output, scope: _Scope, out: _Out) -> None:
        for part in node.nodes:
            if type(part).__name__ == "TemplateData":
                out.write(part.data)  # type: ignore[attr-defined]
            else:
                out.write(self.text(part, scope))

    def branch(self, node: nodes.If, scope: _Scope, out: _Out) -> None:
        for case in (node, *node.elif_):
            if self.value(case.test, scope):
                self.body(case.body, scope, out)
                return
        self.body(node.else_, scope, out)

    def loop(self, node: nodes.For, scope: _Scope, out: _Out) -> None:
        items = self.value(node.iter, scope)
        if not isinstance(items, list | tuple | Mapping):
            raise _Fault("template-value", f"'{_said(node.iter)}' is not a list", "loop over a list or a mapping")
        chosen = []
        for item in items:
            self.round()
            inner: dict[str, object] = {}
            self.bind(node.target, item, inner)
            if node.test is None or self.value(node.test, (inner, *scope)):
                chosen.append(inner)
        count = len(chosen)
        for i, inner in enumerate(chosen):
            inner["loop"] = {
                "index": i + 1,
                "index0": i,
                "revindex": count - i,
                "revindex0": count - i - 1,
                "first": i == 0,
                "last": i == count - 1,
                "length": count,
            }
            self.body(node.body, (inner, *scope), out)
        if not chosen:
            self.body(node.else_, ({}, *scope), out)

    def bind(self, target: nodes.Node, value: object, names: dict[str, object]) -> None:
        given: Any = target
        if type(target).__name__ == "Name":
            names[given.name] = value
            return
        if not isinstance(value, list | tuple) or len(value) != len(given.items):
            raise _Fault("template-value", f"this value is not {len(given.items)} values", "unpack all that it has")
        for one, part in zip(given.items, value, strict=True):
            self.bind(one, part, names)

    def assign(self, node: nodes.Assign, scope: _Scope, out: _Out) -> None:
        self.bind(node.target, self.value(node.node, scope), scope[0])

    def assign_block(self, node: nodes.AssignBlock, scope: _Scope, out: _Out) -> None:
        inner = _Out(self)
        self.body(node.body, ({}, *scope), inner)
        self.bind(node.target, "".join(inner.parts), scope[0])

    def with_(self, node: nodes.With, scope: _Scope, out: _Out) -> None:
        names: dict[str, object] = {}
        for target, value in zip(node.targets, node.values, strict=True):
            self.bind(target, self.value(value, scope), names)
        self.body(node.body, (names, *scope), out)

    def macro(self, node: nodes.Macro, scope: _Scope, out: _Out) -> None:
        scope[0][node.name] = _Macro(node, scope, self.sources[-1])

    def read(self, node: nodes.Expr, scope: _Scope) -> tuple[_Source, nodes.Template]:
        name = self.value(node, scope)
        if not isinstance(name, str):
            raise _Fault("template-value", "an include names one file", 'write {% include "look.txt" %}')
        self.round()
        if any(source.name == name for source in self.sources):
            raise _Fault("template-refused", f"'{name}' includes itself", "break the circle")
        try:
            file = self.include(name)
        except KlingflowError as exc:
            raise _Fault("file", exc.what, exc.mend) from None
        source = _Source(file.text, file.span, name)
        self.sources.append(source)
        # A fault in it is at a place of that file, which then stays the last of the sources.
        tree = _parsed(file.text, self.budget)
        self.sources.pop()
        return source, tree

    def inside(self, source: _Source, body: Sequence[nodes.Node], scope: _Scope, out: _Out) -> None:
        self.sources.append(source)
        line = self.line
        self.body(body, scope, out)
        self.sources.pop()
        self.line = line

    def included(self, node: nodes.Include, scope: _Scope, out: _Out) -> None:
        source, tree = self.read(node.template, scope)
        names = ({}, *scope) if node.with_context else ({},)
        self.inside(source, tree.body, names, out)

    def module(self, node: nodes.Import | nodes.FromImport, scope: _Scope) -> _Module:
        source, tree = self.read(node.template, scope)
        names: dict[str, object] = {}
        self.inside(source, tree.body, (names, *scope) if node.with_context else (names,), _Out(self))
        return _Module(names)

    def imported(self, node: nodes.Import, scope: _Scope, out: _Out) -> None:
        scope[0][node.target] = self.module(node, scope)

    def from_imported(self, node: nodes.FromImport, scope: _Scope, out: _Out) -> None:
        module = self.module(node, scope)
        for wanted in node.names:
            name, here = wanted if isinstance(wanted, tuple) else (wanted, wanted)
            if name not in module.names:
                near = self.budget.nearest(name, list(module.names))
                raise _Fault("undefined", f"the file has no '{name}'", f"did you mean '{near}'?" if near else "")
            scope[0][here] = module.names[name]

    # Expressions

    def text(self, node: nodes.Node, scope: _Scope) -> str:
        value = self.value(node, scope)
        return value if type(value) is str else _printed(value, _said(node))

    def value(self, node: nodes.Node, scope: _Scope) -> object:
        self.step(node)
        value = _EXPRESSIONS[type(node).__name__](self, node, scope)
        if type(value) is str and len(value) > MAX_OUTPUT:
            raise _too_long()
        return value

    def name(self, node: nodes.Name, scope: _Scope) -> object:
        for names in scope:
            if node.name in names:
                return names[node.name]
        raise _undeclared(node.name, [name for names in scope for name in names], self.budget)

    def attribute(self, node: nodes.Getattr, scope: _Scope) -> object:
        return self._field(node, self.value(node.node, scope), node.attr)

    def item(self, node: nodes.Getitem, scope: _Scope) -> object:
        return self._field(node, self.value(node.node, scope), self.value(node.arg, scope))

    def _field(self, node: nodes.Getattr | nodes.Getitem, owner: object, name: object) -> object:
        value = _found(owner, name)
        if value is not _NOTHING:
            return value
        if not isinstance(name, str | int | float):
            raise _Fault("template-value", "an index is a name or a number", f"write {_said(node.node)}[0]")
        shown = owner.names if isinstance(owner, _Module) else owner
        raise _no_field(_said(node.node), shown, str(name), self.budget)

    def const(self, node: nodes.Const, scope: _Scope) -> object:
        return node.value

    def listed(self, node: nodes.List, scope: _Scope) -> object:
        return [self.value(item, scope) for item in node.items]

    def mapped(self, node: nodes.Dict, scope: _Scope) -> object:
        return {self.text(pair.key, scope): self.value(pair.value, scope) for pair in node.items}

    def either(self, node: nodes.CondExpr, scope: _Scope) -> object:
        if self.value(node.test, scope):
            return self.value(node.expr1, scope)
        return self.value(node.expr2, scope) if node.expr2 is not None else ""

    def compare(self, node: nodes.Compare, scope: _Scope) -> object:
        left = self.value(node.expr, scope)
        for operand in node.ops:
            right = self.value(operand.expr, scope)
            try:
                if not self.holds(operand.op, left, right):
                    return False
            except TypeError:
                raise _Fault("template-value", "these values cannot be compared", "compare like with like") from None
            left = right
        return True

    def holds(self, sign: str, left: Any, right: Any) -> bool:
        """Whether a comparison is true. Python itself would compare a list that holds another twice, which holds
        another twice, and so on, for ever: so lists are walked here and each pair of values is counted."""
        match sign:
            case "eq" | "ne":
                return self.equal(left, right) is (sign == "eq")
            case "in" | "notin":
                if isinstance(right, list | tuple):
                    return any(self.equal(left, item) for item in right) is (sign == "in")
                if isinstance(left, list | tuple | Mapping):
                    raise TypeError
                self.pay((_size(left) + _size(right)) // 100 if isinstance(right, str) else 1)
                return (left in right) is (sign == "in")
        if not all(isinstance(value, str | int | float) for value in (left, right)):
            raise TypeError
        self.pay(_size(left) // 100)
        return _ORDER[sign](left, right)

    def equal(self, one: object, other: object) -> bool:
        todo = [(one, other)]
        while todo:
            one, other = todo.pop()
            self.pay(1)
            if one is other:
                continue
            if isinstance(one, list | tuple) and type(one) is type(other):
                if len(one) != len(cast(Sequence[object], other)):
                    return False
                self.pay(len(one))
                todo += zip(one, cast(Sequence[object], other), strict=True)
            elif isinstance(one, Mapping) and isinstance(other, Mapping):
                self.pay(len(one))
                if len(one) != len(other) or not all(key in other for key in one):
                    return False
                todo += [(value, other[key]) for key, value in one.items()]
            else:
                self.pay(_size(one) // 100)
                if one != other:
                    return False
        return True

    def both(self, node: nodes.And, scope: _Scope) -> object:
        return self.value(node.left, scope) and self.value(node.right, scope)

    def any(self, node: nodes.Or, scope: _Scope) -> object:
        return self.value(node.left, scope) or self.value(node.right, scope)

    def negated(self, node: nodes.Not, scope: _Scope) -> object:
        return not self.value(node.node, scope)

    def minus(self, node: nodes.Neg, scope: _Scope) -> object:
        value = self.value(node.node, scope)
        if not isinstance(value, int | float) or isinstance(value, bool | WrittenTruth):
            raise _Fault("template-value", f"'{_said(node.node)}' is not a number")
        return -value

    def joined(self, node: nodes.Concat, scope: _Scope) -> object:
        out = _Out(self)
        for part in node.nodes:
            out.write(self.text(part, scope))
        return "".join(out.parts)

    def filtered(self, node: nodes.Filter, scope: _Scope) -> object:
        operand = node.node
        assert operand is not None
        arguments = [self.value(argument, scope) for argument in node.args]
        if node.name in ("default", "d"):
            return self.defaulted(operand, arguments, scope)
        apply, most = _FILTERS[node.name]
        if len(arguments) > most:
            raise _Fault("template-value", f"'{node.name}' takes at most {most} arguments")
        value = self.value(operand, scope)
        self.pay(sum(map(_size, (value, *arguments))) // 20)
        if isinstance(value, list | tuple | Mapping) and node.name in _WHOLE:
            self.pay(len(value))
        try:
            result = apply(value, _said(operand), *arguments)
            if type(result) is str:
                self.built(len(result))
            return result
        except TypeError:
            raise _Fault("template-value", f"'{node.name}' does not fit this value or these arguments") from None

    def defaulted(self, operand: nodes.Expr, arguments: Sequence[object], scope: _Scope) -> object:
        instead = arguments[0] if arguments else ""
        if type(operand).__name__ in _PATHS and not self.present(operand, scope):
            return instead
        value = self.value(operand, scope)
        return instead if value is None or (len(arguments) > 1 and arguments[1] and not value) else value

    def present(self, node: nodes.Expr, scope: _Scope) -> bool:
        """Whether the last step of a path leads somewhere. A step before it that does not is a slip of the pen."""
        given: Any = node
        match type(node).__name__:
            case "Name":
                return any(given.name in names for names in scope)
            case "Getattr" | "Getitem" as kind:
                owner = self.value(given.node, scope)
                return _found(owner, given.attr if kind == "Getattr" else self.value(given.arg, scope)) is not _NOTHING
        return True

    def tested(self, node: nodes.Test, scope: _Scope) -> object:
        if node.name in ("defined", "undefined"):
            return self.present(node.node, scope) is (node.name == "defined")
        return _TESTS[node.name](self.value(node.node, scope))

    def called(self, node: nodes.Call, scope: _Scope) -> object:
        macro = self.value(node.node, scope)
        if not isinstance(macro, _Macro):
            raise _Fault("template-refused", f"'{_said(node.node)}' is not a macro", "only a macro can be called")
        if any(node is macro.node for node in self.calls):  # jinja2's nodes compare by their whole content
            raise _Fault("template-refused", f"the macro '{macro.node.name}' calls itself", "break the circle")
        self.round()
        names = [argument.name for argument in macro.node.args]
        values: dict[str, object] = {}
        if len(node.args) > len(names):
            raise _Fault("template-value", f"the macro '{macro.node.name}' takes {len(names)} arguments")
        for name, argument in zip(names, node.args, strict=False):
            values[name] = self.value(argument, scope)
        for keyword in node.kwargs:
            if keyword.key not in names or keyword.key in values:
                raise _Fault("template-value", f"the macro '{macro.node.name}' takes no '{keyword.key}' here")
            values[keyword.key] = self.value(keyword.value, scope)
        for name, default in zip(reversed(names), reversed(macro.node.defaults), strict=False):
            if name not in values:
                values[name] = self.value(default, (values, *macro.scope))
        for name in names:
            if name not in values:
                raise _Fault("template-value", f"the macro '{macro.node.name}' needs '{name}'")
        out = _Out(self)
        self.calls.append(macro.node)
        self.inside(macro.source, macro.node.body, (values, *macro.scope), out)
        self.calls.pop()
        return "".join(out.parts)


_NOTHING = object()


def _found(owner: object, name: object) -> object:
    """What a value has under a name or an index; _NOTHING where it has nothing."""
    match owner:
        case _Module() if isinstance(name, str) and name in owner.names:
            return owner.names[name]
        case Mapping() if isinstance(name, str | int | float) and written(name) in owner:  # keys are text
            return owner[written(name)]
        case list() | tuple() if isinstance(name, int) and not isinstance(name, bool | WrittenTruth):
            return owner[name] if -len(owner) <= name < len(owner) else _NOTHING
    return _NOTHING


def _size(value: object) -> int:
    return len(value) if isinstance(value, str) else 0


def _said(node: nodes.Node | None) -> str:
    """An expression as a message names it."""
    given: Any = node
    match type(node).__name__:
        case "Name":
            return str(given.name)
        case "Getattr":
            return f"{_said(given.node)}.{given.attr}"
        case "Getitem" if type(given.arg).__name__ == "Const":
            return f"{_said(given.node)}[{given.arg.value!r}]"
        case "Filter":
            return _said(given.node)
        case _:
            return "this value"


_STATEMENTS: Mapping[str, Callable[[_Run, Any, _Scope, _Out], None]] = {
    "Output": _Run.output,
    "If": _Run.branch,
    "For": _Run.loop,
    "Assign": _Run.assign,
    "AssignBlock": _Run.assign_block,
    "With": _Run.with_,
    "Macro": _Run.macro,
    "Include": _Run.included,
    "Import": _Run.imported,
    "FromImport": _Run.from_imported,
}
_EXPRESSIONS: Mapping[str, Callable[[_Run, Any, _Scope], object]] = {
    "Name": _Run.name,
    "Getattr": _Run.attribute,
    "Getitem": _Run.item,
    "Const": _Run.const,
    "TemplateData": lambda run, node, scope: node.data,
    "List": _Run.listed,
    "Tuple": _Run.listed,
    "Dict": _Run.mapped,
    "CondExpr": _Run.either,
    "Compare": _Run.compare,
    "And": _Run.both,
    "Or": _Run.any,
    "Not": _Run.negated,
    "Neg": _Run.minus,
    "Concat": _Run.joined,
    "Filter": _Run.filtered,
    "Test": _Run.tested,
    "Call": _Run.called,
}
_PARTS = frozenset(["Template", "Pair", "Keyword", "Operand"])
"""Nodes that are allowed only inside others."""
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}
_WHOLE = frozenset(["join", "items"])
"""Filters that look at every value of a list or mapping."""


def _on_text(change: Callable[[str], str]) -> Callable[..., object]:
    return lambda value, expr: change(_printed(value, expr))


def _title(text: str) -> str:
    # str.title would make "Don'T" of "don't".
    return "".join(word[:1].upper() + word[1:].lower() for word in re.split(r"([-\s({\[<]+)", text))


def _join(value: object, expr: str, between: object = "") -> str:
    if not isinstance(value, list | tuple):
        raise _Fault("template-value", f"'{expr}' is not a list", "only a list can be joined")
    words = [_printed(word, expr) for word in value]
    glue = _printed(between, "the separator")
    if sum(map(len, words)) + len(glue) * max(0, len(words) - 1) > MAX_OUTPUT:
        raise _too_long()
    return glue.join(words)


def _replace(value: object, expr: str, old: object, new: object) -> str:
    text, gone, put = _printed(value, expr), _printed(old, "the old text"), _printed(new, "the new text")
    if len(text) + text.count(gone) * (len(put) - len(gone)) > MAX_OUTPUT:
        raise _too_long()
    return text.replace(gone, put)


def _end(place: int) -> Callable[..., object]:
    def one(value: object, expr: str) -> object:
        if not isinstance(value, list | tuple | str) or not value:
            raise _Fault("template-value", f"'{expr}' is empty or not a list")
        return value[place]

    return one


def _length(value: object, expr: str) -> int:
    if not isinstance(value, list | tuple | str | Mapping):
        raise _Fault("template-value", f"'{expr}' has no length")
    return len(value)


def _int(value: object, expr: str) -> int:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        raise _Fault("template-value", f"'{expr}' is not a whole number") from None


def _items(value: object, expr: str) -> list[tuple[object, object]]:
    if not isinstance(value, Mapping):
        raise _Fault("template-value", f"'{expr}' is not a mapping", "only a mapping has items")
    return list(value.items())


_PATHS = frozenset({"Name", "Getattr", "Getitem"})
_FILTERS: Mapping[str, tuple[Callable[..., object], int]] = {
    "upper": (_on_text(str.upper), 0),
    "lower": (_on_text(str.lower), 0),
    "title": (_on_text(_title), 0),
    "capitalize": (_on_text(str.capitalize), 0),
    "trim": (_on_text(str.strip), 0),
    "string": (_on_text(str), 0),
    "join": (_join, 1),
    "replace": (_replace, 2),
    "default": (lambda: None, 2),  # done by the walk: a missing name never becomes a value
    "d": (lambda: None, 2),
    "first": (_end(0), 0),
    "last": (_end(-1), 0),
    "length": (_length, 0),
    "count": (_length, 0),
    "int": (_int, 0),
    "items": (_items, 0),
}
_TESTS: Mapping[str, Callable[[Any], bool]] = {
    "defined": lambda value: True,  # done by the walk
    "undefined": lambda value: False,
    "none": lambda value: value is None,
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool | WrittenTruth),
    "mapping": lambda value: isinstance(value, Mapping),
    "sequence": lambda value: isinstance(value, list | tuple | str),
    "true": lambda value: isinstance(value, bool | WrittenTruth) and bool(value),
    "false": lambda value: isinstance(value, bool | WrittenTruth) and not value,
    "odd": lambda value: isinstance(value, int) and value % 2 == 1,
    "even": lambda value: isinstance(value, int) and value % 2 == 0,
}


def words(text: str) -> Iterator[str]:
    """Every word inside a tag of the text: more than the names that it uses, never fewer."""
    for tag in _TAG.finditer(text):
        yield from _WORD.findall(tag.group())


_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
