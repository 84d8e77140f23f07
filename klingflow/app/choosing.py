"""Choosing: a take of a shot, or one of the stills that are proposed for a frame of it. What there is to choose from,
what a choice would make stale and cost, and the choice.

What is chosen for has a name: "dawn", or "dawn.first_frame". The choice is `take: N` in the storyboard's own text, of
which no other byte changes, and who chose, why and when in the lock (`picks`). The lock is written first: where the two
are torn apart by a crash, the storyboard asks for nothing new, and a pick of a take that the storyboard does not name
counts nowhere; choosing again brings both.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from klingflow.app import lock_file, planner, project_loader
from klingflow.app.project_loader import LoadedStoryboard, StoryboardFile
from klingflow.app.session import Session, open_session
from klingflow.core.alike import suggestion
from klingflow.core.digest import of_bytes
from klingflow.core.errors import UsageError
from klingflow.core.model import ClipFacts, ClipRecord, Digest, FileStill, Film, Frame, ImageFacts, Shot, ShotId
from klingflow.core.source import nearest, visible
from klingflow.execution import host
from klingflow.io import durable, git
from klingflow.planning import gates
from klingflow.planning.plan import Action, FilmPlan, Plan, Step, totals
from klingflow.storyboard import edit, include, paths, yamlread
from klingflow.storyboard import lock as locks
from klingflow.storyboard.lock import Pick

ATTEMPTS = 5
"""How often a choice begins anew because somebody wrote the storyboard or the lock at the same moment."""
MOST_WHY = 2000
MOST_BY = 200
"""Characters, as the lock's schema has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A clip that can be chosen: one take of a shot."""

    take: int
    clip: Digest
    here: bool
    """Whether this store holds the clip."""
    stale: bool
    """Whether the shot asks for another clip by now: chosen, the next run makes this take anew."""
    facts: ClipFacts
    provider: str
    date: str
    """When it was made, YYYY-MM-DD."""
    cost: Decimal | None
    """USD; None where it is not known."""
    basis: str
    """As `TakeRow.basis`."""
    taken_in: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StillCandidate:
    """A picture that can be chosen: one of the stills proposed for a frame."""

    take: int
    """Its place among them, from 1."""
    clip: Digest
    """SHA-256 of its file; called as that of a clip is, which a pick names too."""
    path: str
    """From the project's root."""
    facts: ImageFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmade:
    """A take that the storyboard asks for and that has no clip yet."""

    take: int
    under_way: bool
    """Whether it was ordered."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A shot of one film, or a frame of it, with what a person can choose from."""

    film: str
    """The film's title, with its matrix values where there are several."""
    variant: str
    shot: ShotId
    frame: str = ""
    """first_frame or last_frame, where a still is chosen; empty for a take of the shot."""
    title: str
    prompt: str
    take: int | None
    """What counts now; None where a still is to be chosen and nobody has."""
    candidates: tuple[Candidate, ...] | tuple[StillCandidate, ...]
    unmade: tuple[Unmade, ...] = ()
    pick: Pick | None
    """What the lock says was chosen: it counts where its take is `take` and its clip is that candidate's."""
    gate: str | None = None
    """None where the shot has no gate; empty where it is open; else what a person does to open it."""

    @property
    def name(self) -> str:
        """What it is chosen by: `dawn=3`, `dawn.first_frame=2`."""
        return _name(self.shot, self.frame)

    @property
    def picked(self) -> bool:
        """Whether a person has chosen the clip that counts."""
        chosen = next((one for one in self.candidates if one.take == self.take), None)
        pick = self.pick
        return chosen is not None and pick is not None and (pick.take, pick.clip) == (self.take, chosen.clip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A clip to be made because of a choice."""

    film: str
    variant: str
    shot: ShotId
    take: int
    reason: str
    price: Decimal | None
    """USD; 0 where it is free, None where no price is known."""
    basis: str
    waits: bool = False
    """Whether the next run does not make it yet: a gate before it is closed, or another still is to be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What follows from a choice, before it is made."""

    shot: ShotId
    frame: str = ""
    """As in Choice."""
    take: int
    was: int | None
    """What counts now; None where a still is chosen for the first time."""
    clips: Mapping[str, Digest]
    """The clip (or picture) that is chosen, by film."""
    stale: tuple[Effect, ...]
    """What is to be made because of it."""
    spared: tuple[Effect, ...]
    """What would be made without the choice, and not with it."""
    run: Decimal | None
    """USD that the next run of the whole storyboard would spend with it; None where a price is not known."""
    state: str
    """Of the files that this was worked out from: a choice can be bound to it (`choose`)."""

    @property
    def name(self) -> str:
        """What is chosen for: "dawn", "dawn.first_frame"."""
        return _name(self.shot, self.frame)

    @property
    def spend(self) -> Decimal | None:
        """USD of `stale`; None where a price is not known."""
        return _sum(self.stale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A choice that was made."""

    consequences: Consequences
    by: str
    """Who chose, as the lock has it."""
    why: str
    date: str
    file: str
    """The storyboard, or the file that it includes, in which the shot is declared; from the project's root."""
    edited: bool
    """Whether its text changed: it did not where the take counted already."""


class Moved(UsageError):
    """What a choice was bound to is not what stands in the files now."""


def _name(shot: ShotId, frame: str) -> str:
    """What is chosen for, as the lock and `--set` have it."""
    return f"{shot}.{frame}" if frame else shot


def choices(session: Session, plan: Plan | None = None) -> tuple[Choice, ...]:
    """Every shot of every film that is made or to be made, in the order of the storyboard, each behind the frames for
    which it proposes stills. `plan` is the session's."""
    plan = plan if plan is not None else session.plan()
    return tuple(
        choice
        for film, film_plan in zip(session.loaded.films, plan.films, strict=True)
        for shot in film.shots
        for choice in (*_stills(session, film, shot), *_takes(session, film, shot, film_plan))
    )


def _stills(session: Session, film: Film, shot: Shot) -> Iterator[Choice]:
    for proposal in shot.proposals():
        if proposal.shot == shot.id:
            yield Choice(
                film=film.label,
                variant=film.variant,
                shot=shot.id,
                frame=proposal.frame,
                title=shot.title,
                prompt=shot.prompt,
                take=proposal.take,
                candidates=tuple(
                    StillCandidate(take=take, clip=facts.digest, path=path, facts=facts)
                    for take, path in enumerate(proposal.stills, 1)
                    for facts in [session.loaded.inputs.stills[path]]
                ),
                pick=session.lock.pick(film.variant, _name(shot.id, proposal.frame)),
            )


def _takes(session: Session, film: Film, shot: Shot, film_plan: FilmPlan) -> Iterator[Choice]:
    if shot.clip is not None:
        return
    steps = {step.take: step for step in film_plan.steps if step.shot == shot.id}
    candidates = tuple(_candidates(session, film, shot, steps))
    made = {one.take for one in candidates}
    yield Choice(
        film=film.label,
        variant=film.variant,
        shot=shot.id,
        title=shot.title,
        prompt=shot.prompt,
        take=shot.take,
        candidates=candidates,
        unmade=tuple(
            Unmade(take=take, under_way=step.action in (Action.RESUME, Action.RESOLVE), reason=step.reason)
            for take, step in sorted(steps.items())
            if take not in made
        ),
        pick=session.lock.pick(film.variant, shot.id),
        gate=_gate(session, film, shot, steps),
    )


def _gate(session: Session, film: Film, shot: Shot, steps: Mapping[int, Step]) -> str | None:
    unapproved = session.lookups.unapproved
    if shot.gate is None or unapproved is None:
        return None
    step = steps.get(shot.take)
    closed = gates.closed(film, shot, step.clip if step is not None else None, session.lock, unapproved)
    return closed.todo if closed is not None else ""


def _candidates(session: Session, film: Film, shot: Shot, steps: Mapping[int, Step]) -> Iterator[Candidate]:
    """The takes that the lock names, and those that the plan finds in the store: a run that goes on keeps each clip
    there before it writes the lock."""
    entries = session.lock.films.get(film.variant, {}).get(shot.id, {})
    for take in sorted({*entries, *(take for take, step in steps.items() if step.clip is not None)}):
        entry, step = entries.get(take), steps.get(take)
        found = step.record if step is not None else None
        record: ClipRecord | None = found if entry is None else entry.record()
        if record is None:
            continue
        # Where the take was made anew since, the clip that answers now is the one to look at.
        if found is not None and step is not None and step.clip is not None:
            record = found
        yield Candidate(
            take=take,
            clip=record.facts.digest,
            here=session.store.holds(record.facts.digest),
            stale=step is not None and step.clip != record.facts.digest,
            facts=record.facts,
            provider=record.provider,
            date=record.date,
            cost=record.cost,
            basis=record.basis,
            taken_in=record.taken_in,
        )


def candidate_file(session: Session, clip: str) -> Path:
    """The file of a candidate, on this machine, to be read. Raises UsageError where no candidate has that digest, or a
    still was exchanged at this moment; StoreError where the store does not hold the clip."""
    for choice in choices(session):
        for one in choice.candidates:
            if one.clip != clip:
                continue
            if isinstance(one, Candidate):
                return session.store.blob(one.clip)
            if session.loaded.project.digest(one.path) == one.clip:
                return session.loaded.project.resolve(one.path)
    raise UsageError(f"no take has the clip {clip[:12]}", "look at what there is to choose from now")


def consider(session: Session, name: str, take: int) -> Consequences:
    """What follows from choosing a take of a shot, or a still for a frame of it. Raises UsageError for one that is not
    there, and where the storyboard cannot say it."""
    loaded = session.loaded
    shot, _, frame = name.partition(".")
    declared = loaded.films[0].by_id()
    if shot not in declared:
        close = nearest(shot, list(declared))
        mend = suggestion(close, shot) if close else f"the shots are {_listed(list(declared))}"
        raise UsageError(f"there is no shot '{visible(shot)}'", mend)
    now = declared[ShotId(shot)]
    plan = session.plan()
    found = [choice for choice in choices(session, plan) if choice.name == name]
    clips = {choice.variant: one.clip for choice in found for one in choice.candidates if one.take == take}
    if frame:
        _refuse_still(now, frame, take, found)
    else:
        _refuse_take(session, now, take, found, clips)
    return _consequences(session, plan, now, frame, take, found[0].take, clips)


def _refuse_still(shot: Shot, frame: str, take: int, found: Sequence[Choice]) -> None:
    if not found:
        frames = [_name(shot.id, one.frame) for one in shot.proposals() if one.shot == shot.id]
        mend = f"stills are proposed for {_listed(frames)}" if frames else "it proposes none: `stills: [a.png, b.png]`"
        raise UsageError(f"shot '{shot.id}' has no stills to choose from for '{visible(frame)}'", mend)
    count = len(found[0].candidates)
    if not 1 <= take <= count:
        raise UsageError(f"{frame} of '{shot.id}' has no still {take}", f"there are {count}: choose 1 to {count}")


def _refuse_take(
    session: Session, now: Shot, take: int, found: Sequence[Choice], clips: Mapping[str, Digest]
) -> None:
    shot = now.id
    if now.clip is not None:
        raise UsageError(f"shot '{shot}' has a clip of its own, {now.clip}", "there are no takes to choose from")
    if not any(choice.candidates for choice in found):
        raise UsageError(f"shot '{shot}' has no take yet", f"klingflow run {session.loaded.relative} makes them")
    if not clips:
        numbers = sorted({one.take for choice in found for one in choice.candidates})
        there = f"there is take {numbers[0]} alone" if len(numbers) == 1 else f"there are takes {_numbers(numbers)}"
        raise UsageError(f"shot '{shot}' has no take {take}", there)
    without = [choice.variant for choice in found if choice.variant not in clips]
    if without:
        raise UsageError(
            f"take {take} of '{shot}' is there for {_listed(list(clips))}, and not for {_listed(without)}: "
            "`take` is one number for all films of the matrix",
            f"make it for all of them first: `takes: {take}` for the shot, and klingflow run",
        )
    if now.takes > 1 and take > now.takes:
        raise UsageError(
            f"take {take} of '{shot}' is there, but `takes: {now.takes}` asks for takes 1 to {now.takes} alone",
            f"raise takes to {take}, or remove it",
        )


def _consequences(
    session: Session, before: Plan, shot: Shot, frame: str, take: int, was: int | None, clips: Mapping[str, Digest]
) -> Consequences:
    loaded, lock = session.loaded, session.lock
    films = tuple(
        replace(film, shots=tuple(_as_chosen(one, shot.id, frame, take) for one in film.shots)) for film in loaded.films
    )
    for variant, clip in clips.items():  # what waits for a gate says what is still to be done once it is picked
        pick = Pick(take=take, clip=clip, by="?", date="")
        lock = locks.with_pick(lock, variant, _name(shot.id, frame), pick)
    after = planner.make(replace(loaded, films=films), lock, session.lookups)
    return Consequences(
        shot=shot.id,
        frame=frame,
        take=take,
        was=was,
        clips=clips,
        stale=_effects(after, before, lambda with_it, without: with_it > without),
        spared=_effects(before, after, lambda _, with_it: not with_it),
        run=totals(after.films).spend,
        state=_state(session),
    )


def _as_chosen(one: Shot, shot: ShotId, frame: str, take: int) -> Shot:
    """A shot of the film as it is when the choice is made."""
    if not frame:
        return replace(one, take=take) if one.id == shot else one

    def chosen(given: F) -> F | FileStill:
        proposal = given.proposal if isinstance(given, FileStill) else None
        if proposal is None or (proposal.shot, proposal.frame) != (shot, frame):
            return given
        return FileStill(proposal.stills[take - 1], replace(proposal, take=take))

    return replace(
        one,
        first_frame=chosen(one.first_frame),
        last_frame=chosen(one.last_frame),
        images=tuple(map(chosen, one.images)),
        elements=tuple(
            replace(
                element,
                frontal_image=chosen(element.frontal_image),
                reference_images=tuple(map(chosen, element.reference_images)),
            )
            for element in one.elements
        ),
    )


F = TypeVar("F", Frame, Frame | None)


def _making(step: Step | None) -> int:
    """Whether a step's clip is to be made: 2 by the next run, 1 later, 0 not at all."""
    if step is None:
        return 0
    return 2 if step.orders else 1 if step.later is not None else 0


def _effects(plan: Plan, other: Plan, counts: Callable[[int, int], bool]) -> tuple[Effect, ...]:
    """What the one plan makes, where that differs from the other as `counts` has it."""
    others = {(film.variant, step.shot, step.take): step for film in other.films for step in film.steps}
    return tuple(
        Effect(
            film=film.label,
            variant=film.variant,
            shot=step.shot,
            take=step.take,
            reason=step.reason,
            price=step.price if step.later is None else step.later.price,
            basis=step.basis if step.later is None else step.later.basis,
            waits=step.later is not None,
        )
        for film in plan.films
        for step in film.steps
        if _making(step) and counts(_making(step), _making(others.get((film.variant, step.shot, step.take))))
    )


def _sum(effects: tuple[Effect, ...]) -> Decimal | None:
    total = Decimal(0)
    for effect in effects:
        if effect.price is None:
            return None
        total += effect.price
    return total


def _state(session: Session) -> str:
    """One text for all that the storyboard says, what its stills show, and what the lock names."""
    texts = sorted(session.loaded.read.items())
    stills = sorted((path, facts.digest) for path, facts in session.loaded.inputs.stills.items())
    return of_bytes(f"{texts}\n{stills}\n{locks.dump(session.lock)}".encode())


def choose(storyboard: StoryboardFile, name: str, take: int, *, why: str = "", state: str | None = None) -> Chosen:
    """Makes a choice. `state` is that of the consequences that a person saw: raises Moved where the storyboard or the
    lock says something else by now. Raises UsageError as `consider` does, and where the text cannot be edited."""
    if len(why) > MOST_WHY:
        raise UsageError(f"the note has {len(why)} characters", f"write at most {MOST_WHY}")
    for _ in range(ATTEMPTS):
        session = open_session(storyboard.load())
        consequences = consider(session, name, take)
        if state is not None and state != consequences.state:
            what = "the storyboard, a still or the lock changed meanwhile"
            raise Moved(what, "look at what it costs now, and choose again")
        with lock_file.held(session.loaded):
            chosen = _write(session, consequences, why.strip())
        if chosen is not None:
            return chosen
    raise UsageError(f"{session.loaded.relative} is being written at this moment", "choose again")


def _write(session: Session, consequences: Consequences, why: str) -> Chosen | None:
    """None where somebody wrote one of the files since the session began."""
    loaded = session.loaded
    if any(variant.startswith("\0") for variant in session.lock.films):
        raise UsageError(
            f"{loaded.lock_path.name} is not there yet: the storyboard was renamed",
            f"klingflow run {loaded.relative} writes it; then choose",
        )
    before = _bytes(loaded.lock_path)
    lock = lock_file.open_lock(loaded)
    if lock != session.lock:
        return None
    file, index, raw = declared_in(loaded, consequences.shot)
    if of_bytes(raw) != loaded.read[file]:
        return None
    edited = raw
    if consequences.take != consequences.was:
        shown = os.path.relpath(loaded.project.root / file)
        frame = (consequences.frame,) if consequences.frame else ()
        after = "stills" if frame else "takes"
        edited = edit.put(shown, raw, ("shots", index, *frame, "take"), consequences.take, after=after)
    by, date = _who(loaded), time.strftime("%Y-%m-%d", time.gmtime())
    for variant, clip in consequences.clips.items():
        pick = Pick(take=consequences.take, clip=clip, by=by, why=why, date=date)
        known = lock.pick(variant, consequences.name)
        if known is not None and (known.take, known.clip, known.by) == (pick.take, pick.clip, by) and not why:
            continue  # chosen already, perhaps with a note
        lock = locks.with_pick(lock, variant, consequences.name, pick)
    target = loaded.project.to_write(file)
    if edited != raw and not os.access(target, os.W_OK):
        raise UsageError(f"{file} is read-only", "check it out, or make it writable; nothing was chosen")
    try:
        durable.replace(loaded.project.to_write(loaded.beside(loaded.lock_path.name)), locks.dump(lock).encode())
        if edited != raw:
            try:
                durable.replace(target, edited, mode=stat.S_IMODE(os.stat(target).st_mode))
            except OSError:
                _restore(loaded.lock_path, before)
                raise
    except OSError as bad:
        raise UsageError(f"{bad.filename or file} cannot be written: {bad.strerror}", "nothing was chosen") from bad
    return Chosen(consequences=consequences, by=by, why=why, date=date, file=file, edited=edited != raw)


def _restore(path: Path, before: bytes | None) -> None:
    if before is None:
        path.unlink(missing_ok=True)
    else:
        durable.replace(path, before)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def declared_in(loaded: LoadedStoryboard, shot: ShotId) -> tuple[str, int, bytes]:
    """The file in which a shot is declared, from the project's root, its place in that file, and the file's bytes: the
    shots of included files come before the storyboard's own."""
    index = loaded.films[0].by_id()[shot].index
    own = loaded.project.read_bytes(loaded.relative, yamlread.MAX_BYTES)
    document, _ = project_loader.parse(loaded.relative, own, "storyboard")
    folder = loaded.relative.rpartition("/")[0]
    files = [paths.under_root(name, folder) for name in include.names(document.data) or ()]
    for file in (*files, loaded.relative):
        raw = own if file == loaded.relative else loaded.project.read_bytes(file, yamlread.MAX_BYTES)
        kind = "storyboard" if file == loaded.relative else "include"
        part, _ = project_loader.parse(file, raw, kind)
        here = len(part.data.get("shots") or ()) if isinstance(part.data, dict) else 0
        if index < here:
            return file, index, raw
        index -= here
    raise UsageError(f"{loaded.relative} was written at this moment", "choose again")


def _who(loaded: LoadedStoryboard) -> str:
    """git's user.name, else the user of this machine."""
    name = visible(" ".join(git.user_name(loaded.project.root).split()) or host.this().who)
    return name[:MOST_BY]


def _numbers(numbers: list[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _listed(names: list[str]) -> str:
    return ", ".join(visible(name) for name in names[:12]) + (", …" if len(names) > 12 else "")
