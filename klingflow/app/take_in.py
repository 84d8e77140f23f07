"""Takes in a clip that was made by hand, at a seller's console: it answers the key of a shot as one that a run bought.

It is entered in the ledger as an order is, so that nobody buys the same take meanwhile and a paid task in flight is
never shadowed: an intent that says what it is, in the place where a run would write its own; then the clip's record;
then `stored`. Killed in between, it is finished by taking in the same file again, and until then the shot stops in
doubt. Sends nothing and needs no key.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from klingflow.app import outputs, planner, services, settle
from klingflow.app.project_loader import StoryboardFile
from klingflow.app.session import Session, open_session
from klingflow.core.alike import suggestion
from klingflow.core.errors import MediaError, StoreError, UsageError
from klingflow.core.model import ANIMATIC, ClipFacts, ClipRecord, Digest, Film, Shot
from klingflow.core.redact import redact
from klingflow.core.source import nearest
from klingflow.execution import host
from klingflow.execution.outcome import Outcome, Result
from klingflow.execution.wording import KEY_SHOWN
from klingflow.io import ledger
from klingflow.io.store import Store
from klingflow.planning import pictures
from klingflow.planning.job import TRANSITIONS, Job, Kind, State
from klingflow.planning.plan import OWN, Action, Step
from klingflow.storyboard.lock import Lock

MOST_NOTE = 500
"""Characters of a note: it stands in the lock."""
_PIXELS = {"720p": 1280 * 720, "1080p": 1920 * 1080, "4K": 3840 * 2160}
"""Of a clip of 16:9; one of another shape has about as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """A clip that answers a take, and what is on record of it."""

    shot: str
    take: int
    films: tuple[str, ...]
    """The films whose shot it is: with a matrix perhaps several."""
    key: str
    clip: str
    """The SHA-256 of the clip."""
    seconds: Decimal
    size: str
    """Width x height: "1920x1080"."""
    rate: str
    """Frames a second."""
    provider: str
    model: str
    cost: Decimal | None
    """USD; None where it is not known."""
    taken_in: str
    """Where it came from, and who took it in; empty where a run had brought this very clip before."""
    new: bool
    """False where this very clip was on record already."""
    lock: str | None
    """The lock that names it, from the project's root; None where that is left to the next run."""
    differs: tuple[str, ...]
    """In what it is not what the shot asks for, as sentences."""


def take_in(
    storyboard: StoryboardFile,
    file: str,
    shot: str,
    *,
    take: int | None,
    key: str | None,
    cost: Decimal | None,
    note: str,
    force: bool,
) -> TakenIn:
    """As `Storyboard.take_in`, which says what each argument is."""
    if len(note) > MOST_NOTE:
        raise UsageError(f"the note has {len(note)} characters", f"write up to {MOST_NOTE}")
    if cost is not None and not (cost.is_finite() and cost >= 0):
        raise UsageError(f"{cost} is not an amount of dollars", "write it like 0.56; nothing where it is not known")
    session = open_session(storyboard.load())
    foreign = planner.foreign_store(session.loaded.config)
    if foreign is not None:
        raise UsageError(*foreign)
    path = shlex.quote(storyboard.path)
    meant = _meant(session, shot, take, key, path)
    film, step = meant[0]
    _refuse_other_kinds(step, path)
    asked = replace(film.by_id()[step.shot], take=step.take)
    clip = _readable(file)
    known = step.record
    digest = _digest(clip)
    if known is not None and known.facts.digest != digest:
        raise _has_another(session, meant, known, asked)
    if known is None:
        _refuse_open(session, step, digest, path)
    facts = known.facts if known is not None else _facts(clip, file, asked, digest, force=force)
    services.claim_store(session.loaded)
    if session.store.put(clip) != digest:
        raise UsageError(f"{file} changed while it was taken in", "take it in again when it is written whole")
    record = known
    if record is None:
        record = _entered(session, film, step, asked, facts, _origin(clip, note), cost, path)
    _finish(session.store, record)
    return TakenIn(
        shot=step.shot,
        take=step.take,
        films=tuple(each.label for each, _ in meant),
        key=record.key,
        clip=record.facts.digest,
        seconds=Decimal(facts.duration),
        size=f"{facts.width}x{facts.height}",
        rate=facts.rate,
        provider=record.provider,
        model=record.model,
        cost=record.cost,
        taken_in=record.taken_in,
        new=known is None,
        lock=_locked(session, meant, record),
        differs=tuple(_differs(session, film, asked, facts, record.key)),
    )


# -- the take that is meant -------------------------------------------------------------------------------------------


def _meant(session: Session, shot: str, take: int | None, key: str | None, path: str) -> list[tuple[Film, Step]]:
    """The steps of one key that the shot has, in one film or in several."""
    pairs = [
        (film, step)
        for film, planned in zip(session.loaded.films, session.plan().films, strict=True)
        for step in planned.steps
    ]
    of_shot = [(film, step) for film, step in pairs if step.shot == shot]
    if not of_shot:
        names = tuple(dict.fromkeys(str(step.shot) for _, step in pairs))
        close = nearest(shot, names)
        mend = suggestion(close, shot) if close else f"the shots are {', '.join(names[:12])}"
        raise UsageError(f"there is no shot '{shot}' in {session.loaded.path}", mend)
    takes = [(film, step) for film, step in of_shot if (step.is_active_take if take is None else step.take == take)]
    if not takes:
        asks = ", ".join(dict.fromkeys(str(step.take) for _, step in of_shot))
        raise UsageError(f"shot '{shot}' asks for take {asks}, not for {take}", f"write `take: {take}` for it first")
    found = [(film, step) for film, step in takes if (step.key or "").startswith(key or "")]
    if not found:
        raise UsageError(f"shot '{shot}' has no key that begins with {key}", f"`klingflow plan {path} --json` has them")
    keys = dict.fromkeys(step.key for _, step in found)
    if len(keys) > 1:
        listed = ", ".join(f"{film.label} (--key {(step.key or 'not known yet')[:KEY_SHOWN]})" for film, step in found)
        raise UsageError(f"shot '{shot}' asks for another clip in each film: {listed}", "name one with --key")
    return found


def _refuse_other_kinds(step: Step, path: str) -> None:
    """Raises UsageError where no clip from elsewhere can answer the step."""
    name = f"shot '{step.shot}'"
    if step.provider == OWN:
        raise UsageError(f"{name} brings a clip of its own", "name the file there: `clip: FILE`")
    if step.action is Action.HOLD:
        raise UsageError(f"{name} is held: it keeps the clip that the lock names", "take `hold` out first")
    if step.provider == ANIMATIC:
        raise UsageError(
            f"{name} is drawn by {step.provider}, and what was made elsewhere is no drawing of it",
            "name the seller of its model, with `provider:` in the storyboard or --provider here; or bring the file as "
            "footage of your own, with `clip: FILE`",
        )
    if step.key is None and step.action is Action.WAIT:
        raise UsageError(f"{name} has no key yet that a clip could answer: {step.reason}", "decide that first")
    if step.key is None:
        raise UsageError(
            f"{name} {step.reason.partition(',')[0]}, which has no clip yet: so it has no key that a clip could answer",
            f"run or take in {step.after[0]} first: klingflow run {path} --select {step.after[0]}",
        )


def _has_another(
    session: Session, meant: Sequence[tuple[Film, Step]], known: ClipRecord, shot: Shot
) -> UsageError:
    """The take has another clip, which stays what it is."""
    where = f"clips/{known.key[:KEY_SHOWN]}….json in {session.store.where}"
    for film, step in meant:
        if session.lock.entry(film.variant, step.shot, step.take) is not None and step.action is Action.REUSE:
            where = f"{session.loaded.lock_path}: {step.shot}, take {step.take}"
    whose = f"taken in on {known.date}" if known.taken_in else f"of {known.provider}, {known.date}"
    return UsageError(
        f"shot '{shot.id}', take {shot.take}, has another clip: {known.facts.digest[:KEY_SHOWN]} {whose} ({where})",
        f"write `take: {max(shot.take, shot.takes) + 1}` for the shot, and take this file in as that",
    )


def _refuse_open(session: Session, step: Step, digest: Digest, path: str) -> None:
    """Raises UsageError where an order for the key is under way or in doubt: what may be paid for is not shadowed. A
    take-in of this very clip that was interrupted is none."""
    if step.action is Action.MAKE:
        return
    assert step.key is not None
    if step.action is Action.RESUME:
        mend = f"klingflow run {path}"
    else:
        mend = f"settle it with klingflow resolve first: klingflow status {path} shows how"
    try:
        job = ledger.job(session.store, step.key)
    except StoreError:
        job = Job(key=step.key)  # its record cannot be read, as the step's reason says
    if step.action is Action.WAIT and job.state is not State.INTENDED:
        return
    if job.state is State.INTENDED and job.taken_in is not None:
        if job.taken_in == digest:
            return
        mend = f"take that file in again; or klingflow resolve {path} {step.shot} --not-bought"
    where = f"ledger/{step.key[:KEY_SHOWN]}… in {session.store.where}"
    raise UsageError(f"shot '{step.shot}', take {step.take}: {step.reason} ({where})", mend)


# -- the file ---------------------------------------------------------------------------------------------------------


def _readable(file: str) -> Path:
    if "://" in file:
        raise UsageError(f"{redact(file)} is an address", "download the clip, and name the file")
    clip = Path(file)
    if not clip.is_file():
        what = "is no file" if os.path.lexists(clip) else "is not there"
        raise UsageError(f"{file} {what}", "name a clip: an MP4, MOV, MKV or WebM file")
    return clip


def _digest(clip: Path) -> Digest:
    try:
        with clip.open("rb") as file:
            return Digest(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as bad:
        raise UsageError(f"{clip} cannot be read: {bad.strerror}", "mend its permissions") from bad


def _facts(clip: Path, file: str, shot: Shot, digest: Digest, *, force: bool) -> ClipFacts:
    """What is known of the file. Raises UsageError where it is no clip, or one that a run would not take from the
    provider; `force` takes it where a film can be made of it all the same."""
    from klingflow.io import media  # the media library is loaded only when a clip is looked at

    try:
        return media.check(clip, seconds=None if force else shot.ordered_s, digest=digest, as_is=force)
    except MediaError as bad:
        what, mend = bad.what.replace(clip.name, file), bad.mend
    try:
        media.check(clip, seconds=None, digest=digest, as_is=True)
    except MediaError:
        raise UsageError(what, mend or "convert it with ffmpeg: H.264 in an MP4") from None
    mend = mend or "bring the clip that the shot asks for, or write into the shot what this one is"
    raise UsageError(f"shot '{shot.id}': {what}", f"{mend}; --force takes it as it is")


def _differs(session: Session, film: Film, shot: Shot, facts: ClipFacts, key: str) -> list[str]:
    out = []
    if shot.ordered_s is not None and not facts.lasts(shot.ordered_s):
        out.append(f"it lasts {facts.duration} s, and the shot {shot.ordered_s} s")
    pixels = facts.width * facts.height
    near = min(_PIXELS, key=lambda name: _times(_PIXELS[name], pixels))
    if near != shot.resolution or _times(_PIXELS[near], pixels) > 2:
        out.append(f"it is {facts.width}x{facts.height}, and the shot asks for {shot.resolution}")
    wanted, shape = pictures.shapes_of(film, session.loaded.inputs).get(shot.id), Fraction(facts.width, facts.height)
    if wanted is not None and not pictures.alike(wanted, shape):
        out.append(f"its shape is {pictures.said(shape)}, and that of the shot {pictures.said(wanted)}")
    if facts.audio != shot.sound:
        out.append(f"it has {'' if facts.audio else 'no '}sound, and the shot wants {'it' if shot.sound else 'none'}")
    if film.rate is not None and Fraction(facts.rate) != film.rate:
        out.append(f"it has {facts.rate} frames a second, and the film {film.rate}")
    others = [
        other
        for shots in session.lock.films.values()
        for other, takes in shots.items()
        if any(entry.clip == facts.digest and entry.key != key for entry in takes.values())
    ]
    return out + [f"it is the clip of shot '{other}', too" for other in dict.fromkeys(others)]


def _times(one: int, other: int) -> float:
    return max(one, other) / min(one, other)


# -- on record --------------------------------------------------------------------------------------------------------


def _origin(clip: Path, note: str) -> str:
    """Where a clip came from: "lamp.mp4, by ren: made in HiAPI's console"; names and notes may be no Unicode."""
    text = f"{clip.name}, by {host.this().who}" + (f": {note}" if note else "")
    return redact(text.encode("utf-8", "replace").decode())


def _entered(
    session: Session,
    film: Film,
    step: Step,
    shot: Shot,
    facts: ClipFacts,
    origin: str,
    cost: Decimal | None,
    path: str,
) -> ClipRecord:
    """Enters the clip in the ledger and in the store's records; `_finish` is left. Raises UsageError where somebody was
    quicker."""
    assert step.key is not None
    detail = {
        **settle.described(session, film, shot, step.key),
        "provider": step.provider,
        "model": step.model,
        "price": None if cost is None else str(cost),
        "basis": "",  # a person says it
        "account": None,
        "taken_in": facts.digest,
        "by": "person",
        "why": f"taken in by hand: {origin}",
        **host.this().signature(),
    }
    job = ledger.job(session.store, step.key)
    if job.state is not State.INTENDED or job.taken_in != facts.digest:
        quicker = UsageError(
            f"somebody else has just begun with shot '{shot.id}'; nothing was taken in", f"klingflow status {path}"
        )
        allowed = Kind.INTENT in TRANSITIONS[job.state]
        if not allowed or not ledger.write(session.store, job.next(Kind.INTENT, _now_ms(), detail)):
            raise quicker
    parts = detail["parts"]
    assert isinstance(parts, dict)
    record = ClipRecord(
        key=step.key,
        facts=facts,
        provider=step.provider,
        model=step.model,
        task=None,
        cost=cost,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        parts=parts,
        inputs={},
        taken_in=origin,
    )
    return ledger.keep(session.store, record)


def _finish(store: Store, record: ClipRecord) -> None:
    """Says in the ledger that a take-in is over, where it does not say so yet."""
    job = ledger.job(store, record.key)
    intent = job.last(Kind.INTENT)
    if intent is not None and job.state is State.INTENDED and job.taken_in == record.facts.digest:
        by = {name: intent.detail.get(name) for name in ("by", "who", "why")}
        ledger.write(store, job.next(Kind.STORED, _now_ms(), {"clip": record.facts.digest, **by}))


def _locked(session: Session, meant: Sequence[tuple[Film, Step]], record: ClipRecord) -> str | None:
    """Brings the clip into the lock, and nothing else: what other shots have in it stays. Returns the lock's path. Left
    to the next run (None) is a lock beside overridden variables, and one whose storyboard was renamed."""
    loaded = session.loaded
    fresh = [(film, step) for film, step in meant if step.action is not Action.REUSE]
    if fresh and (loaded.variables or (session.lock.films and not loaded.lock_path.exists())):
        return None
    outcomes = [
        Outcome(
            shot=step.shot,
            take=step.take,
            is_active_take=step.is_active_take,
            result=Result.ADOPTED,
            key=record.key,
            clip=record,
        )
        for _, step in fresh
    ]
    if fresh:
        outputs.write_lock(loaded, Lock(), [(film, (o,)) for (film, _), o in zip(fresh, outcomes, strict=True)])
    return loaded.beside(loaded.lock_path.name)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
