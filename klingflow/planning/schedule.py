"""A run as a whole: a purchase that several steps share is made once, and when everything is there.

`planning.plan` decides each step by itself; what `arranged` adds depends on which steps run together, so it is worked
out again for a selection. Knows no clock: it adds up what each step is expected to take.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise

from klingflow.core.errors import UsageError
from klingflow.core.model import Film, Inputs, Key, ShotFrame, ShotId
from klingflow.planning import graph
from klingflow.planning.plan import Action, FilmPlan, Plan, PlanLookups, Shortcut, Step, make, totals
from klingflow.storyboard.lock import Lock


def arranged(plan: Plan, films: Sequence[Film], in_flight: Callable[[str], int]) -> Plan:
    """The plan with each purchase in it once, its expected times and the shortcuts. `films` are the plan's, in its
    order; `in_flight` is how many tasks a provider makes side by side."""
    shared = _once(plan.films)
    providers = sorted({step.provider for film in shared for step in film.steps if step.expect_s})
    most = {name: in_flight(name) for name in providers}
    ready = _ready(shared, most)
    timed = tuple(_timed(film, one, at) for film, one, at in zip(films, shared, ready, strict=True))
    return replace(plan, films=timed, in_flight=most)


def only(
    plan: Plan, named: Mapping[str, Collection[ShotId]], films: Sequence[Film], in_flight: Callable[[str], int]
) -> Plan:
    """The plan with only the named shots of each variant in it, arranged anew: where a step was the same purchase as
    one that is left out, it orders now. Raises UsageError where one needs a clip that is not there and is not named."""
    kept = []
    for film_plan in plan.films:
        names = named.get(film_plan.variant, ())
        waiting = {step.shot for step in film_plan.steps if step.is_active_take and step.clip is None}
        for step in film_plan.steps:
            missing = [need for need in step.needs if need in waiting and need not in names]
            if step.shot in names and missing and step.action not in (Action.HOLD, Action.WAIT):
                raise UsageError(
                    f"{step.shot} needs a frame of {missing[0]}, whose clip is not there and which is not selected",
                    f"select it too: --select '+{step.shot}'",
                )
        kept.append(replace(film_plan, steps=tuple(step for step in film_plan.steps if step.shot in names)))
    dropped = tuple(clip for clip in plan.dropped if clip.gone or clip.shot in named.get(clip.variant, ()))
    return arranged(replace(plan, films=tuple(kept), dropped=dropped), films, in_flight)


def prices_anew(films: Sequence[Film], inputs: Inputs, lookups: PlanLookups) -> dict[str, Decimal | None]:
    """USD for each film, by variant, were nothing there yet; None where a price is not known. What films share is in
    the first of them alone, as in every plan."""
    nothing = replace(
        lookups, expect=lambda shot: 0.0, find=lambda key: None, open_order=lambda key, shot: None, unapproved=None
    )
    free = [replace(film, shots=tuple(replace(shot, hold=False) for shot in film.shots)) for film in films]
    plans = _once(make(film, inputs=inputs, lock=Lock(), lookups=nothing) for film in free)
    return {plan.variant: totals([plan]).spend for plan in plans}


def _once(films: Iterable[FilmPlan]) -> tuple[FilmPlan, ...]:
    """The films with every purchase at the first step that wants it; the others say which one that is."""
    first: dict[Key, tuple[str, Step]] = {}
    out = []
    for film in films:
        steps = []
        for step in film.steps:
            alone = step.alone or step
            if alone.purchase is not None:
                variant, orderer = first.setdefault(alone.purchase, (film.variant, alone))
                if orderer is not alone:
                    alone = _same(alone, orderer, None if variant == film.variant else variant)
            steps.append(alone)
        out.append(replace(film, steps=tuple(steps)))
    return tuple(out)


def _same(step: Step, orderer: Step, variant: str | None) -> Step:
    """The step whose purchase another one orders; `variant` is of that one's film where it is another."""
    name = orderer.shot if variant is None or orderer.shot != step.shot else ""
    place = " ".join(part for part in (name, f"[{variant}]" if variant is not None else "") if part)
    return replace(
        step,
        reason=f"same purchase as {place}",
        same_as=orderer.shot,
        same_as_film=variant,
        seconds=0,
        price=Decimal(0),
        basis="",
        alone=step,
    )


@dataclass(slots=True, eq=False)
class _Task:
    """One purchase, or one order that is collected."""

    provider: str
    seconds: float
    needs: set[int] = field(default_factory=set)
    """The tasks whose clips go in."""
    begun: bool = False
    """It is in flight already."""
    tail: float = 0.0
    """Seconds from its start to the end of the longest chain that hangs on it: the longest goes first."""
    ends: float = 0.0


Place = tuple[str, ShotId, int]
"""A film's label, a shot and a take."""
OVERDUE = 0.1
"""The part of its expected time that a task is still given once that is over."""


def time_left(
    films: Sequence[FilmPlan],
    in_flight: Mapping[str, int],
    ended: Collection[Place],
    running: Mapping[Place, float],
    pace: float = 1.0,
) -> float:
    """The expected seconds until every clip of a run is there, played through from where it stands now: `ended` are the
    steps that are over, `running` those in flight, each with the seconds since it was ordered; a clip takes `pace`
    seconds for each that was expected of it."""
    return max(_ready(films, in_flight, ended, running, pace), default=0.0)


def _ready(
    films: Sequence[FilmPlan],
    in_flight: Mapping[str, int],
    ended: Collection[Place] = (),
    running: Mapping[Place, float] | None = None,
    pace: float = 1.0,
) -> list[float]:
    """For each film, the expected seconds until all its clips are there, with so many tasks in flight a provider.

    The run's own rule, played through: of the steps that wait for nothing, the one with the most work behind it starts
    when its provider has room.
    """
    running = running or {}
    bought = {
        step.purchase or step.key
        for film in films
        for step in film.steps
        if ended and (film.label, step.shot, step.take) in ended
    } - {None}
    tasks: list[_Task] = []
    numbers: dict[Key, int] = {}
    of_film: list[dict[tuple[ShotId, int], int]] = []
    for film in films:
        mine: dict[tuple[ShotId, int], int] = {}
        for step in film.steps:
            place, name = (film.label, step.shot, step.take), step.purchase or step.key
            if not step.expect_s or place in ended or name in bought:
                continue
            number = len(tasks)
            if name is not None:
                number = numbers.setdefault(name, number)
            if number == len(tasks):
                tasks.append(_Task(step.provider, step.expect_s * pace))
            if place in running:
                task = tasks[number]
                task.begun = True
                task.seconds = max(task.seconds * OVERDUE, task.seconds - running[place])
            mine[step.shot, step.take] = number
        takes = {step.shot: step.take for step in film.steps if step.is_active_take}
        active = {shot: mine[shot, take] for shot, take in takes.items() if (shot, take) in mine}
        for step in film.steps:
            if (step.shot, step.take) in mine:
                tasks[mine[step.shot, step.take]].needs |= {active[need] for need in step.after if need in active}
        of_film.append(mine)
    _play(tasks, in_flight)
    return [max((tasks[number].ends for number in mine.values()), default=0.0) for mine in of_film]


def _play(tasks: Sequence[_Task], in_flight: Mapping[str, int]) -> None:
    """Sets when each task ends."""
    after: list[list[int]] = [[] for _ in tasks]
    for number, task in enumerate(tasks):
        for need in task.needs:
            after[need].append(number)
    for number in reversed(_in_order(tasks, after)):
        tasks[number].tail = tasks[number].seconds + max((tasks[next_].tail for next_ in after[number]), default=0.0)
    left = [len(task.needs) for task in tasks]
    room = dict(in_flight)
    waiting: dict[str, list[tuple[bool, float, int]]] = {name: [] for name in room}
    running: list[tuple[float, int]] = []
    now = 0.0

    def wants(number: int) -> None:
        heapq.heappush(waiting[tasks[number].provider], (not tasks[number].begun, -tasks[number].tail, number))

    for number, count in enumerate(left):
        if not count:
            wants(number)
    while True:
        for name, queue in waiting.items():
            while queue and room[name] > 0:
                number = heapq.heappop(queue)[2]
                room[name] -= 1
                tasks[number].ends = now + tasks[number].seconds
                heapq.heappush(running, (tasks[number].ends, number))
        if not running:
            return
        now, number = heapq.heappop(running)
        room[tasks[number].provider] += 1
        for next_ in after[number]:
            left[next_] -= 1
            if not left[next_]:
                wants(next_)


def _in_order(tasks: Sequence[_Task], after: Sequence[Sequence[int]]) -> list[int]:
    """Every task after those that it needs."""
    left = [len(task.needs) for task in tasks]
    out = [number for number, count in enumerate(left) if not count]
    for number in out:
        for next_ in after[number]:
            left[next_] -= 1
            if not left[next_]:
                out.append(next_)
    return out


def _timed(film: Film, plan: FilmPlan, ready: float) -> FilmPlan:
    busy: dict[ShotId, float] = {}
    for step in plan.steps:
        if step.expect_s:
            busy[step.shot] = max(step.expect_s, busy.get(step.shot, 0.0))
    if not busy:
        return replace(plan, critical=(), chain_s=0.0, wall_s=0.0, shortcuts=())
    chain, chain_s = graph.critical(film, busy)
    # Where places in flight are short, another order of waiting saves nothing that could be promised.
    shortcuts = _shortcuts(film, busy, chain, chain_s) if ready - chain_s < 1 else ()
    return replace(plan, critical=chain, chain_s=chain_s, wall_s=ready, shortcuts=shortcuts)


def _shortcuts(
    film: Film, busy: Mapping[ShotId, float], critical: Sequence[ShotId], wall: float
) -> tuple[Shortcut, ...]:
    """Only a shot on the longest chain, whose predecessor declares a still to end with, can shorten the wait."""
    shots = film.by_id()
    out = []
    for before, name in pairwise(critical):
        first, still = shots[name].first_frame, shots[before].last_frame
        if first != ShotFrame(before) or still is None or isinstance(still, ShotFrame) or before not in busy:
            continue
        other = replace(shots[name], first_frame=still)
        changed = replace(film, shots=tuple(other if shot.id == name else shot for shot in film.shots))
        saves = wall - graph.critical(changed, busy)[1]
        if saves >= 1:
            out.append(Shortcut(name, before, saves))
    return tuple(sorted(out, key=lambda found: -found.saves_s))
