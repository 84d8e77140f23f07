"""How a step of a run ended, and what is reported while it goes on. Plain values for progress, lock and exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from klingflow.core.errors import DETACHED, IN_DOUBT, SHOTS_FAILED, SpendRefused, UsageError, WouldMake
from klingflow.core.model import ClipRecord, Key, ShotId
from klingflow.providers.base import FailureClass
from klingflow.providers.failure import RULES


class Result(StrEnum):
    """How one take of one shot ended: the plan's words for its actions, in the past tense."""

    MADE = "made"
    RESUMED = "resumed"
    """An order that was under way before the run brought it."""
    ADOPTED = "adopted"
    REUSED = "reused"
    HELD = "held"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A shot that it needs did not end well: no error of its own."""
    WAITING = "waiting"
    """A person decides something first, as its plan says (Action.WAIT): nothing was ordered."""
    IN_DOUBT = "in-doubt"
    OPEN = "being-made"
    """A task is being made: run again to collect."""
    STOPPED = "stopped"
    """Interrupted before anything was bought."""


GOOD = frozenset({Result.MADE, Result.RESUMED, Result.ADOPTED, Result.REUSED, Result.HELD})


class RunFailure(StrEnum):
    """What klingflow itself found, where a provider's answer (FailureClass) is not the reason."""

    NOT_SENT = "not-sent"
    """The request certainly never left."""
    LIMIT = "limit"
    """A limit of the run, or of the project, refused to spend."""
    NO_KEY = "no-key"
    """The provider's key is not set in the environment."""
    CLIP_ABSENT = "clip-absent"
    """The plan names a clip, and the store does not hold it."""
    FROZEN = "frozen"
    """A free clip that is drawn again came out otherwise than the plan names it, and this run makes nothing new."""
    HELD_MISSING = "held-missing"
    """A held shot whose clip the lock does not name."""
    INPUT = "input"
    """An image or a frame that goes into the request cannot be had."""
    STALE_PLAN = "stale-plan"
    """What the plan found is not so any more: what goes in changed, or the task that it would collect has ended."""
    STORE = "store"
    """The store or the ledger cannot be read or written."""
    DAMAGED_LEDGER = "damaged-ledger"
    """The records of the order cannot be true."""
    OTHER_ACCOUNT = "other-account"
    """The task belongs to another account, or another address, than the one in the environment."""
    TASK_UNKNOWN = "task-unknown"
    """The provider does not know the task any more, though it took the order."""
    DOWNLOAD = "download"
    """A finished clip could not be downloaded."""
    IN_DOUBT = "in-doubt"
    """A paid request may or may not have been taken."""
    NOT_ACCEPTED = "not-accepted"
    """A clip came and is in the store, but it is not what was ordered: a person decides."""
    STUCK = "stuck"
    """Still being made when this run stopped waiting; run again to collect."""


_EXIT_CODES = {
    RunFailure.LIMIT: SpendRefused.code,
    RunFailure.NO_KEY: UsageError.code,
    RunFailure.FROZEN: WouldMake.code,
    RunFailure.IN_DOUBT: IN_DOUBT,
    RunFailure.STUCK: DETACHED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a step did not end well. `next` is what a person does about it."""

    kind: FailureClass | RunFailure
    message: str
    code: str = ""
    next: str = ""
    charged: bool | None = False
    """Whether it cost money; None: not known."""

    @property
    def exit_code(self) -> int:
        """The command line's, where nothing else went wrong."""
        if isinstance(self.kind, RunFailure):
            return _EXIT_CODES.get(self.kind, SHOTS_FAILED)
        return RULES[self.kind].exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one step of the plan ended."""

    shot: ShotId
    take: int
    is_active_take: bool
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
        """Whether the take has its clip."""
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
