"""The storyboard while it is being loaded: the faults found so far, and the text files read for it.

What variables, shots and frames all need is here: to report a fault at its place in the file, to render a template, to
find a path in the project. Knows no field of a storyboard.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from klingflow.core.alike import suggestion
from klingflow.core.errors import KlingflowError, StoryboardError
from klingflow.core.source import Document, Path, Problem, Severity, Span
from klingflow.storyboard import conflicts, paths, prompt
from klingflow.storyboard.include import Joined

Read = Callable[[str], str]
Data = Mapping[str, Any]
T = TypeVar("T")


class Skip(Exception):
    """A field whose fault is already noted; as text, what the fault is, where that is not plain."""


_SINGLE = re.compile(r"(?<!\{)\$?\{ *(\w+) *\}(?!\})")
"""`{ boat }` and `${boat}`, as other tools write a variable."""


class StoryboardFile:
    """The file being loaded: what is wrong so far, and the texts that it has read."""

    def __init__(self, document: Document, folder: str, read: Read, trusted: Collection[str]) -> None:
        self.document = document
        self.included = document.included if isinstance(document, Joined) else ()
        self._folder = folder
        self._folders = {id(one.document): one.folder for one in self.included}
        self.read = read
        self.trusted = trusted
        self.unpinned: set[str] = set()
        """URLs of images without a digest that were reported."""
        self.names_unsure = False
        """Whether more names may be declared than could be read: then a template is not told that one is not."""
        self.problems: list[Problem] = []
        self.budget = prompt.RenderBudget()
        self.texts: dict[str, prompt.Included | KlingflowError] = {}
        self._broken: list[str] = []
        """Why each variable could not be rendered."""
        self._reported: set[Problem] = set()
        self._earlier: set[tuple[str, Span | None]] = set()

    def next_film(self) -> None:
        """A fault at a place where an earlier film of the matrix had the same fault is not reported again."""
        self._earlier = {(problem.rule, problem.span) for problem in self.problems}

    def add(self, problem: Problem) -> None:
        if problem not in self._reported and (problem.rule, problem.span) not in self._earlier:
            self._reported.add(problem)
            self.problems.append(problem)

    def fault(
        self,
        rule: str,
        what: str,
        mend: str,
        at: Path | None,
        *,
        key: bool = False,
        severity: Severity = Severity.ERROR,
    ) -> None:
        span = None if at is None else self.document.span(at, key=key)
        self.add(Problem(rule=rule, what=what, mend=mend, span=span, severity=severity))

    def meant(self, name: str, names: Sequence[str]) -> str:
        near = self.budget.nearest(name, names)
        listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        return suggestion(near, name) if near else f"known here: {listed}" if names else "there are none"

    def text(self, value: str, context: Mapping[str, object], at: Path) -> str:
        """A text with its template rendered. Raises Skip when it cannot be."""
        if "{" not in value:
            return value
        for found in _SINGLE.finditer(value):
            if found[1] in context:
                what = f"{found[0]} is no template: it is sent as it stands"
                self.add(
                    Problem(
                        rule="single-braces",
                        what=what,
                        mend=f"write {{{{ {found[1]} }}}}",
                        span=self.inside(at, value, found.start(), len(found[0])),
                        severity=Severity.WARNING,
                    )
                )
        return self.rendered(value, context, lambda offset, length: self.inside(at, value, offset, length), at)

    def rendered(self, text: str, context: Mapping[str, object], where: prompt.Where, at: Path) -> str:
        """`at` is the field whose file the names in `{% include %}` are relative to."""
        if self.budget.spent:
            raise Skip  # reported once: every later template would have the same fault
        try:
            done = prompt.render(text, context, where=where, include=partial(self.include, at), budget=self.budget)
        except StoryboardError as exc:
            for problem in exc.problems:
                if not (self.names_unsure and problem.rule == "undefined" and "did you mean" not in problem.mend):
                    self.add(problem)
            raise Skip(exc.problems[0].what) from None
        broken = _BROKEN.search(done) if self._broken else None
        if broken is not None:
            raise Skip(self._broken[int(broken[1]) % len(self._broken)])
        return done

    def broken(self, why: str) -> str:
        """What stands for a variable that cannot be rendered: its fault is noted once, and whatever text shows it is
        left out like it."""
        self._broken.append(why)
        return f"\ufdd0{len(self._broken) - 1}\ufdd0"

    def inside(self, at: Path, value: str, offset: int, length: int) -> Span:
        """The place of a piece of a scalar: found again in the file's lines, however the scalar is written."""
        document, at = self.document.place(at)
        start = document.span(at)
        piece = value[offset : offset + length].partition("\n")[0]
        if start.line == 0 or not piece.strip():
            return start
        nth = value.count(piece, 0, offset)
        line, col = start.line, start.col - 1
        for _ in range(value.count("\n") + len(value) // 8 + 3):
            text = document.line(line)
            found = text.find(piece, col)
            while found >= 0 and nth:
                nth -= 1
                found = text.find(piece, found + len(piece))
            if found >= 0:
                return Span(start.path, line, found + 1, found + 1 + len(piece), text)
            line, col = line + 1, 0
        return start

    def folder(self, at: Path) -> str:
        """The folder that paths in a field are relative to: that of the file in which the field was written."""
        return self._folders.get(id(self.document.place(at)[0]), self._folder)

    def path(self, text: str, at: Path) -> str:
        """A file's path from the project root. Raises Skip."""
        try:
            return paths.under_root(text, self.folder(at))
        except KlingflowError as exc:
            self.fault("path", exc.what, exc.mend, at)
            raise Skip from None

    def file_text(self, path: str) -> prompt.Included:
        """A text file of the project; each is read once. Raises KlingflowError."""
        known = self.texts.get(path)
        if known is None:
            if self.budget.read < 0:
                raise Skip  # reported at the file that went over
            try:
                beside = self.document.path.replace("\\", "/").rpartition("/")[0]
                known = prompt.Included(shown(path, self._folder, beside), self.read(path).replace("\r\n", "\n"))
                for first, last in conflicts.found(known.text)[:1]:
                    raise KlingflowError(f"'{path}', line {first}: {conflicts.UNMERGED}", conflicts.mend(first, last))
                self.budget.read -= len(known.text)
                if self.budget.read < 0:
                    what = f"'{path}' and the text files before it are too large to include together"
                    raise KlingflowError(what, "include fewer or shorter files")
            except KlingflowError as exc:
                known = exc
            self.texts[path] = known
        if isinstance(known, KlingflowError):
            raise known
        return known

    def include(self, at: Path, name: str) -> prompt.Included:
        return self.file_text(paths.under_root(name, self.folder(at)))


_BROKEN = re.compile("\ufdd0([0-9]{1,9})\ufdd0")
"""A noncharacter: Unicode keeps it for use inside a program."""


def each(values: Sequence[Any], at: Path, read: Callable[[Any, Path], T]) -> tuple[T, ...]:
    """Every value read, so that the faults of all are reported. Raises Skip after the last where one has any."""
    out, skipped = [], None
    for i, value in enumerate(values):
        try:
            out.append(read(value, (*at, i)))
        except Skip as why:
            skipped = skipped or why
    if skipped is not None:
        raise skipped
    return tuple(out)


def shown(path: str, folder: str, beside: str) -> str:
    """A file's path in messages: beside the storyboard's own where it lies in its folder, else from the root."""
    if not folder:
        return f"{beside}/{path}" if beside else path
    inside = path.removeprefix(folder + "/")
    if inside != path:
        return f"{beside}/{inside}" if beside else inside
    return f"{beside.removesuffix(folder)}{path}" if beside.endswith(folder) else path
