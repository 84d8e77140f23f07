"""The takes of each shot that the lock knows: a run keeps every one, so that a person can go back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from klingflow.app.session import Session
from klingflow.core.model import Digest, Film, Shot, ShotId
from klingflow.storyboard.lock import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeRow:
    """One take of one shot."""

    film: str
    """The film's title, with its matrix values where there are several."""
    variant: str
    """Which film of a matrix; empty without one."""
    shot: str
    take: int
    counts: bool
    """Whether the film uses it, and other shots continue it: it is the shot's take, and not stale."""
    stale: bool
    """Whether the shot asks for another clip by now: the next run makes this take anew."""
    clip: str
    """The SHA-256 of the clip."""
    here: bool
    """Whether this store holds the clip."""
    seconds: Decimal
    """The clip's length."""
    provider: str
    date: str
    """When it was made, YYYY-MM-DD."""
    cost: Decimal | None
    """USD; None where it is not known."""
    basis: str
    """What that is, where the project did not state the price: "estimate", or "list price of 2026-11-27"."""
    taken_in: str
    """Where a clip that was taken in by hand came from, and who did it; empty for one that a run made."""


def takes(session: Session) -> tuple[TakeRow, ...]:
    """Every take in the lock of the shots that the storyboard has now, in its order."""
    planned = session.plan().films
    return tuple(
        _row(session, film, shot, take, entry, wanted)
        for film, film_plan in zip(session.loaded.films, planned, strict=True)
        for wanted in [{(step.shot, step.take): step.clip for step in film_plan.steps}]
        for shot in film.shots
        for take, entry in sorted(session.lock.films.get(film.variant, {}).get(shot.id, {}).items())
    )


def _row(
    session: Session,
    film: Film,
    shot: Shot,
    take: int,
    entry: Entry,
    wanted: Mapping[tuple[ShotId, int], Digest | None],
) -> TakeRow:
    stale = wanted.get((shot.id, take), entry.clip) != entry.clip
    return TakeRow(
        film=film.label,
        variant=film.variant,
        shot=shot.id,
        take=take,
        counts=take == shot.take and not stale,
        stale=stale,
        clip=entry.clip,
        here=session.store.holds(entry.clip),
        seconds=Decimal(entry.duration),
        provider=entry.provider,
        date=entry.date,
        cost=entry.cost,
        basis=entry.basis,
        taken_in=entry.taken_in,
    )
