"""The report of a film: what a director opens first, as one page of HTML.

`view` turns what is known of a film into what the page shows, and `html` writes the page (templates/report.html.j2).
The contact sheet (output.sheet) draws the same view. Knows no file: media are named by their paths beside the page.

Money, all in USD, never mixed:

    this run      what this run booked, failures and doubts included; None in a page that no run wrote
    estimate      what the plan of this run said that its orders would cost
    in the lock   what the clips that the lock names for this film have cost, every take, a shared clip once
    booked        every order on record for this film, also of clips that nobody uses any more, failures and doubts
    saved         what the clips that are there would cost today, made anew: those that this run did not order (or,
                  without a run, all), a shared clip once; clips of one's own and drawings cost nothing
    in doubt      the orders of which only a person can say whether they were taken; they are part of `booked`
    to make       what a run that began now would order
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Literal
from urllib.parse import quote

from markupsafe import escape

from klingflow.core.model import ANIMATIC, ClipRecord, Digest, Film, Shot, ShotFrame, ShotId, ShotVideo
from klingflow.execution.outcome import Outcome, Result
from klingflow.output import page, seams
from klingflow.output.cutting import Join as JoinKind
from klingflow.output.cutting import Shown
from klingflow.output.seams import KINDS, Seam, Verdict
from klingflow.output.words import clock, count
from klingflow.planning.compare import Comparison, Segments, ShotChange, ShotState
from klingflow.planning.plan import OWN, Action, FilmPlan, Step
from klingflow.planning.price import Price, money, noted
from klingflow.storyboard.lock import Entry

Tone = Literal["good", "plain", "accent", "warn", "bad"]

_ENDED: Mapping[Result, tuple[str, Tone]] = {
    Result.MADE: ("made now", "accent"),
    Result.RESUMED: ("collected now", "accent"),
    Result.ADOPTED: ("adopted", "plain"),
    Result.REUSED: ("reused", "plain"),
    Result.HELD: ("held", "plain"),
    Result.FAILED: ("failed", "bad"),
    Result.SKIPPED: ("skipped", "warn"),
    Result.IN_DOUBT: ("in doubt", "bad"),
    Result.OPEN: ("being made", "warn"),
    Result.STOPPED: ("stopped", "warn"),
    Result.WAITING: ("waiting", "warn"),
}
_PLANNED: Mapping[Action, tuple[str, Tone]] = {
    Action.REUSE: ("reused", "plain"),
    Action.ADOPT: ("adopted", "plain"),
    Action.HOLD: ("held", "plain"),
    Action.RESUME: ("being made", "warn"),
    Action.MAKE: ("missing", "warn"),
    Action.RESOLVE: ("in doubt", "bad"),
    Action.WAIT: ("waiting", "warn"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One attempt to buy a take, out of the ledger."""

    shot: str
    take: int
    state: str
    """As `klingflow status` says it."""
    price: Decimal | None
    message: str
    next: str
    """The command that goes on from here; may be empty."""
    needs_person: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """The run that writes the report."""

    plan: FilmPlan
    """What it was going to do."""
    outcomes: tuple[Outcome, ...]
    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that is known of one film."""

    film: Film
    storyboard: str
    """Its path from the project's root."""
    rehearsal: bool
    plan: FilmPlan
    """What a run would do now: of the whole film, after the run."""
    takes: Mapping[ShotId, Mapping[int, Entry]]
    """What the lock has."""
    files: Mapping[str, Digest]
    """The media beside the page, each with the clip that it was made from; "film.mp4" with whatever."""
    price: Callable[[Shot], Price]
    """What a shot would cost today."""
    ran: Ran | None = None
    comparison: Comparison | None = None
    base: str = ""
    """What it is compared with: "main at 1a2b3c4"; empty where there is nothing to compare with."""
    orders: tuple[Order, ...] = ()
    booked: Decimal | None = None
    """Of all orders on record; None where that is not known."""
    unpriced: int = 0
    """Orders whose price is not known; not in `booked`."""
    shown: tuple[Shown, ...] = ()
    """What the film shows at each place of its cut; about, where a clip is missing. Empty where that is not known."""
    rate: Fraction = Fraction(24)
    """Of `shown`."""
    verdict: Verdict | None = None
    """What was measured at the joins."""
    others: tuple[tuple[str, str], ...] = ()
    """The storyboard's other films: label, and the path of their page from here."""


# ---------------------------------------------------------------- what is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One sum on top of the page."""

    name: str
    value: str
    notes: tuple[str, ...] = ()
    meaning: str
    """What the sum is, in a sentence."""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A shot from which another one takes a frame or a motion."""

    how: str
    """Words that the shot's name ends: "continues", "begins with frame -3 of"."""
    shot: str
    kind: Literal["continues", "meets", "frame"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherTake:
    take: int
    clip: str
    """Its path; empty where the file is not beside the page."""
    poster: str
    cost: str
    made: str
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One shot. Paths are empty where there is no such file."""

    id: str
    number: int
    """Its place in the film from 1, the first where it has several; 0 where the film does not have it."""
    title: str
    state: str
    tone: Tone
    reason: str
    seconds: float
    """Of the clip, or as ordered where there is none."""
    take: int
    clip: str
    poster: str
    last: str
    still: str
    """The whole last frame, as PNG."""
    old: bool
    """What is shown is the clip from before a change."""
    drawn: bool
    """The clip is an animatic."""
    width: int
    height: int
    failure: str
    next: str
    """What a person does about it."""
    texts: tuple[tuple[str, Segments], ...]
    """What is sent, by field, in pieces: what the base has too, what only it has, what is new."""
    is_new: bool
    """The base does not have the shot."""
    was: str
    """Its name at the base, where that was another."""
    changes: tuple[tuple[str, str, str], ...]
    """Other fields that changed: name, before, after."""
    cost: str
    links: tuple[Link, ...]
    leads_to: tuple[str, ...]
    """The shots that take a frame from it."""
    depth: int
    """Clips in the run of `continues` that ends here."""
    takes: tuple[OtherTake, ...]
    made: str
    """The day, YYYY-MM-DD; empty where there is no clip."""
    facts: tuple[tuple[str, str], ...]
    """Where the clip comes from: name and value."""
    notes: str
    tags: tuple[str, ...]
    orders: tuple[Order, ...]
    """Its orders that brought no clip."""

    @property
    def name(self) -> str:
        return self.title or self.id

    @property
    def touched(self) -> bool:
        """Whether it differs from the base."""
        changed = any(op != "=" for _, pieces in self.texts for op, _ in pieces)
        return self.is_new or bool(self.was or self.changes) or changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place in the film, and the shot that it shows."""

    number: int
    """From 1."""
    card: Card
    begins: float
    """Seconds of the film; about, where a clip is missing."""
    seconds: float
    """How much of the clip is shown."""
    note: str
    """Why not all of it is shown; empty where all is, and for the one frame that a shot repeats of the one before."""
    at: float
    """Where it begins and how long it is, in percent of the film."""
    long: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Two clips that the film shows one after the other."""

    number: int
    """From 1."""
    left: Spot
    right: Spot
    kind: Literal["continues", "meets", "frame", "cut"]
    seam: Seam | None
    """None where it was not measured."""
    worst: bool

    @property
    def tone(self) -> Tone:
        return "plain" if self.seam is None else "bad" if self.seam.findings else "good"

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, what is furthest above its limit first: "velocity 44 %, more than 25 %"."""
        found = sorted(self.seam.findings if self.seam is not None else (), key=seams.excess, reverse=True)
        return tuple(
            f"{one.kind} {seams.words(one.kind, one.value)}, more than {seams.words(one.kind, one.limit)}"
            for one in found
        )

    @property
    def numbers(self) -> tuple[tuple[str, str, str], ...]:
        """Kind, value with its unit, and what it measures, of all that was measured."""
        values = self.seam.numbers if self.seam is not None else {}
        return tuple(
            (kind, seams.words(kind, value), KINDS[kind].text)
            for kind in KINDS
            if (value := values.get(kind)) is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Arc:
    """A link between two shots, above the line of the film: a path in a box of 1000 by ARC_HIGH."""

    path: str
    source: str
    target: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the page and the contact sheet show."""

    title: str
    storyboard: str
    rehearsal: bool
    drawn: int
    """Shots of a film that is no rehearsal whose clip is an animatic all the same."""
    length: str
    dates: str
    """The days on which the clips were made."""
    film: str
    """The path of the finished film, or of a draft of it; empty where neither is there."""
    draft: bool
    timeline: str
    """The path of the timeline for editing programs; empty where it is not there."""
    film_old: bool
    """Not every shot of the film has the clip that it should have."""
    interrupted: bool
    cards: tuple[Card, ...]
    """Every shot once: in film order, those that the film does not have last."""
    strip: tuple[Spot, ...]
    """The film, place by place; a shot may be in it more than once."""
    joins: tuple[Join, ...]
    """Between the places of `strip`."""
    worst: Join | None
    measured: bool
    """Whether the joins were measured."""
    seam_notes: tuple[str, ...]
    """What could not be measured, and why."""
    states: tuple[tuple[str, Tone, int], ...]
    tiles: tuple[Tile, ...]
    base: str
    changed: int
    """Shots that differ from the base."""
    removed: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    arcs: tuple[Arc, ...]


FILM, DRAFT, TIMELINE = "film.mp4", "film.draft.mp4", "film.otio"


def html(seen: View, made_from: str = "", link: Callable[[str], str] = quote) -> str:
    """The page. `made_from` is written into it, for whoever wants to know whether it must be made anew; `link` gives
    the address of a file by its path beside the page, by default a relative one: empty, and the page does not name
    it."""
    shots = {card.id: card for card in seen.cards}
    return page.render(
        "report",
        title=seen.title,
        seen=seen,
        made_from=made_from,
        link=lambda path: escape(link(path)),
        shots=shots,
        arc_high=ARC_HIGH,
    )


def view(known: Known) -> View:
    """What is to be shown of a film."""
    film = known.film
    number: dict[ShotId, int] = {}
    for n, cut in enumerate(film.cut, 1):
        number.setdefault(cut.shot, n)
    outside = [shot.id for shot in film.shots if shot.id not in number]
    leads = _leads(film)
    cards = {shot: _card(known, film.shot(shot), number.get(shot, 0), leads) for shot in (*number, *outside)}
    every = tuple(cards.values())
    strip = _strip(known, cards)
    joins = _joins(known, strip)
    states: dict[tuple[str, Tone], int] = {}
    for card in every:
        states[card.state, card.tone] = states.get((card.state, card.tone), 0) + 1
    changes = known.comparison.shots if known.comparison else ()
    days = sorted({card.made for card in every if card.made})
    return View(
        title=film.title or film.label,
        storyboard=known.storyboard,
        rehearsal=known.rehearsal,
        drawn=0 if known.rehearsal else sum(card.drawn for card in every),
        length=clock(sum(spot.seconds for spot in strip)),
        dates=" to ".join(dict.fromkeys((days[0], days[-1]))) if days else "",
        film=next((name for name in (FILM, DRAFT) if name in known.files), ""),
        draft=FILM not in known.files,
        timeline=TIMELINE if TIMELINE in known.files else "",
        film_old=any(spot.card.old or not spot.card.clip for spot in strip),
        interrupted=known.ran is not None and known.ran.interrupted,
        cards=every,
        strip=strip,
        joins=joins,
        worst=next((join for join in joins if join.worst), None),
        measured=any(join.seam is not None for join in joins),
        seam_notes=known.verdict.notes if known.verdict is not None else (),
        states=tuple((state, tone, n) for (state, tone), n in states.items()),
        tiles=tuple(_tiles(known)),
        base=known.base,
        changed=sum(card.touched for card in every),
        removed=tuple(change.shot for change in changes if change.state is ShotState.REMOVED),
        others=known.others,
        arcs=tuple(_arcs(strip)),
    )


# ---------------------------------------------------------------- one shot


def _card(known: Known, shot: Shot, number: int, leads: Mapping[ShotId, Sequence[str]]) -> Card:
    steps = {step.take: step for step in known.plan.steps if step.shot == shot.id}
    step = steps[shot.take]
    outcome = _outcome(known.ran, shot.id, shot.take)
    entry = known.takes.get(shot.id, {}).get(shot.take)
    record = outcome.clip if outcome is not None and outcome.good else step.record
    old = record is None and step.clip is None and entry is not None
    if record is None and entry is not None:
        record = entry.record()
    state, tone = _state(step, outcome, old=old)
    change = _change(known.comparison, shot.id)
    clip = record.facts.digest if record is not None else step.clip
    facts = record.facts if record is not None else None
    failure = outcome.failure if outcome is not None and not outcome.good else None
    orders = tuple(
        order for order in known.orders if order.shot == shot.id and order.take == shot.take and order.state != "stored"
    )
    unsettled = next((order for order in orders if order.needs_person), None)
    told = failure.message if failure is not None else unsettled.message if unsettled is not None else ""
    return Card(
        id=shot.id,
        number=number,
        title=shot.title,
        state=state,
        tone=tone,
        reason=_reason(step, outcome),
        seconds=float(facts.duration) if facts is not None else float(shot.duration),
        take=shot.take,
        clip=_file(known, f"shots/{shot.id}.mp4", clip),
        poster=_file(known, f"frames/{shot.id}.first.jpg", clip),
        last=_file(known, f"frames/{shot.id}.last.jpg", clip),
        still=_file(known, f"frames/{shot.id}.last.png", clip),
        old=old,
        drawn=record is not None and record.model == ANIMATIC,
        width=facts.width if facts is not None else 16,
        height=facts.height if facts is not None else 9,
        failure=told,
        next=(failure.next if failure is not None else "") or (unsettled.next if unsettled is not None else ""),
        texts=tuple(_texts(shot, change)),
        is_new=change is not None and change.state is ShotState.NEW,
        was=change.was or "" if change is not None else "",
        changes=tuple(_other_changes(change)),
        cost=_cost(record, step),
        links=tuple(_links(shot)),
        leads_to=tuple(leads.get(shot.id, ())),
        depth=step.depth,
        takes=tuple(_other_takes(known, shot)),
        made=record.date if record is not None else "",
        facts=tuple(_facts(record, known.takes.get(shot.id, {}).get(shot.take), shot)),
        notes=shot.notes,
        tags=shot.tags,
        orders=orders,
    )


def _outcome(ran: Ran | None, shot: ShotId, take: int) -> Outcome | None:
    ended = ran.outcomes if ran is not None else ()
    return next((one for one in ended if one.shot == shot and one.take == take), None)


def _change(comparison: Comparison | None, shot: ShotId) -> ShotChange | None:
    changes = comparison.shots if comparison is not None else ()
    return next((one for one in changes if one.shot == shot and one.state is not ShotState.REMOVED), None)


def _file(known: Known, name: str, clip: Digest | None) -> str:
    """The name, where that file is there and was made from that clip."""
    return name if clip is not None and known.files.get(name) == clip else ""


def _state(step: Step, outcome: Outcome | None, *, old: bool) -> tuple[str, Tone]:
    if outcome is not None:
        return _ENDED[outcome.result]
    if step.action is Action.MAKE:
        if not step.orders and not step.after:
            return "failed", "bad"
        return ("stale", "warn") if old else ("missing", "warn")
    if step.action is Action.HOLD and step.clip is None:
        return "missing", "warn"
    return _PLANNED[step.action]


def _reason(step: Step, outcome: Outcome | None) -> str:
    if outcome is not None and outcome.because is not None:
        return f"needs {outcome.because}, which did not end well"
    if outcome is not None and outcome.good:
        return ""
    return "" if step.reason == "up to date" else step.reason


_FIELDS = (("prompt", "prompt"), ("negative_prompt", "negative prompt"), ("multi_shot", "shots of the clip"))


def _texts(shot: Shot, change: ShotChange | None) -> Iterable[tuple[str, Segments]]:
    changed = {part.field: part for part in change.fields} if change and change.state is not ShotState.NEW else {}
    several = shot.multi_shot.shots if shot.multi_shot else ()
    whole = {
        "prompt": shot.prompt,
        "negative_prompt": shot.negative_prompt,
        "multi_shot": "\n".join(f"{seconds} s: {text}" for text, seconds in several),
    }
    for name, shown in _FIELDS:
        if name in changed:
            yield shown, changed[name].segments or (("=", changed[name].new),)
        elif whole[name]:
            yield shown, (("=", whole[name]),)


def _other_changes(change: ShotChange | None) -> Iterable[tuple[str, str, str]]:
    if change is None or change.state is ShotState.NEW:
        return
    texts = [name for name, _ in _FIELDS]
    for part in change.fields:
        if part.field not in texts:
            yield part.field.replace("_", " "), part.old or "none", part.new or "none"
    if change.moved is not None:
        yield "place in the film", str(change.moved[0]), str(change.moved[1])


def _cost(record: ClipRecord | None, step: Step) -> str:
    """What its clip has cost, or would cost."""
    if record is not None:
        return _booked(record.cost, record.basis, record.provider, record.model)
    if step.provider == OWN:
        return "a clip of one's own"
    if step.price is None:
        return "price unknown"
    return f"would cost {money(step.price)}{noted([step.basis])}" if step.price else "free" if step.orders else ""


def _booked(cost: Decimal | None, basis: str, provider: str, model: str) -> str:
    if provider == OWN:
        return "a clip of one's own"
    if cost is None:
        return "free" if model == ANIMATIC else "price unknown"
    return f"{money(cost)}{noted([basis])}" if cost else "free"


def _links(shot: Shot) -> Iterable[Link]:
    if shot.meets is not None:
        yield Link(how="meets", shot=shot.meets, kind="meets")
    for role, frame in shot.frames():
        if not isinstance(frame, ShotFrame):
            continue
        name = {"last": "the last frame", "first": "the first frame"}.get(frame.frame, f"frame {frame.frame}")
        if role == "first_frame" and frame.frame in ("last", "-1"):
            yield Link(how="continues", shot=frame.shot, kind="continues")
        elif role in ("first_frame", "last_frame"):
            verb = "begins" if role == "first_frame" else "ends"
            yield Link(how=f"{verb} with {name} of", shot=frame.shot, kind="frame")
        else:
            yield Link(how=f"is shown {name} of", shot=frame.shot, kind="frame")
    for video in shot.videos:
        if isinstance(video, ShotVideo):
            yield Link(how="follows the motion of", shot=video.shot, kind="frame")


def _leads(film: Film) -> Mapping[ShotId, Sequence[str]]:
    """By shot, those that take a frame or a motion from it."""
    out: dict[ShotId, list[str]] = {}
    for shot in film.shots:
        for need in dict.fromkeys(ShotId(link.shot) for link in _links(shot)):
            out.setdefault(need, []).append(shot.id)
    return out


def _other_takes(known: Known, shot: Shot) -> Iterable[OtherTake]:
    for take, entry in sorted(known.takes.get(shot.id, {}).items()):
        if take == shot.take:
            continue
        name = f"{shot.id}.take{take}"
        yield OtherTake(
            take=take,
            clip=_file(known, f"shots/{name}.mp4", entry.clip),
            poster=_file(known, f"frames/{name}.first.jpg", entry.clip),
            cost=_booked(entry.cost, entry.basis, entry.provider, entry.model),
            made=entry.date,
            provider=entry.provider,
        )


def _facts(record: ClipRecord | None, entry: Entry | None, shot: Shot) -> Iterable[tuple[str, str]]:
    if record is None:
        return
    facts = record.facts
    yield "made", record.date
    if record.provider == OWN:
        yield "from", shot.clip or "a clip of one's own"
    else:
        yield "provider", record.provider
        yield "model", record.model
    if record.task is not None:
        yield "task", record.task
    taken_in = record.taken_in or (entry.taken_in if entry is not None else "")
    if taken_in:
        yield "taken in by hand", taken_in
    yield "picture", f"{facts.width}x{facts.height}, {facts.frames} frames at {_rate(facts.rate)} a second"
    yield "sound", "yes" if facts.audio else "no"
    yield "key", record.key
    yield "clip", facts.digest
    for role, digest in record.inputs.items():
        yield role.replace("_", " "), digest


def _rate(rate: str) -> str:
    above, _, below = rate.partition("/")
    return f"{int(above) / int(below):.3f}" if below else rate


# ---------------------------------------------------------------- the film


def _strip(known: Known, cards: Mapping[ShotId, Card]) -> tuple[Spot, ...]:
    lengths = [cards[cut.shot].seconds for cut in known.film.cut]
    notes = [""] * len(lengths)
    if len(known.shown) == len(lengths):
        lengths = [float(len(one.picks) / known.rate) for one in known.shown]
        notes = [one.reason if one.dropped_at_head > 1 or one.dropped_at_tail else "" for one in known.shown]
    whole = sum(lengths) or 1.0
    out, at = [], 0.0
    for n, (cut, seconds, note) in enumerate(zip(known.film.cut, lengths, notes, strict=True), 1):
        spot = Spot(
            number=n,
            card=cards[cut.shot],
            begins=at,
            seconds=seconds,
            note=note,
            at=round(at * 100 / whole, 3),
            long=round(seconds * 100 / whole, 3),
        )
        out.append(spot)
        at += seconds
    return tuple(out)


_KINDS: Mapping[JoinKind, Literal["continues", "meets", "frame", "cut"]] = {
    JoinKind.CONTINUES: "continues",
    JoinKind.EARLIER: "frame",
    JoinKind.MEETS: "meets",
    JoinKind.NONE: "cut",
}


def _joins(known: Known, strip: Sequence[Spot]) -> tuple[Join, ...]:
    whole = len(known.shown) == len(strip) and all(spot.card.made and not spot.card.old for spot in strip)
    measured = known.verdict.seams if known.verdict is not None and whole else ()
    worst = seams.worst(measured)
    out = []
    for n, (left, right) in enumerate(pairwise(strip), 1):
        seam = next((one for one in measured if one.number == n), None)
        now = (left.card.id, right.card.id, known.shown[n].film_start if whole else 0)
        if seam is not None and (seam.before, seam.after, seam.frame) != now:
            seam = None  # of another cut
        if seam is not None and not seam.measured:
            seam = None
        if len(known.shown) == len(strip):
            kind = _KINDS[known.shown[n].join]
        else:
            kinds = [link.kind for link in right.card.links if link.shot == left.card.id]
            kind = "continues" if "continues" in kinds else "meets" if "meets" in kinds else "cut"
        out.append(
            Join(number=n, left=left, right=right, kind=kind, seam=seam, worst=seam is not None and seam is worst)
        )
    return tuple(out)


ARC_HIGH = 46


def _arcs(strip: Sequence[Spot]) -> Iterable[Arc]:
    """From the middle of a shot to the middle of the one that takes something from it, the higher the farther."""
    places = {spot.card.id: spot for spot in reversed(strip)}
    for card in {spot.card.id: spot.card for spot in strip}.values():
        for link in card.links:
            if link.shot not in places:
                continue
            source, target = places[link.shot], places[card.id]
            far = abs(target.number - source.number)
            top = max(-10, ARC_HIGH - 12 - round(11 * far**0.75) - (6 if link.kind == "frame" else 0))
            begin, end = (round((spot.at + spot.long / 2) * 10) for spot in (source, target))
            path = f"M{begin} {ARC_HIGH}C{begin} {top} {end} {top} {end} {ARC_HIGH}"
            yield Arc(path=path, source=link.shot, target=card.id, kind=link.kind)


# ---------------------------------------------------------------- money


def _tiles(known: Known) -> Iterable[Tile]:
    ran = known.ran
    costs = {entry.key: entry.cost for takes in known.takes.values() for entry in takes.values()}
    in_lock = sum((cost for cost in costs.values() if cost is not None), Decimal(0))
    paid = [f"{money(in_lock)} in all for the clips in the lock"] if not known.rehearsal else []
    if known.booked is not None and known.booked > in_lock:
        paid.append(f"{money(known.booked)} for every order on record, of clips that are not used too")
    if known.unpriced:
        paid.append(f"and {count(known.unpriced, 'order')} of unknown price")
    if ran is not None:
        spent = sum((one.spent for one in ran.outcomes), Decimal(0))
        yield Tile(
            name="Spent in this run",
            value=money(spent),
            notes=tuple(paid),
            meaning="What this run booked for this film, failed orders and doubts included; below, what the clips that "
            "the lock names have cost since the first run.",
        )
    else:
        yield Tile(
            name="Spent so far",
            value=money(in_lock),
            notes=("for the clips in the lock", *paid[1:]),
            meaning="What the clips that the lock names have cost since the first run. No run wrote this page.",
        )
    yield _saved(known)
    doubts = [order for order in known.orders if order.needs_person]
    doubt = sum((order.price for order in doubts if order.price is not None), Decimal(0))
    yield Tile(
        name="In doubt",
        value=money(doubt) if doubts else "nothing",
        notes=(f"{count(len(doubts), 'order')} to settle with klingflow resolve",) if doubts else (),
        meaning="Orders of which only you can say whether the provider took them. They are booked until you do.",
        tone="bad" if doubts else "plain",
    )
    if ran is not None:
        orders = [step for step in ran.plan.steps if step.orders]
        known_prices = [step.price for step in orders if step.price is not None]
        estimate = sum(known_prices, Decimal(0))
        spent = sum((one.spent for one in ran.outcomes), Decimal(0))
        unknown = "" if len(known_prices) == len(orders) else " or more: a price is not known"
        basis = noted(step.basis for step in orders)
        nothing = "nothing was to be made"
        yield Tile(
            name="Estimate, and booked",
            value=f"{money(estimate)} → {money(spent)}",
            notes=(f"{count(len(orders), 'clip')} to make{basis}{unknown}" if orders else nothing,),
            meaning="What the plan of this run said that its orders would cost, and what was booked for them. They "
            "differ where a shot failed before it was ordered, was skipped, or was there after all.",
        )
    yield from _to_make(known.plan)


def _to_make(plan: FilmPlan) -> Iterable[Tile]:
    orders = [(step.seconds, step.price) for step in plan.steps if step.orders]
    waiting = [(step.later.seconds, step.later.price) for step in plan.steps if step.later is not None]
    notes = [f"{count(len(orders), 'clip')}, {sum(seconds for seconds, _ in orders)} s"] if orders else []
    if waiting:
        notes.append(f"{count(len(waiting), 'clip')} for {_sum(waiting)} when what they wait for is decided")
    if notes:
        yield Tile(
            name="Still to make",
            value=_sum(orders) if orders else "nothing yet",
            notes=tuple(notes),
            meaning="What a run that begins now would order for this film.",
            tone="warn",
        )


def _sum(orders: Sequence[tuple[int, Decimal | None]]) -> str:
    """What orders of (seconds, price) cost together."""
    known = [price for _, price in orders if price is not None]
    unknown = len(known) < len(orders)
    total = sum(known, Decimal(0))
    return f"{money(total)}{' and more' if unknown else ''}" if total or unknown else "free"


def _saved(known: Known) -> Tile:
    made = {
        (one.shot, one.take)
        for one in (known.ran.outcomes if known.ran is not None else ())
        if one.result in (Result.MADE, Result.RESUMED)
    }
    shots = known.film.by_id()
    prices: dict[str, Price] = {}
    for step in known.plan.steps:
        if step.clip is None or step.provider == OWN or (step.shot, step.take) in made:
            continue
        prices.setdefault(step.key or step.clip, known.price(shots[step.shot]))
    paid = [price for price in prices.values() if price.amount != 0]
    amounts = [price.amount for price in paid if price.amount is not None]
    unknown = len(paid) - len(amounts)
    notes = [f"{count(len(amounts), 'clip')} at today's price{noted(price.basis for price in paid)}"] if amounts else []
    notes += [f"and {count(unknown, 'clip')} of unknown price"] if unknown else []
    free = len(prices) - len(paid)
    notes += [f"{count(free, 'clip')} drawn free"] if free and not paid else []
    return Tile(
        name="Saved by reuse",
        value=money(sum(amounts, Decimal(0))),
        notes=tuple(notes),
        meaning="What the clips that are there, and that this run did not order, would cost at today's price if they "
        "were made anew; a clip that several shots share counts once.",
        tone="good" if amounts else "plain",
    )
