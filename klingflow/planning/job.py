"""A paid task's life: records (facts, written once), states (computed), and the table between them.

A Record is one file of the ledger. A Job is what a key's records state, read in order. The table is the whole law:
a record that it does not allow is refused before it is written. Knows no file, no clock, no provider.

    state      record      -> state
    NEW        intent      -> INTENDED    about to be sent: bytes, endpoint and key are on disk
    INTENDED   accepted    -> ACCEPTED    the provider gave a task id: it is paid
    INTENDED   refused     -> REFUSED     a definite no, or certainly never sent: nothing was bought
    INTENDED   abandoned   -> ABANDONED   the user checked: not bought
    INTENDED   stored      -> STORED      the user took a clip in by hand: the intent says so, and nothing was sent
    ACCEPTED   stored      -> STORED      the clip is in the store and answers the key
    ACCEPTED   delivered   -> DELIVERED   a clip came that is not what was ordered; its bytes are in the store
    ACCEPTED   failed      -> FAILED      the provider ended the task without a clip, or the clip is lost
    ACCEPTED   abandoned   -> ABANDONED   the user gave the task up
    DELIVERED  stored      -> STORED      the user accepted the clip as it is
    DELIVERED  abandoned   -> ABANDONED   the user rejected it
    any but NEW and STORED  accepted -> ACCEPTED    a task id is known after all: it is never thrown away
    REFUSED, FAILED, ABANDONED  intent -> INTENDED    the next attempt

A record that two runners wrote about the same event (both saw the task accepted) has one name, so one of them wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from klingflow.core.model import Digest, Key, TaskId


class Kind(StrEnum):
    INTENT = "intent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    DELIVERED = "delivered"
    STORED = "stored"
    ABANDONED = "abandoned"


class State(StrEnum):
    NEW = "new"
    INTENDED = "intended"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    DELIVERED = "delivered"
    STORED = "stored"
    ABANDONED = "abandoned"


TRANSITIONS: Mapping[State, Mapping[Kind, State]] = {
    State.NEW: {Kind.INTENT: State.INTENDED},
    State.INTENDED: {
        Kind.ACCEPTED: State.ACCEPTED,
        Kind.REFUSED: State.REFUSED,
        Kind.ABANDONED: State.ABANDONED,
        Kind.STORED: State.STORED,
    },
    State.ACCEPTED: {
        Kind.ACCEPTED: State.ACCEPTED,
        Kind.STORED: State.STORED,
        Kind.DELIVERED: State.DELIVERED,
        Kind.FAILED: State.FAILED,
        Kind.ABANDONED: State.ABANDONED,
    },
    State.DELIVERED: {
        Kind.ACCEPTED: State.ACCEPTED,
        Kind.STORED: State.STORED,
        Kind.ABANDONED: State.ABANDONED,
    },
    State.ABANDONED: {Kind.ACCEPTED: State.ACCEPTED, Kind.INTENT: State.INTENDED},
    State.REFUSED: {Kind.ACCEPTED: State.ACCEPTED, Kind.INTENT: State.INTENDED},
    State.FAILED: {Kind.ACCEPTED: State.ACCEPTED, Kind.INTENT: State.INTENDED},
    State.STORED: {},
}

OPEN = frozenset({State.INTENDED, State.ACCEPTED, State.DELIVERED})
"""States in which something is still to be done for an order that may have cost money."""


class IllegalRecord(ValueError):
    """The table does not allow this record now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One file of the ledger: `ledger/KEY/ATTEMPT.N-KIND.json`.

    `at_ms` is UTC milliseconds since 1970 by the writer's clock. `detail` is JSON and differs by kind:

    intent     provider, model, method, path, body (the exact bytes, read as base64; only `ledger.whole` has it),
               headers (the idempotency key among them), idempotency_attempt, account {base, salt, digest}, provider_ms
               (the provider's clock, or null), price (text or null), basis (of the price), seconds, resolution,
               storyboard, film, shot, take, inputs {role: digest}, parts, form (execution.form; not in old records),
               who, machine, pid, started; of a clip that a person takes in by hand no request (method to account,
               form), but taken_in (its digest), by, why
    accepted   task, by ("answer", "replay", "find", "again", "person", "note", "status"), price, basis, answer (the
               raw text), urls {name: path or URL} (where the task is asked after; not in old records, nor where a
               provider names none)
    refused    class, code, message, sent (false: it certainly never left)
    delivered  clip (digest), why
    failed     class, code, message, charged (bool or null)
    stored     clip (digest); by a person also by, who, why
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

    @property
    def path(self) -> str:
        return f"ledger/{self.key}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the records of one key state."""

    key: Key
    state: State = State.NEW
    attempt: int = 0
    """0 before the first intent."""
    records: tuple[Record, ...] = ()
    """All legal records in order."""
    orphans: tuple[Record, ...] = ()
    """Records of attempts whose intent is not there: the ledger is damaged, and what they name may be paid for."""

    def last(self, kind: Kind) -> Record | None:
        """The newest record of a kind in the current attempt."""
        return next((r for r in reversed(self.records) if r.kind is kind and r.attempt == self.attempt), None)

    @property
    def open(self) -> bool:
        """Whether something is still to be done for an order that may have cost money."""
        return self.state in OPEN

    @property
    def taken_in(self) -> Digest | None:
        """The clip that a person takes in by hand, where the current attempt is that and no order: nothing is sent."""
        intent = self.last(Kind.INTENT)
        found = intent.detail.get("taken_in") if intent else None
        return Digest(found) if isinstance(found, str) else None

    @property
    def task(self) -> TaskId | None:
        record = self.last(Kind.ACCEPTED)
        return TaskId(str(record.detail["task"])) if record else None

    @property
    def urls(self) -> Mapping[str, str]:
        """Where the task is asked after, as the answer to its order had it; empty where that is not on record."""
        for record in reversed(self.records):
            urls = record.detail.get("urls")
            mine = record.attempt == self.attempt and record.kind is Kind.ACCEPTED
            if mine and record.detail.get("task") == self.task and isinstance(urls, dict):
                return {name: url for name, url in urls.items() if isinstance(url, str)}
        return {}

    def next(self, kind: Kind, at_ms: int, detail: Mapping[str, object]) -> Record:
        """The record to write next. Raises IllegalRecord where the table does not allow it."""
        if kind not in TRANSITIONS[self.state]:
            raise IllegalRecord(f"{kind} after {self.state} is not a step in a task's life (key {self.key[:12]})")
        if kind is Kind.INTENT:
            return Record(key=self.key, attempt=self.attempt + 1, n=0, kind=kind, at_ms=at_ms, detail=detail)
        n = 1 + max(r.n for r in self.records if r.attempt == self.attempt)
        return Record(key=self.key, attempt=self.attempt, n=n, kind=kind, at_ms=at_ms, detail=detail)

    def after(self, record: Record) -> Job:
        """The job with one more record. Raises IllegalRecord where the table does not allow it."""
        if record.kind not in TRANSITIONS[self.state]:
            raise IllegalRecord(f"{record.path} after {self.state} is not a step in a task's life")
        state = TRANSITIONS[self.state][record.kind]
        return replace(self, state=state, attempt=record.attempt, records=(*self.records, record))


def fold(key: Key, records: Iterable[Record]) -> Job:
    """Reads a key's records in order of (attempt, n).

    Two records with one number were written by two runners that did not see each other's, about one event. The one
    that has something paid in it counts (`accepted`, then `stored`), and the other is left out: an `abandoned` that was
    written blind must not throw away the task of an `accepted`. So is every record that the table does not allow.
    Records of an attempt that has no intent are `orphans`.
    """
    listed = sorted(records, key=lambda r: (r.attempt, r.n, _FIRST.get(r.kind, len(_FIRST)), r.kind))
    intended = {record.attempt for record in listed if record.kind is Kind.INTENT}
    job = Job(key=key, orphans=tuple(record for record in listed if record.attempt not in intended))
    n = -1
    for record in listed:
        if record.kind not in TRANSITIONS[job.state]:
            continue
        if record.kind is Kind.INTENT:
            if record.attempt <= job.attempt:
                continue
        elif record.attempt != job.attempt or record.n <= n:
            continue
        job, n = job.after(record), record.n
    return job


_FIRST = {Kind.ACCEPTED: 0, Kind.STORED: 1}
