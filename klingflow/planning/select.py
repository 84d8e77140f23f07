"""Which shots a selection names: dbt's operators over the graph of a film.

    dawn  mar*  *        a shot, shots by pattern, every shot
    dawn+  dawn+1        and what continues it: all of it, or so many steps
    +market  2+market    and what it waits for: all of it, or so many steps
    tag:night            shots with a tag (a pattern, too)
    state:changed        against a base: new, changed, unknown, modified (all three), renamed, removed, unchanged
    a b                  union
    a,b                  intersection

Knows no file, no plan and no command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from klingflow.core.alike import difference, suggestion
from klingflow.core.errors import UsageError
from klingflow.core.model import Film, ShotId
from klingflow.core.source import nearest, visible

STATES: Mapping[str, frozenset[str]] = {
    "new": frozenset({"new"}),
    "changed": frozenset({"changed"}),
    "modified": frozenset({"new", "changed", "unknown"}),
    "renamed": frozenset({"renamed"}),
    "removed": frozenset({"removed"}),
    "unchanged": frozenset({"unchanged"}),
    "unknown": frozenset({"unknown"}),
}
"""What is allowed after `state:`, and which states of a shot it takes in. `modified` is dbt's word: new or changed, or
not known to be neither."""

_ATOM = re.compile(r"(?:(?P<up>\d*)\+)?(?P<what>[^+]+)(?:\+(?P<down>\d*))?")
_PATTERN = re.compile(r"[*?\[]")
_MOST = 10_000
"""Characters of a selection: far more than anybody writes, far less than is slow."""

Edges = Mapping[ShotId, tuple[ShotId, ...]]


def select(
    expression: str, exclude: str, film: Film, states: Mapping[ShotId, str] | None = None
) -> frozenset[ShotId]:
    """The shots that `expression` names and `exclude` does not; an empty expression names every shot.

    `states` is how each shot differs from a base (see `compare`); None where there is no base, and then `state:`
    is refused. A removed shot is in the answer, by its old id, only where `state:removed` names it.
    Raises UsageError for what cannot be read and for an id that no shot has; a pattern, tag or state may match nothing.
    """
    graph = _Graph(film, states)
    chosen = graph.union(expression) if expression.strip() else frozenset(graph.ids)
    return chosen - graph.union(exclude)


def refuse_misspelt_tags(expression: str, films: Sequence[Film]) -> None:
    """Raises UsageError for a tag that no shot of any film has and that is nearly one that some shot has. (A tag that
    is like no other may match nothing: not every storyboard has every tag.)"""
    known = sorted({tag for film in films for shot in film.shots for tag in shot.tags})
    for atom in re.split(r"[\s,]+", expression):
        tag = atom.partition("tag:")[2].partition("+")[0]
        if tag and tag not in known and not _PATTERN.search(tag):
            near = nearest(tag, known)
            if near:
                told = difference(tag, near)
                mend = f"did you mean tag:{near}?" + (f" The two look equal: {told}" if told else "")
                raise UsageError(f"no shot has the tag {visible(tag)!r}", mend)


class _Graph:
    def __init__(self, film: Film, states: Mapping[ShotId, str] | None) -> None:
        self.ids = tuple(shot.id for shot in film.shots)
        self.tags = {shot.id: shot.tags for shot in film.shots}
        self.states = states
        self.up: Edges = {shot.id: shot.needs() for shot in film.shots}
        down: dict[ShotId, list[ShotId]] = {}
        for shot, needs in self.up.items():
            for need in needs:
                down.setdefault(need, []).append(shot)
        self.down: Edges = {shot: tuple(after) for shot, after in down.items()}

    def union(self, expression: str) -> frozenset[ShotId]:
        if len(expression) > _MOST:
            raise UsageError(f"the selection is longer than {_MOST} characters", "select by tag or by pattern")
        out: set[ShotId] = set()
        for word in expression.split():
            parts = [self.atom(atom, word) for atom in word.split(",")]
            out |= frozenset.intersection(*parts)
        return frozenset(out)

    def atom(self, atom: str, word: str) -> frozenset[ShotId]:
        found = _ATOM.fullmatch(atom)
        if found is None:
            raise UsageError(
                f"cannot read {atom!r} in the selection {visible(word)!r}",
                "write a shot, a pattern (mar*), tag:NAME or state:changed, with + before or after it",
            )
        up, down = found["up"], found["down"]
        chosen = self.named(found["what"])
        out = set(chosen)
        if up is not None:
            out |= _walk(chosen, self.up, _steps(up))
        if down is not None:
            out |= _walk(chosen, self.down, _steps(down))
        return frozenset(out)

    def named(self, what: str) -> frozenset[ShotId]:
        method, colon, value = what.partition(":")
        if not colon:
            return self.by_id(what)
        if method == "tag":
            return self.matching(lambda shot: any(fnmatchcase(tag, value) for tag in self.tags[shot]))
        if method == "state":
            return self.by_state(value)
        known = nearest(method, ("tag", "state"))
        raise UsageError(
            f"a selection has no method {visible(method)!r}",
            f"did you mean {known}:{visible(value)}?" if known else "there are tag:NAME and state:WORD",
        )

    def by_id(self, name: str) -> frozenset[ShotId]:
        if _PATTERN.search(name):
            return self.matching(lambda shot: fnmatchcase(shot, name))
        if name in self.up:
            return frozenset({ShotId(name)})
        near = nearest(name, self.ids)
        raise UsageError(
            f"no shot is called {visible(name)!r}",
            suggestion(near, name) if near else f"the shots are {_listed(self.ids)}",
        )

    def by_state(self, word: str) -> frozenset[ShotId]:
        if word not in STATES:
            near = nearest(word, tuple(STATES))
            raise UsageError(
                f"a shot has no state {visible(word)!r}",
                f"did you mean state:{near}?" if near else f"the states are {', '.join(STATES)}",
            )
        if self.states is None:
            raise UsageError(f"state:{word} needs a base to compare with", "add --against REF, for example origin/main")
        return frozenset(shot for shot, state in self.states.items() if state in STATES[word])

    def matching(self, matches: Callable[[ShotId], bool]) -> frozenset[ShotId]:
        return frozenset(shot for shot in self.ids if matches(shot))


def _steps(text: str) -> int | None:
    """How far to walk; None is to the end. More digits than any film has shots are the end, too."""
    return int(text) if text and len(text) < 7 else None


def _walk(start: Iterable[ShotId], edges: Edges, steps: int | None) -> set[ShotId]:
    seen: set[ShotId] = set(start)
    edge = set(seen)
    while edge and (steps is None or steps > 0):
        edge = {near for shot in edge for near in edges.get(shot, ())} - seen
        seen |= edge
        steps = None if steps is None else steps - 1
    return seen


def _listed(ids: tuple[ShotId, ...], most: int = 8) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")
