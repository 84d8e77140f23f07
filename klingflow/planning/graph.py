"""Which shot waits for which: order, circles, depth, and the chain that takes longest.

A shot waits for every shot whose clip gives it a frame; `meets` and stills wait for nothing. All walks are loops, not
recursion: a chain of 10,000 shots is a fair storyboard. Knows no price and no clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping

from klingflow.core.errors import StoryboardError
from klingflow.core.model import Film, Shot, ShotFrame, ShotId, ShotVideo
from klingflow.core.source import Problem, Severity


def needs(film: Film) -> Mapping[ShotId, tuple[ShotId, ...]]:
    """The shots of the film that each shot waits for, each once, in order of mention."""
    return {shot.id: shot.needs() for shot in film.shots}


def dependants(film: Film) -> Mapping[ShotId, tuple[ShotId, ...]]:
    """The shots that wait for each shot directly, in film order."""
    out: dict[ShotId, list[ShotId]] = {shot.id: [] for shot in film.shots}
    for shot in film.shots:
        for other in shot.needs():
            out[other].append(shot.id)
    return {name: tuple(waiting) for name, waiting in out.items()}


def order(film: Film) -> tuple[Shot, ...]:
    """Every shot after those that it waits for; in film order wherever that leaves a choice.

    Raises StoryboardError when shots wait for each other in a circle.
    """
    if _in_order(film):
        return film.shots
    wanted = needs(film)
    place = {shot.id: i for i, shot in enumerate(film.shots)}
    waiting = dependants(film)
    left = {name: len(others) for name, others in wanted.items()}
    ready = [place[name] for name, count in left.items() if not count]
    heapq.heapify(ready)
    out = []
    while ready:
        shot = film.shots[heapq.heappop(ready)]
        out.append(shot)
        for other in waiting[shot.id]:
            left[other] -= 1
            if not left[other]:
                heapq.heappush(ready, place[other])
    if len(out) != len(film.shots):
        raise StoryboardError(cycles(film))
    return tuple(out)


def _in_order(film: Film) -> bool:
    """Whether every shot comes after those that it waits for, as in most storyboards: then nothing is to be sorted."""
    seen: set[ShotId] = set()
    for shot in film.shots:
        for other in shot.needs():
            if other not in seen:
                return False
        seen.add(shot.id)
    return True


def cycles(film: Film) -> list[Problem]:
    """Each group of shots that wait for each other, named by its shortest circle, at the reference that begins it."""
    if _in_order(film):
        return []
    wanted = needs(film)
    out = []
    for group in _groups(film):
        circle = _circle(group, wanted)
        if circle:
            names = [*circle, circle[0]]
            path = " -> ".join(names if len(names) < 12 else [*names[:4], "…", *names[-4:]])
            if len(circle) == 1:
                what = f"'{circle[0]}' waits for its own clip: {path}"
            else:
                count = f"{len(circle)} " if len(names) >= 12 else ""
                what = f"these {count}shots wait for each other: {path}"
            out.append(
                Problem(
                    rule="cycle",
                    what=what,
                    mend="let one of them begin with a still: first_frame: a file, or meets",
                    span=film.where(circle[0], _field(film.shot(circle[0]), circle[1 % len(circle)])),
                )
            )
    return out


def _field(shot: Shot, other: ShotId) -> str:
    """The field by which a shot waits for another."""
    given = [*shot.frames(), *((f"videos.{i}", video) for i, video in enumerate(shot.videos))]
    return next(role for role, one in given if isinstance(one, ShotFrame | ShotVideo) and one.shot == other)


def _groups(film: Film) -> list[list[ShotId]]:
    """The shots in groups that reach each other, everything in film order.

    Kosaraju's algorithm: two walks, the second against the first, whatever the number of circles. graphlib's CycleError
    names one circle, not the shortest and not one a group.
    """
    wanted, waiting = needs(film), dependants(film)
    place = {shot.id: i for i, shot in enumerate(film.shots)}
    seen: set[ShotId] = set()
    finished = [name for shot in film.shots for name in _walk(shot.id, waiting, seen)]
    seen.clear()
    groups = [sorted(_walk(root, wanted, seen), key=place.__getitem__) for root in reversed(finished)]
    return sorted(filter(None, groups), key=lambda group: place[group[0]])


def _walk(start: ShotId, following: Mapping[ShotId, tuple[ShotId, ...]], seen: set[ShotId]) -> list[ShotId]:
    """What is reached from `start` and is not in `seen`, each after what is reached from it; adds to `seen`."""
    if start in seen:
        return []
    seen.add(start)
    out = []
    stack = [(start, iter(following[start]))]
    while stack:
        name, others = stack[-1]
        other = next((other for other in others if other not in seen), None)
        if other is None:
            out.append(name)
            stack.pop()
        else:
            seen.add(other)
            stack.append((other, iter(following[other])))
    return out


def _circle(group: list[ShotId], wanted: Mapping[ShotId, tuple[ShotId, ...]]) -> list[ShotId]:
    """The shortest path from the group's first shot back to it; empty where there is none."""
    inside = set(group)
    start = group[0]
    came: dict[ShotId, ShotId] = {}
    todo = deque([start])
    while todo:
        name = todo.popleft()
        for other in wanted[name]:
            if other == start:
                path = [name]
                while path[-1] != start:
                    path.append(came[path[-1]])
                return path[::-1]
            if other in inside and other not in came:
                came[other] = name
                todo.append(other)
    return []


def depth(film: Film) -> Mapping[ShotId, int]:
    """For each shot, how many clips hang together by `continues` (or a first frame out of a clip) up to and with it."""
    out: dict[ShotId, int] = {}
    for shot in order(film):
        first = shot.first_frame
        out[shot.id] = out[first.shot] + 1 if isinstance(first, ShotFrame) else 1
    return out


def chain_warnings(film: Film) -> list[Problem]:
    """One warning where a chain grows past `max_chain`, at the shot that is one too many: those after it are the same
    fault. A clip that continues a clip drifts a little each time in colour and in faces. The film has no cycle."""
    depths = depth(film)
    over = [shot for shot in film.shots if depths[shot.id] == film.max_chain + 1]
    return [
        Problem(
            rule="long-chain",
            what=f"'{shot.id}' is clip {depths[shot.id]} in a chain of continues; max_chain is {film.max_chain}",
            mend="let it meet a still (`meets`, or first_frame: a file), or raise max_chain under defaults",
            span=film.where(shot.id, "first_frame"),
            severity=Severity.WARNING,
        )
        for shot in over
    ]


def critical(film: Film, seconds: Mapping[ShotId, float]) -> tuple[tuple[ShotId, ...], float]:
    """The chain of shots to make that takes longest, and its seconds.

    `seconds` names the shots that are to be made; all others are there already and nobody waits for them.
    """
    best: dict[ShotId, float] = {}
    before: dict[ShotId, ShotId] = {}
    for shot in order(film):
        if shot.id not in seconds:
            continue
        longest = max((other for other in shot.needs() if other in best), key=best.__getitem__, default=None)
        best[shot.id] = seconds[shot.id] + (best[longest] if longest is not None else 0.0)
        if longest is not None:
            before[shot.id] = longest
    if not best:
        return (), 0.0
    last = max(best, key=best.__getitem__)
    path = [last]
    while path[-1] in before:
        path.append(before[path[-1]])
    return tuple(reversed(path)), best[last]
