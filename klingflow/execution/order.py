"""One clip to be had: what it is, whom it is for, and how the attempt to have it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from klingflow.core.model import ClipRecord, Digest, Film, Key, Shot, ShotId
from klingflow.execution.outcome import Failure, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    film: Film
    shot: Shot
    key: Key
    parts: Mapping[str, object]
    clips: Mapping[ShotId, Digest]
    """The clips of the shots that it needs."""
    stills: Mapping[str, Digest]
    """The project's images and videos by path, as they were planned."""
    provider: str
    model: str
    price: Decimal | None
    """USD, by today's prices."""
    basis: str = ""
    """As `planning.plan.Step.basis`."""
    expected_s: float
    priority: float
    """Seconds of work that hang on it along the graph; the highest goes first."""
    may_order: bool
    """Whether the plan decided that a request which may cost money can be sent for it. False: what is there already is
    collected, and nothing else."""
    only: Digest | None = None
    """The one clip that will do, where nothing else may be kept for it; None: what was ordered, as it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """How an order ended. `clip` is there when `result` is MADE or ADOPTED, `failure` otherwise."""

    result: Result
    clip: ClipRecord | None = None
    failure: Failure | None = None
    spent: Decimal = Decimal(0)
    """USD that this run booked for it, failures and doubts included."""
