"""A paid task's life: records (facts, written once), states (computed), and the table between them.

A Record is one file of the ledger. A Job is what a key's records say, read in order. The table is the whole law:
a record that it does not allow is refused before it is written. Knows no file, no clock, no provider.

    state      record      -> state
    NEW        intent      -> INTENDED    about to be sent: bytes, endpoint and key are on disk
    INTENDED   accepted    -> ACCEPTED    the provider gave a task id: it is paid
    INTENDED   refused     -> REFUSED     a definite no, or certainly never sent: nothing was bought
    INTENDED   abandoned   -> ABANDONED   a person looked and said: not bought
    ACCEPTED   stored      -> STORED      the clip is in the store
    ACCEPTED   failed      -> FAILED      the provider ended the task without a clip, or the clip is lost
    ACCEPTED   abandoned   -> ABANDONED   a person gave the task up
    ABANDONED  accepted    -> ACCEPTED    the answer came after all: a paid id is never thrown away
    REFUSED, FAILED, ABANDONED  intent -> INTENDED    the next attempt

A record that two runners wrote about the same event (both saw the task accepted) has one name, so one of them wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from klingflow.core.model import Key, TaskId


class Kind(StrEnum):
    INTENT = "intent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    STORED = "stored"
    ABANDONED = "abandoned"


class State(StrEnum):
    NEW = "new"
    INTENDED = "intended"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    STORED = "stored"
    ABANDONED = "abandoned"


TABLE: Mapping[State, Mapping[Kind, State]] = {
    State.NEW: {Kind.INTENT: State.INTENDED},
    State.INTENDED: {
        Kind.ACCEPTED: State.ACCEPTED,
        Kind.REFUSED: State.REFUSED,
        Kind.ABANDONED: State.ABANDONED,
    },
    State.ACCEPTED: {Kind.STORED: State.STORED, Kind.FAILED: State.FAILED, Kind.ABANDONED: State.ABANDONED},
    State.ABANDONED: {Kind.ACCEPTED: State.ACCEPTED, Kind.INTENT: State.INTENDED},
    State.REFUSED: {Kind.INTENT: State.INTENDED},
    State.FAILED: {Kind.INTENT: State.INTENDED},
    State.STORED: {},
}


class IllegalRecord(ValueError):
    """The table does not allow this record now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One file of the ledger: `ledger/KEY/ATTEMPT.N-KIND.json`.

    `at_ms` is UTC milliseconds since 1970 by the writer's clock. `detail` is JSON and differs by kind:

    intent     provider, model, method, path, body (base64 of the exact bytes), token (idempotency key or ""),
               price (text or null), seconds, storyboard, shot, take, who, host, pid, boot, inputs {role: digest}, parts
    accepted   task, by ("answer", "replay", "person")
    refused    class, code, message, sent (false: it certainly never left)
    failed     class, code, message, charged (bool or null)
    stored     clip (digest)
    abandoned  by, why
    """

    key: Key
    attempt: int
    n: int
    kind: Kind
    at_ms: int
    detail: Mapping[str, object]

    @property
    def name(self) -> str:
        return f"{self.attempt}.{self.n}-{self.kind}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the records of one key say."""

    key: Key
    state: State
    attempt: int
    """0 before the first intent."""
    records: tuple[Record, ...]
    """All legal records in order."""

    def last(self, kind: Kind) -> Record | None:
        """The newest record of a kind in the current attempt."""
        return next((r for r in reversed(self.records) if r.kind is kind and r.attempt == self.attempt), None)

    @property
    def task(self) -> TaskId | None:
        record = self.last(Kind.ACCEPTED)
        return TaskId(str(record.detail["task"])) if record else None

    def next(self, kind: Kind, at_ms: int, detail: Mapping[str, object]) -> Record:
        """The record to write next. Raises IllegalRecord where the table does not allow it."""
        if kind not in TABLE[self.state]:
            raise IllegalRecord(f"{kind} after {self.state} is not a step in a task's life (key {self.key[:12]})")
        if kind is Kind.INTENT:
            return Record(key=self.key, attempt=self.attempt + 1, n=0, kind=kind, at_ms=at_ms, detail=detail)
        n = 1 + max(r.n for r in self.records if r.attempt == self.attempt)
        return Record(key=self.key, attempt=self.attempt, n=n, kind=kind, at_ms=at_ms, detail=detail)


def fold(key: Key, records: Iterable[Record]) -> Job:
    """Reads a key's records in order of (attempt, n).

    Two records with one number were written by two runners that did not see each other's, about one event. The one
    that has something paid in it counts (`accepted`, then `stored`), and the other is left out: an `abandoned` that was
    written blind must not throw away the task of an `accepted`. So is every record that the table does not allow.
    """
    state, attempt, n, kept = State.NEW, 0, -1, []
    for record in sorted(records, key=lambda r: (r.attempt, r.n, _FIRST.get(r.kind, len(_FIRST)), r.kind)):
        if record.kind not in TABLE[state]:
            continue
        if record.kind is Kind.INTENT:
            if record.attempt <= attempt:
                continue
        elif record.attempt != attempt or record.n <= n:
            continue
        state, attempt, n = TABLE[state][record.kind], record.attempt, record.n
        kept.append(record)
    return Job(key=key, state=state, attempt=attempt, records=tuple(kept))


_FIRST = {Kind.ACCEPTED: 0, Kind.STORED: 1}
