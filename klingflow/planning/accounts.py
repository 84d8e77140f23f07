"""What a plan means for the purse: who bills for what, what was paid, what would not be used any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from klingflow.core.model import Key, ShotId
from klingflow.planning.plan import Dropped, FilmPlan
from klingflow.storyboard.lock import Lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The orders of a plan that one provider bills at one rate."""

    provider: str
    resolution: str
    sound: bool
    clips: int
    seconds: int
    amount: Decimal | None
    """USD; None where no price is known."""
    rate: Decimal | None
    """USD a second."""
    basis: str
    """As `Step.basis`."""


def bills(films: Iterable[FilmPlan]) -> tuple[Bill, ...]:
    """What the orders of a plan come to, the most costly first; what is free is left out."""
    orders: dict[tuple[str, str, bool, Decimal | None, str], list[tuple[int, Decimal | None]]] = {}
    for film in films:
        for step in film.steps:
            if step.orders and step.price != 0:
                rate = None if step.price is None else step.price / step.seconds
                place = step.provider, step.resolution, step.sound, rate, step.basis
                orders.setdefault(place, []).append((step.seconds, step.price))
    out = [
        Bill(
            provider=provider,
            resolution=resolution,
            sound=sound,
            clips=len(each),
            seconds=sum(seconds for seconds, _ in each),
            amount=None if rate is None else sum((price for _, price in each if price is not None), Decimal(0)),
            rate=rate,
            basis=basis,
        )
        for (provider, resolution, sound, rate, basis), each in orders.items()
    ]
    return tuple(sorted(out, key=lambda bill: (bill.amount is not None, -(bill.amount or 0))))


def paid(lock: Lock) -> Decimal:
    """USD that the clips in the lock have cost, a clip that several shots use once."""
    costs: dict[Key, Decimal] = {}
    for shots in lock.films.values():
        for takes in shots.values():
            for entry in takes.values():
                costs.setdefault(entry.key, entry.cost or Decimal(0))
    return sum(costs.values(), Decimal(0))


def dropped(films: Sequence[FilmPlan], lock: Lock, shots: Collection[tuple[str, ShotId]]) -> tuple[Dropped, ...]:
    """The clips in the lock that cost money and that no step uses any more. `shots` are all that the storyboard has, by
    variant: takes of theirs that are not planned stay in the lock, for somebody to go back to."""
    used = {step.key for film in films for step in film.steps}
    planned = [(film.variant, step.shot, step.take) for film in films for step in film.steps]
    gone = [
        (variant, shot, take)
        for variant, named in lock.films.items()
        for shot, takes in named.items()
        for take in takes
        if (variant, shot) not in shots
    ]
    out: dict[Key, Dropped] = {}
    for variant, shot, take in [*planned, *gone]:
        entry = lock.entry(variant, shot, take)
        if entry is not None and entry.cost and entry.key not in used:
            is_gone = (variant, shot) not in shots
            film = variant.lstrip("\0")
            clip = Dropped(variant=film, shot=shot, take=take, cost=entry.cost, gone=is_gone)
            out.setdefault(entry.key, clip)
    return tuple(out.values())
