"""How long a run takes against the least that any scheduler could need.

    python benchmarks/makespan.py [--films 1000] [--seed 1]

The real engine and the real slots on a simulated clock; buying a clip is to hold a slot for as long as the provider
takes. 1,000 random films (chains, fans, mixes) of 8 to 80 shots, with 1 to 8 in flight. klingflow expects 19 s for each
second of clip. A shot takes just that (`as expected`), or that times what nobody knows beforehand (`with a spread`:
log-normal, 0.25, as in handover.py).

The bound is the larger of the longest chain and of all work over the places in flight, by the durations that came true.
It is not always within reach, not even for who knows them all: `small` are films of 6 to 8 shots, for which the best
order is searched for.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import cast

import virtual

from klingflow.core.model import ClipFacts, ClipRecord, Cut, Digest, Film, Inputs, Key, Shot, ShotFrame, ShotId
from klingflow.core.source import Span
from klingflow.execution import engine
from klingflow.execution.buyer import Buyer
from klingflow.execution.order import Bought, Order
from klingflow.execution.outcome import Result
from klingflow.execution.waiting import Slots
from klingflow.planning.plan import Action, FilmPlan, Step

SPAN = Span("film.yaml", 1, 1, 1, 2)
SECONDS_FOR_ONE = 19.0
LEDGER_S = 0.2
"""Until a shot whose frames are there asks for a place in flight: it looks into the ledger first."""


class FirstCome(Slots):
    """The same places in flight, given to whoever asks first."""

    def hold(self, priority: float, expected_s: float) -> AbstractAsyncContextManager[None]:
        return super().hold(0.0, 0.0)


class Shop:
    """Stands in for the Buyer: a clip takes a place in flight and its time."""

    open: Mapping[object, object] = {}

    def __init__(self, slots: Slots, takes: Mapping[ShotId, float]) -> None:
        self._slots = slots
        self._takes = takes

    async def do(self, call: Callable[..., object], *arguments: object) -> object:
        return call(*arguments)

    async def obtain(self, order: Order) -> Bought:
        await asyncio.sleep(LEDGER_S)
        async with self._slots.hold(order.priority, order.expected_s):
            await asyncio.sleep(self._takes[order.shot.id])
        facts = ClipFacts(
            digest=Digest(order.key), bytes=1, width=16, height=16, frames=120, duration="5", rate="24", audio=False
        )
        clip = ClipRecord(
            key=order.key, facts=facts, provider="hiapi", model="", task=None, cost=None, date="", parts={}, inputs={}
        )
        return Bought(result=Result.MADE, clip=clip)


class NoClips:
    def holds(self, record: ClipRecord) -> bool:
        return False

    def locked(self, key: Key) -> ClipRecord | None:
        return None

    def own(self, shot: Shot, key: Key) -> ClipRecord:
        raise AssertionError("no shot has a clip of its own")


def random_film(rng: random.Random, shots: int) -> Film:
    """Each shot continues the one before, an earlier one (a fan), or nothing; some end on another one's frame too."""
    chain, fan, two = rng.choice(((0.9, 0.0, 0.0), (0.3, 0.6, 0.0), (0.6, 0.2, 0.2), (0.5, 0.0, 0.1)))
    made: list[Shot] = []
    for index in range(shots):
        frames: list[ShotFrame | None] = [None, None]
        draw = rng.random()
        if index and draw < chain + fan:
            frames[0] = ShotFrame(made[-1 if draw < chain else rng.randrange(index)].id)
            if rng.random() < two:
                frames[1] = ShotFrame(rng.choice(made).id, "first")
        made.append(
            Shot(
                id=ShotId(f"s{index:03}"),
                index=index,
                prompt=f"shot {index}",
                first_frame=frames[0],
                last_frame=frames[1],
                duration=rng.randint(3, 15),
                provider="hiapi",
            )
        )
    cut = tuple(Cut(shot.id) for shot in made)
    return Film(name="film", matrix={}, title="film", shots=tuple(made), cut=cut, where=lambda shot, name: SPAN)


def expect(shot: Shot) -> float:
    return shot.duration * SECONDS_FOR_ONE


def makespan(film: Film, slots: Slots, takes: Mapping[ShotId, float]) -> float:
    steps = tuple(
        Step(
            shot=shot.id,
            take=1,
            is_active_take=True,
            action=Action.MAKE,
            reason="new shot",
            key=None,
            needs=shot.needs(),
            provider="hiapi",
            model="",
            seconds=shot.duration,
            price=Decimal(0),
        )
        for shot in film.shots
    )

    async def main() -> float:
        await engine.run(
            FilmPlan(name=film.name, variant="", title=film.title, steps=steps),
            film,
            buyer=cast(Buyer, Shop(slots, takes)),
            known={},
            inputs=Inputs(stills={}, clips={}),
            clips=NoClips(),
            expect=expect,
            price=lambda shot: Decimal(0),
            frozen=False,
            stop=asyncio.Event(),
            emit=lambda event: None,
        )
        return asyncio.get_running_loop().time()

    return virtual.run(main)


def chain(film: Film, takes: Mapping[ShotId, float]) -> dict[ShotId, float]:
    """Seconds from the start of each shot to the end of the longest chain that hangs on it."""
    tails = dict.fromkeys((shot.id for shot in film.shots), 0.0)
    for shot in reversed(film.shots):
        tails[shot.id] += takes[shot.id]
        for need in shot.needs():
            tails[need] = max(tails[need], tails[shot.id])
    return tails


def bound(film: Film, in_flight: int, takes: Mapping[ShotId, float]) -> float:
    return max(*chain(film, takes).values(), sum(takes.values()) / in_flight)


def best(film: Film, in_flight: int, takes: Mapping[ShotId, float]) -> float:
    """The shortest makespan there is, by search: at each end of a shot, every choice of what begins or waits."""
    needs = {shot.id: set(shot.needs()) for shot in film.shots}
    tails = chain(film, takes)
    least = float("inf")

    def search(now: float, done: frozenset[ShotId], running: tuple[tuple[float, ShotId], ...], after: ShotId) -> None:
        """`after`: at one moment shots begin in the order of their names, so that no choice is tried twice."""
        nonlocal least
        todo = [name for name in needs if name not in done and all(name != one for _, one in running)]
        busy = sum(end - now for end, _ in running)
        rest = max((now + tails[name] for name in todo), default=now)
        ends = max((end for end, _ in running), default=now)
        if max(rest, ends, now + (busy + sum(takes[name] for name in todo)) / in_flight) >= least - 1e-9:
            return
        if not todo:
            least = ends
            return
        ready = [name for name in todo if needs[name] <= done]
        if len(running) < in_flight:
            for name in sorted(ready, key=lambda name: -tails[name]):
                if name > after:
                    search(now, done, (*running, (now + takes[name], name)), name)
        if running:
            end, first = min(running)
            search(end, done | {first}, tuple(one for one in running if one[1] != first), ShotId(""))

    search(0.0, frozenset(), (), ShotId(""))
    return least


def told(name: str, ratios: Sequence[float]) -> None:
    ordered = sorted(ratios)
    mean, most = sum(ordered) / len(ordered), ordered[int(len(ordered) * 0.95)]
    within = sum(ratio <= 1.03 for ratio in ordered) / len(ordered)
    print(f"  {name:<42} {mean:6.3f}   {most:8.3f}   {ordered[-1]:6.3f}   {within:9.0%}", flush=True)


Case = tuple[Film, int, Mapping[ShotId, float]]


def drawn(rng: random.Random, least: int, most: int, spread: float) -> Case:
    film = random_film(rng, rng.randint(least, most))
    takes = {shot.id: expect(shot) * rng.lognormvariate(0, spread) for shot in film.shots}
    return film, rng.choice((1, 2, 3, 4, 4, 4, 6, 8)), takes


def compare(rng: random.Random, films: int, spread: float) -> None:
    cases = [drawn(rng, 8, 80, spread) for _ in range(films)]
    for name, kind in (("klingflow", Slots), ("first come, first served", FirstCome)):
        told(name, [makespan(film, kind(most), takes) / bound(film, most, takes) for film, most, takes in cases])
    small = [drawn(rng, 6, 8, spread) for _ in range(films)]
    optimum = [best(*case) for case in small]
    bounds = [bound(*case) for case in small]
    ours = [makespan(film, Slots(most), takes) for film, most, takes in small]
    told("small: klingflow", [one / least for one, least in zip(ours, bounds, strict=True)])
    told("small: the best there is", [one / least for one, least in zip(optimum, bounds, strict=True)])
    told("small: klingflow over the best there is", [one / least for one, least in zip(ours, optimum, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=1000, help="random films (default: 1000)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    for title, spread in (("as expected", 0.0), ("with a spread", 0.25)):
        print(f"\n  {'over the lower bound, ' + title:<42} {'mean':>6}   {'95 in 100':>8}   {'worst':>6}   within 3%")
        compare(rng, given.films, spread)


if __name__ == "__main__":
    main()
