"""A draft of a film: what is there of it, joined. Makes nothing, buys nothing, and changes no lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from klingflow.app import outputs
from klingflow.app.local_clips import LocalClips
from klingflow.app.session import Session
from klingflow.core.errors import WouldMake
from klingflow.core.model import ClipRecord, Film, Shot, ShotId
from klingflow.execution.outcome import Emit
from klingflow.planning.plan import Action, Step
from klingflow.storyboard.lock import Entry

_THERE = (Action.REUSE, Action.ADOPT, Action.HOLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftShot:
    """A shot of a draft that is not as the film will have it."""

    shot: ShotId
    take: int | None
    """The take whose clip is shown; None of a shot that has none, for which a card stands."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftFilm:
    """A draft that was written."""

    film: str
    """The film's name, with its variant where there are several."""
    path: Path
    frames: int
    seconds: float
    size: str
    """ "1920x1080"."""
    shots: int
    """Places in the film."""
    stale: tuple[DraftShot, ...]
    """Shots that are shown as the lock has them, and that a run would make anew."""
    missing: tuple[DraftShot, ...]


def draft(session: Session, emit: Emit) -> tuple[DraftFilm, ...]:
    """Joins a draft of every film of a storyboard: `film.draft.mp4` beside the film. Raises WouldMake where nothing of
    any is there, KlingflowError where a clip cannot be read."""
    plans = session.plan().films
    found = [
        (film, _found(session, film, {step.shot: step for step in plan.steps if step.is_active_take}))
        for film, plan in zip(session.loaded.films, plans, strict=True)
    ]
    if not any(one.there for _, one in found):
        raise WouldMake(
            "no shot has a clip here: there is nothing to make a draft of",
            "`klingflow run --provider animatic` draws a rehearsal, free",
        )
    return tuple(_joined(session, film, one, emit) for film, one in found)


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is of a film."""

    there: dict[ShotId, ClipRecord] = field(default_factory=dict)
    made_of: dict[ShotId, Mapping[str, str | int | bool]] = field(default_factory=dict)
    """Of the stale ones of these."""
    stale: list[DraftShot] = field(default_factory=list)
    missing: list[DraftShot] = field(default_factory=list)


def _found(session: Session, film: Film, steps: Mapping[ShotId, Step]) -> _Found:
    shots = film.by_id()
    out = _Found()
    for name in dict.fromkeys(cut.shot for cut in film.cut):
        shot, step = shots[name], steps[name]
        clip = _as_planned(session, film, shot, step)
        if clip is not None:
            out.there[name] = clip
        elif (kept := _in_lock(session, film, shot)) is not None:
            take, entry = kept
            out.there[name], out.made_of[name] = entry.record(), entry.parts
            why = step.reason if take == shot.take else f"take {shot.take} is not there"
            out.stale.append(DraftShot(shot=name, take=take, reason=why))
        else:
            lost = step.action in _THERE
            why = "its clip is not in this store" if lost else f"not made yet ({step.reason})"
            out.missing.append(DraftShot(shot=name, take=None, reason=why))
    return out


def _joined(session: Session, film: Film, found: _Found, emit: Emit) -> DraftFilm:
    missing = {one.shot: one.reason for one in found.missing}
    takes = {one.shot: one.take for one in found.stale if one.take is not None}
    path, joined = outputs.deliver_draft(
        session.loaded, film, found.there, found.made_of, takes, missing, session.lock, session.store, emit
    )
    return DraftFilm(
        film=film.label,
        path=path,
        frames=joined.frames,
        seconds=float(joined.duration),
        size=f"{joined.width}x{joined.height}",
        shots=len(film.cut),
        stale=tuple(found.stale),
        missing=tuple(found.missing),
    )


def _as_planned(session: Session, film: Film, shot: Shot, step: Step) -> ClipRecord | None:
    """The clip that the film would have, if it is at hand."""
    if step.action not in _THERE or step.clip is None:
        return None
    known = step.record
    entry = session.lock.entry(film.variant, shot.id, shot.take)
    if known is None and entry is not None and entry.clip == step.clip:
        known = entry.record()
    if known is not None and session.store.holds(step.clip):
        return known
    if shot.clip is not None and step.key is not None:
        return LocalClips(session.loaded, session.store, session.lock).own(shot, step.key)
    return None


def _in_lock(session: Session, film: Film, shot: Shot) -> tuple[int, Entry] | None:
    """The clip that the lock names for the shot's take, else for its latest one. A rehearsal has none there."""
    if session.loaded.rehearsal:
        return None
    takes = session.lock.films.get(film.variant, {}).get(shot.id, {})
    for take in sorted(takes, key=lambda take: (take == shot.take, take), reverse=True):
        if session.store.holds(takes[take].clip):
            return take, takes[take]
    return None
