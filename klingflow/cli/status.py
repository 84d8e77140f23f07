"""`klingflow status`: every task that was ever submitted for a storyboard, from the ledger; doubts first.

Reads no storyboard, only where it lies: also of a broken one it must be seen what was paid for.
"""

from __future__ import annotations

import json
import shlex
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from klingflow.app import planner
from klingflow.app.project_loader import below_root
from klingflow.core.errors import DONE, UsageError
from klingflow.core.redact import redact
from klingflow.core.source import inert, visible
from klingflow.execution import host
from klingflow.execution.host import Host
from klingflow.io import ledger
from klingflow.io.store import Store
from klingflow.output.plantext import WIDTH, count
from klingflow.planning.job import Job, Kind, Record, State
from klingflow.planning.plan import Action
from klingflow.planning.price import money, spent

KEY_SHOWN = 12
"""Digits of a key that people are shown: enough to tell any two apart."""
DOUBT, ASKED, MADE = "in doubt", "asked", "being made"
"""States in which something is still to be done, in the order in which they are shown."""

_ENDED = {
    Kind.INTENT: "given up",  # an attempt that a later one followed without a record of its end
    Kind.ACCEPTED: "given up",
    Kind.REFUSED: "refused",
    Kind.FAILED: "failed",
    Kind.STORED: "stored",
    Kind.ABANDONED: "given up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
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
    seconds: int | None
    message: str | None
    """The provider's reason, or a person's."""
    next: str | None
    """The command that goes on from here."""
    key: str


def status(path: str, format: str = "text") -> int:
    store, jobs = jobs_at(path)
    me = host.this()
    # A film of a matrix, or a shot that was changed since, may have the same shot and take open under another key.
    open_jobs = Counter(_place(job) for job in jobs if job.state in (State.INTENDED, State.ACCEPTED))
    rows = [row for job in jobs for row in _rows(job, path, me, by_key=open_jobs[_place(job)] > 1)]
    rows.sort(key=lambda row: (_rank(row), row.film, row.at, row.shot, row.take))
    if format == "json":
        told = {"version": 1, "storyboard": below_root(path), "tasks": [asdict(row) for row in rows]}
        print(inert(json.dumps(told, ensure_ascii=False, indent=2)))
    elif rows:
        booked = spent(jobs)
        unknown = f", and {count(booked.unpriced, 'task')} of unknown price" if booked.unpriced else ""
        print(inert("\n".join(_table(rows))))
        print(f"{count(len(rows), 'task')}, {money(booked.amount)} booked{unknown}")
        for line in _next(rows, path):
            print(line)
    else:
        print(f"no task was ever submitted for this storyboard (store: {store.where})")
    return DONE


def jobs_at(path: str) -> tuple[Store, list[Job]]:
    """The store of a storyboard, and the ledger's jobs that were bought for it. Raises UsageError for no storyboard."""
    store = planner.open_project_store(Path(path))
    relative = below_root(path)
    found = [
        job
        for job in ledger.jobs(store)
        if any(r.kind is Kind.INTENT and r.detail.get("storyboard") == relative for r in job.records)
    ]
    if not found and not Path(path).is_file():
        raise UsageError(f"{path} is not a storyboard", "name a file that ends in .yaml")
    return store, found


def _place(job: Job) -> tuple[str, str]:
    """The shot and take that a job's newest attempt was for, as text."""
    intent = job.last(Kind.INTENT)
    return (str(intent.detail.get("shot")), str(intent.detail.get("take"))) if intent else ("", "")


def _rank(row: Row) -> int:
    order = (DOUBT, ASKED, MADE)
    return order.index(row.state) if row.state in order else len(order)


def _rows(job: Job, path: str, me: Host, *, by_key: bool) -> list[Row]:
    """One row an attempt."""
    rows = []
    for attempt in range(1, job.attempt + 1):
        records = [record for record in job.records if record.attempt == attempt]
        if not records:
            continue
        intent, last = records[0], records[-1]
        detail = intent.detail
        state, then = _ENDED[last.kind], None
        if attempt == job.attempt:
            state, then = _standing(job, last, path, me, by_key=by_key)
        accepted = next((record for record in records if record.kind is Kind.ACCEPTED), None)
        message = last.detail.get("message") or last.detail.get("why")
        take, seconds = detail.get("take"), detail.get("seconds")
        rows.append(
            Row(
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
                seconds=seconds if isinstance(seconds, int) else None,
                message=redact(str(message)) if message else None,
                next=then,
                key=job.key,
            )
        )
    return rows


def _standing(job: Job, last: Record, path: str, me: Host, *, by_key: bool) -> tuple[str, str | None]:
    """The state of the newest attempt, and the command that goes on from it."""
    shown = shlex.quote(path)
    found = planner.standing(job, me)
    if last.kind is Kind.ACCEPTED:
        return MADE, f"klingflow run {shown}"
    if last.kind is not Kind.INTENT or found is None:
        return _ENDED[last.kind], None
    if found.action is Action.RESUME:
        return ASKED, f"klingflow run {shown}"
    take = last.detail.get("take")
    which = f"{last.detail.get('shot')}{f' --take {take}' if take != 1 else ''}"
    which += f" --key {job.key[:KEY_SHOWN]}" if by_key else ""
    return DOUBT, f"klingflow resolve {shown} {which} --task ID | --not-bought"


HEAD = ("SHOT", "STATE", "AGE", "PRICE", "PROVIDER", "TASK")


def _table(rows: Sequence[Row]) -> list[str]:
    """Aligned columns; a task id that would pass the 80th column stands on a line of its own, whole, to be copied."""
    cells = [_cells(row, several=len({row.film for row in rows}) > 1) for row in rows]
    wide = [max(len(line[i]) for line in (HEAD, *cells)) for i in range(len(HEAD) - 1)]
    wide[0] = min(wide[0], 28)
    below = sum(wide) + 2 * len(wide) + max(len(line[-1]) for line in cells) > WIDTH
    lines = [_line(HEAD[: -1 if below else None], wide)]
    for row, line in zip(rows, cells, strict=True):
        lines.append(_line(line[: -1 if below else None], wide))
        if below and row.task:
            lines.append(f"    task {line[-1]}")
        if row.message:
            pad = " " * 4
            lines += textwrap.wrap(visible(row.message), WIDTH, initial_indent=pad, subsequent_indent=pad)
    return lines


def _cells(row: Row, *, several: bool) -> tuple[str, ...]:
    name = row.shot
    name += f" take {row.take}" if row.take != 1 else ""
    name += f" [{row.film.partition(' [')[2]}" if several and " [" in row.film else ""
    price = "unknown" if row.price is None else money(Decimal(str(row.price))) if row.price else "free"
    return visible(name), row.state, _age(row.age_s), price, row.provider, visible(row.task or "-")


def _line(cells: Sequence[str], wide: Sequence[int]) -> str:
    aligned = [
        cell.rjust(room) if HEAD[i] in ("AGE", "PRICE") else cell.ljust(room)
        for i, (cell, room) in enumerate(zip(cells, wide, strict=False))
    ]
    return "  ".join([*aligned, *cells[len(wide) :]]).rstrip()


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _next(rows: Sequence[Row], path: str) -> list[str]:
    """What to do about all that is open: each doubt by itself, the rest by one run."""
    doubts = [row for row in rows if row.state == DOUBT]
    lines = []
    if doubts:
        places = " and ".join(sorted({row.provider for row in doubts}))
        lines.append(f"in doubt: look at the console of {places}, then say what you found")
        lines += [f"  {row.next}" for row in doubts]
    if any(row.state in (ASKED, MADE) for row in rows):
        lines.append(f"to collect: klingflow run {shlex.quote(path)}")
    return lines
