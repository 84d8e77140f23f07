"""Every order that was ever recorded for a storyboard, as rows for people and programs.

Reads no storyboard, only where it is: also of a broken one it must be seen what was paid for.
"""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from klingflow.app import planner
from klingflow.app.project_loader import below_root
from klingflow.core.redact import redact
from klingflow.execution import host
from klingflow.execution.host import Host
from klingflow.execution.wording import KEY_SHOWN
from klingflow.io import ledger
from klingflow.io.project import Project, find_root
from klingflow.io.store import Store
from klingflow.planning.job import Job, Kind, Record
from klingflow.planning.plan import Action
from klingflow.planning.price import noted, spent

DOUBT, DAMAGED, NOT_ACCEPTED, ASKED, MAKING = "in doubt", "damaged", "not accepted", "asked", "being made"
OPEN_STATES = (DOUBT, DAMAGED, NOT_ACCEPTED, ASKED, MAKING)
"""States in which something is still to be done, in the order in which they are shown."""
SETTLED_BY_PERSON = (DOUBT, DAMAGED, NOT_ACCEPTED)

_ENDED = {
    Kind.INTENT: "given up",  # an attempt that a later one followed without a record of its end
    Kind.ACCEPTED: "given up",
    Kind.REFUSED: "refused",
    Kind.FAILED: "failed",
    Kind.DELIVERED: NOT_ACCEPTED,
    Kind.STORED: "stored",
    Kind.ABANDONED: "given up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One attempt to buy one take."""

    film: str
    shot: str
    take: int
    attempt: int
    state: str
    provider: str
    task: str | None
    at: str
    """When it was submitted, UTC."""
    age_s: float
    price: float | None
    """USD; None where no price was known."""
    basis: str
    """What the price is, where the project did not state it: "estimate", or "list price of 2026-11-27"."""
    seconds: int | None
    message: str | None
    """The provider's reason, or a person's."""
    next: str | None
    """The command that goes on from here."""
    key: str

    @property
    def needs_person(self) -> bool:
        """Whether only a person can settle it: `next` says how."""
        return self.state in SETTLED_BY_PERSON

    @property
    def collectable(self) -> bool:
        """Whether the next run collects it, buying nothing."""
        return self.state in (ASKED, MAKING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Every order that the ledger has for a storyboard."""

    rows: tuple[TaskRow, ...]
    """What is still open comes first."""
    booked: Decimal
    """USD, of all orders whose price is known; doubts included."""
    basis: str
    """What stands behind it: " (estimate)", " (list price of 2026-11-27)", both, or nothing."""
    unpriced: int
    """How many orders have no known price."""
    store: str
    """Where the ledger is."""


def jobs_at(path: str, environ: Mapping[str, str]) -> tuple[Store, list[Job]]:
    """The store of a storyboard, and the ledger's jobs that were bought for it. Raises UsageError for no storyboard."""
    store = planner.open_project_store(Path(path), environ)
    relative = below_root(path)
    found = list(ledger.jobs_of(store, relative))
    if not found and not Path(path).is_file():
        Project(find_root(Path(path))).resolve(relative)  # says that it is not there, and which name is near
    return store, found


def tasks(path: str, environ: Mapping[str, str]) -> Tasks:
    """Every order of a storyboard. Raises UsageError for no storyboard, StoreError for a store that cannot be read."""
    store, jobs = jobs_at(path, environ)
    booked = spent(jobs)
    found = tuple(rows(path, jobs))
    basis = noted(row.basis for row in found if row.price)
    return Tasks(rows=found, booked=booked.amount, basis=basis, unpriced=booked.unpriced, store=store.where)


def rows(path: str, jobs: Sequence[Job]) -> list[TaskRow]:
    """A row for each attempt; what is still open comes first. `path` is the storyboard's, for the commands in them."""
    me = host.this()
    # A film of a matrix, or a shot that was changed since, may have the same shot and take open under another key.
    open_jobs = Counter(_place(job) for job in jobs if job.open)
    found = [row for job in jobs for row in _rows(job, path, me, by_key=open_jobs[_place(job)] > 1)]
    return sorted(found, key=lambda row: (_rank(row), row.film, row.at, row.shot, row.take))


def _place(job: Job) -> tuple[str, str]:
    """The shot and take that a job's newest attempt was for, as text."""
    intent = job.last(Kind.INTENT)
    return (str(intent.detail.get("shot")), str(intent.detail.get("take"))) if intent else ("", "")


def _rank(row: TaskRow) -> int:
    return OPEN_STATES.index(row.state) if row.state in OPEN_STATES else len(OPEN_STATES)


def _rows(job: Job, path: str, me: Host, *, by_key: bool) -> list[TaskRow]:
    out = []
    for attempt in range(1, job.attempt + 1):
        records = [record for record in job.records if record.attempt == attempt]
        if not records:
            continue
        intent, last = records[0], records[-1]
        detail = intent.detail
        state, then = _ENDED[last.kind], None
        if attempt == job.attempt:
            state, then = _newest(job, last, path, me, by_key=by_key)
        accepted = next((record for record in reversed(records) if record.kind is Kind.ACCEPTED), None)
        message = last.detail.get("message") or last.detail.get("why")
        take, seconds = detail.get("take"), detail.get("seconds")
        out.append(
            TaskRow(
                film=str(detail.get("film") or ""),
                shot=str(detail.get("shot")),
                take=take if isinstance(take, int) else 1,
                attempt=attempt,
                state=state,
                provider=str(detail.get("provider")),
                task=str(accepted.detail.get("task")) if accepted else None,
                at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(intent.at_ms / 1000)),
                age_s=round(max(0.0, time.time() - intent.at_ms / 1000), 1),
                price=None if detail.get("price") is None else float(str(detail["price"])),
                basis=str(detail.get("basis") or ""),
                seconds=seconds if isinstance(seconds, int) else None,
                message=redact(str(message)) if message else None,
                next=then,
                key=job.key,
            )
        )
    return out


def _newest(job: Job, last: Record, path: str, me: Host, *, by_key: bool) -> tuple[str, str | None]:
    """The state of the newest attempt, and the command that goes on from it."""
    shown = shlex.quote(path)
    take = job.last(Kind.INTENT).detail.get("take") if job.last(Kind.INTENT) else 1  # type: ignore[union-attr]
    which = f"{_place(job)[0]}{f' --take {take}' if take != 1 else ''}"
    which += f" --key {job.key[:KEY_SHOWN]}" if by_key else ""
    settle = f"klingflow resolve {shown} {which}"
    if job.orphans:
        return DAMAGED, f"{settle} --task ID"
    if last.kind is Kind.ACCEPTED:
        return MAKING, f"klingflow run {shown}"
    if last.kind is Kind.DELIVERED:
        return NOT_ACCEPTED, f"{settle} --accept  # or --reject"
    found = planner.open_order(job, me)
    if last.kind is not Kind.INTENT or found is None:
        return _ENDED[last.kind], None
    if found.action is Action.RESUME:
        return ASKED, f"klingflow run {shown}"
    if job.taken_in is not None:
        return DOUBT, f"klingflow take-in FILE {shown} --as {which}  # or {settle} --not-bought"
    return DOUBT, f"{settle} --task ID  # or --not-bought"
