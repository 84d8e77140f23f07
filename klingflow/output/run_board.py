"""A run while it goes on, as text: a row a chain, what waits for what, what is spent, how long it will still take.

A chain is a run of clips of which each begins with the one before it, as far as this run makes them; where two shots
continue one, the longer way goes on in the row and the other has a row that waits for it. Knows no terminal and no
clock: `now` is any clock's seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median

from klingflow.core.model import ShotId
from klingflow.core.source import columns, inert, visible
from klingflow.execution.outcome import Event
from klingflow.output.words import count, duration, padded, shortened
from klingflow.planning import schedule
from klingflow.planning.plan import Action, Plan, Step, totals
from klingflow.planning.price import money

Place = tuple[str, ShotId, int]
"""A film's label, a shot and a take."""

MOST_ROWS = 16
"""However high the terminal is: what a person reads at a glance."""
_AT_ONCE = 500
"""Clips of a run whose expected time is worked out with every order and every clip."""
_NAME = 22
"""Columns of a row's name, at most."""
_SHOT = 28
"""Columns of a shot's name in a row, at most."""
_BAR = 8
_MAKES = frozenset({Action.MAKE, Action.RESUME, Action.RESOLVE})
_ENDS = {"step-failed": "failed", "step-skipped": "skipped", "step-in-doubt": "in doubt"}


@dataclass(slots=True, eq=False)
class _Clip:
    place: Place
    name: str
    provider: str
    expect_s: float
    needs: tuple[Place, ...]
    """The clips that it waits for, of those that this run makes."""
    state: str = ""
    """Empty before it is asked for; then "in line", and from its order on what the provider says."""
    since: float | None = None
    """When it was ordered."""
    fraction: float | None = None
    ended: str = ""
    """Empty while it is not; then "made", or what became of it."""


@dataclass(slots=True, eq=False)
class _Chain:
    clips: list[_Clip]

    @property
    def left(self) -> list[_Clip]:
        return [clip for clip in self.clips if not clip.ended]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the board: text of so many columns, and what it is ("running", "waiting", "ended", "sum")."""

    text: str
    kind: str


@dataclass(slots=True)
class RunBoard:
    """What is known of a run from its plan and its events."""

    plan: Plan
    began: float
    ascii: bool = False
    """Whether the place can show no other characters."""
    _clips: dict[Place, _Clip] = field(init=False)
    _chains: list[_Chain] = field(init=False)
    _joining: dict[str, float] = field(init=False, default_factory=dict)
    _paces: list[float] = field(init=False, default_factory=list)
    """Of each clip that was made, the seconds it took for each that was expected."""
    _spent: Decimal = field(init=False, default=Decimal(0))
    _whole: Decimal | None = field(init=False)
    """USD that the plan would spend; None where it is not known."""
    _left: tuple[float, float] | None = field(init=False, default=None)
    """The expected seconds that were left, and when that was worked out."""
    _moved: bool = field(init=False, default=False)
    """Whether something was ordered or ended since."""

    def __post_init__(self) -> None:
        self._clips = _clips(self.plan)
        self._chains = _chains(self._clips)
        self._whole = totals(self.plan.films).spend

    @property
    def size(self) -> int:
        """How many clips the run makes or collects."""
        return len(self._clips)

    def see(self, event: Event, now: float) -> None:
        """Takes in one event."""
        if event.event == "film":
            fraction = event.data.get("fraction")
            self._joining.pop(event.film, None)
            if isinstance(fraction, int | float):
                self._joining[event.film] = float(fraction)
            return
        clip = self._clips.get((event.film, event.shot or ShotId(""), event.take or 1))
        if clip is None:
            return
        match event.event:
            case "step-started":
                clip.state = "in line"
            case "submitted":
                price = event.data.get("price")
                self._spent += Decimal(str(price)) if isinstance(price, int | float) else 0
                clip.since, clip.state = now, "ordered"
            case "progress":
                fraction = event.data.get("fraction")
                clip.fraction = float(fraction) if isinstance(fraction, int | float) else None
                clip.state = inert(visible(" ".join(str(event.data["state"]).split())))
                clip.since = now if clip.since is None else clip.since
            case "step-done":
                clip.ended = str(event.data["result"])
                if clip.since is not None and clip.expect_s:
                    self._paces.append((now - clip.since) / clip.expect_s)
            case kind if kind in _ENDS:
                clip.ended = _ENDS[kind]
            case _:
                return
        self._moved |= event.event != "progress"

    def _left_s(self, now: float) -> float:
        """The expected seconds until all clips are there; in a large run it is worked out once a second at most."""
        if self._left is None or (self._moved and (self.size <= _AT_ONCE or now - self._left[1] >= 1)):
            ended = {place for place, clip in self._clips.items() if clip.ended}
            going = ((place, clip.since) for place, clip in self._clips.items() if not clip.ended)
            running = {place: now - since for place, since in going if since is not None}
            left = schedule.time_left(self.plan.films, self.plan.in_flight, ended, running, self._pace())
            self._left = left, now
            self._moved = False
        return max(1.0, self._left[0] - (now - self._left[1]))

    def _pace(self) -> float:
        """What this run's own clips say of how long one takes."""
        return median(self._paces) if self._paces else 1.0

    # -- as text

    def summary(self, now: float, width: int = 200) -> str:
        """`12 of 200 clips, 4 in flight, 1 failed, $6.72 of $112.00, about 41 min left`; where that is too wide
        `12/200, 4 in flight, 1 failed, $6.72, 41 min left`."""
        ended = Counter(clip.ended for clip in self._clips.values() if clip.ended)
        bad = {word: ended.pop(word, 0) for word in _ENDS.values()}
        running = sum(clip.since is not None and not clip.ended for clip in self._clips.values())
        done = sum(ended.values())
        parts = [(f"{done} of {count(self.size, 'clip')}", f"{done}/{self.size}")]
        parts += [(f"{running} in flight", f"{running} going")] if running else []
        parts += [(f"{number} {word}",) * 2 for word, number in bad.items() if number]
        if self._whole is None or self._spent > self._whole:
            parts += [(f"{money(self._spent)} spent", money(self._spent))] if self._spent else []
        elif self._whole:
            parts.append((f"{money(self._spent)} of {money(self._whole)}", money(self._spent)))
        if any(not clip.ended for clip in self._clips.values()):
            left = duration(self._left_s(now))
            parts.append((f"about {left} left", f"{left} left"))
        long = ", ".join(one for one, _ in parts)
        return long if columns(long) <= width else ", ".join(one for _, one in parts)

    def rows(self, now: float, width: int, height: int) -> list[Row]:
        """The board in at most `height` lines of `width` columns: the chains, running ones first where not all find
        room, then how many more there are, what waits for a person, and the sums."""
        below = [Row(text, "sum") for text in (*self._joined(), *self._decisions(), self.summary(now, width - 2))]
        room = max(1, min(MOST_ROWS, height - len(below) - 1))
        shown, rest = self._chains, []
        if len(shown) > room:
            going = sorted((chain for chain in self._chains if chain.left), key=_urgency)
            shown, rest = going[: room - 1], going[room - 1 :]
        name = min(_NAME, max((columns(_name(chain)) for chain in shown), default=0))
        rows = [self._row(chain, now, width, name) for chain in shown]
        rows += [Row(_rest(rest), "waiting")] if rest else []
        return [Row(_cut(f"  {row.text}", width, self.ascii), row.kind) for row in (*rows, *below)]

    def _row(self, chain: _Chain, now: float, width: int, name: int) -> Row:
        done = sum(bool(clip.ended) for clip in chain.clips)
        head = f"{padded(shortened(_name(chain), name), name)}  {done:>2}/{len(chain.clips)}"
        left = chain.left
        if not left:
            return Row(f"{head}  {' ' * _BAR}  {_ended(chain)}", "ended")
        clip = left[0]
        alone = len(chain.clips) == 1
        if clip.since is None:
            after = [self._clips[need].name for need in clip.needs if not self._clips[need].ended]
            what = f"waits for {_listed(after)}" if after else f"in line at {clip.provider}" if clip.state else "starts"
            said, kind, bar = (what if alone else f"{clip.name} {what}"), "waiting", " " * _BAR
        else:
            took = now - clip.since
            expected = clip.expect_s * self._pace()
            about = f" of about {duration(expected)}" if expected >= 1 else ""
            fraction = clip.fraction if clip.fraction is not None else min(0.95, took / (expected or 1e9))
            said = f"{'' if alone else f'{clip.name}: '}{clip.state}, {duration(took)}{about}"
            kind, bar = "running", self._bar(fraction)
        row = f"{head}  {bar}  {said}"
        then = "".join(f" > {one.name}" for one in left[1:])
        if then and columns(row) + columns(then) + 2 > width:
            then = f" > {left[1].name} +{len(left) - 2}" if len(left) > 2 else then
        return Row(row + then if columns(row) + columns(then) + 2 <= width else row, kind)

    def _joined(self) -> Iterator[str]:
        for film, fraction in self._joining.items():
            yield f"joining {film}  {self._bar(fraction)}  {fraction:.0%}"

    def _bar(self, fraction: float) -> str:
        done = round(_BAR * min(1.0, max(0.0, fraction)))
        full, empty = "#-" if self.ascii else "━─"
        return full * done + empty * (_BAR - done)

    def _decisions(self) -> list[str]:
        """What waits for a person, in one line."""
        waits = Counter(
            f"the {step.waits_for[0].frame} of {step.waits_for[0].shot}"
            if step.waits_for[0].frame
            else step.waits_for[0].shot
            for film in self.plan.films
            for step in film.steps
            if step.waits_for
        )
        if not waits:
            return []
        number = sum(waits.values())
        verb = "waits" if number == 1 else "wait"
        return [f"{count(number, 'clip')} {verb} for a person's decision on {_listed(list(waits))}"]


def _clips(plan: Plan) -> dict[Place, _Clip]:
    """Every clip that a run of the plan makes or collects, in the plan's order."""
    out: dict[Place, _Clip] = {}
    for film in plan.films:
        active = {step.shot: step.take for step in film.steps if step.is_active_take and step.action in _MAKES}
        variant = f" [{film.variant}]" if film.variant and len(plan.films) > 1 else ""
        for step in film.steps:
            if step.action in _MAKES:
                place = (film.label, step.shot, step.take)
                needs = tuple((film.label, need, active[need]) for need in step.after if need in active)
                name = shortened(inert(visible(_take(step) + variant)), _SHOT)
                out[place] = _Clip(place, name, step.provider, step.expect_s, needs)
    return out


def _take(step: Step) -> str:
    return step.shot if step.is_active_take and step.take == 1 else f"{step.shot} take {step.take}"


def _chains(clips: Mapping[Place, _Clip]) -> list[_Chain]:
    """Each clip in one chain. Of those that continue a clip, the one with the most work behind it goes on in its row;
    rows are in the order in which their first clips stand in the plan."""
    after: dict[Place, list[_Clip]] = {place: [] for place in clips}
    left = {place: len(clip.needs) for place, clip in clips.items()}
    for clip in clips.values():
        for need in clip.needs:
            after[need].append(clip)
    order = [clip for place, clip in clips.items() if not left[place]]
    for clip in order:
        for follower in after[clip.place]:
            left[follower.place] -= 1
            if not left[follower.place]:
                order.append(follower)
    tail: dict[Place, float] = {}
    for clip in reversed(order):
        behind = max((tail[follower.place] for follower in after[clip.place]), default=0.0)
        tail[clip.place] = clip.expect_s + 1e-6 + behind
    of: dict[Place, _Chain] = {}
    for clip in order:
        if clip.place in of:
            continue
        chain = of[clip.place] = _Chain([clip])
        while True:
            onward = [follower for follower in after[chain.clips[-1].place] if follower.place not in of]
            if not onward:
                break
            longest = max(onward, key=lambda follower: tail[follower.place])
            chain.clips.append(longest)
            of[longest.place] = chain
    return list(dict.fromkeys(of[place] for place in clips if place in of))


def _urgency(chain: _Chain) -> int:
    """Running chains come first, then those in line, then those that wait for a clip."""
    clip = chain.left[0]
    return 0 if clip.since is not None else 1 if clip.state else 2


def _rest(chains: Sequence[_Chain]) -> str:
    kinds = Counter(_urgency(chain) for chain in chains)
    words = ((0, "running"), (1, "in line"), (2, "waiting for a clip"))
    said = ", ".join(f"{kinds[kind]} {word}" for kind, word in words if kinds[kind])
    return f"and {count(len(chains), 'more chain')}: {said}"


def _name(chain: _Chain) -> str:
    first, last = chain.clips[0].name, chain.clips[-1].name
    return first if first == last else f"{first} > {last}"


def _ended(chain: _Chain) -> str:
    """How the clips of a chain ended: `made`, `2 made, 1 failed`."""
    ended = Counter(clip.ended for clip in chain.clips)
    if len(ended) == 1:
        return next(iter(ended))
    return ", ".join(f"{number} {word}" for word, number in ended.items())


def _listed(names: Sequence[str], most: int = 2) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if more else " and ".join(names)


def _cut(text: str, width: int, ascii: bool) -> str:
    """At most so many columns: what is too long ends with an ellipsis."""
    if columns(text) <= width:
        return text
    end = "..." if ascii else "…"
    while columns(text) > width - len(end):
        text = text[:-1]
    return text + end
