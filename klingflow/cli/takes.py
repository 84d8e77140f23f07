"""`klingflow takes`: the takes of each shot, and which one counts."""

from __future__ import annotations

import sys
from dataclasses import asdict

import klingflow
from klingflow import TakeRow, money
from klingflow.cli import answer, storyboards
from klingflow.core.errors import DONE
from klingflow.core.source import inert, visible
from klingflow.output import terminal
from klingflow.output.table import Row, table
from klingflow.output.words import wrapped


def takes(path: str | None, format: str = "text") -> int:
    """Lists what the lock names: a run keeps every take of a shot that lives, so that a person can go back to one."""
    storyboard = klingflow.open(storyboards.one(path))
    rows = storyboard.takes()
    if format == "json":
        answer.show(storyboard=storyboard.relative(), takes=[asdict(row) for row in rows])
        return DONE
    if rows:
        bases = any(row.basis for row in rows)
        shown = [Row((*_cells(row), *((visible(row.basis),) if bases else ())), visible(_notes(row))) for row in rows]
        width = terminal.width(sys.stdout)
        head = HEAD if bases else HEAD[:-1]
        lines = table(head, shown, width, right=("TAKE", "LENGTH", "PRICE"))
        print(inert("\n".join([*lines, *wrapped(COUNTS, width)])))
    else:
        print("no take yet: klingflow run makes them")
    return DONE


COUNTS = "* counts: the film uses it, and other shots continue it. `take: N` in the storyboard chooses another."
HEAD = ("  SHOT", "TAKE", "LENGTH", "PRICE", "PROVIDER", "DATE", "CLIP", "BASIS")
"""BASIS, of the price, only where there is one: it is the last, so that it makes room."""


def _cells(row: TakeRow) -> tuple[str, ...]:
    name = f"{'*' if row.counts else ' '} {row.shot}" + (f" [{row.variant}]" if row.variant else "")
    price = "unknown" if row.cost is None else money(row.cost) if row.cost else "free"
    return visible(name), str(row.take), f"{row.seconds} s", price, row.provider, row.date, row.clip[:12]


def _notes(row: TakeRow) -> str:
    notes = ["stale: klingflow plan says why"] if row.stale else []
    notes += [] if row.here else ["not in this store"]
    notes += [f"taken in by hand: {row.taken_in}"] if row.taken_in else []
    return "; ".join(notes)
