"""The page on which a change of a film is reviewed: what differs from a git ref, with its pictures, in one file.

`reviewed` decides what is shown, from two versions of each film; `page` and `poster` show it, with the pictures that
come in beside it. Shots that did not change are one line. Knows no file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise

from markupsafe import escape

from klingflow.core.model import Digest, FileStill, Film, Frame, Proposal, Shot, ShotId
from klingflow.core.redact import redact
from klingflow.core.source import Problem, visible
from klingflow.output import page as pages
from klingflow.output.answers import refused_by_limit
from klingflow.output.review_pictures import MOST_SIDE, THUMB_SIDE, Column, Difference, Jpeg, strip
from klingflow.output.words import count, unknown
from klingflow.planning.compare import Comparison, FieldChange, ShotChange, ShotState, Side
from klingflow.planning.plan import Action, Plan, Step, Totals, totals
from klingflow.planning.price import Price, money, noted
from klingflow.storyboard.lock import Pick

PAGE_BYTES = 20 << 20
"""Of a review page. Above it the pictures in it are made smaller."""
_SIDES = (MOST_SIDE, 640, 400, 240)
"""Pixels of the longer side of its pictures, from the best to the least."""
_BASE64 = 4 / 3
_FOLDED_JOINS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One shot as it is on one side, and what the plan of that side says of it."""

    shot: Shot
    step: Step
    """Of the take that counts."""
    price: Price
    """Of one clip of it."""
    stills: Mapping[str, Digest]
    """The digests of files by path; empty for one that is not there."""

    @property
    def clip(self) -> Digest | None:
        return self.step.clip

    def roles(self) -> dict[str, Frame]:
        return dict(self.shot.frames())

    def still(self, frame: Frame | None) -> Digest | None:
        """The digest of a still that is a file of the project."""
        return self.stills.get(frame.path) if isinstance(frame, FileStill) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A shot that a reviewer has to look at, in each film that it changes alike."""

    shot: ShotId
    """Its id now; the old one of a removed shot."""
    variants: tuple[str, ...]
    what: ShotChange | None
    """None where it declares the same: then it gets another clip, since what it continues has changed, or a person has
    picked a take of it."""
    before: Version | None
    now: Version | None
    picks: tuple[tuple[str, Pick], ...] = ()
    """What was picked since: a take of it (""), or a still for a frame of it."""

    @property
    def state(self) -> str:
        if self.what is not None and self.what.state is ShotState.UNCHANGED:
            return "moved" if self.what.moved else "changed"  # its place in the film, or the length of its chain
        if self.what is not None:
            return self.what.state.value
        return "follows" if _another_clip(self) else "picked"

    def proposals(self) -> tuple[Proposal, ...]:
        """The stills that are proposed for its frames, where they or the choice among them changed."""
        changed = {part.field for part in self.what.fields} if self.what else set()
        found = self.now.shot.proposals() if self.now else ()
        return tuple(one for one in found if one.shot == self.shot and one.frame in changed)

    def changed_stills(self) -> list[tuple[str, Frame | None, Frame | None]]:
        """Each role of a still that is not the same picture before and now, with what fills it."""
        old = self.before.roles() if self.before else {}
        new = self.now.roles() if self.now else {}
        out = []
        for role in dict.fromkeys([*old, *new]):
            one = self.before.still(old.get(role)) if self.before else None
            other = self.now.still(new.get(role)) if self.now else None
            if one != other:
                out.append((role, old.get(role), new.get(role)))
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Where one shot follows another in the film, and what is new about it."""

    variants: tuple[str, ...]
    left: ShotId
    right: ShotId
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture with a word on what it is."""

    jpeg: Jpeg
    note: str = ""
    made: bool = True
    """Whether it is a frame of a clip or a still, and not a card that stands for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A picture before and now; None where that side has none."""

    title: str
    before: Picture | None
    now: Picture | None
    role: str = ""
    """Of a still, which frame it is; empty for a frame of a clip."""
    difference: Difference | None = None
    words: str = ""
    """What a machine sees of the difference."""

    @property
    def same(self) -> bool:
        return self.before is not None and self.now is not None and self.before.jpeg.data == self.now.jpeg.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """All that a review shows."""

    plan: Plan
    comparisons: Mapping[str, Comparison]
    base: str
    """What it is compared with, as people call it."""
    changes: tuple[Change, ...]
    joins: tuple[Join, ...]
    orders: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    """By variant, the shots of the film in order before and now, with what is cut of them, where that changed."""
    warnings: tuple[Problem, ...]
    gone: tuple[str, ...] = ()
    """Films that the base has, and that are no more."""

    @property
    def empty(self) -> bool:
        """Whether nothing differs that a page could show."""
        film = any(found.film or found.film_unknown for found in self.comparisons.values())
        return not (self.changes or self.joins or self.orders or self.gone or film)


# ---------------------------------------------------------------- what is shown


def reviewed(
    plan: Plan,
    comparisons: Mapping[str, Comparison],
    before: Mapping[str, Side],
    now: Mapping[str, Side],
    *,
    base: str,
    price: Callable[[Shot], Price],
    picked: Mapping[tuple[str, ShotId], tuple[tuple[str, Pick], ...]] | None = None,
    warnings: Sequence[Problem] = (),
) -> Reviewed:
    """What a reviewer of a change sees. `before` and `now` by variant; of shots, those that the plan has steps of, and
    the removed ones. `picked` is what was picked since, by variant and shot."""
    chosen = {film.variant: {step.shot for step in film.steps} for film in plan.films}
    every = {variant: {shot.id for shot in side.film.shots} for variant, side in now.items()}
    found: dict[object, Change] = {}
    touched: dict[object, Join] = {}
    orders = {}
    for variant, side in now.items():
        comparison, old = comparisons[variant], before.get(variant)
        whole = chosen.get(variant) == every[variant]
        picks = {shot: found for (film, shot), found in (picked or {}).items() if film == variant}
        mine = _changes(variant, comparison, old, side, price, picks)
        for change in mine:
            if whole or change.shot in chosen.get(variant, ()):
                alike = change.shot, change.what, change.picks, _seen(change.before), _seen(change.now)
                first = found.setdefault(alike, change)
                if first is not change:
                    found[alike] = replace(first, variants=(*first.variants, *change.variants))
        if old is not None and whole:
            for join in _joins(variant, mine, old.film, side.film):
                key = join.left, join.right, join.why
                known = touched.setdefault(key, join)
                if known is not join:
                    touched[key] = replace(known, variants=(*known.variants, *join.variants))
            if any(change.what is not None and change.what.moved for change in mine) or any(
                part.field == "film.shots" for part in comparison.film
            ):
                orders[variant] = tuple(map(str, old.film.cut)), tuple(map(str, side.film.cut))
    places = {shot.id: n for side in reversed([*now.values()]) for n, shot in enumerate(side.film.shots)}
    ordered = sorted(found.values(), key=lambda change: places.get(change.shot, len(places)))
    return Reviewed(
        plan=plan,
        comparisons=comparisons,
        base=base,
        changes=tuple(ordered),
        joins=tuple(touched.values()),
        orders=orders,
        warnings=tuple(warnings),
        gone=tuple(variant for variant in before if variant not in now),
    )


def _changes(
    variant: str,
    comparison: Comparison,
    before: Side | None,
    now: Side,
    price: Callable[[Shot], Price],
    picks: Mapping[ShotId, tuple[tuple[str, Pick], ...]],
) -> list[Change]:
    whats = {what.shot: what for what in comparison.shots}
    old, new = _versions(before, price), _versions(now, price)
    out = []
    for shot in now.film.shots:
        what = whats.get(shot.id)
        was = None if what is not None and what.state is ShotState.NEW else (what and what.was) or shot.id
        one, other = old.get(was) if was else None, new[shot.id]
        mine = picks.get(shot.id, ())
        if what is not None or mine or (one is not None and one.clip != other.clip):
            out.append(Change(shot=shot.id, variants=(variant,), what=what, before=one, now=other, picks=mine))
    out += [
        Change(shot=what.shot, variants=(variant,), what=what, before=old.get(what.shot), now=None)
        for what in comparison.shots
        if what.state is ShotState.REMOVED
    ]
    return out


def _versions(side: Side | None, price: Callable[[Shot], Price]) -> dict[ShotId, Version]:
    if side is None:
        return {}
    steps = {step.shot: step for step in side.plan.steps if step.is_active_take}
    stills = {path: facts.digest for path, facts in side.stills.items()}
    return {
        shot.id: Version(
            shot=shot,
            step=steps[shot.id],
            price=Price(amount=Decimal(0)) if shot.clip else price(shot),
            stills=stills,
        )
        for shot in side.film.shots
    }


def _seen(version: Version | None) -> object:
    """What tells a shot of one film from the same of another, on this page."""
    if version is None:
        return None
    step = version.step
    if step.same_as == step.shot and step.alone is not None:  # what another film of the matrix orders
        step = step.alone
    stills = tuple((role, version.still(frame)) for role, frame in version.shot.frames())
    return version.shot.first_frame, stills, step.clip, step.action, step.price, step.reason


def _joins(variant: str, changes: Sequence[Change], before: Film, now: Film) -> list[Join]:
    names = {change.what.was: change.shot for change in changes if change.what and change.what.was}
    were: dict[tuple[ShotId, ShotId], set[tuple[str | None, str | None]]] = {}
    for one, next_one in pairwise(before.cut):
        pair = names.get(one.shot, one.shot), names.get(next_one.shot, next_one.shot)
        were.setdefault(pair, set()).add((one.end, next_one.start))
    another = {change.shot for change in changes if _another_clip(change)}
    out = []
    for one, next_one in pairwise(now.cut):
        cuts = were.get((one.shot, next_one.shot))
        why = [] if cuts is not None else ["these two were not neighbours"]
        if cuts is not None and (one.end, next_one.start) not in cuts:
            why.append("it is cut elsewhere")
        why += [f"{shot} gets another clip" for shot in dict.fromkeys((one.shot, next_one.shot)) if shot in another]
        if why:
            out.append(Join(variants=(variant,), left=one.shot, right=next_one.shot, why=tuple(why)))
    return out


def _another_clip(change: Change) -> bool:
    if change.before is None or change.now is None:
        return change.now is not None
    if change.before.clip is None and change.now.clip is None:
        return change.what is not None and change.what.buys
    return change.before.clip != change.now.clip


# ---------------------------------------------------------------- the page


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    src: str
    width: int
    height: int
    alt: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """A pair as the template shows it."""

    title: str
    label: str
    """For the slider's name: the shot and the picture."""
    before: _Image | None
    now: _Image | None
    same: bool
    words: str
    marked: _Image | None
    detail: tuple[_Image, _Image] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Card:
    anchor: str
    name: str
    films: str
    state: str
    look: str
    """The chip's class."""
    does: str
    """What a run does for it, and its price."""
    reason: str
    summary: tuple[str, ...]
    besides: tuple[str, ...]
    """Of the summary, what no field says."""
    texts: tuple[FieldChange, ...]
    rows: tuple[FieldChange, ...]
    unknown: tuple[str, ...]
    price: str
    pairs: tuple[_Compared, ...]


_LOOKS = {
    "new": "good",
    "picked": "good",
    "removed": "bad",
    "changed": "accent",
    "renamed": "accent",
    "moved": "accent",
    "follows": "warn",
}


def page(
    found: Reviewed,
    pictures: Sequence[Sequence[Pair]],
    joins: Sequence[tuple[Picture, Picture]],
    *,
    most: int = PAGE_BYTES,
) -> str:
    """The review page. `pictures` are the pairs of each change, `joins` the frames on both sides of each join. Above
    `most` bytes its pictures are made smaller, and at last left out, from the end: the page says so."""
    shown = _fitting(pictures, most)
    several = len(found.plan.films) > 1
    every = tuple(found.comparisons)
    cards = [
        _card(n, change, pairs, shown, several, every)
        for n, (change, pairs) in enumerate(zip(found.changes, pictures, strict=True), 1)
    ]
    listed = [
        {
            "join": join,
            "films": _films(join.variants, every, several),
            "left": shown.thumb(left, f"{join.left}, last frame"),
            "right": shown.thumb(right, f"{join.right}, first frame"),
        }
        for join, (left, right) in zip(found.joins, joins, strict=True)
    ]
    first = found.plan.films[0]
    title = f"{first.name}, {len(found.plan.films)} films" if several else first.title or first.name
    return pages.render(
        "review",
        title=f"Review of {_text(title)}",
        storyboard=_text(found.plan.storyboard),
        base=_text(found.base),
        headline=_headline(found, cards),
        facts=_money_facts(found),
        refused=refused_by_limit(found.plan, totals(found.plan.films)),
        cards=cards,
        film_changes=_film_changes(found, several, every),
        orders=_orders(found, several),
        joins=listed,
        joins_folded=len(listed) > _FOLDED_JOINS,
        waits=_waits(found.plan, several),
        warnings=[(str(one.span) if one.span else "", _text(one.what), _text(one.mend)) for one in found.warnings],
        unread=[_text(one.what) for one in next(iter(found.comparisons.values())).unread],
        gone=found.gone,
        unchanged=_unchanged(found),
        note=shown.note(most),
        rehearsal=found.plan.rehearsal,
    )


def poster(found: Reviewed, pictures: Sequence[Sequence[Pair]]) -> Jpeg | None:
    """The strip of all changed shots, before over now; None where no shot changed."""
    if not found.changes:
        return None
    several, every = len(found.plan.films) > 1, tuple(found.comparisons)
    columns = []
    for change, pairs in zip(found.changes, pictures, strict=True):
        pair = _telling(pairs)
        films = _films(change.variants, every, several)
        columns.append(
            Column(
                name=f"{change.shot} [{films}]" if films else change.shot,
                state=_poster_words(change),
                before=pair.before.jpeg if pair and pair.before else None,
                now=pair.now.jpeg if pair and pair.now else None,
                mark=pair.difference.place if pair and pair.difference else None,
            )
        )
    title = f"{count(len(found.changes), 'shot')} changed against {_text(found.base)}"
    return strip(columns, title)


def _poster_words(change: Change) -> str:
    if change.what is None:
        return "follows a changed shot" if change.state == "follows" else "picked"
    fields = ", ".join(part.field for part in change.what.fields)
    return fields if change.what.state is ShotState.CHANGED and fields else change.state


def _telling(pairs: Sequence[Pair]) -> Pair | None:
    """The pair that shows most of a change."""
    return next((pair for pair in pairs if not pair.same and pair.difference), None) or next(
        (pair for pair in pairs if not pair.same), pairs[0] if pairs else None
    )


def _fitting(pictures: Sequence[Sequence[Pair]], most: int) -> _Shown:
    """The pictures of a page of so many bytes, as large as they may be."""
    jpegs = [jpeg for pairs in pictures for pair in pairs for jpeg in _jpegs(pair)]
    room = round(most * 0.9 / _BASE64)  # what is left is for texts, and for the small pictures of joins
    small: dict[bytes, Jpeg] = {}
    for side in _SIDES:
        least = sum(len(jpeg.data) * min(1, side / max(jpeg.width, jpeg.height)) ** 2 for jpeg in jpegs)
        if least <= room or side == _SIDES[-1]:
            small = {data: jpeg.smaller(side) for data, jpeg in {jpeg.data: jpeg for jpeg in jpegs}.items()}
            if sum(len(small[jpeg.data].data) for jpeg in jpegs) <= room:
                break
    return _Shown(side=side, room=room, small=small)


def _jpegs(pair: Pair) -> list[Jpeg]:
    out = [picture.jpeg for picture in (pair.before, None if pair.same else pair.now) if picture is not None]
    if pair.difference is not None:
        out += [pair.difference.marked, *(pair.difference.detail or ())]
    return out


@dataclass(slots=True)
class _Shown:
    """The pictures of a page, of which there may be so many bytes."""

    side: int
    room: int
    small: Mapping[bytes, Jpeg]
    """Each at the size of this page, by its bytes at full size."""
    left_out: int = 0
    thumbs: int = 1 << 20
    """Bytes that are left for the small pictures of joins."""

    def image(self, jpeg: Jpeg, alt: str, note: str = "") -> _Image:
        made = self.small[jpeg.data]
        self.room -= len(made.data)
        if self.room < 0:
            self.left_out += 1
            return _Image(src="", width=made.width, height=made.height, alt=alt, note=note)
        return _Image(src=_data(made), width=made.width, height=made.height, alt=alt, note=note)

    def thumb(self, picture: Picture, alt: str) -> _Image:
        made = picture.jpeg.smaller(THUMB_SIDE)
        self.thumbs -= len(made.data) if picture.made else 0
        src = _data(made) if picture.made and self.thumbs >= 0 else ""
        note = _text(picture.note) or "it did not fit in this page"
        return _Image(src=src, width=made.width, height=made.height, alt=alt, note=note)

    def note(self, most: int) -> str:
        limit = f"so that this page has at most {most >> 20} MB; the files beside it are larger"
        out = [] if self.side == MOST_SIDE else [f"The pictures are {self.side} pixels wide at most, {limit}."]
        if self.left_out:
            out.append(f"{count(self.left_out, 'picture')} did not fit in here: they are among the files beside it.")
        return " ".join(out)


def _data(jpeg: Jpeg) -> str:
    return escape("data:image/jpeg;base64," + base64.b64encode(jpeg.data).decode())


def _text(text: str) -> str:
    return visible(redact(text))


def _card(
    number: int, change: Change, pairs: Sequence[Pair], shown: _Shown, several: bool, every: Sequence[str]
) -> _Card:
    what, films = change.what, _films(change.variants, every, several)
    fields = what.fields if what else ()
    texts = tuple(_redacted(part) for part in fields if part.segments)
    rows = tuple(_redacted(part) for part in fields if not part.segments)
    step = change.now.step if change.now else None
    both = fields if change.before and change.now else ()
    return _Card(
        anchor=f"shot-{number}",
        name=change.shot,
        films=films,
        state="follows a changed shot" if change.state == "follows" else change.state,
        look=_LOOKS.get(change.state, ""),
        does=_does(step),
        reason=_reason(change, step),
        summary=(*_besides(change), *(_short_field(part, pairs) for part in both)),
        besides=tuple(_besides(change)) if both or what is None or change.picks or not fields else (),
        texts=texts,
        rows=rows,
        unknown=tuple(map(_text, unknown(what.unknown))) if what else (),
        price=_price(change),
        pairs=tuple(_compared(change.shot, pair, shown) for pair in pairs),
    )


def _compared(shot: str, pair: Pair, shown: _Shown) -> _Compared:
    def image(picture: Picture | None, side: str) -> _Image | None:
        if picture is None:
            return None
        return shown.image(picture.jpeg, f"{shot}, {pair.title}, {side}", _text(picture.note))

    found = pair.difference
    detail = None
    if found is not None and found.detail is not None:
        one, other = found.detail
        detail = (
            shown.image(one, f"{shot}, {pair.title}, the place enlarged, before"),
            shown.image(other, f"{shot}, {pair.title}, the place enlarged, now"),
        )
    return _Compared(
        title=pair.title,
        label=f"{shot}, {pair.title}",
        before=image(pair.before, "before"),
        now=None if pair.same else image(pair.now, "now"),
        same=pair.same,
        words=found.words if found is not None else pair.words,
        marked=shown.image(found.marked, f"{shot}, {pair.title}, what differs in one colour") if found else None,
        detail=detail,
    )


def _redacted(part: FieldChange) -> FieldChange:
    return FieldChange(
        field=part.field,
        old=_text(part.old),
        new=_text(part.new),
        segments=tuple((op, _text(text)) for op, text in part.segments),
        buys=part.buys,
    )


def _besides(change: Change) -> Iterable[str]:
    """What changed of a shot other than its fields, a few words each."""
    what = change.what
    for frame, pick in change.picks:
        why = f": {_text(pick.why)}" if pick.why else ""
        picked = f"still {pick.take} for {frame}" if frame else f"take {pick.take}"
        yield f"{picked} was picked by {_text(pick.by)} on {_text(pick.date)}{why}"
    if what is None:
        if change.state == "follows":
            yield "gets another clip, though it declares the same"
        return
    if what.state is ShotState.NEW:
        yield "new shot"
    if what.state is ShotState.REMOVED:
        yield "removed from the storyboard"
    if what.was is not None:
        yield f"renamed from {_text(what.was)}"
    if what.moved is not None:
        yield f"moved from place {what.moved[0]} to {what.moved[1]}"
    if what.depth is not None:
        yield f"clips in its chain: {what.depth[0]} → {what.depth[1]}"
    for name, _ in what.unknown:
        yield f"{name}: not known"


def _short_field(part: FieldChange, pairs: Sequence[Pair]) -> str:
    old, new = _short(part)
    found = [pair.difference for pair in pairs if pair.role.partition(".")[0] == part.field and pair.difference]
    more = f" ({sum(one.pixels for one in found):,} pixels differ)" if found else ""
    if old != new and _PRINT.sub("", old) == _PRINT.sub("", new):
        return f"{part.field}: {_PRINT.sub('', new)} is another file{more}"
    if part.old and part.new and not (old and new):  # of a text that has words before and now
        return f"{part.field}: " + (f"{new} added" if new else f"{old} removed" if old else "spaces and lines alone")
    return f"{part.field}: {old or 'none'} → {new or 'none'}{more}"


_PRINT = re.compile(r" \([0-9a-f]{8}\)")
"""What tells two files of one name apart."""
_WORDS = 60
"""Characters of a changed text in the summary."""


def _short(part: FieldChange) -> tuple[str, str]:
    """The old and the new value; of a text the words that changed."""
    old, new = part.old, part.new
    if part.segments and part.old and part.new:
        old, new = (
            " … ".join(text.strip() for op, text in part.segments if op == sign and text.strip()) for sign in "-+"
        )
    return tuple(  # type: ignore[return-value]
        (text if len(text) <= _WORDS else text[: _WORDS - 1] + "…") for text in (_text(old), _text(new))
    )


def _reason(change: Change, step: Step | None) -> str:
    """Why a run does what it does for the shot."""
    if step is None:
        return "what was bought for it stays in the store"
    # A lock that has no clip of a shot calls it new, which it is not here.
    return "it has no clip yet" if step.reason == "new shot" and change.before is not None else _text(step.reason)


def _does(step: Step | None) -> str:
    if step is None:
        return ""
    if step.later is not None:
        return f"{step.action.value}, then {_amount(step.later.price)}"
    if not step.orders:
        same = f", together with {step.same_as}" if step.same_as else ""
        return f"{step.action.value}{same}"
    return f"{step.action.value}, {_amount(step.price)}"


def _amount(price: Decimal | None) -> str:
    return "price not known" if price is None else "free" if price == 0 else money(price)


def _price(change: Change) -> str:
    """What one clip of the shot costs, and did."""
    old = change.before.price if change.before else None
    new = change.now.price if change.now else None
    if new is None or new.amount is None:
        return "" if new is None else "a clip of it: price not known"
    if old is None or old.amount is None or old.amount == new.amount:
        return "" if new.amount == 0 else f"a clip of it: {_amount(new.amount)}{noted([new.basis])}"
    return f"a clip of it: {_amount(old.amount)} → {_amount(new.amount)}{noted([new.basis])}"


def _films(variants: Collection[str], every: Sequence[str], several: bool) -> str:
    if not several:
        return ""
    return "all films" if len(variants) == len(every) else ", ".join(variants)


def _headline(found: Reviewed, cards: Sequence[_Card]) -> str:
    tally: dict[str, int] = {}
    for card in cards:
        tally[card.state] = tally.get(card.state, 0) + 1
    words = {"follows a changed shot": "made again as what it continues changed"}
    parts = [f"{n} {words.get(state, state)}" for state, n in tally.items()]
    moved = sum(1 for change in found.changes if change.what and change.what.moved and change.state != "moved")
    parts += [f"{moved} of them moved"] if moved else []
    return f"{count(len(cards), 'shot')} to look at: {', '.join(parts)}." if cards else "No shot changed; the film did."


def _money_facts(found: Reviewed) -> list[tuple[str, str]]:
    sums: Totals = totals(found.plan.films)
    costs = [one.cost for one in found.comparisons.values()]
    adds, run = _sum(cost.change for cost in costs), sums.spend
    film, was = _sum(cost.film for cost in costs), _sum(cost.base_film for cost in costs)
    bases = noted(step.basis for one in found.plan.films for step in one.steps if step.orders)
    out = []
    if adds is not None:
        more = "adds" if adds >= 0 else "saves"
        out.append(("This change", "costs nothing" if adds == 0 else f"{more} {money(abs(adds))} to the next run"))
    else:
        out.append(("This change", "what it adds to the next run is not known"))
    spend = f"{_amount(run)}{bases}"
    out.append(("A run makes", f"{count(sums.tasks, 'clip')}, {sums.seconds} s: {spend}" if sums.tasks else "nothing"))
    if film is not None and was is not None and (film or was):
        whole = _amount(film) if film == was else f"{_amount(was)} → {_amount(film)}"
        out.append(("The whole film made anew", whole))
    return out


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    known = list(amounts)
    return None if None in known else sum((amount for amount in known if amount is not None), Decimal(0))


def _film_changes(found: Reviewed, several: bool, every: Sequence[str]) -> list[tuple[str, FieldChange]]:
    alike: dict[FieldChange, list[str]] = {}
    for variant, one in found.comparisons.items():
        for part in one.film:
            if part.field != "film.shots":
                alike.setdefault(_redacted(part), []).append(variant)
        for name, why in one.film_unknown:
            unsure = FieldChange(field=name, old="not known", new=_text(why), buys=False)
            alike.setdefault(unsure, []).append(variant)
    return [(_films(variants, every, several), part) for part, variants in alike.items()]


def _orders(found: Reviewed, several: bool) -> list[dict[str, object]]:
    alike: dict[object, dict[str, object]] = {}
    for variant, (before, now) in found.orders.items():
        moved = {
            change.shot
            for change in found.changes
            if variant in change.variants and change.what is not None and change.what.moved
        }
        new, old = set(now) - set(before) | moved, set(before) - set(now) | moved
        row: dict[str, object] = {
            "films": [],
            "before": [(cut, cut in old) for cut in before],
            "now": [(cut, cut in new) for cut in now],
        }
        names = alike.setdefault((before, now, frozenset(moved)), row)["films"]
        assert isinstance(names, list)
        names.append(variant)
    every = tuple(found.comparisons)
    return [{**row, "films": _films(row["films"], every, several)} for row in alike.values()]  # type: ignore[arg-type]


def _waits(plan: Plan, several: bool) -> list[str]:
    """What a run does not make yet, with the gate or whatever else it waits for."""
    return [
        f"{step.shot}{f' [{film.variant}]' if several else ''}: {_text(step.reason)}"
        + (f"; then {_amount(step.later.price)}" if step.later is not None else "")
        for film in plan.films
        for step in film.steps
        if step.action in (Action.WAIT, Action.RESOLVE)
    ]


def _unchanged(found: Reviewed) -> tuple[ShotId, ...]:
    looked = {change.shot for change in found.changes}
    shots = [step.shot for film in found.plan.films for step in film.steps]
    return tuple(shot for shot in dict.fromkeys(shots) if shot not in looked)
