"""How a step of a run ended, and what is told while it goes on. Plain values for progress, lock and exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from klingflow.core.model import ClipRecord, Key, ShotId
from klingflow.providers.base import FailureClass


class Result(StrEnum):
    MADE = "made"
    REUSED = "reused"
    ADOPTED = "adopted"
    HELD = "held"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A shot that it needs did not end well: no error of its own."""
    IN_DOUBT = "in-doubt"
    OPEN = "open"
    """A task is being made: run again to collect."""
    STOPPED = "stopped"
    """Interrupted before anything was bought."""


GOOD = frozenset({Result.MADE, Result.REUSED, Result.ADOPTED, Result.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a step did not end well. `next` is what a person does about it."""

    kind: FailureClass
    message: str
    code: str = ""
    next: str = ""
    charged: bool | None = False
    """Whether it cost money; None: the provider does not say."""
    limit: bool = False
    """True: klingflow itself refused to spend (a limit of the run)."""
    frozen: bool = False
    """True: klingflow itself refused to make anything (`run --frozen`, `film`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    shot: ShotId
    take: int
    counted: bool
    result: Result
    key: Key | None = None
    clip: ClipRecord | None = None
    spent: Decimal = Decimal(0)
    """USD booked by this step in this run, failures and doubts included."""
    failure: Failure | None = None
    because: ShotId | None = None
    """SKIPPED: the shot that did not end well."""

    @property
    def good(self) -> bool:
        return self.result in GOOD


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, as one line of `run --json` (schemas/events.schema.json)."""

    event: str
    film: str = ""
    shot: ShotId | None = None
    take: int | None = None
    data: Mapping[str, object] = field(default_factory=dict)


Emit = Callable[[Event], None]
