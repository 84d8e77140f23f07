"""What a purchase waits for: a gate that is closed, or a still that nobody has chosen; in words and as a value.

A shot with `gate: approved` has an open gate when the clip of its take that counts is the very clip that a person
picked, and that pick is approved: it stands in the lock at the approved git ref too (app.approvals knows which). What
continues the shot, directly or through other shots, is not bought before. Where several stills are proposed for a
frame, nothing that needs it is bought until one of them is chosen in the storyboard. Knows no git and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from klingflow.core.model import Digest, Film, Shot, ShotId
from klingflow.storyboard.lock import Lock, Pick

Unapproved = Callable[[str, ShotId, Pick], str]
"""Of the pick of a shot, by the film's variant: what is still to be done before it is approved, in half a sentence
("take 2 is picked and not in origin/main yet: merge it"); empty where it is approved."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that a person decides before a step may order its clip."""

    shot: ShotId
    """The shot of which a take is to be approved, or for a frame of which a still is to be chosen."""
    frame: str = ""
    """first_frame or last_frame, where a still is to be chosen; else empty."""
    todo: str = field(default="", compare=False)
    """What a person does, in half a sentence."""


def closed(film: Film, shot: Shot, clip: Digest | None, lock: Lock, unapproved: Unapproved) -> Wait | None:
    """The gate of a shot while it is closed; None where it is open, or has none. `clip` is that of the take that
    counts, None where it is not made yet."""
    if shot.gate is None:
        return None
    pick = lock.pick(film.variant, shot.id)
    if clip is None:
        todo = "make it, pick a take with `klingflow takes`, merge it"
    elif pick is None:
        todo = "pick a take with `klingflow takes`, merge it"
    elif pick.take != shot.take:
        todo = f"take {pick.take} was picked, and take {shot.take} counts: pick it with `klingflow takes`, merge it"
    elif pick.clip != clip:
        todo = "the clip is another one than was picked: look at it, pick it with `klingflow takes`, merge it"
    else:
        todo = unapproved(film.variant, shot.id, pick)
    return Wait(shot.id, todo=todo) if todo else None


def undecided(shot: Shot) -> tuple[Wait, ...]:
    """The choices of stills that nobody has made yet and that the shot depends on."""
    return tuple(
        Wait(one.shot, one.frame, f"choose one of {len(one.stills)} stills")
        for one in shot.proposals()
        if one.take is None
    )


def reason(shot: ShotId, waits: Sequence[Wait]) -> str:
    """Why a step waits: what a person does first, and the names of what comes after that."""
    first, *others = waits
    if first.frame:
        of = "" if first.shot == shot else f" of {first.shot}"
        said = f"{first.todo} for {first.frame}{of}: klingflow takes"
    else:
        said = f"waits for the approval of {first.shot}: {first.todo}"
    return said + (f"; then for {_listed(others)}" if others else "")


def stands_in(choices: Sequence[Wait]) -> str:
    """What is said of a clip that is there for the first of stills of which none is chosen."""
    return f"{choices[0].todo} for {choices[0].frame} of {choices[0].shot}; until then the first stands in"


def brief(shot: ShotId, waits: Sequence[Wait]) -> str:
    """The same without what a person does, where that is said already."""
    first, *others = waits
    if first.frame:
        of = "" if first.shot == shot else f" of {first.shot}"
        said = f"waits for the choice of {first.frame}{of}"
    else:
        said = f"waits for the approval of {first.shot}"
    return said + (f", then for {_listed(others)}" if others else "")


_MOST = 3


def _listed(waits: Sequence[Wait]) -> str:
    names = [f"the {wait.frame} of {wait.shot}" if wait.frame else wait.shot for wait in waits]
    names = names if len(names) <= _MOST else [*names[: _MOST - 1], f"{len(names) - _MOST + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def together(waits: Iterable[Wait]) -> tuple[Wait, ...]:
    """Each once, in the order in which they come."""
    return tuple(dict.fromkeys(waits))
