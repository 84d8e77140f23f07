"""`klingflow status`: every task that was ever submitted for a storyboard, from the ledger; doubts first."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal

import klingflow
from klingflow import TaskRow, money
from klingflow.cli import answer, storyboards
from klingflow.core.errors import DONE
from klingflow.core.source import inert, visible
from klingflow.output import terminal
from klingflow.output.table import Row, table
from klingflow.output.words import count


def status(path: str | None, format: str = "text") -> int:
    path = storyboards.one(path)
    storyboard = klingflow.open(path)
    found = storyboard.tasks()
    if format == "json":
        answer.show(storyboard=storyboard.relative(), tasks=[asdict(row) for row in found.rows])
    elif found.rows:
        unknown = f", and {count(found.unpriced, 'task')} of unknown price" if found.unpriced else ""
        print(inert("\n".join(_table(found.rows))))
        print(f"{count(len(found.rows), 'task')}, {money(found.booked)} booked{found.basis}{unknown}")
        for line in _next(found.rows, path):
            print(line)
    else:
        print(f"no task was ever submitted for this storyboard (store: {found.store})")
    return DONE


HEAD = ("SHOT", "STATE", "AGE", "PRICE", "BASIS", "PROVIDER", "TASK")
"""BASIS only where prices differ in it; the sum names one that all share."""


def _table(rows: Sequence[TaskRow]) -> list[str]:
    several = len({row.film for row in rows}) > 1
    bases = len({row.basis for row in rows if row.price}) > 1
    shown = [Row(_cells(row, several=several, bases=bases), visible(row.message or "")) for row in rows]
    head = [name for name in HEAD if name != "BASIS" or bases]
    return table(head, shown, terminal.width(sys.stdout), right=("AGE", "PRICE"))


def _cells(row: TaskRow, *, several: bool, bases: bool) -> tuple[str, ...]:
    name = row.shot
    name += f" take {row.take}" if row.take != 1 else ""
    name += f" [{row.film.partition(' [')[2]}" if several and " [" in row.film else ""
    price = "unknown" if row.price is None else money(Decimal(str(row.price))) if row.price else "free"
    basis = (visible(row.basis),) if bases else ()
    return visible(name), row.state, _age(row.age_s), price, *basis, row.provider, visible(row.task or "")


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _next(rows: Sequence[TaskRow], path: str) -> list[str]:
    """What to do about all that is open: each doubt by itself, the rest by one run."""
    doubts = [row for row in rows if row.needs_person]
    lines = []
    if doubts:
        places = " and ".join(sorted({row.provider for row in doubts}))
        lines.append(f"in doubt: look at the console of {places}, then say what you found")
        lines += [f"  {row.next}" for row in doubts]
    if any(row.collectable for row in rows):
        lines.append(f"to collect: klingflow run {shlex.quote(path)}")
    return lines
