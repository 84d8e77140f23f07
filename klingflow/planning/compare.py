"""What a change does to a film: two versions of a storyboard side by side.

A shot is the same purchase under another id when the parts of its key are the same, so a rename is found by what
the shot declares and not by how alike the ids look. Knows no git: both versions come in as values.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from klingflow.core import digest
from klingflow.core.model import (
    Cut,
    Digest,
    Element,
    FileStill,
    FileVideo,
    Film,
    Frame,
    ImageFacts,
    Key,
    MultiShot,
    Shot,
    ShotFrame,
    ShotId,
    ShotVideo,
    UrlStill,
    Video,
)
from klingflow.core.source import Problem
from klingflow.planning import graph
from klingflow.planning.plan import FilmPlan

Op = Literal["=", "-", "+"]
Segments = tuple[tuple[Op, str], ...]
"""A text before and after, in pieces: "=" is in both, "-" only before, "+" only after."""


class ShotState(StrEnum):
    """How a shot differs from the base."""

    NEW = "new"
    CHANGED = "changed"
    """Something that the shot itself declares is different; what it continues does not count."""
    RENAMED = "renamed"
    """The same purchase under another id."""
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    UNKNOWN = "unknown"
    """A file of the base could not be read, and in all else the shot is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One version of a film: what it declares, what its files are, what would be made."""

    film: Film
    plan: FilmPlan
    stills: Mapping[str, ImageFacts]
    clips: Mapping[str, Digest]
    """The digests of clips of one's own, by path."""
    anew: Decimal | None
    """USD for every take of every shot, were nothing there yet; None where a price is not known."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Files that could not be read, by path, each with why: their digests are made up. One that was not there at all
    has an empty digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    field: str
    old: str
    new: str
    segments: Segments = ()
    """Word by word, for texts; empty for other fields."""
    buys: bool
    """True where the field is part of the key, so that the change needs another clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotChange:
    """A shot that is not the same on both sides; `shot` is its id now, and its old id when it was removed."""

    shot: ShotId
    state: ShotState
    was: ShotId | None = None
    """The old id of a renamed shot."""
    fields: tuple[FieldChange, ...] = ()
    depth: tuple[int, int] | None = None
    """Clips in its run of `continues` before and after, where that changed."""
    moved: tuple[int, int] | None = None
    """Its place in the film before and after, from 1, where its place is another among the shots that stayed."""
    unknown: tuple[tuple[str, str], ...] = ()
    """Fields of which it is not known whether they changed, each with why."""

    @property
    def buys(self) -> bool:
        return self.state is ShotState.NEW or any(part.buys for part in self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """USD; None where a price that counts is not known."""

    to_buy: Decimal | None
    """What a run of the head buys."""
    base_to_buy: Decimal | None
    """What a run of the base would buy anyway: not this change's doing."""
    film: Decimal | None
    """What the whole film costs when nothing is there yet: every take, and what is shared once."""
    base_film: Decimal | None

    @property
    def change(self) -> Decimal | None:
        """What this change adds to the next run; negative where it takes a purchase away."""
        return None if self.to_buy is None or self.base_to_buy is None else self.to_buy - self.base_to_buy


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One film against its base; `shots` holds only what differs: in film order, the removed ones last."""

    shots: tuple[ShotChange, ...]
    states: Mapping[ShotId, ShotState]
    """Every shot of the head, and the removed ones of the base."""
    film: tuple[FieldChange, ...] = ()
    """Title, music bed and cut of the film itself. None of them buys anything."""
    unread: tuple[Problem, ...] = ()
    """What could not be read of the base."""
    film_unknown: tuple[tuple[str, str], ...] = ()
    """Of these, the fields of which it is not known whether they changed, each with why."""
    cost: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a storyboard is compared with: a commit that a git ref led to."""

    ref: str
    commit: str
    parted: bool = False
    """The ref went on since, and this is where the branch left it."""

    def __str__(self) -> str:
        return f"{self.ref} at {self.commit[:7]}, where this branch left it" if self.parted else self.ref


class _Side:
    """A side with what is looked up for every shot."""

    def __init__(self, side: Side) -> None:
        self.film, self.stills, self.clips, self.unread = side.film, side.stills, side.clips, side.unread
        self.shots = side.film.by_id()
        self.models = {step.shot: step.model for step in side.plan.steps if step.is_active_take}
        self.depths = {step.shot: step.depth for step in side.plan.steps}


def unknown(head: Side) -> Comparison:
    """The comparison with a base whose storyboard could not be read."""
    cost = Cost(to_buy=_spend(head.plan), base_to_buy=None, film=head.anew, base_film=None)
    return Comparison(shots=(), states={shot.id: ShotState.UNKNOWN for shot in head.film.shots}, cost=cost)


def compare(base: Side | None, head: Side) -> Comparison:
    """What differs from `base` to `head`; a film that the base does not have is new in every shot."""
    if base is None:
        alone = _Side(head)
        return Comparison(
            shots=tuple(_new(shot, alone) for shot in head.film.shots),
            states={shot.id: ShotState.NEW for shot in head.film.shots},
            cost=Cost(to_buy=_spend(head.plan), base_to_buy=Decimal(0), film=head.anew, base_film=Decimal(0)),
        )
    old, new = _Side(base), _Side(head)
    old_ids = _same_shots(old, new)
    new_ids = {was: now for now, was in old_ids.items()}
    missing = dict(base.film.left_out)
    if base.film.audio is not None and base.film.audio in base.unread:
        missing["audio"] = base.unread[base.film.audio]
    moved = {} if "film.shots" in missing else _moved(base.film, head.film, new_ids)
    deep = not any(shot.left_out for shot in base.film.shots)  # else its runs of `continues` are not known
    changes: list[ShotChange] = []
    states: dict[ShotId, ShotState] = {}
    for shot in head.film.shots:
        if shot.id not in old_ids:
            states[shot.id] = ShotState.NEW
            changes.append(_new(shot, new))
            continue
        was = old_ids[shot.id]
        unread = unreadable(old.shots[was], old.unread)
        fields = _known(_fields(old, old.shots[was], new, shot, new_ids), unread)
        left = tuple((name, why) for name, why in unread.items() if name not in {part.field for part in fields})
        renamed = was != shot.id
        states[shot.id] = (
            ShotState.RENAMED
            if renamed
            else ShotState.CHANGED
            if fields
            else ShotState.UNKNOWN
            if left
            else ShotState.UNCHANGED
        )
        depths = old.depths.get(was, 1), new.depths.get(shot.id, 1)
        depth = depths if deep and depths[0] != depths[1] else None
        if renamed or fields or left or depth or shot.id in moved:
            changes.append(
                ShotChange(
                    shot=shot.id,
                    state=states[shot.id],
                    was=was if renamed else None,
                    fields=fields,
                    depth=depth,
                    moved=moved.get(shot.id),
                    unknown=left,
                )
            )
    for shot in base.film.shots:
        if shot.id not in new_ids:
            states[shot.id] = ShotState.REMOVED
            changes.append(ShotChange(shot=shot.id, state=ShotState.REMOVED))
    cost = Cost(to_buy=_spend(head.plan), base_to_buy=_spend(base.plan), film=head.anew, base_film=base.anew)
    return Comparison(
        shots=tuple(changes),
        states=states,
        film=_known(_film(base, head, new_ids), missing),
        film_unknown=tuple(missing.items()),
        cost=cost,
    )


def _known(fields: Iterable[FieldChange], missing: Mapping[str, str]) -> tuple[FieldChange, ...]:
    """The changes that are known to be some: without a field that could not be read, unless it is gone altogether."""
    return tuple(part for part in fields if part.field not in missing or (part.old and not part.new))


def unreadable(shot: Shot, unread: Mapping[str, str]) -> dict[str, str]:
    """The fields of a shot that are not known, each with why."""
    out = {name: why for name, why in shot.left_out if name in Shot.__dataclass_fields__}
    for role, frame in shot.frames():
        if isinstance(frame, FileStill) and frame.path in unread:
            out[role.partition(".")[0]] = unread[frame.path]
    for video in shot.videos:
        if isinstance(video, FileVideo) and video.path in unread:
            out["videos"] = unread[video.path]
    if shot.clip is not None and shot.clip in unread:
        out["clip"] = unread[shot.clip]
    if "provider" in out:
        out.setdefault("model", out["provider"])
    return out


def _same_shots(base: _Side, head: _Side) -> dict[ShotId, ShotId]:
    """Each shot of the head that the base has too, with its id there.

    An id that both have is the same shot. Of the others, those with the same parts are: read in order of their
    needs, with every need under its old id, so that a shot which continues a renamed one is found as well.
    """
    same = {shot: shot for shot in head.shots if shot in base.shots}
    left: dict[Key, list[ShotId]] = {}
    for shot in base.film.shots:
        if shot.id not in same and not unreadable(shot, base.unread):
            left.setdefault(digest.key(_parts(shot, base, {})), []).append(shot.id)
    if not left:
        return same
    for shot in graph.order(head.film):
        found = None if shot.id in same else left.get(digest.key(_parts(shot, head, same)))
        if found:
            same[shot.id] = found.pop(0)
    return same


def _parts(shot: Shot, side: _Side, names: Mapping[ShotId, ShotId]) -> Mapping[str, object]:
    """The parts of the shot's key, each clip that goes in named after its shot."""
    clips = {need: Digest(f"shot {names.get(need, need)}") for need in shot.needs()}
    listed = digest.parts(shot, side.models.get(shot.id, shot.model or ""), side.stills, clips, side.clips)
    assert listed is not None  # every need has a name here
    return listed


_TEXTS = frozenset({"prompt", "negative_prompt", "notes", "title", "multi_shot"})


def _declared(shot: Shot, side: _Side, names: Mapping[ShotId, ShotId]) -> dict[str, str]:
    """What a shot declares, field by field, as readable text; other shots under their new names."""

    def still(path: str) -> str:
        facts = side.stills.get(path)
        return path if facts is None or path in side.unread else f"{path} ({_named(facts.digest)})"

    def frame(value: Frame | None) -> str:
        match value:
            case None:
                return ""
            case FileStill(path, proposal):
                if proposal is not None and proposal.take is None:
                    return f"to be chosen: {', '.join(map(still, proposal.stills))}"
                return still(path)
            case UrlStill(url, pinned):
                return f"{_bare(url)} ({pinned[:8]})" if pinned else _bare(url)
            case ShotFrame(other, name):
                return f"{name} frame of {names.get(other, other)}"

    def element(value: Element) -> str:
        return " + ".join((frame(value.frontal_image), *(frame(image) for image in value.reference_images)))

    def video(value: Video) -> str:
        match value:
            case FileVideo(path):
                return _own_file(side, path)
            case UrlStill():
                return frame(value)
            case ShotVideo(other, last_s):
                part = "" if last_s is None else f"the last {last_s} s of "
                return f"{part}the clip of {names.get(other, other)}"

    return {
        "title": shot.title,
        "prompt": shot.prompt,
        "negative_prompt": shot.negative_prompt,
        "multi_shot": _multi(shot.multi_shot),
        "first_frame": frame(shot.first_frame),
        "last_frame": frame(shot.last_frame),
        "images": ", ".join(frame(image) for image in shot.images),
        "elements": ", ".join(element(value) for value in shot.elements),
        "videos": ", ".join(video(value) for value in shot.videos),
        "clip": _own_file(side, shot.clip),
        "duration": f"{shot.duration} s",
        "resolution": shot.resolution,
        "sound": "on" if shot.sound else "off",
        "aspect_ratio": shot.aspect_ratio or "",
        "model": side.models.get(shot.id, shot.model or ""),
        "provider": shot.provider,
        "take": str(shot.take),
        "takes": str(shot.takes),
        "hold": "on" if shot.hold else "off",
        "gate": shot.gate or "",
        "tags": ", ".join(shot.tags),
        "notes": shot.notes,
    }


def _bare(url: str) -> str:
    """A URL without its query, which may hold a signature."""
    head, query, _ = url.partition("?")
    return head + "?…" if query else head


def _multi(value: MultiShot | None) -> str:
    if value is None:
        return ""
    return "\n".join([value.by, *(f"{seconds} s: {prompt}" for prompt, seconds in value.shots)])


_SHOWN_NEW = (
    *("prompt", "negative_prompt", "multi_shot"),
    *("first_frame", "last_frame", "images", "elements", "videos", "clip"),
)


def _new(shot: Shot, head: _Side) -> ShotChange:
    """A shot that the base lacks, with what a reviewer wants to read of it."""
    declared = _declared(shot, head, {})
    fields = tuple(_change(name, "", declared[name], True) for name in _SHOWN_NEW if declared[name])
    return ShotChange(shot=shot.id, state=ShotState.NEW, fields=fields)


def _fields(
    base: _Side, old: Shot, head: _Side, new: Shot, new_ids: Mapping[ShotId, ShotId]
) -> tuple[FieldChange, ...]:
    before, after = _declared(old, base, new_ids), _declared(new, head, {})
    was, now = _parts(old, base, new_ids), _parts(new, head, {})
    bought = {part.partition(".")[0] for part in {*was, *now} if was.get(part) != now.get(part)}
    differs = [name for name in after if before[name] != after[name]]
    return tuple(_change(name, before[name], after[name], name in bought) for name in differs)


def _change(name: str, old: str, new: str, buys: bool = False) -> FieldChange:
    return FieldChange(field=name, old=old, new=new, segments=words(old, new) if name in _TEXTS else (), buys=buys)


def _film(base: Side, head: Side, new_ids: Mapping[ShotId, ShotId]) -> tuple[FieldChange, ...]:
    old = {"title": base.film.title, "audio": _own_file(base, base.film.audio)}
    new = {"title": head.film.title, "audio": _own_file(head, head.film.audio)}
    for film, said in ((base.film, old), (head.film, new)):
        said["film.size"] = "{}x{}".format(*film.size) if film.size else ""
        said["film.resolution"], said["film.aspect"] = film.resolution or "", film.aspect or ""
        said["film.rate"] = f"{float(film.rate):g}" if film.rate else ""
        said["film.gate"] = ", ".join(f"{kind} {limit:g}" for kind, limit in sorted(film.gate.items()))
    if not (_whole(base.film) and _whole(head.film)):
        old["film.shots"] = ", ".join(
            str(replace(cut, shot=new_ids.get(cut.shot, cut.shot))) for cut in base.film.cut
        )
        new["film.shots"] = ", ".join(map(str, head.film.cut))
    return tuple(_change(name, old[name], new[name]) for name in new if old[name] != new[name])


def _own_file(side: Side | _Side, path: str | None) -> str:
    """A file of one's own with the head of its digest: it may be another one under the same name."""
    known = side.clips.get(path) if path and path not in side.unread else None
    return path or "" if known is None else f"{path} ({_named(known)})"


def _named(digest: Digest) -> str:
    return digest[:8] or "not there"


def _whole(film: Film) -> bool:
    """True where the film is every shot in order: then the lists of new, removed and moved shots are enough."""
    return film.cut == tuple(Cut(shot.id) for shot in film.shots)


def _moved(base: Film, head: Film, new_ids: Mapping[ShotId, ShotId]) -> dict[ShotId, tuple[int, int]]:
    """The fewest shots that must change their place to turn the old order into the new one, among those that stayed."""
    before = _places(new_ids[cut.shot] for cut in base.cut if cut.shot in new_ids)
    after = _places(cut.shot for cut in head.cut)
    stayed = [shot for shot in after if shot in before]
    still = _longest_rise([before[shot] for shot in stayed])
    return {shot: (before[shot], after[shot]) for i, shot in enumerate(stayed) if i not in still}


def _places(cut: Iterable[ShotId]) -> dict[ShotId, int]:
    return {shot: place for place, shot in enumerate(dict.fromkeys(cut), 1)}


def _longest_rise(numbers: Sequence[int]) -> set[int]:
    """The indices of a longest rising run of distinct numbers, not needing to be neighbours."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for i, number in enumerate(numbers):
        at = bisect_left(tails, number)
        before.append(ends[at - 1] if at else -1)
        tails[at : at + 1] = [number]
        ends[at : at + 1] = [i]
    out: set[int] = set()
    at = ends[-1] if ends else -1
    while at >= 0:
        out.add(at)
        at = before[at]
    return out


def _spend(plan: FilmPlan) -> Decimal | None:
    return _sum(step.price for step in plan.steps)


def _sum(prices: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for price in prices:
        if price is None:
            return None
        total += price
    return total


_WORD = re.compile(r"\w+(?:['’]\w+)*|\s+|[^\w\s]")
_MOST_EDITS = 240
"""Finding the fewest edits takes their square. Texts further apart are shown whole, which then reads better, too."""


def words(old: str, new: str) -> Segments:
    """The two texts word by word. Joining "=" and "-" gives `old`, "=" and "+" gives `new`, exactly."""
    a, b = _WORD.findall(old), _WORD.findall(new)
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    inner = a[start : len(a) - end], b[start : len(b) - end]
    pieces: list[tuple[Op, str]] = [("=", "".join(a[:start])), *_edits(*inner), ("=", "".join(a[len(a) - end :]))]
    return _joined(pieces)


def _joined(pieces: Sequence[tuple[Op, str]]) -> Segments:
    """Neighbours of one kind as one piece. A space between two changed words becomes part of one change."""
    out: list[tuple[Op, str]] = []
    kept = gone = come = ""
    for op, text in (*pieces, ("=", "")):
        if op == "=":
            kept += text
            continue
        if kept and not ((gone or come) and kept.isspace()):
            out += [("-", gone), ("+", come), ("=", kept)]
            gone = come = ""
        else:
            gone, come = gone + kept, come + kept
        kept = ""
        gone, come = (gone + text, come) if op == "-" else (gone, come + text)
    out += [("-", gone), ("+", come), ("=", kept)]
    return tuple((op, text) for op, text in out if text)


def _edits(a: Sequence[str], b: Sequence[str]) -> list[tuple[Op, str]]:
    """The fewest words to take out and put in (Myers' algorithm); everything, where they are too many."""
    shared = sum((Counter(a) & Counter(b)).values())
    least = len(a) + len(b) - 2 * shared
    reach = {1: 0}
    trail: list[dict[int, int]] = []
    for edits in range(min(len(a) + len(b), _MOST_EDITS) + 1 if least <= _MOST_EDITS else 0):
        trail.append(dict(reach))
        for line in range(-edits, edits + 1, 2):
            down = line == -edits or (line != edits and reach[line - 1] < reach[line + 1])
            x = reach[line + 1] if down else reach[line - 1] + 1
            while x < len(a) and x - line < len(b) and a[x] == b[x - line]:
                x += 1
            reach[line] = x
            if x >= len(a) and x - line >= len(b):
                return _walked_back(a, b, trail)
    return [("-", "".join(a)), ("+", "".join(b))]


def _walked_back(a: Sequence[str], b: Sequence[str], trail: Sequence[Mapping[int, int]]) -> list[tuple[Op, str]]:
    out: list[tuple[Op, str]] = []
    x, y = len(a), len(b)
    for edits in range(len(trail) - 1, -1, -1):
        reach, line = trail[edits], x - y
        down = line == -edits or (line != edits and reach[line - 1] < reach[line + 1])
        from_line = line + 1 if down else line - 1
        from_x = reach[from_line] if edits else 0
        from_y = from_x - from_line if edits else 0
        while x > from_x and y > from_y:
            x, y = x - 1, y - 1
            out.append(("=", a[x]))
        if edits:
            out.append(("+", b[from_y]) if down else ("-", a[from_x]))
            x, y = from_x, from_y
    return out[::-1]
