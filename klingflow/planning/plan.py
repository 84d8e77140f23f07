"""A Plan: what a run would make, reuse, adopt or hold, and why. A plain value; the engine consults nothing else.

Knows no file and no provider: what it must ask (is there a clip for this key? what does it cost?) comes in as
functions and mappings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from klingflow.core.digest import Change
from klingflow.core.model import Digest, Key, ShotId
from klingflow.core.source import Problem


class Action(StrEnum):
    REUSE = "reuse"
    """The lock names a clip for exactly this key."""
    ADOPT = "adopt"
    """The store has a clip for this key that the lock does not name yet (or it is a clip of one's own)."""
    HOLD = "hold"
    """The shot keeps the clip that the lock names, whatever changed."""
    RESUME = "resume"
    """A task for this key was accepted before: collect it, buy nothing."""
    MAKE = "make"
    """Nothing answers this key: a clip has to be made (bought, for a paid provider)."""
    RESOLVE = "resolve"
    """A paid request may or may not have been taken, and nothing but a person can tell."""


SIGN = {
    Action.REUSE: "=",
    Action.ADOPT: "<",
    Action.HOLD: "|",
    Action.RESUME: ">",
    Action.MAKE: "+",
    Action.RESOLVE: "?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One take of one shot."""

    shot: ShotId
    take: int
    counted: bool
    """True for the take that the film uses and that other shots continue."""
    action: Action
    reason: str
    changes: tuple[Change, ...] = ()
    key: Key | None
    """None while a clip that goes in is not made yet: known after the run."""
    clip: Digest | None = None
    """The clip that answers, where it is known."""
    needs: tuple[ShotId, ...] = ()
    after: tuple[ShotId, ...] = ()
    """Those of `needs` whose clip is not known yet."""
    same_as: ShotId | None = None
    """An earlier shot with the same key: it is made once, for both."""
    provider: str
    model: str
    seconds: int
    """Seconds of clip that this step would make; 0 when it makes nothing."""
    price: Decimal | None
    """USD that this step would spend: 0 when it makes nothing or is free; None when no price is known."""
    estimate: bool = False
    """True where the price is klingflow's shipped estimate, not a price that the project states."""
    depth: int = 1
    """Clips in the run of `continues` that ends here, this one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmPlan:
    name: str
    variant: str
    title: str
    steps: tuple[Step, ...]
    warnings: tuple[Problem, ...] = ()
    critical: tuple[ShotId, ...] = ()
    """The chain of shots to make that takes longest; empty when nothing is to be made."""
    wall_s: float = 0.0
    """Expected seconds along it."""

    @property
    def label(self) -> str:
        return f"{self.name} [{self.variant}]" if self.variant else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    steps: dict[str, int] = field(default_factory=dict)
    """Steps by action, every action named, 0 included."""
    spend: Decimal | None = Decimal(0)
    """USD; None when a price is not known."""
    seconds: int = 0
    """Seconds of clip to make."""
    tasks: int = 0
    """Orders to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    storyboard: str
    """The storyboard's path relative to the project root."""
    films: tuple[FilmPlan, ...]
    rehearsal: bool = False
    """The provider was overridden to animatic: the lock is neither read nor written."""
    provider: str | None = None
    """The override of `--provider`, where there is one."""
