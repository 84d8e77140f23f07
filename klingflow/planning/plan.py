"""A Plan: what a run would make, reuse, adopt or hold, and why. Each step is decided here, once.

The engine does what a step states. While a run goes on, these facts turn a planned purchase into none:

    the store has the clip of its key by now             adopted
    the lock names the clip of its key, which was known only after the run      reused
    the ledger has a task for its key                    collected
    an earlier step of the run has the same key          made once, for both

Nothing turns a step that is no purchase into one: `Step.orders` is False for it, and the engine hands the line that
spends no order without it. The one thing that a reuse or an adoption may become is a free drawing, where the clip of a
free provider is not in this store (`Step.redraws`).

What would be a purchase, and needs a clip behind a closed gate or a still that nobody has chosen, is WAIT
(planning.gates): such a step orders nothing, and only another plan turns it into a purchase.

Knows no file and no provider: what it must ask (is there a clip for this key? what does it cost?) comes in as
`PlanLookups`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import islice, product

from klingflow.core import digest
from klingflow.core.digest import PartChange
from klingflow.core.model import ANIMATIC, ClipRecord, Digest, FileStill, Film, Inputs, Key, Shot, ShotFrame, ShotId
from klingflow.core.source import Problem, Severity
from klingflow.planning import gates, graph
from klingflow.planning.gates import Unapproved, Wait
from klingflow.planning.price import Limits, Price
from klingflow.storyboard.lock import Entry, Lock


class Action(StrEnum):
    """What a run does for a step of the plan."""

    REUSE = "reuse"
    """The lock names a clip for exactly this key."""
    ADOPT = "adopt"
    """The store has a clip for this key that the lock does not name yet (or it is a clip of one's own)."""
    HOLD = "hold"
    """The shot keeps the clip that the lock names, whatever changed."""
    RESUME = "resume"
    """An order for this key is under way: collect its task. Where its answer is not on record (`Step.orders`), the same
    request is sent once more with the same idempotency key, which may be what buys the clip."""
    MAKE = "make"
    """Nothing answers this key: a clip has to be made (bought, for a paid provider)."""
    RESOLVE = "resolve"
    """Only the user can settle it: it is not known whether a paid request was taken, a delivered clip is not what was
    ordered, or the records of the order are damaged."""
    WAIT = "wait"
    """It would be bought, and a person has not decided yet: `Step.waits_for`."""


SIGN = {
    Action.REUSE: "=",
    Action.ADOPT: "<",
    Action.HOLD: "|",
    Action.RESUME: ">",
    Action.MAKE: "+",
    Action.RESOLVE: "?",
    Action.WAIT: "~",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What a waiting step would order, once it is decided."""

    purchase: Key = field(compare=False)
    """As `Step.purchase`."""
    seconds: int
    price: Decimal | None
    """USD; None where no price is known."""
    basis: str = ""
    """As `Step.basis`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One take of one shot."""

    shot: ShotId
    take: int
    is_active_take: bool
    """True for the take that the film uses and that other shots continue."""
    action: Action
    reason: str
    changes: tuple[PartChange, ...] = ()
    key: Key | None
    """None while a clip that goes in is not made yet: known after the run."""
    purchase: Key | None = field(default=None, compare=False)
    """What this step would order: `key`, or a name for it while a clip that goes in is not made yet. Two steps with one
    purchase have one key once they run. None where the step orders nothing."""
    clip: Digest | None = None
    """The clip that answers, where it is known."""
    record: ClipRecord | None = field(default=None, compare=False)
    """What is known of `clip`: from the lock for REUSE and HOLD, from the store for ADOPT; None for a clip of one's
    own."""
    needs: tuple[ShotId, ...] = ()
    after: tuple[ShotId, ...] = ()
    """Those of `needs` whose clip is not known yet."""
    waits_for: tuple[Wait, ...] = ()
    """WAIT: what a person decides first, in the order in which it comes; empty for every other action."""
    later: Later | None = None
    """WAIT: what it would order then. None for every other action."""
    same_as: ShotId | None = None
    """The shot of an earlier step with the same purchase: it is made once, for both (planning.schedule)."""
    same_as_film: str | None = None
    """The variant of that step's film, where it is another film than this step's."""
    alone: Step | None = field(default=None, compare=False, repr=False)
    """The same step as it would be without the one that it shares its purchase with."""
    provider: str
    model: str
    resolution: str = ""
    """Empty for a clip of one's own."""
    sound: bool = False
    prompt: str = field(default="", compare=False)
    """As it is sent, with every variable and template in its place; so are the next two."""
    negative_prompt: str = field(default="", compare=False)
    multi_shot: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    """(prompt, seconds) of each shot in the clip; empty for one shot."""
    seconds: int
    """Seconds of clip that this step would order; 0 when it orders nothing."""
    price: Decimal | None
    """USD that this step would spend: 0 when it makes nothing or is free; None when no price is known."""
    basis: str = ""
    """What the price is, where the project does not state it: "estimate", or "list price of 2026-11-27"."""
    depth: int = 1
    """Clips in the run of `continues` that ends here, this one included."""
    expect_s: float = field(default=0.0, compare=False)
    """Seconds that making or collecting it is expected to take."""

    @property
    def orders(self) -> bool:
        """Whether this step may send a request that makes, and so may buy, a clip."""
        return self.seconds > 0

    @property
    def lacks_clip(self) -> bool:
        """Whether there is no clip for it, and none under way."""
        return self.orders or self.action in (Action.MAKE, Action.WAIT, Action.RESOLVE)

    @property
    def redraws(self) -> bool:
        """Whether a run draws the clip again, free, where the store does not hold it. A frozen run does so too, and
        takes nothing but the very clip that the plan names."""
        return self.action in (Action.REUSE, Action.ADOPT) and self.provider == ANIMATIC


@dataclass(frozen=True, slots=True)
class Shortcut:
    """`shot` could begin with the still that `meets` ends with, instead of waiting for its clip."""

    shot: ShotId
    meets: ShotId
    saves_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmPlan:
    """The steps of one film, in the order of its shots."""

    name: str
    variant: str
    matrix: Mapping[str, str] = field(default_factory=dict)
    title: str
    steps: tuple[Step, ...]
    warnings: tuple[Problem, ...] = ()
    critical: tuple[ShotId, ...] = ()
    """The chain of shots to make that takes longest; empty when nothing is to be made."""
    chain_s: float = 0.0
    """Expected seconds along it."""
    wall_s: float = 0.0
    """Expected seconds until every clip of the film is there, with the tasks in flight that the providers allow."""
    length_s: float | None = None
    """Seconds of the finished film; None where the length of a clip of one's own is not known yet."""
    shortcuts: tuple[Shortcut, ...] = ()
    """Where `meets` instead of `continues` would shorten the wait, the most first."""

    @property
    def label(self) -> str:
        """The film's name, with its variant where there are several."""
        return f"{self.name} [{self.variant}]" if self.variant else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Several orders together."""

    spend: Decimal | None = Decimal(0)
    """USD; None when a price is not known."""
    seconds: int = 0
    """Seconds of clip to make."""
    tasks: int = 0
    """Orders to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a run of several steps would make and spend."""

    steps: Mapping[str, int] = field(default_factory=dict)
    """Steps by action, every action named, 0 included."""
    spend: Decimal | None = Decimal(0)
    """USD; None when a price is not known."""
    seconds: int = 0
    """Seconds of clip to make."""
    tasks: int = 0
    """Orders to send."""
    later: Sums = Sums()
    """What waiting steps would come to, once they are decided; in none of the other numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A clip that was paid for, and that nothing uses any more: the shot asks for another one, or it is gone. It stays
    in the store."""

    variant: str
    shot: ShotId
    take: int
    cost: Decimal
    """USD."""
    gone: bool
    """Whether the storyboard does not have the shot any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run of a storyboard would do. `klingflow.Planned` is this with what it was made from."""

    storyboard: str
    """The storyboard's path relative to the project root."""
    films: tuple[FilmPlan, ...]
    rehearsal: bool = False
    """The provider was overridden to animatic: the lock is neither read nor written."""
    provider: str | None = None
    """The override of `--provider`, where there is one."""
    in_flight: Mapping[str, int] = field(default_factory=dict)
    """How many tasks are made side by side, by provider, for those at which something is to be made."""
    limits: Limits = field(default_factory=Limits)
    """The project's, for one run."""
    paid: Decimal = Decimal(0)
    """USD that the clips in the lock have cost."""
    dropped: tuple[Dropped, ...] = ()
    """What was paid for and would not be used any more."""


OWN = "own"
"""Provider and model of a clip of one's own (`clip:`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """What the ledger has for a key that has no clip yet: RESUME, RESOLVE or MAKE, and why."""

    action: Action
    reason: str
    orders: bool = False
    """Whether a request that may cost money is sent: a new order (MAKE), or the same one again because its answer is
    not on record (RESUME). A MAKE without it failed before and is not ordered again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLookups:
    """What a plan looks up outside. `find` and `open_order` are asked only for keys that the lock does not answer, so
    that a plan with nothing to do touches neither the store nor the ledger."""

    model: Callable[[Shot], str]
    """The neutral model name of a shot."""
    price: Callable[[Shot], Price]
    expect: Callable[[Shot], float]
    """The seconds that making a shot is expected to take, its wait at the provider included."""
    find: Callable[[Key], ClipRecord | OpenOrder | None]
    """What the store has for a key; an OpenOrder (RESOLVE) where its record cannot be read."""
    open_order: Callable[[Key, Shot], OpenOrder | None]
    """What the ledger has for a key."""
    picture: Callable[[str], Digest | None]
    """The digest of what a file of one's own shows, by its path; None where it cannot be read. Asked only where the
    lock does not answer, since all of the file is decoded."""
    unapproved: Unapproved | None
    """Asked of picks that something waits for. None in a rehearsal, which buys nothing: then no step waits."""


def make(
    film: Film, *, inputs: Inputs, lock: Lock, lookups: PlanLookups, variants: Collection[str] = ("",)
) -> FilmPlan:
    """Decides every step of a film. `variants` are those of all films of the storyboard."""
    clips: dict[ShotId, Digest] = {}
    pending: dict[ShotId, Step] = {}
    depth = graph.depth(film)
    own = {shot.id: shot.clip for shot in film.shots if shot.clip is not None}
    steps: dict[ShotId, list[Step]] = {}
    waits: dict[ShotId, tuple[Wait, ...]] = {}
    """What whoever needs the clip of a shot waits for."""
    for shot in graph.order(film):
        mine = steps[shot.id] = []
        before = gates.together(wait for need in shot.needs() for wait in waits.get(need, ())) if waits else ()
        choices = gates.undecided(shot) if lookups.unapproved is not None else ()
        for take in shot.takes_made():
            wanted = shot if take == shot.take else replace(shot, take=take)
            step = _decide(film, wanted, take == shot.take, inputs, own, lock, lookups, clips, pending, depth, variants)
            if step.orders and (choices or before):
                step = _waiting(step, gates.together((*choices, *before)))
                step = replace(step, key=None) if choices else step
            elif choices and step.action in (Action.REUSE, Action.ADOPT):
                step = replace(step, reason=f"{step.reason}; {gates.stands_in(choices)}")
            if step.orders or step.action is Action.RESUME:
                step = replace(step, expect_s=lookups.expect(shot))
            mine.append(step)
        active = next(step for step in mine if step.is_active_take)
        if active.clip is not None:
            clips[shot.id] = active.clip
        else:
            pending[shot.id] = active
        gate = shot.gate and lookups.unapproved and gates.closed(film, shot, active.clip, lock, lookups.unapproved)
        if choices or before or gate:
            after = gates.together((*(choices if active.action is not Action.HOLD else ()), *before))
            waits[shot.id] = (*after, gate) if gate and len(after) < _MOST_WAITS else after
    counted = {shot: step for shot in steps for step in steps[shot] if step.is_active_take}
    return FilmPlan(
        name=film.name,
        variant=film.variant,
        matrix=film.matrix,
        title=film.title,
        steps=tuple(step for shot in film.shots for step in steps[shot.id]),
        warnings=tuple(_cut_warnings(film, counted)),
        length_s=_length(film, counted),
    )


_MOST_WAITS = 100
"""Of a long chain in which every shot has a gate, so many are named; whatever is behind them waits all the same."""


def _length(film: Film, active: Mapping[ShotId, Step]) -> float | None:
    """The length of the finished film, to a frame at each seam."""
    shots = film.by_id()
    total = 0.0
    for n, cut in enumerate(film.cut):
        step = active[cut.shot]
        if step.record is None and step.provider == OWN:
            return None
        seconds, rate = float(shots[cut.shot].duration), _NEAR_RATE
        if step.record is not None:
            seconds, rate = float(step.record.facts.duration), float(Fraction(step.record.facts.rate))
        end = seconds if cut.end is None else min(seconds, _seconds(cut.end, seconds, rate))
        start = _seconds(cut.start or "0", seconds, rate)
        begins = shots[film.cut[n + 1].shot].first_frame if n + 1 < len(film.cut) else None
        if cut.end is None and isinstance(begins, ShotFrame) and begins.shot == cut.shot and begins.frame != "first":
            at = _seconds(begins.frame, seconds, rate)
            end = min(seconds, at + 1 / rate) if max(start, 1 / rate) <= at else end
        total += max(0.0, end - start)
    return total


def _cut_warnings(film: Film, active: Mapping[ShotId, Step]) -> Iterator[Problem]:
    """Places in the cut that the clips which are there do not have: the film decides by the frame (output.cutting)."""
    for n, cut in enumerate(film.cut):
        record = active[cut.shot].record
        for side, text in (("in", cut.start), ("out", cut.end)):
            if record is None or text is None:
                continue
            facts = record.facts
            time = text.endswith("s")
            place = Fraction(text.removesuffix("s"))
            most = Fraction(facts.duration) if time else facts.frames
            if place < most or (side == "out" and place == most):
                continue
            what = f"the clip of '{cut.shot}' has {facts.frames} frames ({facts.duration} s), none at {text}"
            what += ": it is shown to its end" if side == "out" else ": a run could not join the film"
            span = film.where(None, f"film.shots.{n}.{side}")
            mend = "write a place in the clip, or leave it out"
            yield Problem(rule="cut", what=what, mend=mend, span=span, severity=Severity.WARNING)


_NEAR_RATE = 24.0
"""Frames a second of a clip that is not made yet."""


def _seconds(frame: str, clip: float, rate: float) -> float:
    """Where in a clip of so many seconds a frame is: a number from 0, as in ShotFrame, or a time."""
    if frame == "last":
        return clip
    if frame.endswith("s"):
        return float(frame[:-1])
    return clip + int(frame) / rate if frame.startswith("-") else int(frame) / rate


def _decide(
    film: Film,
    shot: Shot,
    is_active_take: bool,
    inputs: Inputs,
    own: Mapping[ShotId, str],
    lock: Lock,
    lookups: PlanLookups,
    clips: Mapping[ShotId, Digest],
    pending: Mapping[ShotId, Step],
    depth: Mapping[ShotId, int],
    variants: Collection[str],
) -> Step:
    neutral = OWN if shot.clip else lookups.model(shot)
    parts = digest.parts(shot, neutral, inputs.stills, clips, inputs.clips)
    key = None if parts is None else digest.key(parts)
    step = Step(
        shot=shot.id,
        take=shot.take,
        is_active_take=is_active_take,
        action=Action.REUSE,
        reason="up to date",
        key=key,
        needs=shot.needs(),
        provider=OWN if shot.clip else shot.provider,
        model=neutral,
        resolution="" if shot.clip else shot.resolution,
        sound=shot.sound,
        prompt=shot.prompt,
        negative_prompt=shot.negative_prompt,
        multi_shot=shot.multi_shot.shots if shot.multi_shot else (),
        seconds=0,
        price=Decimal(0),
        depth=depth[shot.id],
    )
    if shot.hold:
        held = _held(step, film, shot, inputs, lock, lookups, variants)
        if held is not None:
            return held
    if parts is None or key is None:
        return _unknown(step, shot, inputs, clips, pending, lookups.price(shot))
    entry = lock.entry(film.variant, shot.id, shot.take)
    if entry is not None and entry.key == key:
        why = step.reason + (": taken in by hand" if entry.taken_in else "")
        return replace(step, clip=entry.clip, record=entry.record(), reason=why)
    if shot.clip is not None:
        return replace(
            step, action=Action.ADOPT, reason=f"a clip of one's own: {shot.clip}", clip=inputs.clips[shot.clip]
        )
    known = lock.find(key)
    if known is not None:
        kept = "kept this very clip from a merge" if key in lock.spare.get(shot.id, {}) else ""
        why = f"the lock {kept or 'has this very clip under another name'}"
        return replace(step, clip=known.clip, record=known.record(), reason=why)
    alike = _alike(shot, neutral, inputs, own, lock, lookups, clips)
    if alike is not None:
        entry, files = alike
        why = f"up to date: {', '.join(files)}: other bytes, the same pixels"
        return replace(step, key=entry.key, clip=entry.clip, record=entry.record(), reason=why)
    record = lookups.find(key)
    if isinstance(record, OpenOrder):
        return replace(step, action=record.action, reason=record.reason)
    if record is not None:
        why = "the store has this very clip" + (", taken in by hand" if record.taken_in else "")
        return replace(step, action=Action.ADOPT, reason=why, clip=record.facts.digest, record=record)
    why, changes = _why(film, shot, entry, parts, lock, lookups.find)
    order = lookups.open_order(key, shot)
    if order is None:
        order = OpenOrder(action=Action.MAKE, reason=why, orders=True)
    step = replace(step, action=order.action, reason=order.reason, changes=changes)
    return _ordering(step, shot, lookups.price(shot), key) if order.orders else step


def _alike(
    shot: Shot,
    model: str,
    inputs: Inputs,
    own: Mapping[ShotId, str],
    lock: Lock,
    lookups: PlanLookups,
    clips: Mapping[ShotId, Digest],
) -> tuple[Entry, tuple[str, ...]] | None:
    """What the lock has for the shot as it would be with other files of one's own that show the same, pixel for pixel,
    and which of today's files those stand for: a file that was only tagged or packed anew buys nothing."""
    if not lock.pictures:
        return None
    files: dict[str, Digest] = {}
    for _, frame in shot.frames():
        if isinstance(frame, FileStill):
            files[frame.path] = inputs.stills[frame.path].digest
        elif isinstance(frame, ShotFrame) and frame.shot in own:
            files[own[frame.shot]] = inputs.clips[own[frame.shot]]
    meant = {
        path: (file, *lock.alike(file, seen))
        for path, file in files.items()
        if (seen := lock.pictures.get(file) or lookups.picture(path))
    }
    for choice in islice(product(*meant.values()), 1, _ALIKE_MOST):
        as_then = {**files, **dict(zip(meant, choice, strict=True))}
        stills = {
            path: replace(inputs.stills[path], digest=file) for path, file in as_then.items() if path in inputs.stills
        }
        then = {need: as_then[own[need]] if need in own else clips[need] for need in shot.needs() if need in clips}
        parts = digest.parts(shot, model, stills, then, inputs.clips)
        entry = None if parts is None else lock.find(digest.key(parts))
        if entry is not None:
            return entry, tuple(path for path, file in as_then.items() if file != files[path])
    return None


_ALIKE_MOST = 256
"""Combinations of files that are tried; a shot has hardly ever more than two."""


def _ordering(step: Step, shot: Shot, cost: Price, purchase: Key) -> Step:
    """The step with what its order needs."""
    return replace(step, purchase=purchase, seconds=shot.duration, price=cost.amount, basis=cost.basis)


def _waiting(step: Step, waits: tuple[Wait, ...]) -> Step:
    """A step that would order, and waits instead."""
    assert step.purchase is not None  # every step that orders has a name for what it buys
    why = gates.reason(step.shot, waits)
    return replace(
        step,
        action=Action.WAIT,
        reason=f"{why}; {step.reason}" if step.action is Action.RESUME else why,
        waits_for=waits,
        later=Later(purchase=step.purchase, seconds=step.seconds, price=step.price, basis=step.basis),
        purchase=None,
        seconds=0,
        price=Decimal(0),
        basis="",
    )


def _held(
    step: Step,
    film: Film,
    shot: Shot,
    inputs: Inputs,
    lock: Lock,
    lookups: PlanLookups,
    variants: Collection[str],
) -> Step | None:
    """A held shot keeps its clip, also under another name or in another film of the matrix. Where the lock has none
    that could be it, the shot stops if it would cost money; None where it is free: then it is made like any other."""
    entry = lock.entry(film.variant, shot.id, shot.take)
    if step.key is not None:
        entry = lock.spare.get(shot.id, {}).get(step.key, entry)  # of two that met, the one that answers
    if entry is None:
        claimed = _keys_of_others(film, shot, inputs, lock, lookups)
        entry = lock.held(film, shot, key=step.key, variants=variants, claimed=claimed)
    if entry is not None:
        why = "held: keeps the clip that the lock names"
        return replace(step, action=Action.HOLD, reason=why, key=entry.key, clip=entry.clip, record=entry.record())
    if shot.clip is not None or shot.provider == ANIMATIC:
        return None
    return replace(step, action=Action.HOLD, reason=HELD_MISSING, key=None)


HELD_MISSING = "held, and its lock entry is not there"


def _keys_of_others(film: Film, shot: Shot, inputs: Inputs, lock: Lock, lookups: PlanLookups) -> set[Key]:
    """The keys of a film's other shots, as far as the clips that the lock names for it tell them."""
    entries = [(other.id, lock.entry(film.variant, other.id, other.take)) for other in film.shots]
    clips = {name: entry.clip for name, entry in entries if entry is not None}
    keys = set()
    for other in film.shots:
        model = OWN if other.clip else lookups.model(other)
        parts = digest.parts(other, model, inputs.stills, clips, inputs.clips)
        if other.id != shot.id and parts is not None:
            keys.add(digest.key(parts))
    return keys


def _unknown(
    step: Step,
    shot: Shot,
    inputs: Inputs,
    clips: Mapping[ShotId, Digest],
    pending: Mapping[ShotId, Step],
    cost: Price,
) -> Step:
    """A step whose key is known only after the run, because a clip that goes in is not made yet. It orders nothing
    where this run does not make that clip either."""
    after = tuple(need for need in step.needs if need not in clips)
    stops = [need for need in after if not _comes(pending[need])]
    cause = (stops or after)[0]
    first = shot.first_frame
    continues = isinstance(first, ShotFrame) and first.shot == cause and first.frame == "last"
    reason = f"{'continues' if continues else 'takes a frame of'} {cause}, {_why_not_there(pending[cause])}"
    step = replace(step, action=Action.MAKE, reason=reason, after=after)
    if stops:
        return step
    named = {need: Digest(f"the clip of {_purchase(pending[need])}") for need in after}
    parts = digest.parts(shot, step.model, inputs.stills, {**clips, **named}, inputs.clips)
    assert parts is not None  # every clip that goes in has a name
    return _ordering(step, shot, cost, digest.key(parts))


def _comes(step: Step) -> bool:
    """Whether a run has this step's clip at its end, if nothing fails; now, or when what it waits for is decided."""
    return step.orders or step.action in (Action.RESUME, Action.WAIT)


def _purchase(step: Step) -> Key | None:
    """A name for what a step whose clip is not there buys, or collects."""
    return step.purchase or (step.later.purchase if step.later else step.key)


def _why_not_there(step: Step) -> str:
    """Why a clip that goes in is not known yet."""
    if step.action is Action.RESUME:
        return "which is being made"
    if step.action is Action.WAIT:
        return "which waits"
    if step.orders:
        return "which will be made"
    if step.action is Action.HOLD:
        return "which is held and has no clip"
    if step.action is Action.RESOLVE:
        return "which must be settled first"
    return "which is not made in this run" if step.after else "which failed before and is not ordered again"


def _why(
    film: Film,
    shot: Shot,
    entry: Entry | None,
    parts: Mapping[str, object],
    lock: Lock,
    find: Callable[[Key], ClipRecord | OpenOrder | None],
) -> tuple[str, tuple[PartChange, ...]]:
    """Why a clip has to be made, down to the field."""
    if entry is None:
        if shot.take > 1 and lock.entry(film.variant, shot.id, 1) is not None:
            return f"new take {shot.take}", ()
        return "new shot", ()
    bought = find(entry.key)
    changes = digest.explain(entry.parts, parts, bought.parts if isinstance(bought, ClipRecord) else None)
    return ", ".join(_sentence(film, shot, change, lock) for change in changes) or "its clip is in no record", changes


def _sentence(film: Film, shot: Shot, change: PartChange, lock: Lock) -> str:
    frame = dict(shot.frames()).get(change.field)
    if isinstance(frame, ShotFrame):
        makers = _makers(lock, film.variant, change.old)
        if makers and frame.shot not in makers:
            verb = "continues" if frame.frame == "last" else "takes a frame of"
            return f"{verb} {frame.shot} instead of {makers[0]}"
        return (
            f"{frame.shot} has a new clip" if change.old.startswith(f"{frame.frame} of ") else f"{change.field} changed"
        )
    path = getattr(frame, "path", None)
    if path is not None:
        return f"still {path} changed" if change.old else f"{change.field} added"
    if change.field == "drawing":
        return "the animatic draws it in another way now"
    if change.field in ("prompt", "negative_prompt", "multi_shot", "recipe"):
        return f"{change.field} changed"
    if not change.new:
        return f"{change.field} removed"
    return f"{change.field} {change.old} -> {change.new}" if change.old else f"{change.field} added"


def _makers(lock: Lock, variant: str, frame: str) -> list[ShotId]:
    """The shots whose clip a frame of the last purchase ("last of 6e118069f4f5") was taken from, if the lock knows."""
    clip = frame.rpartition(" ")[2]
    shots = lock.films.get(variant, {}) if clip else {}
    return [shot for shot, takes in shots.items() if any(entry.clip.startswith(clip) for entry in takes.values())]


def totals(films: Iterable[FilmPlan]) -> Totals:
    """What the films would make and spend together. A purchase that steps share is in the first of them alone."""
    steps = {action.value: 0 for action in Action}
    orders = Sums()
    later = Sums()
    named: set[Key] = set()
    waiting: dict[Key, Later] = {}
    for film in films:
        for step in film.steps:
            steps[step.action.value] += 1
            if step.orders:
                orders = _plus(orders, step.seconds, step.price)
                named |= {step.purchase} if step.purchase else set()
            elif step.later is not None:
                waiting.setdefault(step.later.purchase, step.later)
    for purchase, one in waiting.items():
        if purchase not in named:  # else it is ordered now, for a step that does not wait
            later = _plus(later, one.seconds, one.price)
    return Totals(steps=steps, spend=orders.spend, seconds=orders.seconds, tasks=orders.tasks, later=later)


def _plus(sums: Sums, seconds: int, price: Decimal | None) -> Sums:
    spend = None if sums.spend is None or price is None else sums.spend + price
    return Sums(spend=spend, seconds=sums.seconds + seconds, tasks=sums.tasks + 1)
